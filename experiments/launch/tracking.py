"""What happens in a run, sent to trackers (TensorBoard, W&B, ...) as it happens: `--track`."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from experiments.launch import json_files, run_folder
from experiments.launch.history import History, summary
from experiments.launch.progress import Progress
from experiments.launch.trackers import TRACKERS, Place, check

STATE = "tracking.json"


class Tracker(Protocol):
    """One run of a tool, which is one variant of a training with all of its seeds.

    Whatever a method raises ends the tracking by this tool, and nothing else.

    Attributes:
        id: What reopens it.
    """

    id: str

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Records the metrics of an epoch; `step` grows from epoch to epoch."""

    def figure(self, path: Path, step: int) -> None:
        """Records a PNG."""

    def close(self) -> None:
        """Ends the run; everything is written or sent."""


def saved(folder: Path) -> tuple[str, ...]:
    """The trackers of the run in a folder, which a resumed run goes on with."""
    there = _read(folder)
    return tuple(name for name in TRACKERS if name in there)


class Tracking(Progress):
    """Shows progress as another one does, and sends what happens to trackers.

    A tracker that fails is left out from then on, with one warning. What each was sent is in
    `tracking/tracking.json`: a resumed run continues the same runs of the tools, and sends what
    they lack, nothing twice.

    Args:
        progress: Shows it.
        names: Of `TRACKERS`.
        folder: The run's folder.
        configurations: For each variant, by name, what the trackers keep as its configuration.
    """

    def __init__(
        self,
        progress: Progress,
        names: Sequence[str],
        folder: Path,
        configurations: Mapping[str, Any],
    ):
        self._progress, self._folder, self._configurations = progress, folder, configurations
        self.phase, self.step = progress.phase, progress.step
        self.note, self.warn = progress.note, progress.warn
        self._sent = _read(folder)  # tracker, variant: the id there, and the epochs sent
        self._working = list(check(names))
        self._open: dict[tuple[str, str], Tracker] = {}
        self._step = 0

    def epoch(self, history: History, epochs: int) -> None:
        """Shows it, and sends all epochs that a tracker lacks."""
        self._progress.epoch(history, epochs)
        self._guarded(lambda name: self._send(name, history))

    def figures(self, paths: Sequence[Path]) -> None:
        """Sends them to every run of every tracker."""
        self._progress.figures(paths)
        for path in paths:
            self._guarded(lambda name, path=path: self._each(name, "figure", path, self._step))

    def close(self) -> None:
        """Ends the display, and the runs of the trackers."""
        self._guarded(lambda name: self._each(name, "close"))
        self._progress.close()

    def _send(self, name: str, history: History) -> None:
        sent = self._sent.setdefault(name, {})
        try:
            for index, variant in enumerate(history.variants):
                for epoch in range(sent.get(variant.name, ("", 0))[1], len(history.epochs)):
                    metrics, self._step = summary(history, index, epoch)
                    run = self._run(name, variant.name, self._step)
                    run.log(metrics, self._step)
                    sent[variant.name] = (run.id, epoch + 1)
        finally:
            run_folder.replace_json(self._folder / run_folder.TRACKING / STATE, self._sent)

    def _run(self, name: str, variant: str, step: int) -> Tracker:
        if (name, variant) not in self._open:
            folder = self._folder / run_folder.TRACKING
            folder.mkdir(exist_ok=True)
            known = self._sent[name].get(variant)
            place = Place(
                folder=folder,
                group=self._folder.resolve().name,
                variant=variant,
                configuration=self._configurations[variant],
                id=known[0] if known else secrets.token_hex(4),
                continues=known is not None,
                step=step,
            )
            self._open[name, variant] = TRACKERS[name][1](place)
        return self._open[name, variant]

    def _each(self, name: str, method: str, *arguments: Any) -> None:
        for (tool, _), run in self._open.items():
            if tool == name:
                getattr(run, method)(*arguments)

    def _guarded(self, act: Callable[[str], None]) -> None:
        for name in tuple(self._working):
            try:
                act(name)
            except Exception as error:  # of any class: it is other people's code, or a network
                self._working.remove(name)
                why = run_folder.write_problem(error)
                self.warn(f"tracking by {name} ends here, the run does not: {why}")


def _read(folder: Path) -> dict[str, dict[str, tuple[str, int]]]:
    shape = {f"{name}?": dict[str, tuple[str, int]] for name in TRACKERS}
    try:
        return json_files.read(folder / run_folder.TRACKING / STATE, shape)
    except FileNotFoundError:
        return {}
