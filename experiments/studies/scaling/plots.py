"""The plot: steps, updates and time against the number of dimensions, all axes logarithmic."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from experiments.studies.scaling import analysis
from experiments.studies.scaling.analysis import Size, median
from experiments.studies.scaling.variants import CONTROLS, GRADIENTS, LABELS, PLAIN

# Okabe and Ito's colours: told apart with any colour vision.
_LOOKS: dict[str, tuple[str, str, Literal["-", "--", ":"]]] = {
    "plain": ("#D55E00", "s", "--"),
    "plain_more": ("#E69F00", "D", "--"),
    "both": ("#0072B2", "o", "-"),
    "both_more": ("#0072B2", "p", "--"),
    "scale_free": ("#56B4E9", "P", "-"),
    "state_only": ("#009E73", "^", "-"),
    "action_only": ("#CC79A7", "v", "-"),
    "zero": ("#D55E00", "<", ":"),
    "unit_norm": ("#E69F00", ">", ":"),
    "shuffled": ("#000000", "X", ":"),
    "random": ("#999999", "d", ":"),
    "frozen": ("#009E73", "h", "-"),
    "smoothed": ("#CC79A7", "*", ":"),
}
_SPREAD = 0.022  # of families at one n, as a share of log n: markers do not hide one another


def save_plot(path: Path, sizes: Sequence[Size], title: str) -> None:
    """Writes the four panels."""
    figure = Figure(figsize=(11.0, 8.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 2)
    present = analysis.families_of(sizes)
    main = [family for family in present if family in (*PLAIN, *GRADIENTS)]
    controls = [family for family in present if family in CONTROLS]
    panels = (
        ("environment steps", "steps", main),
        ("updates", "updates", main),
        ("seconds of a run", "seconds", main),
        ("environment steps", "steps", [f for f in main if f in ("plain", "both")] + controls),
    )
    for axes, (label, quantity, families) in zip(grid.ravel(), panels, strict=True):
        for index, family in enumerate(families):
            _draw(axes, sizes, family, quantity, index - (len(families) - 1) / 2)
        _finish_axes(axes, sizes, label)
        handles = [_handle(sizes, family, quantity) for family in families]
        axes.legend(handles=handles, frameon=False, fontsize=7, loc="best")
    titles = ("Environment steps", "Updates", "Time", "Controls")
    for axes, name in zip(grid.ravel(), titles, strict=True):
        axes.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=10)
    with path.open("xb") as file:
        figure.savefig(file, format="png")


def _draw(axes: Axes, sizes: Sequence[Size], family: str, quantity: str, place: float) -> None:
    """Medians with intervals; what is censored stands at its budget, hollow, with an arrow."""
    color, marker, style = _LOOKS[family]
    line: list[tuple[float, float]] = []
    for size in sizes:
        variant = analysis.best(size, [family])
        if variant is None:
            continue
        at = size["n"] * math.exp(_SPREAD * place)
        found = median(analysis.values(size, variant, quantity))
        most = analysis.budget(size, variant, quantity)
        middle, low, high = (min(x, most) for x in (found.middle, found.low, found.high))
        censored = not math.isfinite(found.middle)
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
        if not math.isfinite(found.high):
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
        every = [size["n"] for size in sizes]
        if list(fitted.sizes) != every:
            label += f", n = {', '.join(map(str, fitted.sizes))}"
    return Line2D([], [], color=color, marker=marker, markersize=5, linestyle=style, label=label)


def _finish_axes(axes: Axes, sizes: Sequence[Size], label: str) -> None:
    numbers = [size["n"] for size in sizes]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    if np.isfinite([low, high]).all():
        # Room for the legend above what is drawn.
        axes.set_ylim(low / 1.1, high * 6)
        wide = high / low > 30
        axes.yaxis.set_minor_locator(LogLocator(subs=() if wide else (2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_formatter(
        FuncFormatter(lambda value, _: f"{value:,.6g}") if high / low <= 30 else NullFormatter()
    )
    axes.set_xlabel("n")
    axes.set_ylabel(f"{label} to the stated return")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8)
