"""Progress on the console: one `Progress` for training, sweeps and studies."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from rich import progress as rich_progress
from rich.console import Console, RenderableType
from rich.text import Text

from experiments.launch.history import RETURN, History, steady_steps_per_second


@dataclass(frozen=True)
class Step:
    """One step of progress.

    Attributes:
        done: Steps done: epochs, rows of a study, ...
        total: Steps in all.
        status: Short texts about the last one.
        seconds_left: Estimated time left; None if unknown.
        unit: Name of a step.
    """

    done: int
    total: int
    status: list[str] | tuple[str, ...] = ()
    seconds_left: float | None = None
    unit: str = "epoch"


class Progress:
    """Callbacks of a long computation; subclasses override what they show.

    A `KeyboardInterrupt` raised by one of the methods ends a training cleanly, with its results
    written. As a context manager, it closes itself.
    """

    def phase(self, name: str) -> None:
        """A new phase began: compiling, training, ..."""

    def epoch(self, history: History, epochs: int) -> None:
        """An epoch of a training is done; it is in the history and on disk."""
        self.step(Step(len(history.epochs), epochs, status(history), seconds_left(history, epochs)))

    def step(self, step: Step) -> None:
        """A step is done."""

    def note(self, text: str) -> None:
        """Shows a line of information."""

    def warn(self, text: str) -> None:
        """Shows a warning."""

    def figures(self, paths: Sequence[Path]) -> None:
        """The figures of a training are on disk, as PNG."""

    def close(self) -> None:
        """Ends the display."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Silent(Progress):
    """Shows nothing."""

    def epoch(self, history: History, epochs: int) -> None:
        """Shows nothing."""


class Lines(Progress):
    """A line per phase and per step, for files and pipes.

    Args:
        console: Where to print.
        interval: Minimum seconds between the lines of two steps; the last step always has one.
    """

    def __init__(self, console: Console, interval: float = 0.0):
        self._console, self._interval = console, interval
        self._printed = float("-inf")

    def phase(self, name: str) -> None:
        """Prints the phase's name."""
        self._print(f"{name} ...")

    def step(self, step: Step) -> None:
        """Prints one line."""
        now = time.monotonic()
        if now - self._printed < self._interval and step.done < step.total:
            return
        self._printed = now
        left = f"{clock(step.seconds_left)} left"
        self._print(f"{step.unit} {step.done}/{step.total}  {' · '.join(step.status)}  {left}")

    def note(self, text: str) -> None:
        """Prints it."""
        self._print(text)

    def warn(self, text: str) -> None:
        """Prints it, marked as a warning."""
        self._print(f"WARNING: {text}")

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)
        self._console.file.flush()


class Bar(Progress):
    """A progress bar with the numbers of the last step beneath it."""

    def __init__(self, console: Console):
        self._status: Sequence[str] = ()
        self._deadline: float | None = None
        self._bar = _BarWithText(
            self._text,
            rich_progress.SpinnerColumn(),
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(bar_width=None),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TextColumn("{task.fields[left]}"),
            console=console,
            expand=True,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, left="")
        self._bar.start()

    def phase(self, name: str) -> None:
        """Names the phase at the bar's left; only steps move the bar."""
        self._bar.update(self._task, description=name)

    def step(self, step: Step) -> None:
        """Moves the bar."""
        self._status = step.status
        left = step.seconds_left
        self._deadline = None if left is None else time.monotonic() + left
        self._bar.update(self._task, completed=step.done, total=step.total)

    def note(self, text: str) -> None:
        """Prints it above the bar, where it stays."""
        self._bar.console.print(Text(text))

    def warn(self, text: str) -> None:
        """The same, in red."""
        self._bar.console.print(Text(f"WARNING: {text}", style="bold red"))

    def close(self) -> None:
        """Removes the bar."""
        self._bar.stop()

    def _text(self) -> str:
        # Read at every refresh, so that the time left counts down within an epoch.
        if self._deadline is not None:
            left = clock(max(0.0, self._deadline - time.monotonic()))
            self._bar.update(self._task, left=f"{left} left")
        return "  " + " · ".join(self._status) if self._status else ""


class _BarWithText(rich_progress.Progress):
    """A progress bar with a line of text beneath."""

    def __init__(
        self, text: Callable[[], str], *columns: rich_progress.ProgressColumn, **options: Any
    ):
        self._text = text
        super().__init__(*columns, **options)

    def get_renderables(self) -> Iterable[RenderableType]:
        text = Text(self._text())
        yield self.make_tasks_table(self.tasks)
        yield text


def console_progress(console: Console, interval: float = 0.0) -> Bar | Lines:
    """A bar on a terminal, lines elsewhere, at most one per `interval` seconds."""
    return Bar(console) if console.is_terminal else Lines(console, interval)


def status(
    history: History, summarize: Callable[[History, np.ndarray], str] | None = None
) -> list[str]:
    """Steps, returns, frozen runs and speed, as short texts.

    Args:
        history: Of the training.
        summarize: What to say of the last returns, `(variants, seeds)`; None for the mean of each
            variant.
    """
    texts, returns = _steps(history), history.sound(RETURN)
    if returns is not None:
        summarize = summarize or partial(_by_variant, form=".1f")
        texts.append(f"return {summarize(history, returns[-1])}")
    if frozen := int(history.frozen[-1:].sum()):
        texts.append(f"{frozen} frozen")
    speed = steady_steps_per_second(history)
    if speed is not None:
        texts.append(f"{speed:,.0f} steps/s")
    return texts


def losses(history: History) -> list[str]:
    """Steps and mean value loss of each variant (of up to four), as short texts."""
    texts, values = _steps(history), history.last("value_loss")
    updates = history.last("updates")
    begun = updates is None or updates.any()  # the first epoch may only fill the buffer
    if values is not None and begun and len(values) <= 4:
        texts.append(f"value loss {_by_variant(history, values, '.3g')}")
    return texts


def _steps(history: History) -> list[str]:
    steps = history.last("environment_steps")
    return [] if steps is None else [f"{steps.mean():,.0f} steps"]


def _by_variant(history: History, values: np.ndarray, form: str) -> str:
    pairs = zip(history.variants, values, strict=True)
    return ", ".join(f"{variant.name} {_mean(row, form)}" for variant, row in pairs)


def seconds_left(history: History, epochs: int) -> float | None:
    """Estimates the time left from the mean epoch so far, without the first if there are more.

    There is none while all epochs only filled the replay buffer: those that learn take longer.
    """
    done, updates = len(history.seconds), history.last("updates")
    if not done or (updates is not None and not updates.any()):
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


def _mean(values: np.ndarray, form: str) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.mean():{form}}" if finite.size else "not finite"
