"""Returns of all agents on each task, over steps of the environment and over time."""

from collections.abc import Iterable, Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report.figure import GREY, band, legend_below, log_scale, panels
from experiments.report.intervals import estimate
from experiments.report.rows import Rows
from experiments.studies.baselines.curves import Curve, curves, known, label, variants
from experiments.studies.payoff.figures import Look
from experiments.studies.payoff.figures import looks as own_looks
from experiments.studies.payoff.tables import places
from experiments.studies.payoff.tasks import REGIMES

_PEERS: dict[str, Look] = {
    "brax_ppo": {"color": GREY, "linestyle": "-."},
    "brax_sac": {"color": GREY, "linestyle": ":"},
}
_AXES = {"steps": "environment steps", "seconds": "seconds, without compilation"}


def figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """A figure for each regime."""
    for regime in REGIMES:
        if own := known(rows).where(regime=regime):
            yield f"returns_{regime}", _draw(own)


def _draw(rows: Rows) -> Figure:
    found, found_looks = list(places(rows)), _looks(variants(rows))
    figure, grid = panels(len(found), 2, 8.0, 2.4 * len(found) + 0.8)
    for line, (_, task, own) in zip(grid, found, strict=True):
        for axes, (across, name) in zip(line, _AXES.items(), strict=True):
            for variant in variants(own):
                _band(axes, curves(own, variant), across, found_looks[variant])
            axes.set_ylim(*limits(own))
            log_scale(axes, "x")
            axes.set(title=task, xlabel=name)
    figure.supylabel("return of the deterministic policy", fontsize=8.5)
    figure.suptitle("Mean and 95 % interval over seeds")
    entries = [Line2D([], [], label=label(name), **look) for name, look in found_looks.items()]
    legend_below(figure, entries, columns=3)
    return figure


def limits(rows: Rows) -> tuple[float, float]:
    """Bottom and top of a task's axes: what seeds earned, with a margin.

    An interval over two seeds may be ten times as wide, and would hide the curves.
    """
    each = [one.returns for variant in variants(rows) for one in curves(rows, variant)]
    found = np.concatenate([np.asarray(returns, float) for returns in each])
    found = found[np.isfinite(found)]
    if not found.size:
        return 0.0, 1.0
    margin = 0.05 * (found.max() - found.min()) or 1.0
    return float(found.min() - margin), float(found.max() + margin)


def _band(axes: Axes, seeds: list[Curve], across: str, look: Look) -> None:
    # A seed that was cut short ends where it does.
    longest = max(len(one.returns) for one in seeds)
    alive = [[one for one in seeds if len(one.returns) > at] for at in range(longest)]
    where = [
        float(np.mean([getattr(one, across)[at] for one in some])) for at, some in enumerate(alive)
    ]
    returns = [estimate([one.returns[at] for one in some]) for at, some in enumerate(alive)]
    band(axes, where, returns, **look)


def _looks(names: Iterable[str]) -> dict[str, Look]:
    names = list(names)
    return own_looks(name for name in names if name not in _PEERS) | {
        name: look for name, look in _PEERS.items() if name in names
    }
