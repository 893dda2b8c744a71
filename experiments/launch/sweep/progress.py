"""Progress of a sweep: all of its shards, whether they train in turn or side by side."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.launch import json_files
from experiments.launch.history import History
from experiments.launch.progress import Lines, Progress, Step, clock, seconds_left, status

_ROWS = 16  # shards shown on a terminal; the last line counts all


class Relay(Progress):
    """Forwards a shard's progress as a kind and a value of JSON."""

    def __init__(self, send: Callable[[str, Any], None]):
        self._send = send

    def phase(self, name: str) -> None:
        """Forwards it."""
        self._send("phase", name)

    def epoch(self, history: History, epochs: int) -> None:
        """Forwards it, with the returns of all runs summarised as three numbers."""
        left = seconds_left(history, epochs)
        step = Step(len(history.epochs), epochs, status(history, _spread), left)
        self._send("step", asdict(step))

    def note(self, text: str) -> None:
        """Forwards it."""
        self._send("note", text)

    def warn(self, text: str) -> None:
        """Forwards it."""
        self._send("warn", text)


@dataclass
class _Shard:
    """The latest progress of one shard."""

    starts: int = 0
    where: str = ""
    phase: str = ""
    step: Step | None = None
    over: bool = False


class Overview(Lines):
    """All shards in one view: a row for each on a terminal, lines elsewhere.

    Args:
        console: Where to print.
        shards: Number of shards.
        epochs: Epochs of each.
        places: Shards that can train at a time.
    """

    def __init__(self, console: Console, shards: int, epochs: int, places: int = 1):
        super().__init__(console)
        self._epochs, self._places = epochs, places
        self._shards = [_Shard() for _ in range(shards)]
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(
                console=console, get_renderable=self.rendered, transient=True, refresh_per_second=4
            )
            self._live.start()

    def close(self) -> None:
        """Removes the rows."""
        if self._live is not None:
            self._live.stop()

    def shard(self, index: int) -> Progress:
        """The progress of one shard, in this process."""
        self._shards[index].starts += 1
        return Relay(partial(self.hear, index))

    def hear(self, index: int, kind: str, value: Any) -> None:
        """Receives a message of a shard: `Relay`'s kinds, and `begins` with a place.

        Raises:
            ValueError: If the value is not one of this kind.
        """
        json_files.check(value, Step if kind == "step" else str, kind)
        shard, place = self._shards[index], self._place(index)
        if kind == "note":
            self.note(place + value)
        elif kind == "warn":
            self.warn(place + value)
        elif kind == "phase":
            shard.phase = value
            self._line(f"{place}{value} ...")
        elif kind == "begins":
            shard.starts, shard.where = shard.starts + 1, value
            if shard.starts > 1:
                self.warn(f"{place}its worker was lost; it goes on at {value}")
            else:
                self._line(f"{place}begins at {value}")
        elif kind == "step":
            try:
                step = shard.step = Step(**value)
            except TypeError as error:
                raise ValueError(f"no step: {error}") from error
            text = f"{place}epoch {step.done}/{step.total}  {' · '.join(step.status)}"
            for_all = f", {clock(self.left)} for all" if len(self._shards) > 1 else ""
            self._line(f"{text}  {clock(step.seconds_left)} left{for_all}")

    def over(self, index: int, failure: str = "") -> None:
        """Marks a shard as complete, or failed for good."""
        shard = self._shards[index]
        if not failure and shard.step is None:
            shard.step = Step(self._epochs, self._epochs)
        shard.over = True
        if failure or len(self._shards) > 1:
            text = f"FAILED: {failure}" if failure else "done"
            self._line(f"{self._place(index)}{text} ({self._count()})")

    def rendered(self) -> RenderableType:
        """Rows of the training shards, and one for all shards."""
        table = Table.grid(padding=(0, 2))
        running = [i for i, shard in enumerate(self._shards) if shard.starts and not shard.over]
        for index in running[:_ROWS]:
            shard = self._shards[index]
            step = shard.step or Step(0, self._epochs)
            left = clock(step.seconds_left) if shard.step else ""
            name, texts = self._place(index) + shard.where, step.status or [shard.phase]
            self._row(table, name, step, left, texts)
        if len(self._shards) > 1:
            done = sum(shard.step.done for shard in self._shards if shard.step)
            step = Step(done, self._epochs * len(self._shards))
            self._row(table, "all", step, clock(self.left), [self._count()])
        return table

    @property
    def left(self) -> float | None:
        """Seconds until all are done: the training shards, then the others at the same speed."""
        steps = [shard.step for shard in self._shards if shard.starts and not shard.over]
        known = [
            (step, step.seconds_left)
            for step in steps
            if step is not None and step.seconds_left is not None
        ]
        if not known:
            return None
        waiting = sum(not shard.starts and not shard.over for shard in self._shards)
        paces = [left / (step.total - step.done) for step, left in known if left]
        each = self._epochs * sum(paces) / max(len(paces), 1)
        return max(left for _, left in known) + -(-waiting // self._places) * each

    def _row(self, table: Table, name: str, step: Step, left: str, status: Any) -> None:
        table.add_row(
            Text(name),
            ProgressBar(total=step.total, completed=step.done, width=20),
            Text(f"{step.done}/{step.total}"),
            Text(left),
            Text(" · ".join(status), no_wrap=True, overflow="ellipsis"),
        )

    def _count(self) -> str:
        over = sum(shard.over for shard in self._shards)
        return f"{over} of {len(self._shards)} shards are over"

    def _place(self, index: int) -> str:
        return f"shard {index + 1}/{len(self._shards)}: " if len(self._shards) > 1 else ""

    def _line(self, text: str) -> None:
        """Prints a line, unless the rows of a terminal show it already."""
        if self._live is None:
            self.note(text)


def _spread(_: History, returns: np.ndarray) -> str:
    finite = returns[np.isfinite(returns)]
    if not finite.size:
        return "not finite"
    low, middle, high = np.quantile(finite, [0, 0.5, 1])
    return f"from {low:.1f} over {middle:.1f} to {high:.1f}"
