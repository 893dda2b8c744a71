"""Learning curves and gradient errors, with confidence bands over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator

from experiments.launch.configuration import Variant
from experiments.launch.history import History
from experiments.report.intervals import bands
from experiments.report.results import RETURN

# Two of Okabe and Ito's colours: distinguishable with any colour vision, and in grey.
COLORS = {"plain": "#D55E00", "sobolev": "#0072B2"}
STYLES: dict[str, Literal["-", "--"]] = {"plain": "--", "sobolev": "-"}


@dataclass(frozen=True)
class Panel:
    """One pair of axes: which metric, its title, its label and its kind of scale."""

    metric: str
    title: str
    label: str
    kind: str = "error"


RETURN_PANEL = Panel(RETURN, "Return", "undiscounted return per episode", "return")
GRADIENT_PANELS = (
    RETURN_PANEL,
    Panel("state_gradient_error", r"State gradient $\nabla_s Q$", "relative error"),
    Panel("action_gradient_error", r"Action gradient $\nabla_a Q$", "relative error"),
    Panel("value_error", "Value", "relative error"),
    Panel(
        "state_gradient_cosine",
        r"State gradient $\nabla_s Q$",
        "cosine to the true gradient",
        "cosine",
    ),
    Panel(
        "action_gradient_cosine",
        r"Action gradient $\nabla_a Q$",
        "cosine to the true gradient",
        "cosine",
    ),
)


def save_learning_curves(path: Path, history: History, title: str) -> None:
    """Writes the return over environment steps, one thin line per seed behind the mean."""
    figure = _figure(6.0, 4.0)
    axes = figure.subplots()
    _draw(axes, history, RETURN_PANEL, seeds=True)
    axes.set_title("")
    axes.legend(handles=_legend(history), frameon=False, loc="best")
    _finish(figure, path, title)


def save_gradient_error(path: Path, history: History, title: str) -> None:
    """Writes the critic's value and gradient errors and cosines, with the return beside them."""
    panels = [panel for panel in GRADIENT_PANELS if panel.metric in history.names]
    if panels in ([], [RETURN_PANEL]):
        return  # the run has no critic report
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(3.5 * columns, 2.7 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, history, panel)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.legend(
        handles=_legend(history),
        frameon=False,
        loc="outside lower center",
        ncols=len(history.variants),
    )
    _finish(figure, path, title)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _finish(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=10)
    with path.open("xb") as file:
        figure.savefig(file, format="png")


def _legend(history: History) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            color=_color(variant.name),
            linestyle=_style(variant.name),
            label=_label(variant),
        )
        for variant in history.variants
    ]


def _label(variant: Variant) -> str:
    weights = variant.weights
    name = variant.label
    if not any(weights.values()):
        return name
    return (
        rf"{name} ($\lambda_s$ = {weights['state_weight']:g}, "
        rf"$\lambda_a$ = {weights['action_weight']:g})"
    )


def _color(variant: str) -> str:
    return COLORS.get(variant, "#009E73")


def _style(variant: str) -> Literal["-", "--"]:
    return STYLES.get(variant, "-")


def _draw(axes: Axes, history: History, panel: Panel, seeds: bool = False) -> None:
    steps, values = history.values("environment_steps"), history.sound(panel.metric)
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel("environment steps per seed")
    axes.set_ylabel(panel.label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_fontsize(8.5)
    axes.tick_params(which="both", labelsize=8)
    if values is None:
        return
    across = np.arange(1, len(values) + 1) if steps is None else steps.mean(axis=(1, 2))
    lows: list[np.ndarray] = []
    for index, variant in enumerate(history.variants):
        color, curves = _color(variant.name), values[:, index]
        mean, low, high = bands(curves)
        # One epoch alone is a point, which a line would not show.
        marker = "o" if len(across) == 1 else None
        axes.plot(
            across, mean, color=color, linestyle=_style(variant.name), linewidth=1.6, marker=marker
        )
        axes.fill_between(across, low, high, color=color, alpha=0.16, linewidth=0)
        if seeds:
            axes.plot(across, curves, color=color, linewidth=0.5, alpha=0.45)
        lows.append(curves)
    _scale(axes, panel, lows)


def _scale(axes: Axes, panel: Panel, curves: Sequence[np.ndarray]) -> None:
    """Cosines get their whole range, errors over a decade apart a logarithmic one."""
    numbers = np.concatenate([np.ravel(curve) for curve in curves])
    numbers = numbers[np.isfinite(numbers)]
    if panel.kind == "cosine":
        axes.axhline(0.0, color="0.5", linewidth=0.6)
        lowest = -1.05 if numbers.size and numbers.min() < -0.25 else -0.3
        axes.set_ylim(lowest, 1.05)
    elif panel.kind == "error" and numbers.size and numbers.min() > 0:
        if numbers.max() / numbers.min() > 10:
            axes.set_yscale("log")
            # 0.2 reads better than 2e-1, and between ticks decades apart there is room for few.
            wide = numbers.max() / numbers.min() > 100
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(LogLocator(subs=() if wide else (2, 5)))
            axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_ylim(numbers.min() / 1.5, numbers.max() * 1.5)
        else:
            axes.set_ylim(bottom=0)
        # An error of 1 is as good as predicting the mean, or no gradient at all.
        axes.axhline(1.0, color="0.5", linewidth=0.6)
    elif panel.kind == "return" and numbers.size:
        # A band of few seeds can be wider than anything seen: the seeds set the range.
        spread = max(float(np.ptp(numbers)), 1e-6 * max(1.0, float(np.abs(numbers).max())))
        axes.set_ylim(numbers.min() - 0.08 * spread, numbers.max() + 0.08 * spread)
