"""Figures of audits, of one environment or of several side by side."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report import figure as kit
from experiments.report.rows import Rows
from experiments.studies.derivatives.states import RANDOM

_COLORS = {
    "analytic": kit.BLUE,
    "forward": kit.ORANGE,
    "differences": kit.GREEN,
    "mujoco_fd": kit.PURPLE,
    "auto": kit.SKY,
    "plain step": kit.GREY,
}
_LINES = (kit.BLUE, kit.ORANGE, kit.GREEN, kit.PURPLE, kit.YELLOW, kit.SKY, kit.BLACK)
_MARKERS = "os^DvPX*<>ph"
_TINY = 1e-16

# Label, colour, whether hollow, column and rows of some points.
Series = tuple[str, str, bool, str, Rows]


def figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Errors, growth and costs, as far as they are measured."""
    found = rows.where(measure="derivatives")
    if found:
        methods = [(name, found.where(method=name)) for name in found.distinct("method")]
        series: list[Series] = [
            (f"{name}, {precision}", _COLORS[name], precision == "float64", column, some)
            for name, some in methods
            for precision in ("float32", "float64")
            if some.has(column := f"error_{precision}")
        ]
        own = "the differences' own uncertainty"
        series.append((own, kit.GREY, True, "uncertainty", methods[0][1]))
        yield "errors", _strips(rows, series, "relative error against float64 central differences")
    if rows.where(measure="growth"):
        yield "growth", growth(rows)
    if rows.where(measure="cost"):
        yield "cost", costs(rows)


def growth(rows: Rows) -> Figure:
    """Norms of products over environment steps and over physics steps."""
    found, inside = rows.where(measure="growth"), rows.where(measure="physics steps")
    envs = rows.distinct("env")
    if len(envs) > 1:
        found = found.where(kind=RANDOM)
    figure, grid = kit.panels(1, 2 if inside else 1, 9.6 if inside else 5.6, 4.2)
    for index, ((env, kind), some) in enumerate(found.groups("env", "kind")):
        _draw_growth(grid[0, 0], some, index, env if len(envs) > 1 else kind, len(envs) == 1)
    steps, discount = sorted(found.distinct("steps")), rows.options["discount"]
    across, label = (
        np.linspace(min(steps), max(steps), 50),
        rf"$1/\gamma^n$, $\gamma$ = {discount:g}",
    )
    grid[0, 0].plot(across, discount**-across, color=kit.GREY, lw=2.2, alpha=0.6, label=label)
    kit.log_scale(grid[0, 0], "x", steps)
    grid[0, 0].set(xlabel="environment steps", ylabel="spectral norm of the product, median")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    if inside:
        for (env,), some in inside.groups("env"):
            _draw_growth(grid[0, 1], some, envs.index(env), env, len(envs) == 1)
        grid[0, 1].set_xticks(sorted(inside.distinct("steps")))
        grid[0, 1].set_xlabel("physics steps of one environment step")
    for axes in grid.ravel():
        _logarithmic(axes, 4)
    shaded = "; shaded up to 90 % of the states" if len(envs) == 1 else ", random policy"
    figure.suptitle(f"{_title(rows)}growth of products of Jacobians{shaded}")
    return figure


def costs(rows: Rows) -> Figure:
    """Time in plain steps, from the smallest to the largest ratio, and of compiling."""
    found = rows.where(measure="cost")
    envs, methods = found.distinct("env"), found.distinct("method")
    width, height = 0.8 / len(methods), 1.4 + len(envs) * (0.2 + 0.2 * len(methods))
    figure, grid = kit.panels(1, 2, 7.6, height, sharey=True)
    for row in found:
        index = methods.index(row["method"])
        at = envs.index(row["env"]) + (index - (len(methods) - 1) / 2) * width
        reach = [[row["ratio"] - row["smallest_ratio"]], [row["largest_ratio"] - row["ratio"]]]
        look: dict[str, Any] = {"height": 0.92 * width, "color": _COLORS[row["method"]]}
        error = {"linewidth": 0.8, "capsize": 2}
        grid[0, 0].barh(at, row["ratio"], xerr=np.maximum(reach, 0), error_kw=error, **look)
        grid[0, 1].barh(at, row["compile_seconds"], **look)
    sizes = [found.where(env=env)[0]["directions"] for env in envs]
    names = [f"{env}\n{size}" for env, size in zip(envs, sizes, strict=True)]
    grid[0, 0].set(xlabel="time, in plain steps", yticks=range(len(envs)), yticklabels=names)
    grid[0, 0].invert_yaxis()  # of both, which share it
    grid[0, 1].set_xlabel("compilation, s")
    handles = [Line2D([], [], color=_COLORS[name], linewidth=6, label=name) for name in methods]
    kit.legend_below(figure, handles)
    figure.suptitle(f"{_title(rows)}cost of all derivatives of a step (state + action directions)")
    return figure


