"""One style for all figures: fonts, colours of variants, bands, points, legends, saving."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Transform

from experiments.report.intervals import Estimate, Median, columns

# Colours of Okabe and Ito: distinguishable with any colour vision, and in grey.
BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
)  # fmt: skip
GREY, BLACK = "#777777", "black"
# Of variants that every page shows.
COLORS = {"plain": ORANGE, "sobolev": BLUE}

T = TypeVar("T")

_STYLE: dict[Any, Any] = {
    "figure.titlesize": 10,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def style() -> AbstractContextManager[None]:
    """The style of figures, as a context manager around all of their drawing."""
    return mpl.rc_context(_STYLE)


def panels(
    rows: int, columns: int, width: float, height: float, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes, `(rows, columns)`.

    Args:
        rows: Of axes.
        columns: Of axes.
        width: Of the figure in inches.
        height: Of the figure in inches.
        options: Of `Figure.subplots`.
    """
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def color(variant: str) -> str:
    """A variant's colour; grey for those without one of their own."""
    return COLORS.get(variant, GREY)


def line(variant: str) -> Literal["-", "--"]:
    """How a variant's line is drawn."""
    return "--" if variant == "plain" else "-"


def band(
    axes: Axes,
    across: Sequence[float] | np.ndarray,
    found: Sequence[Estimate | Median],
    color: str,
    **options: Any,
) -> None:
    """Draws estimates as a line with their intervals around it.

    Infinite ends are left out of the band and drawn as `point` draws them.

    Args:
        axes: The axes to draw on.
        across: Where they lie.
        found: One for each.
        color: Of line and band.
        options: Of `Axes.plot`.
    """
    value, low, high = columns(found)
    bottom, top = (np.where(np.isinf(end), value, end) for end in (low, high))
    fill(axes, across, bottom, top, color)
    # One alone is a point, which a line would not show.
    options.setdefault("marker", "o" if len(value) == 1 else None)
    axes.plot(across, value, color=color, markersize=3.5, **options)
    for place, one, ends in zip(across, found, zip(value, low, high, strict=True), strict=True):
        if np.isinf(ends).any():
            point(axes, float(place), one, color, upright=True)


def fill(axes: Axes, across: Any, low: Any, high: Any, color: str) -> None:
    """Shades what lies between two lines."""
    axes.fill_between(across, low, high, color=color, alpha=0.16, linewidth=0)


def point(axes: Axes, place: float, found: Estimate | Median, color: str, upright: bool) -> None:
    """Draws one estimate and its interval.

    An interval with an infinite end is an arrow to the edge of the axes, an infinite value a hollow
    marker there.

    Args:
        axes: The axes to draw on.
        place: Along the other axis.
        found: The estimate; nothing is drawn where it has no value.
        color: Its colour.
        upright: Whether values run upwards.
    """
    if found.value is None:
        return
    ends = [found.value if end is None else end for end in (found.low, found.high)]
    finite = [value for value in (*ends, found.value) if np.isfinite(value)]
    if finite:
        span = [min(finite), max(finite)]
        look = {"color": color, "linewidth": 1.7, "alpha": 0.7}
        axes.plot(*_turned([place, place], span, upright), **look)
        for end in filter(np.isinf, ends):
            _draw_arrow(axes, place, max(span) if end > 0 else min(span), end, upright, look)
    at_edge = bool(np.isinf(found.value))
    middle = _edge(found.value) if at_edge else found.value
    axes.plot(
        *_turned([place], [middle], upright),
        color=color,
        marker="o",
        markersize=4.5,
        markerfacecolor="white" if at_edge else color,
        clip_on=not at_edge,
        transform=_edge_transform(axes, upright) if at_edge else axes.transData,
    )


def _draw_arrow(
    axes: Axes, place: float, start: float, end: float, upright: bool, look: Mapping[str, Any]
) -> None:
    """From a number to the edge of the axes, wherever their limits will be."""
    axes.annotate(
        "",
        _turned(place, _edge(end), upright),
        _turned(place, start, upright),
        xycoords=_turned("data", "axes fraction", upright),
        textcoords="data",
        arrowprops={"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0, **look},
    )


def _edge(value: float) -> float:
    """Where an infinite number is drawn, as a share of the axes."""
    return 1.0 if value > 0 else 0.0


def _edge_transform(axes: Axes, upright: bool) -> Transform:
    return axes.get_xaxis_transform() if upright else axes.get_yaxis_transform()


def _turned(along: T, values: T, upright: bool) -> tuple[T, T]:
    return (along, values) if upright else (values, along)


def handles(variants: Mapping[str, str]) -> list[Line2D]:
    """Entries of a legend for names of variants and their labels."""
    return [
        Line2D([], [], color=color(name), linestyle=line(name), label=label)
        for name, label in variants.items()
    ]


def legend_below(figure: Figure, entries: Sequence[Line2D], columns: int | None = None) -> None:
    """One legend for all axes, below them, with fewer columns where the figure is too narrow."""
    for count in range(columns or max(1, len(entries)), 0, -1):
        legend = figure.legend(handles=entries, loc="outside lower center", ncols=count)
        if count == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def log_scale(axes: Axes, which: Literal["x", "y"], ticks: Sequence[float] | None = None) -> None:
    """A logarithmic axis with labels such as 0.2.

    Args:
        axes: Which axes.
        which: Which axis.
        ticks: Where it is labelled, and nowhere else; None for powers of ten, and for 2 and 5
            times these where there are few.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log"})
    if ticks is not None:
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_minor_locator(NullLocator())
        return

    def label(value: float, _: Any) -> str:
        low, high = axis.get_view_interval()
        return f"{value:g}" if high / low < 100 else ""

    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.set_minor_formatter(FuncFormatter(label))


def save(figure: Figure, path: Path, title: str = "") -> None:
    """Writes a PNG, a new file."""
    with style():
        if title:
            figure.suptitle(title)
        with path.open("xb") as file:
            figure.savefig(file, format="png")
