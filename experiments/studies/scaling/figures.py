"""The figure: steps, updates and time against the number of dimensions, all axes logarithmic."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report.figure import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    YELLOW,
    log_scale,
    panels,
)
from experiments.report.rows import Rows
from experiments.studies.scaling import analysis
from experiments.studies.scaling.analysis import Size, sizes_of
from experiments.studies.scaling.families import CONTROLS, GRADIENTS, LABELS, PLAIN
from experiments.studies.scaling.tables import title

_LOOKS: dict[str, tuple[str, str, Literal["-", "--", ":"]]] = {
    "plain": (ORANGE, "s", "--"),
    "plain_more": (YELLOW, "D", "--"),
    "both": (BLUE, "o", "-"),
    "both_more": (BLUE, "p", "--"),
    "scale_free": (SKY, "P", "-"),
    "state_only": (GREEN, "^", "-"),
    "action_only": (PURPLE, "v", "-"),
    "zero": (ORANGE, "<", ":"),
    "unit_norm": (YELLOW, ">", ":"),
    "shuffled": (BLACK, "X", ":"),
    "random": (GREY, "d", ":"),
    "frozen": (GREEN, "h", "-"),
    "smoothed": (PURPLE, "*", ":"),
}
_SPREAD = 0.022  # of families at one n, as a share of log n: markers do not hide one another


def figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """One, of four panels."""
    sizes = sizes_of(rows)
    figure, grid = panels(2, 2, 11.0, 8.6)
    present = analysis.families_of(sizes)
    main = [family for family in present if family in (*PLAIN, *GRADIENTS)]
    controls = [family for family in present if family in ("plain", "both", *CONTROLS)]
    drawn = (
        ("Environment steps", "environment steps", "steps", main),
        ("Updates", "updates", "updates", main),
        ("Time", "seconds of a run", "seconds", main),
        ("Controls", "environment steps", "steps", controls),
    )
    for axes, (name, label, quantity, families) in zip(grid.ravel(), drawn, strict=True):
        for index, family in enumerate(families):
            _draw(axes, sizes, family, quantity, index - (len(families) - 1) / 2)
        log_scale(axes, "x", [size.n for size in sizes])
        log_scale(axes, "y")
        low, high = axes.get_ylim()
        axes.set_ylim(low / 1.1, high * 6)  # room for the legend above what is drawn
        axes.set(title=name, xlabel="n", ylabel=f"{label} to the stated return")
        handles = [_handle(sizes, family, quantity) for family in families]
        axes.legend(handles=handles, fontsize=7, loc="best")
    figure.suptitle(title(rows))
    yield "scaling", figure


def _draw(axes: Axes, sizes: Sequence[Size], family: str, quantity: str, place: float) -> None:
    """Medians with intervals; what is censored stands at its budget, hollow, with an arrow."""
    color, marker, style = _LOOKS[family]
    line: list[tuple[float, float]] = []
    for size in sizes:
        variant = size.best([family])
        if variant is None:
            continue
        at = size.n * math.exp(_SPREAD * place)
        found, most = variant.needed(quantity), variant.budget(quantity)
        needed = math.inf if found.median is None else found.median
        middle, low, high = (
            min(needed if end is None else end, most) for end in (needed, found.low, found.high)
        )
        censored = not math.isfinite(needed)
        axes.plot([at, at], [low, high], color=color, linewidth=1.0, alpha=0.7)
        axes.plot(
            at,
            middle,
            marker=marker,
            color=color,
            markersize=5.5,
            markerfacecolor="white" if censored else color,
            linestyle="",
        )
        if variant.reached < found.total:
            axes.annotate(
                "",
                (at, most * 1.35),
                (at, most),
                arrowprops={"arrowstyle": "->", "color": color, "linewidth": 0.9},
            )
        if not censored:
            line.append((at, middle))
    if len(line) > 1:
        axes.plot(*zip(*line, strict=True), color=color, linewidth=1.1, linestyle=style, alpha=0.8)


def _handle(sizes: Sequence[Size], family: str, quantity: str) -> Line2D:
    color, marker, style = _LOOKS[family]
    fitted = analysis.exponent(sizes, family, quantity)
    label = LABELS[family]
    if fitted is not None:
        low, high = f"{fitted.low:.2f}", f"{fitted.high:.2f}"
        label += f": $n^{{{fitted.value:.2f}}}$ [{low}, {high}]"
        every = [size.n for size in sizes]
        if list(fitted.sizes) != every:
            label += f", n = {', '.join(map(str, fitted.sizes))}"
    return Line2D([], [], color=color, marker=marker, markersize=5, linestyle=style, label=label)
