"""Figures of the toy: Q and its gradients beside Q*, and errors of all variants and sizes."""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.report.figure import (
    BLACK,
    band,
    color,
    fill,
    handles,
    legend_below,
    line,
    log_scale,
    panels,
    point,
)
from experiments.report.intervals import median
from experiments.report.rows import Rows
from experiments.studies.toy.critics import CRITICS, MAIN
from experiments.studies.toy.measure import shown_arrays
from experiments.studies.toy.systems import MEASURES, RESOLUTION, grid
from experiments.studies.toy.variants import LABELS, PAIR

_SYMBOLS = {"value": r"$Q$", "state": r"$\nabla_s Q$", "action": r"$\nabla_a Q$"}
_LABELS = {variant.name: variant.label for variant in PAIR}


def figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """All figures of a study."""
    if rows.options["study"] == "tuning":
        return
    systems = rows.distinct("system")
    shown = {name: found for name in systems if (found := shown_arrays(rows, name))}
    if shown:
        yield "cuts", cuts(rows, shown)
    for system, arrays in shown.items():
        yield f"surfaces_{system}", surfaces(rows, system, arrays)
    main = rows.where(critic=MAIN)
    yield "sizes", sizes(main)
    if controls := main.where(transitions=rows.options["transitions"]):
        yield "controls", draw_controls(controls)


def cuts(rows: Rows, shown: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Q* and what was learnt along the state at one action: median and spread over seeds."""
    figure, axes = panels(len(shown), 3, 9.6, 0.7 + 2.2 * len(shown), sharex=True)
    states = np.unique(grid()[0])
    action = grid()[1][RESOLUTION // 2]
    for row, (system, arrays) in zip(axes, shown.items(), strict=True):
        for at, panel in enumerate(row):
            for index, variant in enumerate(PAIR):
                low, middle, high = np.nanpercentile(
                    arrays["cuts"][at, index], [10, 50, 90], axis=0
                )
                fill(panel, states, low, high, color(variant.name))
                panel.plot(states, middle, line(variant.name), color=color(variant.name))
            true = arrays["cut"][at]
            panel.plot(states, true, color=BLACK, linewidth=1.0)
            # The spread of plain learning may be many times larger than what there is to see.
            room = 0.6 * np.ptp(true)
            panel.set_ylim(true.min() - room, true.max() + room)
        row[0].set_ylabel(system)
    for panel, name in zip(axes[0], MEASURES, strict=True):
        panel.set_title(f"{_SYMBOLS[name]} at a = {action:.2f}")
    for panel in axes[-1]:
        panel.set_xlabel("state s")
    truth = Line2D([], [], color=BLACK, linewidth=1.0, label="$Q^*$")
    legend_below(figure, [truth, *handles(_LABELS)])
    count, seeds = rows.options["transitions"], rows.options["seeds"]
    figure.suptitle(f"{count} transitions, {seeds} seeds: median, and 10 to 90 % of the seeds")
    return figure


def surfaces(rows: Rows, system: str, arrays: dict[str, np.ndarray]) -> Figure:
    """Q* and what was learnt over state and action, by the seed whose plain error is the median."""
    figure, axes = panels(3, 3, 7.6, 6.6, sharex=True, sharey=True)
    for row, name, values in zip(axes, MEASURES, arrays["surfaces"], strict=True):
        true, image = values[0], None
        for panel, one in zip(row, values, strict=True):
            panel.grid(False)
            image = panel.imshow(
                one.reshape(RESOLUTION, RESOLUTION).T,
                origin="lower",
                extent=(-1, 1, -1, 1),
                vmin=float(true.min()),
                vmax=float(true.max()),
                cmap="cividis",
                aspect="auto",
            )
            panel.plot(*arrays["places"].T, "o", ms=2.5, color="white", mec="black")
        row[0].set_ylabel("action a")
        assert image is not None
        bar = figure.colorbar(image, ax=list(row), shrink=0.9)
        bar.set_label(_SYMBOLS[name])
    for panel, label in zip(axes[0], ("$Q^*$", *_LABELS.values()), strict=True):
        panel.set_title(label)
    for panel in axes[-1]:
        panel.set_xlabel("state s")
    figure.suptitle(
        f"{system}, {rows.options['transitions']} transitions (points), the seed of plain's median "
        "error"
    )
    return figure


def sizes(rows: Rows) -> Figure:
    """Errors over the number of transitions."""
    systems, counts = rows.distinct("system"), rows.options["sizes"]
    figure, axes = panels(len(systems), 3, 9.6, 0.7 + 2.2 * len(systems), sharex=True)
    for row, system in zip(axes, systems, strict=True):
        for panel, name in zip(row, MEASURES, strict=True):
            for variant in PAIR:
                own = rows.where(system=system, variant=variant.name).among("transitions", counts)
                found = {
                    count: median(some.column(name)) for (count,), some in own.groups("transitions")
                }
                there = sorted(found)
                band(
                    panel,
                    there,
                    [found[count] for count in there],
                    color(variant.name),
                    linestyle=line(variant.name),
                    marker="o",
                )
            log_scale(panel, "x", counts)
            log_scale(panel, "y")
        row[0].set_ylabel(f"{system}\nsquared error")
    for panel, name in zip(axes[0], MEASURES, strict=True):
        panel.set_title(_SYMBOLS[name])
    for panel in axes[-1]:
        panel.set_xlabel("transitions")
    legend_below(figure, handles(_LABELS))
    seeds = rows.options["seeds"]
    figure.suptitle(f"{CRITICS[MAIN].label}: median over {seeds} seeds and its 95 % interval")
    return figure


def draw_controls(rows: Rows) -> Figure:
    """Errors of all variants, a point with its interval each."""
    systems, names = rows.distinct("system"), rows.distinct("variant")
    height = 0.9 + 0.24 * len(names) * len(systems)
    figure, axes = panels(len(systems), 3, 9.6, height, sharey=True)
    for row, system in zip(axes, systems, strict=True):
        for panel, measure in zip(row, MEASURES, strict=True):
            for (name,), some in rows.where(system=system).groups("variant"):
                found, own = median(some.column(measure)), color(name)
                point(panel, names.index(name), found, own, upright=False)
                if name in _LABELS:
                    panel.axvline(found.median or np.nan, color=own, lw=0.7, alpha=0.6, ls=":")
            log_scale(panel, "x")
        row[0].set_yticks(range(len(names)), [LABELS[name] for name in names])
        row[0].set_ylabel(system)
    axes[0, 0].invert_yaxis()  # of all, which share it
    for panel, name in zip(axes[0], MEASURES, strict=True):
        panel.set_title(_SYMBOLS[name])
    for panel in axes[-1]:
        panel.set_xlabel("mean squared error to $Q^*$")
    count, seeds = rows.options["transitions"], rows.options["seeds"]
    figure.suptitle(
        f"{CRITICS[MAIN].label}, {count} transitions: median over {seeds} seeds and its 95 % "
        "interval"
    )
    return figure
