"""What a person sees while a run goes on."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from experiments.launch.history import History
from experiments.report.results import RETURN, steady_steps_per_second


@dataclass(frozen=True)
class Stand:
    """How far something is.

    Attributes:
        done: Epochs done.
        total: Epochs in all.
        status: Short texts on the last one.
        left: Seconds; None where that is not known.
    """

    done: int
    total: int
    status: Sequence[str]
    left: float | None


class Listener(Protocol):
    """Gets told how a run goes on; a `KeyboardInterrupt` from here ends it in good order."""

    def phase(self, name: str) -> None:
        """A new phase began: compiling, training, ..."""
        ...

    def epoch(self, history: History, epochs: int) -> None:
        """An epoch is done and lies in the history and on disk."""
        ...

    def note(self, text: str) -> None:
        """Something that is worth a line."""
        ...

    def warn(self, text: str) -> None:
        """Something that should not be overlooked."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


class Silent:
    """Says nothing."""

    def phase(self, name: str) -> None:
        """Says nothing."""

    def epoch(self, history: History, epochs: int) -> None:
        """Says nothing."""

    def note(self, text: str) -> None:
        """Says nothing."""

    def warn(self, text: str) -> None:
        """Says nothing."""

    def close(self) -> None:
        """Says nothing."""


class Lines:
    """A line per phase and per epoch, for files and pipes."""

    def __init__(self, console: Console):
        self._console = console

    def phase(self, name: str) -> None:
        """Prints the phase's name."""
        self._print(f"{name} ...")

    def epoch(self, history: History, epochs: int) -> None:
        """Prints one line."""
        self.show(stand(history, epochs))

    def show(self, stand: Stand) -> None:
        """Prints one line."""
        left, told = clock(stand.left), " · ".join(stand.status)
        self._print(f"epoch {stand.done}/{stand.total}  {told}  {left} left")

    def note(self, text: str) -> None:
        """Prints it."""
        self._print(text)

    def warn(self, text: str) -> None:
        """Prints it with what it is in front."""
        self._print(f"WARNING: {text}")

    def close(self) -> None:
        """There is nothing to close."""

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)
        self._console.file.flush()


class Bar:
    """A progress bar with the numbers of the last epoch beneath it."""

    def __init__(self, console: Console):
        self._status: Sequence[str] = ()
        self._deadline: float | None = None
        self._progress = _Progress(
            self._tell,
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            expand=True,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None, left="")
        self._progress.start()

    def phase(self, name: str) -> None:
        """Names the phase at the bar's left; the bar itself moves with epochs alone."""
        self._progress.update(self._task, description=name)

    def epoch(self, history: History, epochs: int) -> None:
        """Moves the bar."""
        self.show(stand(history, epochs))

    def show(self, stand: Stand) -> None:
        """Moves the bar."""
        self._status = stand.status
        self._deadline = None if stand.left is None else time.monotonic() + stand.left
        self._progress.update(self._task, completed=stand.done, total=stand.total)

    def note(self, text: str) -> None:
        """Prints it above the bar, where it stays."""
        self._progress.console.print(Text(text))

    def warn(self, text: str) -> None:
        """The same, in red."""
        self._progress.console.print(Text(f"WARNING: {text}", style="bold red"))

    def close(self) -> None:
        """Takes the bar away."""
        self._progress.stop()

    def _tell(self) -> str:
        # Read at every refresh, so that the time left counts down within an epoch.
        if self._deadline is not None:
            left = clock(max(0.0, self._deadline - time.monotonic()))
            self._progress.update(self._task, left=f"{left} left")
        return "  " + " · ".join(self._status) if self._status else ""


class _Progress(Progress):
    """A progress bar with a line of text beneath."""

    def __init__(self, tell: Callable[[], str], *columns: ProgressColumn, **options: Any):
        self._tell = tell
        super().__init__(*columns, **options)

    def get_renderables(self) -> Iterable[RenderableType]:
        text = Text(self._tell())
        yield self.make_tasks_table(self.tasks)
        yield text


def listener(console: Console) -> Bar | Lines:
    """A bar on a terminal, lines elsewhere."""
    return Bar(console) if console.is_terminal else Lines(console)


def stand(history: History, epochs: int) -> Stand:
    """How far a run is."""
    return Stand(len(history.epochs), epochs, status(history), seconds_left(history, epochs))


def status(history: History) -> list[str]:
    """Steps, mean return of each variant and speed, as short texts."""
    told = []
    steps = history.last("environment_steps")
    if steps is not None:
        told.append(f"{steps.mean():,.0f} steps")
    returns = history.sound(RETURN)
    if returns is not None:
        pairs = zip(history.variants, returns[-1], strict=True)
        told.append("return " + ", ".join(f"{variant.name} {_mean(row)}" for variant, row in pairs))
    frozen = history.last("frozen")
    if frozen is not None and frozen.any():
        told.append(f"{int(frozen.sum())} frozen")
    speed = steady_steps_per_second(history)
    if speed is not None:
        told.append(f"{speed:,.0f} steps/s")
    return told


def seconds_left(history: History, epochs: int) -> float | None:
    """From the mean time of the epochs done, the first one left out where there are more."""
    done = len(history.seconds)
    if not done:
        return None
    if done == 1:
        return history.seconds[0] * (epochs - 1)
    return (history.seconds[-1] - history.seconds[0]) / (done - 1) * (epochs - done)


def clock(seconds: float | None) -> str:
    """Seconds as minutes and seconds, `1:05`."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _mean(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.mean():.1f}" if finite.size else "not finite"
