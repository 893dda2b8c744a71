"""Learning curves of all tasks, and for each task what its critics did meanwhile."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from experiments.report.figure import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    YELLOW,
    band,
    legend_below,
    log_scale,
    panels,
)
from experiments.report.intervals import estimate
from experiments.report.results import RETURN
from experiments.report.rows import Rows
from experiments.studies.payoff.tables import places, variants
from experiments.studies.payoff.tasks import REGIMES
from experiments.studies.payoff.variants import CHOICES, MAIN, PLAIN

Look = dict[str, Any]  # of a line, as `Axes.plot` takes it

_COLORS = (BLUE, GREEN, PURPLE, SKY, YELLOW, BLACK)
# Of variants without gradients, which are grey.
_DASHES = ("--", ":", "-.", (0, (8, 2)), (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_PANELS: dict[str, str] = {
    RETURN: "return",
    "mean_q": "mean Q",
    "value_error": "value error",
    "state_gradient_error": "error of ∇ₛQ",
    "state_gradient_cosine": "cosine of ∇ₛQ",
    "gradients_dropped": "share of gradients left out",
}
_ERRORS = ("value_error", "state_gradient_error")
_OF_UPDATES = ("mean_q", "gradients_dropped")  # means over the updates of an epoch


def figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Returns of every regime, and a figure of every task in it."""
    for regime in REGIMES:
        if own := rows.where(regime=regime):
            yield f"returns_{regime}", draw_returns(regime, own)
    for regime, task, own in places(rows):
        yield f"{task}_{regime}", draw_task(f"{task}: {REGIMES[regime].about}", own)


def draw_returns(regime: str, rows: Rows) -> Figure:
    """A panel for every task."""
    found = list(places(rows))
    columns = min(3, len(found))
    height = -(-len(found) // columns)
    found_looks = looks(variants(rows))
    figure, grid = panels(height, columns, 3.4 * columns, 2.6 * height + 0.6)
    for axes, (_, task, own) in zip(grid.flat, found, strict=False):
        draw_lines(axes, own, found_looks, _means(RETURN))
        axes.set_title(task)
    for axes in list(grid.flat)[len(found) :]:
        axes.remove()
    figure.supylabel("return of the deterministic policy", fontsize=8.5)
    figure.suptitle(f"{REGIMES[regime].about}: mean and 95 % interval over seeds")
    legend_below(figure, handles(rows), columns=3)
    return figure


def draw_task(title: str, rows: Rows) -> Figure:
    """Return, mean Q and its spread over seeds, and errors of values and gradients."""
    shown = {name: label for name, label in _PANELS.items() if rows.has(name)}
    if not rows.has("gradients_dropped") or not rows.column("gradients_dropped").any():
        shown.pop("gradients_dropped", None)  # a panel of zeros says nothing
    count = len(shown) + 1
    height = -(-count // 3)
    figure, grid = panels(height, 3, 10.0, 2.4 * height + 0.6)
    places, found_looks = iter(grid.flat), looks(variants(rows))
    for name, label in shown.items():
        axes = next(places)
        draw_lines(axes, rows, found_looks, _means(name))
        axes.set_title(label)
        if name in _ERRORS:
            _scale_as_needed(axes, rows, name)
        if name == "mean_q":
            axes = next(places)
            draw_lines(axes, rows, found_looks, _spread(name))
            axes.set_title("standard deviation of mean Q over seeds")
    for axes in places:
        axes.remove()
    figure.suptitle(f"{title}; mean and 95 % interval over seeds")
    legend_below(figure, handles(rows), columns=3)
    return figure


def _scale_as_needed(axes: Axes, rows: Rows, name: str) -> None:
    """Logarithmic where means differ by more than a line can show."""
    found = [own.sound(name) for _, own in rows.groups("variant", "epoch")]
    means = [mean for mean in (float(np.mean(one)) for one in found) if np.isfinite(mean)]
    if means and min(means) > 0 and max(means) > 30 * min(means):
        log_scale(axes, "y")
        axes.set_ylim(min(means) / 2, max(means) * 4)


def draw_lines(
    axes: Axes,
    rows: Rows,
    found_looks: Mapping[str, Look],
    draw: Callable[[Axes, Rows, Look], None],
) -> None:
    """Every variant, over steps of the environment."""
    for name in variants(rows):
        draw(axes, rows.where(variant=name), found_looks[name])
    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Each variant's colour and line: plain its own, grey dashes for others without gradients."""
    names = list(names)
    found = {}
    # One that most pages show has the same colour in all.
    first, *others = _COLORS
    colors = itertools.cycle(others if MAIN in names else _COLORS)
    dashes = itertools.cycle(_DASHES)
    for name in names:
        one = CHOICES[name]
        if name == PLAIN:
            found[name] = {"color": ORANGE, "linestyle": "--"}
        elif one.agent == "sac" and one.config.get("first_order") == "off":
            found[name] = {"color": GREY, "linestyle": next(dashes)}
        else:
            line = {"baseline": "--", "control": ":", "gradients": "-"}[one.kind]
            color = first if name == MAIN else next(colors)
            found[name] = {"color": color, "linestyle": line}
    return found


def handles(rows: Rows) -> list[Line2D]:
    """Entries of the legend."""
    return [
        Line2D([], [], label=CHOICES[name].label, **look)
        for name, look in looks(variants(rows)).items()
    ]


def _by_epoch(rows: Rows, name: str) -> tuple[list[float], list[np.ndarray]]:
    steps, values = [], []
    for _, own in rows.groups("epoch"):
        if name in _OF_UPDATES and rows.has("updates") and not own.column("updates").any():
            continue  # its zeros were never measured
        steps.append(float(np.mean(own.column("environment_steps"))))
        values.append(own.sound(name))
    order = np.argsort(steps)
    return [steps[at] for at in order], [values[at] for at in order]


def _means(name: str) -> Callable[[Axes, Rows, Look], None]:
    def draw(axes: Axes, rows: Rows, look: Look) -> None:
        if rows.has(name):
            steps, values = _by_epoch(rows, name)
            band(axes, steps, [estimate(one) for one in values], **look)

    return draw


def _spread(name: str) -> Callable[[Axes, Rows, Look], None]:
    def draw(axes: Axes, rows: Rows, look: Look) -> None:
        steps, values = _by_epoch(rows, name)
        if len(values[0]) > 1:
            deviations = [np.std(one, ddof=1) for one in values]
            axes.plot(steps, deviations, **look)

    return draw