def _strips(rows: Rows, series: Sequence[Series], label: str) -> Figure:
    """A column of points for each series with its median, by environment, or by kind of state.

    A number that is not finite is a cross at the upper edge; zero is drawn at 1e-16.
    """
    by = "env" if len(rows.distinct("env")) > 1 else "kind"
    groups = rows.where(measure="derivatives").distinct(by)
    figure, grid = kit.panels(1, 1, max(5.6, 1.6 + len(groups) * 1.2), 4.2)
    axes, draw, width = grid[0, 0], np.random.default_rng(0), 0.8 / len(series)
    crosses: list[tuple[float, str]] = []
    for index, (_, color, hollow, column, some) in enumerate(series):
        for place, group in enumerate(groups):
            values = [
                row[column] for row in some.where(**{by: group}) if row.get(column) is not None
            ]
            finite = np.maximum([value for value in values if math.isfinite(value)], _TINY)
            at = place + (index - (len(series) - 1) / 2) * width
            crosses += [(at, color)] * (len(values) > len(finite))
            across = at + draw.uniform(-0.25, 0.25, len(finite)) * width
            face = "none" if hollow else color
            axes.scatter(
                across, finite, s=11, lw=0.7, alpha=0.75, facecolors=face, edgecolors=color
            )
            if len(finite):
                axes.hlines(np.median(finite), at - width * 0.4, at + width * 0.4, color, lw=1.6)
    _logarithmic(axes, 100)
    top = axes.get_ylim()[1] * 2
    for at, color in crosses:
        axes.scatter(at, top, marker="x", color=color, s=24)
    axes.set_xticks(range(len(groups)), groups, rotation=20 if len(groups) > 8 else 0)
    axes.set(xlim=(-0.6, len(groups) - 0.4), ylabel=label)
    look = {"linestyle": "", "marker": "o", "markersize": 4}
    handles = [
        Line2D([], [], color=color, label=name, markerfacecolor="none" if hollow else color, **look)
        for name, color, hollow, *_ in series
    ]
    if crosses:
        handles.append(Line2D([], [], color=kit.BLACK, ls="", marker="x", label="not finite"))
    kit.legend_below(figure, handles, min(3, len(handles)))
    figure.suptitle(f"{_title(rows)}a point for each state, and the median")
    return figure


def _draw_growth(axes: Axes, rows: Rows, index: int, label: str, shade: bool) -> None:
    steps, middle, high = (rows.column(name) for name in ("steps", "median", "p90"))
    color, marker = _LINES[index % len(_LINES)], _MARKERS[index % len(_MARKERS)]
    line = "-" if index < len(_LINES) else "--"
    axes.plot(steps, middle, line, color=color, marker=marker, markersize=4, lw=1.2, label=label)
    if shade:
        kit.fill(axes, steps, middle, high, color)


def _logarithmic(axes: Axes, least: float) -> None:
    """A logarithmic axis whose ends differ by a factor of at least that."""
    kit.log_scale(axes, "y")
    low, high = axes.get_ylim()
    if high / low < least:
        middle, reach = math.sqrt(low * high), math.sqrt(least)
        axes.set_ylim(middle / reach, middle * reach)


def _title(rows: Rows) -> str:
    envs = rows.distinct("env")
    return f"{envs[0]}: " if len(envs) == 1 else ""
