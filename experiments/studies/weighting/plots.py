"""Scores of all rules, a row of axes for each task: constants over lambda, rules beside them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.report.intervals import Estimate
from experiments.studies.weighting.rules import PLAIN
from experiments.studies.weighting.summary import (
    BEST,
    OVER_TRAINING,
    SCORE,
    Results,
    constants,
    mean_of,
    rows,
)

LABELS = {
    SCORE: "final score",
    OVER_TRAINING: "score averaged over training",
}
# Okabe and Ito's colours: told apart with any colour vision.
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"


def save(path: Path, many: Sequence[Results], measure: str) -> None:
    """Writes one figure; the file must not be there yet."""
    figure = Figure(figsize=(10.0, 1.2 + 2.5 * len(many)), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        len(many), 2, squeeze=False, sharey="row", gridspec_kw={"width_ratios": (1.0, 1.5)}
    )
    for (left, right), results in zip(grid, many, strict=True):
        _draw_constants(left, results, measure)
        _draw_rules(right, results, measure)
        for axes in (left, right):
            _draw_plain(axes, results, measure)
            axes.grid(alpha=0.25, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(which="both", labelsize=8)
        left.set_ylabel(f"{results['task']}: {results['score']}", fontsize=8.5)
        left.xaxis.set_minor_locator(NullLocator())
        _limit(left, results, measure)
    # Names once, below the last row, where all tasks tried the same rules.
    if len({tuple(_others(results)) for results in many}) == 1:
        for axes in grid[:-1, 1]:
            axes.tick_params(labelbottom=False)
    grid[-1, 0].set_xlabel(r"constant weight $\lambda_s = \lambda_a$", fontsize=8.5)
    figure.suptitle(
        f"Weighting of gradients: {LABELS[measure]}, mean and 95 % interval over "
        f"{many[0]['seeds']} seeds",
        fontsize=10,
    )
    grid[0, 0].legend(frameon=False, fontsize=8, loc="best")
    with path.open("xb") as file:
        figure.savefig(file, format="png")


def _others(results: Results) -> list[str]:
    """All rows but the constants and the plain one."""
    return [name for name in rows(results) if name != PLAIN and name not in constants(results)]


def _draw_plain(axes: Axes, results: Results, measure: str) -> None:
    found = mean_of(results, PLAIN, measure)
    if found is None or found.mean is None:
        return
    axes.axhline(found.mean, color=_ORANGE, linestyle="--", linewidth=1.2, label="plain (λ = 0)")
    if found.low is not None and found.high is not None:
        axes.axhspan(found.low, found.high, color=_ORANGE, alpha=0.10, linewidth=0)


def _draw_constants(axes: Axes, results: Results, measure: str) -> None:
    weights = [rule["weight"] for rule in constants(results).values()]
    axes.set_xscale("log")
    if not weights:
        return
    mean, low, high = _columns([mean_of(results, name, measure) for name in constants(results)])
    axes.plot(weights, mean, color=_BLUE, marker="o", markersize=4, linewidth=1.5, label="constant")
    axes.fill_between(weights, low, high, color=_BLUE, alpha=0.16, linewidth=0)


def _draw_rules(axes: Axes, results: Results, measure: str) -> None:
    names, labels = _others(results), rows(results)
    for place, name in enumerate(names):
        mean, low, high = (part[0] for part in _columns([mean_of(results, name, measure)]))
        color = _BLUE if name == BEST else _GREEN
        axes.plot([place, place], [low, high], color=color, linewidth=1.8, alpha=0.6)
        axes.plot([place], [mean], color=color, marker="o", markersize=5)
    # The weight that was best differs from task to task: the table says it.
    shown = ["best constant" if name == BEST else labels[name] for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=40, ha="right", fontsize=8)


def _limit(axes: Axes, results: Results, measure: str) -> None:
    """One rule far below the others must not make a line of all of them."""
    means = [mean_of(results, name, measure) for name in rows(results)]
    mean, low, high = _columns(means)
    if not np.isfinite(mean).any():
        return
    middle = np.nanmedian(mean)
    reach = 4 * np.nanpercentile(np.abs(mean - middle), 80) + 1e-9
    bottom = max(np.nanmin(np.fmin(low, mean)), middle - reach)
    top = min(np.nanmax(np.fmax(high, mean)), middle + reach)
    margin = 0.06 * max(top - bottom, 1e-6 * max(1.0, abs(middle)))
    axes.set_ylim(bottom - margin, top + margin)


def _columns(found: Sequence[Estimate | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means and ends of intervals, with NaN where there is none."""
    parts = [
        (one.mean, one.low, one.high) if one is not None else (None, None, None) for one in found
    ]
    mean, low, high = np.array(parts, np.float64).reshape(-1, 3).T
    return mean, low, high
