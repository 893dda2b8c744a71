"""A table that is shown on the console and written in Markdown, with the same rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAVY
from rich.console import RenderableType
from rich.table import Table


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
