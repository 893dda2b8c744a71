"""What a person sees while shards train in many places at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.launch.progress import Lines, Step, clock

_ROWS = 16  # shards shown on a terminal; the last line counts all

# What a shard tells: which one it is, `begins`, `phase`, `epoch`, `note` or `warn`, and what.
Event = tuple[int, str, Any]


@dataclass
class _Shard:
    """One shard, as far as it has told."""

    starts: int = 0
    where: str = ""
    phase: str = ""
    stand: Step | None = None
    over: bool = False


class Overview:
    """All shards in one view: a row for each on a terminal, lines elsewhere.

    Args:
        console: Where.
        shards: How many there are.
        epochs: Of each one.
        places: How many can train at a time.
    """

    def __init__(self, console: Console, shards: int, epochs: int, places: int):
        self._epochs, self._places = epochs, places
        self._shards = [_Shard() for _ in range(shards)]
        self._lines = Lines(console)
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(
                console=console, get_renderable=self.rendered, transient=True, refresh_per_second=4
            )
            self._live.start()

    def hear(self, events: Iterable[Event]) -> None:
        """Takes in what shards told."""
        for index, kind, value in events:
            getattr(self, kind)(index, value)

    def begins(self, index: int, where: str) -> None:
        """A shard begins, or goes on where another worker was lost."""
        shard = self._shards[index]
        shard.starts, shard.where = shard.starts + 1, where
        if shard.starts > 1:
            self.warn(index, f"its worker was lost; it goes on at {where}")
        else:
            self._line(index, f"begins at {where}")

    def phase(self, index: int, name: str) -> None:
        """A shard's new phase."""
        self._shards[index].phase = name
        self._line(index, f"{name} ...")

    def epoch(self, index: int, stand: Step) -> None:
        """An epoch of a shard is done."""
        self._shards[index].stand = stand
        self._line(
            index,
            f"epoch {stand.done}/{stand.total}  {' · '.join(stand.status)}  "
            f"{clock(stand.seconds_left)} left, {clock(self.left)} for all",
        )

    def over(self, index: int, text: str) -> None:
        """A shard is done, or failed for good."""
        self._shards[index].over = True
        self._line(index, f"{text} ({self._count()})")

    def note(self, index: int, text: str) -> None:
        """Something that is worth a line."""
        self._lines.note(self._place(index) + text)

    def warn(self, index: int, text: str) -> None:
        """Something that should not be overlooked."""
        self._lines.warn(self._place(index) + text)

    def close(self) -> None:
        """Takes the rows away."""
        if self._live is not None:
            self._live.stop()

    def rendered(self) -> RenderableType:
        """Rows of the shards that train, and one for all."""
        table = Table.grid(padding=(0, 2))
        for index, shard in self._running()[:_ROWS]:
            stand = shard.stand
            done, told, left = 0, shard.phase, ""
            if stand is not None:
                done, told, left = stand.done, " · ".join(stand.status), clock(stand.seconds_left)
            table.add_row(
                Text(self._place(index) + shard.where),
                ProgressBar(total=self._epochs, completed=done, width=20),
                Text(f"{done}/{self._epochs}"),
                Text(left),
                Text(told, no_wrap=True, overflow="ellipsis"),
            )
        total = self._epochs * len(self._shards)
        done = sum(shard.stand.done for shard in self._shards if shard.stand is not None)
        table.add_row(
            Text("all"),
            ProgressBar(total=total, completed=done, width=20),
            Text(f"{done}/{total}"),
            Text(clock(self.left)),
            Text(self._count()),
        )
        return table

    @property
    def left(self) -> float | None:
        """Seconds until all are done: those that train, then the others at the same speed."""
        stands = [shard.stand for _, shard in self._running() if shard.stand is not None]
        known = [(stand, stand.seconds_left) for stand in stands if stand.seconds_left is not None]
        if not known:
            return None
        waiting = sum(not shard.starts and not shard.over for shard in self._shards)
        paces = [left / (stand.total - stand.done) for stand, left in known if left]
        whole = self._epochs * sum(paces) / max(len(paces), 1)
        return max(left for _, left in known) + -(-waiting // self._places) * whole

    def _running(self) -> list[tuple[int, _Shard]]:
        every = enumerate(self._shards)
        return [(index, shard) for index, shard in every if shard.starts and not shard.over]

    def _count(self) -> str:
        over = sum(shard.over for shard in self._shards)
        return f"{over} of {len(self._shards)} shards are over"

    def _place(self, index: int) -> str:
        return f"shard {index + 1}/{len(self._shards)}: " if len(self._shards) > 1 else ""

    def _line(self, index: int, text: str) -> None:
        """What the rows show anyhow."""
        if self._live is None:
            self.note(index, text)
