"""Learning curves and gradient errors, with confidence bands over seeds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from experiments.launch.history import History
from experiments.report import figure as kit
from experiments.report.intervals import estimate
from experiments.report.results import RETURN


@dataclass(frozen=True)
class Panel:
    """One pair of axes: which metric, its title, its label and its kind of scale."""

    metric: str
    title: str
    label: str = "relative error"
    kind: str = "error"


_STATE, _ACTION = r"State gradient $\nabla_s Q$", r"Action gradient $\nabla_a Q$"
_COSINE = "cosine to the true gradient", "cosine"
RETURN_PANEL = Panel(RETURN, "Return", "undiscounted return per episode", "return")
GRADIENT_PANELS = (
    RETURN_PANEL,
    Panel("state_gradient_error", _STATE),
    Panel("action_gradient_error", _ACTION),
    Panel("value_error", "Value"),
    Panel("state_gradient_cosine", _STATE, *_COSINE),
    Panel("action_gradient_cosine", _ACTION, *_COSINE),
)


def save_learning_curves(path: Path, history: History, title: str) -> None:
    """Writes the return over environment steps, one thin line per seed behind the mean."""
    with kit.style():
        figure, [[axes]] = kit.panels(1, 1, 6.0, 4.0)
        _draw(axes, history, RETURN_PANEL, seeds=True)
        axes.set_title("")
        axes.legend(handles=_handles(history), loc="best")
    kit.save(figure, path, title)


def save_gradient_error(path: Path, history: History, title: str) -> None:
    """Writes the critic's value and gradient errors and cosines, with the return beside them."""
    panels = [panel for panel in GRADIENT_PANELS if panel.metric in history.names]
    if panels in ([], [RETURN_PANEL]):
        return  # the run has no critic report
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with kit.style():
        figure, grid = kit.panels(rows, columns, 3.5 * columns, 2.7 * rows + 0.6)
        for axes, panel in zip(grid.ravel(), panels, strict=False):
            _draw(axes, history, panel)
        for axes in grid.ravel()[len(panels) :]:
            axes.set_axis_off()
        kit.legend_below(figure, _handles(history))
    kit.save(figure, path, title)


def _handles(history: History) -> list[Line2D]:
    labels = {}
    for variant in history.variants:
        weights, label = variant.weights, variant.label
        if any(weights.values()):
            label += rf" ($\lambda_s$ = {weights['state_weight']:g}, "
            label += rf"$\lambda_a$ = {weights['action_weight']:g})"
        labels[variant.name] = label
    return kit.handles(labels)


def _draw(axes: Axes, history: History, panel: Panel, seeds: bool = False) -> None:
    steps, values = history.values("environment_steps"), history.sound(panel.metric)
    axes.set(title=panel.title, xlabel="environment steps per seed", ylabel=panel.label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if values is None:
        return
    across = np.arange(1, len(values) + 1) if steps is None else steps.mean(axis=(1, 2))
    for index, variant in enumerate(history.variants):
        color, curves = kit.color(variant.name), values[:, index]
        found = [estimate(row) for row in curves]
        kit.band(axes, across, found, color, linestyle=kit.line(variant.name))
        if seeds:
            axes.plot(across, curves, color=color, linewidth=0.5, alpha=0.45)
    _scale(axes, panel.kind, values[np.isfinite(values)])


def _scale(axes: Axes, kind: str, numbers: np.ndarray) -> None:
    """Cosines get their whole range, errors over a decade apart a logarithmic one."""
    if kind == "cosine":
        axes.axhline(0.0, color=kit.GREY, linewidth=0.6)
        axes.set_ylim(-1.05 if numbers.size and numbers.min() < -0.25 else -0.3, 1.05)
    elif kind == "error" and numbers.size and numbers.min() > 0:
        if numbers.max() / numbers.min() > 10:
            kit.log_scale(axes, "y")
            axes.set_ylim(numbers.min() / 1.5, numbers.max() * 1.5)
        else:
            axes.set_ylim(bottom=0)
        # An error of 1 is as good as predicting the mean, or no gradient at all.
        axes.axhline(1.0, color=kit.GREY, linewidth=0.6)
    elif kind == "return" and numbers.size:
        # A band of few seeds can be wider than anything seen: the seeds set the range.
        spread = max(float(np.ptp(numbers)), 1e-6 * max(1.0, float(np.abs(numbers).max())))
        axes.set_ylim(numbers.min() - 0.08 * spread, numbers.max() + 0.08 * spread)
