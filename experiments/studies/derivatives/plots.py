"""Plots of one audit, and of many side by side."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

Results = Mapping[str, Any]

# Okabe and Ito's colours: told apart with any colour vision.
_COLORS = {
    "analytic": "#0072B2",
    "forward": "#D55E00",
    "differences": "#009E73",
    "mujoco_fd": "#CC79A7",
    "auto": "#56B4E9",
}
_GREY = "#777777"
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
_TINY = 1e-16


def save_all(folder: Path, results: Results) -> None:
    """Writes the plots of one audit."""
    save_errors(folder / "errors.png", results)
    save_norms(folder / "norms.png", results)
    save_growth(folder / "growth.png", results)
    save_price(folder / "price.png", results)


def save_errors(path: Path, results: Results) -> None:
    """Errors by kind of state, a point for each state."""
    kinds = results["kinds"]
    series = []
    for method in results["audit"]["methods"]:
        for precision in ("float32", "float64"):
            values = [kinds[kind][method]["error"].get(precision, {}) for kind in kinds]
            if any(values):
                label = f"{method}, {precision}"
                series.append((label, _COLORS[method], precision == "float64", values))
    first = results["audit"]["methods"][0]
    floors = [kinds[kind][first]["error"]["floor"] for kind in kinds]
    series.append(("differences' own uncertainty", _GREY, True, floors))
    figure, axes = _figure(1.6 + 1.6 * len(kinds), 3.8)
    _strips(axes, list(kinds), series)
    axes.set_ylabel("relative error")
    _finish(figure, path, f"{_title(results)}: error against float64 central differences")


def save_norms(path: Path, results: Results) -> None:
    """Spectral norms by kind of state, a point for each state."""
    kinds = results["kinds"]
    series = [
        (method, _COLORS[method], False, [kinds[kind][method]["norm"] for kind in kinds])
        for method in results["audit"]["methods"]
    ]
    figure, axes = _figure(1.6 + 1.6 * len(kinds), 3.6)
    _strips(axes, list(kinds), series)
    low, high = axes.get_ylim()
    bound = results["audit"]["bound"]
    if high > bound / 10:
        axes.set_ylim(low, max(high, 2 * bound))
        axes.axhline(bound, color=_GREY, linewidth=0.8, linestyle="--")
        axes.annotate(
            f"extreme above {bound:g}", (0.01, bound), xycoords=("axes fraction", "data"),
            fontsize=7, va="bottom", color=_GREY,
        )  # fmt: skip
    axes.set_ylabel(r"spectral norm of $\partial s'/\partial s$")
    _finish(figure, path, f"{_title(results)}: spectral norm of one step's Jacobian")


def save_growth(path: Path, results: Results) -> None:
    """Norms of products over physics steps and over environment steps."""
    inside = results["within_step"]
    figure = Figure(figsize=(7.6 if inside else 4.8, 3.6), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, 2 if inside else 1, squeeze=False)[0]
    for index, (kind, found) in enumerate(results["rollouts"].items()):
        _growth_lines(grid[0], found["chain"], _LINES[index], kind)
    _reference(grid[0], results, max(results["audit"]["chain"]))
    _log_steps(grid[0], results["audit"]["chain"])
    _short(grid[0])
    grid[0].set_xlabel("environment steps")
    grid[0].set_ylabel("spectral norm of the product")
    grid[0].legend(frameon=False, fontsize=7, loc="best")
    if inside:
        _growth_lines(grid[1], inside, _LINES[0], "random policy")
        grid[1].set_xticks([entry["steps"] for entry in inside])
        grid[1].set_xlabel("physics steps of one environment step")
        grid[1].set_yscale("log")
        _short(grid[1])
        grid[1].legend(frameon=False, fontsize=7, loc="best")
    for axes in grid:
        _tidy(axes)
    _finish(figure, path, f"{_title(results)}: growth of Jacobians' products")


def save_price(path: Path, results: Results) -> None:
    """Time in plain steps, and of compiling."""
    entries = results["price"]
    figure = Figure(figsize=(6.6, 1.1 + 0.42 * len(entries)), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    names = [entry["name"] for entry in entries]
    colors = [_COLORS.get(name, _GREY) for name in names]
    ratios = [entry["ratio"] for entry in entries]
    reach = [
        [max(e["ratio"] - e["smallest_ratio"], 0) for e in entries],
        [max(e["largest_ratio"] - e["ratio"], 0) for e in entries],
    ]
    left.barh(names, ratios, color=colors, xerr=reach, error_kw={"linewidth": 0.8, "capsize": 2})
    left.set_xlabel("time, in plain steps")
    right.barh(names, [entry["compile_seconds"] for entry in entries], color=colors)
    right.set_xlabel("compilation, s")
    left.invert_yaxis()
    for axes in (left, right):
        _tidy(axes)
    sizes = results["sizes"]
    directions = f"{sizes['state_size']} + {sizes['action_size']} directions"
    _finish(figure, path, f"{_title(results)}: price of derivatives, {directions}")


def save_errors_of_many(path: Path, many: Sequence[Results]) -> None:
    """Errors of all environments by their first method, all kinds of states together."""
    figure, axes = _figure(10.0, 4.2)
    names = [results["audit"]["env"] for results in many]
    series = []
    for precision, label, color in (
        ("float32", "in float32", _LINES[0]),
        ("float64", "in float64", _LINES[1]),
        ("floor", "differences' own uncertainty", _GREY),
    ):
        pooled = [_pooled(results, results["audit"]["methods"][0], precision) for results in many]
        series.append((label, color, precision != "float32", pooled))
    _strips(axes, names, series)
    axes.set_ylabel("relative error")
    _finish(figure, path, "Error against float64 central differences, a point for each state")


def save_growth_of_many(path: Path, many: Sequence[Results]) -> None:
    """Median norms of chained steps of all environments."""
    figure, axes = _figure(7.2, 4.6)
    ends = []
    for index, results in enumerate(many):
        found = next(iter(results["rollouts"].values()))["chain"]
        points = [(e["steps"], e["median"]) for e in found if e.get("median") is not None]
        axes.plot(
            *zip(*points, strict=True),
            color=_LINES[index % len(_LINES)],
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=4,
            linewidth=1.2,
            linestyle="-" if index < len(_LINES) else "--",
            label=results["audit"]["env"],
        )
        ends.append(points[-1])
    steps = sorted({count for results in many for count in results["audit"]["chain"]})
    _reference(axes, many[0], max(steps))
    _log_steps(axes, steps)
    axes.set_xlabel("environment steps")
    axes.set_ylabel("spectral norm of the product, median")
    figure.legend(frameon=False, fontsize=7.5, loc="outside right center")
    _tidy(axes)
    _finish(figure, path, "Growth of chained steps' Jacobians, random policy")


def save_price_of_many(path: Path, many: Sequence[Results]) -> None:
    """Time in plain steps of every method and environment."""
    figure, axes = _figure(9.0, 3.6)
    methods = list(dict.fromkeys(m for results in many for m in results["audit"]["methods"]))
    width = 0.8 / len(methods)
    for index, method in enumerate(methods):
        for place, results in enumerate(many):
            for entry in results["price"]:
                if entry["name"] == method:
                    at = place + (index - (len(methods) - 1) / 2) * width
                    bar = axes.bar(at, entry["ratio"], width * 0.92, color=_COLORS[method])
                    axes.bar_label(bar, fmt="%.1f", fontsize=6.5, padding=1)
    labels = [
        f"{one['audit']['env']}\n{one['sizes']['state_size']} + {one['sizes']['action_size']}"
        for one in many
    ]
    axes.set_xticks(range(len(many)), labels, fontsize=7)
    axes.axhline(1, color=_GREY, linewidth=0.8, linestyle="--")
    axes.set_ylabel("time, in plain steps")
    handles = [Line2D([], [], color=_COLORS[m], linewidth=6, label=m) for m in methods]
    handles.append(Line2D([], [], color=_GREY, linewidth=0.8, linestyle="--", label="a plain step"))
    figure.legend(
        handles=handles, frameon=False, fontsize=7.5, loc="outside lower center", ncols=len(handles)
    )
    _tidy(axes, rotate=False)
    _finish(figure, path, "Price of all derivatives of a step (state + action directions)")


def _pooled(results: Results, method: str, precision: str) -> dict[str, Any]:
    """All errors of an environment, whatever the kind of state."""
    values: list[float | None] = []
    for methods in results["kinds"].values():
        values += methods.get(method, {}).get("error", {}).get(precision, {}).get("values", [])
    return {"values": values} if values else {}


def _strips(
    axes: Axes, groups: Sequence[str], series: Sequence[tuple[str, str, bool, Sequence[Any]]]
) -> None:
    """A column of points for each series in each group, with its median; logarithmic.

    What is not finite is a cross at the upper edge; zero is drawn at the smallest number there is.
    """
    draw = np.random.default_rng(0)
    width = 0.8 / len(series)
    bad: list[tuple[float, str]] = []
    for index, (label, color, hollow, by_group) in enumerate(series):
        for place, found in enumerate(by_group):
            values = [math.inf if value is None else value for value in found.get("values", [])]
            at = place + (index - (len(series) - 1) / 2) * width
            finite = np.maximum([value for value in values if math.isfinite(value)], _TINY)
            bad += [(at, color)] * (len(values) > len(finite))
            axes.scatter(
                at + draw.uniform(-0.25, 0.25, len(finite)) * width,
                finite,
                s=11,
                facecolors="none" if hollow else color,
                edgecolors=color,
                linewidths=0.7,
                alpha=0.75,
                label=label if place == 0 else None,
            )
            if len(finite):
                axes.hlines(np.median(finite), at - width * 0.4, at + width * 0.4, color, lw=1.6)
    axes.set_yscale("log")
    _decades(axes)
    if bad:
        top = axes.get_ylim()[1] * 2
        for at, color in bad:
            axes.scatter(at, top, marker="x", color=color, s=24)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    handles = [
        Line2D([], [], color=color, linestyle="", marker="o", markersize=4, label=label,
               markerfacecolor="none" if hollow else color)
        for label, color, hollow, _ in series
    ]  # fmt: skip
    if bad:
        handles.append(Line2D([], [], color="black", linestyle="", marker="x", label="not finite"))
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    columns = min(3, len(handles))
    figure.legend(
        handles=handles, frameon=False, fontsize=7.5, loc="outside lower center", ncols=columns
    )
    _tidy(axes)


def _growth_lines(axes: Axes, entries: Sequence[Mapping[str, Any]], color: str, name: str) -> None:
    for key, line, label in (
        ("median", "-", f"{name}, median"),
        ("p90", "--", f"{name}, 90 %"),
    ):
        points = [(e["steps"], e[key]) for e in entries if e.get(key) is not None]
        if points:
            steps, norms = zip(*points, strict=True)
            axes.plot(
                steps, norms, line, color=color, label=label, marker="o", markersize=3, lw=1.3
            )


def _reference(axes: Axes, results: Results, most: int) -> None:
    """How a product may grow so that the discount just makes up for it."""
    discount = results["audit"]["discount"]
    steps = np.linspace(1, most, 50)
    label = rf"$1/\gamma^n$, $\gamma$ = {discount:g}"
    axes.plot(steps, discount**-steps, color=_GREY, linewidth=2.2, alpha=0.6, label=label)


def _log_steps(axes: Axes, steps: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(steps), [str(count) for count in steps])
    axes.xaxis.set_minor_locator(NullLocator())


def _short(axes: Axes) -> None:
    """Plain numbers where a logarithmic axis spans a few decades at most."""
    low, high = axes.get_ylim()
    if high / low < 5:
        low, high = axes.set_ylim(low / 2, high * 2)
    if high / low < 300:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _decades(axes: Axes) -> None:
    """At least two decades, whole ones labelled."""
    low, high = axes.get_ylim()
    if high / low < 100:
        middle = math.sqrt(low * high)
        axes.set_ylim(min(low, middle / 10), max(high, middle * 10))
    axes.yaxis.set_major_locator(LogLocator(numticks=9))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(max(width, 4.8), height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _tidy(axes: Axes, rotate: bool = True) -> None:
    axes.grid(alpha=0.25, linewidth=0.6, axis="both")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_fontsize(8.5)
    axes.tick_params(which="both", labelsize=7.5)
    if rotate and len(axes.get_xticklabels()) > 8 and axes.get_xscale() == "linear":
        for label in axes.get_xticklabels():
            label.set_rotation(20)


def _title(results: Results) -> str:
    parameters = results["audit"]["env_args"]
    named = ", ".join(f"{name} = {value}" for name, value in parameters.items())
    return f"{results['audit']['env']} ({named})" if named else results["audit"]["env"]


def _finish(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=10)
    with path.open("xb") as file:
        figure.savefig(file, format="png")
