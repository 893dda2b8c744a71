"""Tables: the same cells on the console, in Markdown, in CSV and in JSON."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich import table as rich_table
from rich.box import SIMPLE_HEAVY
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.text import Text

from experiments.launch.run_folder import write_whole
from experiments.report.intervals import Estimate, Median

Cell: TypeAlias = str | int | float | Estimate | Median | None

_WIDE = 230


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: What it shows.
        headings: Of its columns; on the console a line ends at a comma.
        rows: Of as many cells each. Numbers stay numbers until they are printed.
        names: How many of the first columns are names, aligned left.
        note: How to read it.
        signed: Headings of columns whose numbers carry a sign, as differences do.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    names: int = 1
    note: str = ""
    signed: Sequence[str] = ()

    @property
    def file_name(self) -> str:
        """The title as a file's name, without an ending."""
        return re.sub(r"\W+", "_", self.title.lower()).strip("_")

    def texts(self, intervals: bool = True) -> list[list[str]]:
        """All cells as text."""
        signs = [heading in self.signed for heading in self.headings]
        return [
            [text(cell, sign, intervals) for cell, sign in zip(row, signs, strict=True)]
            for row in self.rows
        ]

    def rendered(self, intervals: bool = True) -> rich_table.Table:
        """For the console."""
        table = rich_table.Table(
            title=self.title or None,
            title_justify="left",
            title_style="bold",
            caption=self.note or None,
            caption_justify="left",
            header_style="bold",
            box=SIMPLE_HEAVY,
            pad_edge=False,
        )
        for index, heading in enumerate(self.headings):
            side = "left" if index < self.names else "right"
            table.add_column(heading.replace(", ", "\n"), justify=side, no_wrap=True)
        for row in self.texts(intervals):
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a page."""
        marks = ["---" if at < self.names else "--:" for at in range(len(self.headings))]
        lines = [self.headings, marks, *self.texts()]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        note = f"{self.note}\n\n" if self.note else ""
        return f"{note}{table}\n"

    def csv(self) -> str:
        """The numbers with all digits; an interval has columns of its own."""
        wide = [
            any(isinstance(row[at], Estimate | Median) for row in self.rows)
            for at in range(len(self.headings))
        ]
        headings: list[str] = []
        for heading, several in zip(self.headings, wide, strict=True):
            headings += [heading, f"{heading}, low", f"{heading}, high"] if several else [heading]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(headings)
        for row in self.rows:
            line: list[Any] = []
            for cell, several in zip(row, wide, strict=True):
                if isinstance(cell, Estimate | Median):
                    line += [cell.value, cell.low, cell.high]
                else:
                    line += [cell, None, None] if several else [cell]
            writer.writerow(line)
        return file.getvalue()

    def to_json(self) -> dict[str, Any]:
        """For `results.json`."""
        return asdict(self)


def text(cell: Cell, signed: bool = False, intervals: bool = True) -> str:
    """A cell; a star says that some seeds have no finite value."""
    if cell is None or isinstance(cell, str):
        return "–" if cell is None else cell
    if isinstance(cell, int | float):
        return number(cell, signed)
    if cell.value is None:
        return "–"
    found = number(cell.value, signed)
    if intervals and cell.low is not None and cell.high is not None:
        found += f" [{number(cell.low)}, {number(cell.high)}]"
    return found + ("*" if cell.count < cell.total else "")


def number(value: float, signed: bool = False) -> str:
    """Three digits; whole numbers have all of theirs."""
    sign = "+" if signed else ""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if isinstance(value, int) or size == 0:
        return f"{value:{sign},.0f}"
    if size >= 1e5 or size < 1e-3:
        mantissa, exponent = f"{value:{sign}.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    leading = int(f"{size:.2e}".split("e")[1])  # of the rounded number: 0.9999 has that of 1
    return f"{value:{sign},.{max(0, 2 - leading)}f}"


def wide_console(console: Console) -> Console:
    """Where the output is no terminal, a console as wide as any table needs."""
    return console if console.is_terminal else Console(file=console.file, width=_WIDE)


def show(tables: Sequence[Table], console: Console) -> None:
    """Prints tables; those too wide for the console without their intervals, or as lists."""
    console = wide_console(console)
    for table in tables:
        whole = table.rendered()
        if not _fits(whole, console):
            whole = table.rendered(intervals=False)
        console.print(fitting(whole, console))


def fitting(part: RenderableType, console: Console) -> RenderableType:
    """A table, or a group of parts, with every table that is wider than the console as a list."""
    if isinstance(part, Group):
        return Group(*(fitting(one, console) for one in part.renderables))
    if not isinstance(part, rich_table.Table) or _fits(part, console):
        return part
    headings = [_one_line(column.header) for column in part.columns]
    lines = [] if part.title is None else [_one_line(part.title), ""]
    for name, *cells in zip(*(column.cells for column in part.columns), strict=True):
        lines.append(_one_line(name))
        pairs = zip(headings[1:], cells, strict=True)
        lines += [f"  {heading}: {_one_line(cell)}" for heading, cell in pairs]
    if part.caption is not None:
        lines += ["", _one_line(part.caption)]
    return Text("\n".join([*lines, ""]))


def _fits(part: RenderableType, console: Console) -> bool:
    options = console.options.update(width=10_000)
    return Measurement.get(console, options, part).maximum <= console.width


def _one_line(cell: object) -> str:
    return " ".join(str(cell).split())


def markdown(tables: Sequence[Table]) -> str:
    """All tables as one page, each below its title."""
    return "\n".join(f"## {table.title}\n\n{table.markdown()}" for table in tables)


def save(folder: Path, tables: Sequence[Table], name: str = "table.md") -> None:
    """Writes all tables into one page, and each into a CSV of its own in `tables/`."""
    write_whole(folder / name, markdown(tables))
    beside = folder / "tables"
    beside.mkdir(exist_ok=True)
    for table in tables:
        write_whole(beside / f"{table.file_name}.csv", table.csv())
