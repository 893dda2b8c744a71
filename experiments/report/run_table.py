"""The final table on the terminal."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from rich.box import SIMPLE_HEAVY
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments.report.results import RETURN, counted, frozen_runs, metric, sentence
from sobolax.training.shares import SHARES

# Two numbers to a cell, one below the other, so that a terminal of 80 columns holds them all.
_COLUMNS = (
    ("value\nerror", ("value_error",)),
    ("∇s Q\nerror\ncosine", ("state_gradient_error", "state_gradient_cosine")),
    ("∇a Q\nerror\ncosine", ("action_gradient_error", "action_gradient_cosine")),
)
# Over a whole run: the share of gradient terms out of bounds, and transitions that are not finite.
_DROPPED, _NONFINITE = "gradients_dropped", "transitions_nonfinite"
# A reference that misses more than this share of the return's weight says little about values.
_LONG_TAIL = 0.1
# Of those with the largest shares of the gradient loss.
_COORDINATES = 6


def render(results: Mapping[str, Any], title: str) -> RenderableType:
    """The table of a run, its times, and one sentence on the difference of the variants."""
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAVY)
    table.pad_edge = False
    table.add_column("variant", no_wrap=True)
    headings = ["return\n[95 %]", *(heading for heading, _ in _COLUMNS)]
    for heading in (*headings, "dropped\nnon-fin.", "steps/s\nper seed"):
        table.add_column(heading, justify="right", no_wrap=True)
    timing = results["timing"]
    speed = timing["steady_steps_per_second"]
    runs = len(results["variants"]) * results["seeds"]
    for name, variant in results["variants"].items():
        label = variant["label"]
        if any(variant["weights"].values()):
            weights = variant["weights"]
            label += f"\nλ {weights['state_weight']:g}, {weights['action_weight']:g}"
        cells = [_cell(results, name, RETURN, interval=True)]
        for _, keys in _COLUMNS:
            cells.append("\n".join(_cell(results, name, key) for key in keys))
        whole = variant["whole_run"]
        dropped = f"{whole[_DROPPED]:.2%}" if _DROPPED in whole else "–"
        cells.append(f"{dropped}\n{whole[_NONFINITE]:,.0f}" if _NONFINITE in whole else dropped)
        table.add_row(label, *cells, "–" if speed is None else f"{speed / runs:,.0f}")
    parts: list[RenderableType] = [table]
    if any("*" in str(cell) for column in table.columns for cell in column.cells):
        parts.append(Text("* over the seeds whose value is finite and that are not frozen"))
    frozen = frozen_runs(results)
    if frozen is not None:
        parts.append(Text(frozen, style="yellow"))
    compiled = f"compiled in {timing['compile_seconds']:.0f} s"
    text = f"{counted(runs, 'run')} in one program: {compiled}"
    if speed is not None:
        text += f", {speed:,.0f} environment steps/s in all"
    parts.append(Text(f"{text}, {timing['wall_seconds']:.0f} s altogether."))
    tails = [metric(results, variant, "tail") for variant in results["variants"]]
    tail = max((found.mean for found in tails if found and found.mean is not None), default=0.0)
    if tail > _LONG_TAIL:
        parts.append(
            Text(
                "Critic errors are against rollouts too short for the discount: "
                f"what lies beyond them weighs {tail:.2f}."
            )
        )
    parts += [shares for shares in map(partial(_shares, results), SHARES) if shares is not None]
    if results["interrupted"]:
        parts.append(Text(f"Interrupted after {counted(results['epochs'], 'epoch')}."))
    parts.append(Text(sentence(results)))
    return Group(*parts)


def _shares(results: Mapping[str, Any], prefix: str) -> Table | None:
    """The coordinates with the largest shares of the gradient loss; None without any."""
    found = {
        name: [metric(results, variant, name) for variant in results["variants"]]
        for entry in results["variants"].values()
        for name in entry["metrics"]
        if name.startswith(prefix)
    }
    means = {
        name.removeprefix(prefix): [e.mean if e and e.mean is not None else 0.0 for e in estimates]
        for name, estimates in found.items()
    }
    if len(means) < 2:  # the share of a single coordinate is 1
        return None
    kind = prefix.partition("_")[0]
    table = Table(box=SIMPLE_HEAVY, header_style="bold")
    table.pad_edge = False
    table.add_column(f"share of the gradient loss by {kind} coordinate", no_wrap=True)
    for variant in results["variants"].values():
        table.add_column(variant["label"], justify="right", no_wrap=True)
    ordered = sorted(means, key=lambda name: -max(means[name]))
    for name in ordered[:_COORDINATES]:
        table.add_row(name, *(f"{share:.1%}" for share in means[name]))
    if rest := ordered[_COORDINATES:]:
        sums = (sum(column) for column in zip(*(means[name] for name in rest), strict=True))
        table.add_row(f"{counted(len(rest), 'other')}", *(f"{share:.1%}" for share in sums))
    return table


def show(results: Mapping[str, Any], title: str, console: Console) -> None:
    """Prints the table; where the output is no terminal, as wide as it needs."""
    if not console.is_terminal:
        console = Console(file=console.file, width=100)
    console.print(render(results, title))


def _cell(results: Mapping[str, Any], variant: str, name: str, interval: bool = False) -> str:
    found = metric(results, variant, name)
    if found is None or found.mean is None:
        return "–"
    text = _number(found.mean)
    if interval and found.low is not None and found.high is not None:
        text += f"\n[{_number(found.low)}, {_number(found.high)}]"
    return text + ("*" if found.count < found.total else "")


def _number(value: float) -> str:
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e5 or size < 1e-3:
        return f"{value:.1e}"
    return f"{value:.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"
