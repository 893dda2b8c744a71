"""A training that is one job of a study; epochs and checkpoints lie in the study's folder."""

from collections.abc import Callable
from pathlib import Path

from experiments.launch import run_folder
from experiments.launch.configuration import CheckpointRule
from experiments.launch.history import History
from experiments.launch.job import Job
from experiments.launch.progress import Progress, clock, seconds_left, status
from experiments.launch.runner import Outcome, train_runs


def train_job(
    training: Job,
    folder: Path,
    name: str,
    progress: Progress,
    summary: Callable[[History], str] | None = None,
) -> Outcome:
    """Trains; what was cut short goes on where its last checkpoint is.

    Args:
        training: Runs of one program.
        folder: Of the study's run; the training's own is below it, in `training/`.
        name: Of the study's job.
        progress: Of the study.
        summary: What progress says after an epoch; by default what it says of any training.

    Raises:
        KeyboardInterrupt: After Ctrl-C, once everything is on disk.
    """
    folder = folder / "training" / name.replace(", ", "-").replace(" ", "-")
    run_folder.create(folder)
    shown = _TrainingProgress(progress, name, summary)
    outcome = train_runs(training, folder, shown, CheckpointRule())
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome


class _TrainingProgress(Progress):
    """Shows a training that is one job of a study: its epochs are phases of the job."""

    def __init__(self, progress: Progress, job: str, summary: Callable[[History], str] | None):
        self._progress, self._job, self._summary = progress, job, summary

    def phase(self, name: str) -> None:
        """Shows the phase after the job's name."""
        self._progress.phase(f"{self._job}: {name}")

    def epoch(self, history: History, epochs: int) -> None:
        """Shows how far the training is."""
        text = self._summary(history) if self._summary else " · ".join(status(history))
        left = clock(seconds_left(history, epochs))
        self.phase(f"epoch {len(history.epochs)}/{epochs}  {text}  {left} left")

    def note(self, text: str) -> None:
        """Shows it after the job's name."""
        self._progress.note(f"{self._job}: {text}")

    def warn(self, text: str) -> None:
        """Shows it after the job's name."""
        self._progress.warn(f"{self._job}: {text}")
