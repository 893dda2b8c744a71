"""Trains the runs of one program, epoch by epoch, with everything on disk as it goes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.launch import job as jobs
from experiments.launch import provenance, run_folder, snapshot
from experiments.launch.checkpoint_files import Checkpoint, Shapes, newest
from experiments.launch.checkpoints import Checkpoints
from experiments.launch.configuration import CheckpointRule
from experiments.launch.history import History
from experiments.launch.job import Job
from experiments.launch.kept_programs import Kept
from experiments.launch.policy import policy_names
from experiments.launch.program import Program, call, compile_program, size_of
from experiments.launch.progress import Progress, losses
from experiments.launch.tangent_check import TangentCheck
from sobolax.training.gradient_warnings import find_warnings


@dataclass
class Outcome:
    """The result of a training: the history and the policies after the last whole epoch.

    Attributes:
        history: Metrics of all epochs, including those before a resume.
        policies: Policies of all runs, stacked, in the host's memory; None before the end of the
            first epoch, or if the training has none.
        compile_seconds: Lowering and compiling both entry points.
        initialise_seconds: Networks, buffer, prefill; or restoring a checkpoint.
        interrupted: Whether Ctrl-C cut it short.
        resumed_from: Epochs of the checkpoint that it resumed from; None without a resume.
        metrics_seconds: Time that metrics, copies of policies and `progress` blocked training.
        checkpoints: Checkpoints saved and failed, and the seconds they took: blocking the training,
            and in the background.
        warnings: Problems that did not stop the training, including those before a resume.
    """

    history: History
    policies: Any = None
    compile_seconds: float = 0.0
    initialise_seconds: float = 0.0
    interrupted: bool = False
    resumed_from: int | None = None
    metrics_seconds: float = 0.0
    checkpoints: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def train_runs(
    job: Job,
    folder: Path,
    progress: Progress,
    checkpoints: CheckpointRule | None = None,
    program: Program | Callable[[], Program] | None = None,
    check: bool = False,
    kept: Kept | None = None,
    warnings: Sequence[str] = (),
) -> Outcome:
    """Trains all runs, from the last good checkpoint in the folder if there is one.

    Metrics are on disk after each epoch (`metrics.jsonl`), policies at the end (`policy/`), and
    an interrupt keeps the epochs done. A job that is already complete computes nothing.
    Checkpoints change no number. On CPU, writing a checkpoint takes as much memory as the
    state itself.

    Args:
        job: The job.
        folder: An existing folder, of this job alone.
        progress: Receives progress.
        checkpoints: When to take checkpoints; None for never.
        program: The job's compiled program, or a function that compiles it when it is needed.
        check: Whether a sample of tangents is checked, beside the training.
        kept: Where the check's program may lie compiled, or is put.
        warnings: Earlier ones, which are kept with those of the training.

    Returns:
        The outcome; after Ctrl-C, that of the epochs until then.

    Raises:
        CheckpointError: If all checkpoints in the folder are unusable; nothing is compiled.
        FolderError: If something is in the way in the folder, or another process trains there.
    """
    run_folder.check_places(
        folder, [run_folder.METRICS], [run_folder.POLICY, run_folder.CHECKPOINTS]
    )
    made = Checkpoints(folder, jobs.fingerprint(job), checkpoints)
    running = _Running(job, folder, progress, made, check, kept, warnings)
    with run_folder.locked(folder):
        try:
            running.restore()
            if not running.complete:
                running.train(program)
        except KeyboardInterrupt:
            running.outcome.interrupted = True
        try:
            running.finish()
        except KeyboardInterrupt:
            running.outcome.interrupted = True
    return running.outcome


class _Running:
    """One call of `train_runs`."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        progress: Progress,
        checkpoints: Checkpoints,
        check: bool,
        kept: Kept | None,
        warnings: Sequence[str],
    ):
        self.outcome = Outcome(
            History(job.variants, job.seeds), warnings=[*dict.fromkeys(warnings)]
        )
        self._job, self._folder, self._progress = job, folder, progress
        self._checkpoints = checkpoints
        self._start: Any = None  # the state of a checkpoint, in the host's memory
        self._policy_names: Any = None
        self._lines_whole = True
        self._judged: set[str] = set()  # metrics that there was a warning of
        self._shown: set[str] = set()  # warnings of this process
        self._check = TangentCheck(job, kept) if check else None

    @property
    def complete(self) -> bool:
        return len(self.outcome.history.epochs) == self._job.epochs

    def restore(self) -> None:
        """Restores the state, history and policies that the folder holds."""
        policy, lines = self._folder / run_folder.POLICY, self._folder / run_folder.METRICS
        if policy.exists() or self._checkpoints.folder.exists():
            self._progress.phase("reading checkpoints")
            like = call(jobs.template, self._job)
            self._policy_names = policy_names(self._job.training, like)
            whole = snapshot.describe(like)
            found = call(self._finished, policy, whole)
            if found is None:
                found = call(self._checkpoints.restore, whole)
            self._report_news()
            if found is not None:
                self._take_over(found, like)
        if self.outcome.resumed_from is None and lines.exists():
            kept = run_folder.set_aside(lines)
            beside = f"; what was measured before is kept as {kept.name}" if kept else ""
            text = "holds no checkpoint: training begins at the start"
            self._warn(f"{self._folder} {text}{beside}")
        if self.outcome.resumed_from is not None or lines.exists():
            # What was measured after the checkpoint is measured again.
            run_folder.replace_lines(lines, self._rows())

    def train(self, program: Program | Callable[[], Program] | None) -> None:
        """Trains the remaining epochs."""
        job, outcome = self._job, self.outcome
        if not isinstance(program, Program):
            self._progress.phase("compiling")
            default = partial(compile_program, job.training, job.keys, job.hypers)
            program = call(program or default)
        outcome.compile_seconds = program.compile_seconds
        start = time.perf_counter()
        state = self._first_state(program)
        outcome.initialise_seconds = time.perf_counter() - start
        self._policy_names = policy_names(job.training, state)
        for text in self._checkpoints.open(size_of(state)):
            self._progress.note(text)
        self._progress.phase("training")
        done = len(outcome.history.epochs)
        start = time.perf_counter() - (outcome.history.seconds[-1] if done else 0.0)
        for epoch in range(done, job.epochs):
            # The evaluation may still compile when the first epoch has been learned.
            learned = self._learned if epoch == done else None
            state, metrics = call(program.epoch, state, job.hypers, jnp.int32(epoch), learned)
            epoch_ended = time.perf_counter()
            policies = self._policies(state)
            outcome.history.add(jax.device_get(metrics), time.perf_counter() - start)
            outcome.policies = policies
            self._write_lines()
            self._progress.epoch(outcome.history, job.epochs)
            self._judge_gradients(outcome.history.epochs[-1])
            if self._check is not None:
                self._check.begin(state)
                self._judge_check(self._check.found())
            outcome.metrics_seconds += time.perf_counter() - epoch_ended
            if not self.complete and self._checkpoints.due():
                self._save(state)
            self._report_news()

    def finish(self) -> None:
        """Waits for pending writes and saves the policies."""
        outcome, made = self.outcome, self._checkpoints
        done = len(outcome.history.epochs)
        if done and (outcome.interrupted or not self._lines_whole):
            self._lines_whole = False  # Ctrl-C may have come while a line was written
            self._write_lines()
        saved = outcome.resumed_from == done
        if outcome.policies is not None and not saved:
            self._progress.phase("saving policies")
            names, values = map(jax.tree.leaves, (self._policy_names, outcome.policies))
            arrays = dict(zip(names, values, strict=True)) | outcome.history.to_arrays()
            saved = call(made.finish, done, arrays, outcome.warnings)
        made.wait()
        made.close()
        if saved and self.complete:
            made.clear()
        if self._check is not None and not outcome.interrupted:
            self._judge_check(call(self._check.wait))
        self._report_news()
        outcome.checkpoints = {
            "saved": made.saved,
            "failed": made.failed,
            "blocking_seconds": made.blocking_seconds,
            "background_seconds": made.background_seconds,
        }

    def _finished(self, path: Path, whole: Shapes) -> Checkpoint | None:
        """The final checkpoint of a complete training; None if it is not complete."""
        like = {name: whole[name] for name in jax.tree.leaves(self._policy_names)}
        found, problems = newest(path, jobs.fingerprint(self._job), like)
        for problem in problems.values():
            self._warn(str(problem))
        return found if found is not None and found.epochs == self._job.epochs else None

    def _take_over(self, found: Checkpoint, like: Any) -> None:
        outcome = self.outcome
        outcome.history = outcome.history.from_arrays(found.arrays)
        outcome.resumed_from = found.epochs
        earlier = found.manifest.get("warnings", [])
        outcome.warnings = list(dict.fromkeys([*earlier, *outcome.warnings]))
        if self._policy_names is not None:
            outcome.policies = jax.tree.map(found.arrays.__getitem__, self._policy_names)
        if self.complete:
            return
        unlike = provenance.differences(found.manifest["written_by"])
        if unlike:
            self._warn(
                f"{found.path} was written by another version or device ({', '.join(unlike)}): the "
                "last bits may differ from those of a run that was never stopped"
            )
        self._progress.note(f"goes on after epoch {found.epochs}, from {found.path}")
        self._start = like, found.arrays

    def _learned(self, metrics: dict[str, jax.Array]) -> None:
        """Shows what the first epoch learned, before its evaluation."""
        job, done = self._job, len(self.outcome.history.epochs)
        learned = History(job.variants, job.seeds)
        learned.add(jax.device_get(metrics), 0.0)
        said = [f"epoch {done + 1}/{job.epochs} learned", *losses(learned), "evaluating"]
        self._progress.note(" · ".join(said))

    def _first_state(self, program: Program) -> Any:
        if self._start is None:
            return call(program.initialise, self._job.keys, self._job.hypers)
        (like, arrays), self._start = self._start, None
        return call(
            lambda: program.place(snapshot.from_arrays(like, arrays, program.width, snapshot.STATE))
        )

    def _policies(self, state: Any) -> Any:
        """A copy of the runs' policies; None if the training has none."""
        policy = getattr(self._job.training, "policy", None)
        return None if policy is None else snapshot.to_host(policy(state), len(self._job.keys))

    def _save(self, state: Any) -> None:
        sick = _not_finite(self.outcome.policies)
        if sick.any():
            names = [
                f"{variant.name}, seed {seed}"
                for (index, seed) in np.argwhere(sick.reshape(-1, self._job.seeds))
                for variant in [self._job.variants[index]]
            ]
            self._warn(
                f"no checkpoint is taken while parameters are not finite: those of "
                f"{'; '.join(names)}"
            )
            return
        self._checkpoints.save(
            len(self.outcome.history.epochs),
            lambda: (
                snapshot.to_arrays(state, len(self._job.keys), snapshot.STATE)
                | self.outcome.history.to_arrays()
            ),
            self.outcome.warnings,
        )

    def _rows(self) -> list[dict[str, Any]]:
        history = self.outcome.history
        return [row for epoch in range(len(history.epochs)) for row in history.rows(epoch)]

    def _write_lines(self) -> None:
        path, history = self._folder / run_folder.METRICS, self.outcome.history
        try:
            if self._lines_whole:
                run_folder.append_lines(path, history.rows(len(history.epochs) - 1))
            else:
                run_folder.replace_lines(path, self._rows())
            self._lines_whole = True
        except OSError as error:
            # A full disk: the next write includes the missing lines.
            self._lines_whole = False
            self._warn(f"{path} could not be written: {error}")

    def _judge_gradients(self, measured: Mapping[str, Any]) -> None:
        """Warns once of each thing that is wrong with the gradients of runs that use them."""
        using = self._job.differentiating
        metrics = {name: row[using] if np.ndim(row) else row for name, row in measured.items()}
        training = self._job.training
        name = getattr(training, "environment", "")
        windows = getattr(training, "gives_windows", False)
        for metric, text in find_warnings(metrics, name, windows).items():
            if metric not in self._judged:
                self._judged.add(metric)
                self._warn(text)

    def _judge_check(self, found: Mapping[str, Any] | Exception) -> None:
        if isinstance(found, Exception):
            self._warn(
                f"the sample of tangents could not be checked: {run_folder.write_problem(found)}"
            )
        else:
            self._judge_gradients(found)

    def _warn(self, text: str) -> None:
        if text not in self.outcome.warnings:
            self.outcome.warnings.append(text)
        if text not in self._shown:
            self._shown.add(text)
            self._progress.warn(text)

    def _report_news(self) -> None:
        for text in self._checkpoints.news():
            self._warn(text)


def _not_finite(policies: Any) -> np.ndarray:
    """Which runs have a policy with non-finite numbers, `(runs,)` bool."""
    leaves = [
        leaf for leaf in jax.tree.leaves(policies) if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    if not leaves:
        return np.zeros(0, bool)
    return np.any(
        [~np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in leaves], axis=0
    )
