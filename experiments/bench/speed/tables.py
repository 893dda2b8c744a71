"""How measurements are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAVY
from rich.table import Table
from rich.text import Text


def heading(text: str) -> Text:
    """The line above a table."""
    return Text(text, style="bold")


def table(headings: Sequence[str]) -> Table:
    """An empty table; all columns but the first hold numbers."""
    made = Table(header_style="bold", box=SIMPLE_HEAVY, pad_edge=False)
    for index, name in enumerate(headings):
        made.add_column(name, justify="right" if index else "left", no_wrap=True)
    return made


def timings(what: str, unit: str, over: str, measured: Sequence[Mapping[str, Any]]) -> Table:
    """Times of alternatives and their ratios to the first.

    Args:
        what: What the alternatives are.
        unit: "ms", "us", or "/s" for how many in a second.
        over: What the ratios are to.
        measured: `experiments.bench.timing.Measurement`s as mappings.
    """
    made = table((what, unit, over, "min to max", "compile s"))
    for entry in measured:
        seconds = entry["seconds"]
        number = {"ms": f"{seconds * 1e3:.3g}", "us": f"{seconds * 1e6:.3g}"}.get(
            unit, f"{1 / seconds:,.0f}"
        )
        spread = f"{entry['smallest_ratio']:.2f} to {entry['largest_ratio']:.2f}"
        compiled = f"{entry['compile_seconds']:.1f}"
        made.add_row(entry["name"], number, f"{entry['ratio']:.2f}", spread, compiled)
    return made


def members(count: int) -> str:
    """How many runs a program holds, in words."""
    return "one run alone" if count == 1 else f"{count} runs in one program"
