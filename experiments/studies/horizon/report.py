"""The table and the figure: all states of a task together, a line for each method."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report import figure as kit
from experiments.report.intervals import Estimate, Median, columns, median
from experiments.report.rows import Rows
from experiments.report.table import Cell, Table
from experiments.studies.horizon import statistics
from experiments.studies.horizon.measure import EXACT, METHODS, ONE, ONE_DIFFERENCES, WIDER

_LOOKS: Mapping[str, tuple[str, Literal["-", "--"], str]] = {
    EXACT: (kit.BLUE, "-", "exact derivatives (sobolax.mjx)"),
    ONE: (kit.ORANGE, "-", "MJX, one solver iteration"),
    ONE_DIFFERENCES: (kit.YELLOW, "--", "differences of that same physics"),
    WIDER: (kit.GREY, "--", "differences, twice as wide"),
}
Measure = Callable[[Rows], Estimate | Median]


def tables(rows: Rows) -> list[Table]:
    """One: every task, method and number of steps."""
    lines: list[Sequence[Cell]] = []
    for task in rows.distinct("task"):
        for method in METHODS:
            for (horizon,), some in rows.where(task=task, method=method).groups("horizon"):
                numbers = (measure(some) for measure, _ in _measures().values())
                own = float(np.mean(np.isfinite(some.column("norm"))))
                shares = (float(np.mean(some.column(name))) for name in ("ended", "finite"))
                lines.append((task, method, horizon, *numbers, own, *shares))
    headings = ("task", "derivatives", "steps", *_measures(), "resolved", "ended", "finite")
    distance, count = (rows.options.get(name) for name in ("distance", "noises"))
    note = (
        "Directional derivatives of the return along random directions of the policy's "
        "parameters, each of which changes actions by 1 in root mean square; numbers are per "
        "direction, and the gradients of all states one vector. *Norm*: of the mean over noise. "
        "*Deviation*: of one sample, root mean square. *Typical*: length of the median sample, of "
        "the median state. *Noise*: variance of one sample over the squared length of the mean. "
        f"*Cosine*, *error*: of the mean, beside central differences (distance {distance}, common "
        f"noise) of the converged physics. The share of the noise, with {count} samples, is taken "
        "out of lengths and products; a dash is a squared length below twice its standard error, "
        "an error of 0 one whose square is estimated below 0. Intervals: 95 %, jackknife over "
        "states (*typical*: sign test), where they span less than a factor of 100. *Resolved*: "
        "share of states with a norm of their own. *Ended*: share of rollouts that a termination "
        "ended by then. *Finite*: share of samples that are finite."
    )
    return [Table("Gradients of returns", headings, lines, names=3, note=note)]


def figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Measures over the number of steps, a row of axes for each task."""
    tasks = rows.distinct("task")
    measures = {name: both for name, both in _measures().items() if name != "deviation"}
    figure, grid = kit.panels(len(tasks), len(measures), 11.0, 1.1 + 2.5 * len(tasks), sharex=True)
    horizons = sorted(rows.distinct("horizon"))
    present = [method for method in METHODS if rows.where(method=method)]
    for line, task in zip(grid, tasks, strict=True):
        for axes, (name, (measure, limits)) in zip(line, measures.items(), strict=True):
            for method in present:
                groups = list(rows.where(task=task, method=method).groups("horizon"))
                found = [measure(some) for _, some in groups]
                color, style, _ = _LOOKS[method]
                across = [horizon for (horizon,), _ in groups]
                _draw(axes, across, found, color, style, log=limits is None)
            kit.log_scale(axes, "x", horizons)
            if limits is None:
                kit.log_scale(axes, "y")
            else:
                axes.set_ylim(*limits)
            axes.set_title(f"{task}: {name}")
    for axes in grid[-1]:
        axes.set_xlabel("steps of the return")
    entries = [
        Line2D([], [], color=color, linestyle=style, label=label)
        for color, style, label in (_LOOKS[method] for method in present)
    ]
    kit.legend_below(figure, entries)
    figure.suptitle("Gradients of H-step returns, beside central differences of the mean return")
    yield "horizon", figure


def _measures() -> dict[str, tuple[Measure, tuple[float, float] | None]]:
    """Names, how each is computed, and the limits of its axis; None for a logarithmic one."""
    over = statistics.over_states
    return {
        "norm": (partial(over, measure=statistics.norm), None),
        "deviation": (partial(over, measure=statistics.deviation), None),
        "typical": (lambda rows: median(rows.column("typical")), None),
        "noise": (partial(over, measure=statistics.noise), None),
        "cosine": (partial(over, measure=statistics.cosine, scale="cosine"), (0.0, 1.05)),
        "error": (partial(over, measure=statistics.squared_error, scale="square"), (-0.03, 1.0)),
    }


def _draw(
    axes: Any,
    across: Sequence[int],
    found: Sequence[Estimate | Median],
    color: str,
    style: str,
    log: bool,
) -> None:
    """A line with its intervals, of which a logarithmic axis shows a factor of ten at most."""
    value, low, high = columns(found)
    if log:
        value = np.where(value > 0, value, np.nan)
        low, high = np.maximum(low, value / 10), np.minimum(high, value * 10)
    kit.fill(axes, across, low, high, color)
    axes.plot(across, value, color=color, linestyle=style, marker="o", markersize=3)
