"""Scores of all rules, a row of axes for each task: constants over lambda, rules beside them."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.figure import BLUE, GREEN, ORANGE, band, log_scale, panels, point
from experiments.report.intervals import columns
from experiments.report.rows import Rows
from experiments.studies.weighting.measure import SCORE
from experiments.studies.weighting.rules import PLAIN, RULES
from experiments.studies.weighting.summary import BEST, constants, lines, mean_of
from experiments.studies.weighting.tables import by_task
from experiments.studies.weighting.tasks import TASKS


def figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Final scores on all tasks."""
    tasks = by_task(rows)
    ratios = {"width_ratios": (1.0, 1.5)}
    height = 1.2 + 2.5 * len(tasks)
    figure, grid = panels(len(tasks), 2, 10.0, height, sharey="row", gridspec_kw=ratios)
    for (left, right), (task, own) in zip(grid, tasks.items(), strict=True):
        _draw_constants(left, own)
        _draw_rules(right, own)
        for axes in (left, right):
            _draw_plain(axes, own)
        left.set_ylabel(f"{task}: {TASKS[task].score_label}")
        _limit(left, own)
    # Names once, below the last row, where all tasks tried the same rules.
    if len({tuple(_others(own)) for own in tasks.values()}) == 1:
        for axes in grid[:-1, 1]:
            axes.tick_params(labelbottom=False)
    grid[-1, 0].set_xlabel(r"constant weight $\lambda_s = \lambda_a$")
    figure.suptitle("Weighting of gradients: final score, mean and 95 % interval over seeds")
    grid[0, 0].legend()
    yield "weighting", figure


def _others(rows: Rows) -> list[str]:
    """All lines but the constants and the plain one."""
    return [name for name in lines(rows) if name not in (PLAIN, *constants(rows))]


def _draw_plain(axes: Axes, rows: Rows) -> None:
    found = mean_of(rows, PLAIN, SCORE)
    if found.mean is None:
        return
    axes.axhline(found.mean, color=ORANGE, linestyle="--", linewidth=1.2, label="plain (λ = 0)")
    if found.low is not None and found.high is not None:
        axes.axhspan(found.low, found.high, color=ORANGE, alpha=0.10, linewidth=0)


def _draw_constants(axes: Axes, rows: Rows) -> None:
    names = constants(rows)
    weights = [RULES[name].weight for name in names]
    log_scale(axes, "x", weights or None)
    if names:
        found = [mean_of(rows, name, SCORE) for name in names]
        band(axes, weights, found, BLUE, marker="o", label="constant")


def _draw_rules(axes: Axes, rows: Rows) -> None:
    names, labels = _others(rows), lines(rows)
    for place, name in enumerate(names):
        color = BLUE if name == BEST else GREEN
        point(axes, place, mean_of(rows, name, SCORE), color, upright=True)
    # The weight that was best differs from task to task: the table says it.
    shown = ["best constant" if name == BEST else labels[name] for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=40, ha="right")


def _limit(axes: Axes, rows: Rows) -> None:
    """One rule far below the others must not make a line of all of them."""
    mean, low, high = columns([mean_of(rows, name, SCORE) for name in lines(rows)])
    if not np.isfinite(mean).any():
        return
    middle = np.nanmedian(mean)
    reach = 4 * np.nanpercentile(np.abs(mean - middle), 80) + 1e-9
    bottom = max(np.nanmin(np.fmin(low, mean)), middle - reach)
    top = min(np.nanmax(np.fmax(high, mean)), middle + reach)
    margin = 0.06 * max(top - bottom, 1e-6 * max(1.0, abs(middle)))
    axes.set_ylim(bottom - margin, top + margin)
