"""A table that is shown on the console and written in Markdown, with the same rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAVY
from rich.console import Console, RenderableType
from rich.table import Table

from experiments.report.intervals import Estimate


@dataclass(frozen=True)
class Listing:
    """A table.

    Attributes:
        title: What it shows.
        headings: Of its columns.
        rows: Of as many cells each.
        leading: How many columns are names, not numbers.
        note: A sentence on how to read it.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    leading: int = 1
    note: str = ""

    def rendered(self) -> RenderableType:
        """For the console."""
        table = Table(
            title=self.title,
            title_justify="left",
            title_style="bold",
            caption=self.note or None,
            caption_justify="left",
            header_style="bold",
            box=SIMPLE_HEAVY,
            pad_edge=False,
        )
        for index, heading in enumerate(self.headings):
            side = "left" if index < self.leading else "right"
            table.add_column(heading.replace(", ", "\n"), justify=side, no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a page."""
        marks = ["---" if at < self.leading else "--:" for at in range(len(self.headings))]
        lines = [self.headings, marks, *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        note = f"{self.note}\n\n" if self.note else ""
        return f"{note}{table}\n"


def wide_console(console: Console) -> Console:
    """Where the output is no terminal, a console as wide as any table needs."""
    return console if console.is_terminal else Console(file=console.file, width=170)


def with_interval(found: Estimate | None, signed: bool = False) -> str:
    """A mean and its interval."""
    if found is None or found.mean is None:
        return "–"
    text = number(found.mean, signed)
    if found.low is not None and found.high is not None:
        text += f" [{number(found.low)}, {number(found.high)}]"
    return text + ("*" if found.count < found.total else "")


def number(value: float, signed: bool = False) -> str:
    """Three digits or so."""
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 9.5e-4):
        return f"{value:+.1e}" if signed else f"{value:.1e}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
