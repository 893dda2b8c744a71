"""Pictures of a study: Q and its gradients beside Q*, and errors of all variants and sizes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from experiments.report.intervals import Median, median
from experiments.studies.toy.critics import MAIN
from experiments.studies.toy.study import Outcome, pick
from experiments.studies.toy.systems import MEASURES, RESOLUTION, grid
from experiments.studies.toy.variants import PAIR, PLAIN, SOBOLEV

# Two of Okabe and Ito's colours: told apart with any colour vision, and in grey.
_COLORS = {PLAIN.name: "#D55E00", SOBOLEV.name: "#0072B2"}
_STYLES: dict[str, Literal["-", "--"]] = {PLAIN.name: "--", SOBOLEV.name: "-"}
_GREY = "#777777"
_SYMBOLS = {"value": r"$Q$", "state": r"$\nabla_s Q$", "action": r"$\nabla_a Q$"}


def save_all(folder: Path, outcome: Outcome) -> None:
    """Writes all pictures of a study."""
    save_cuts(folder / "cuts.png", outcome)
    for system in outcome.optimal:
        save_surfaces(folder / f"surfaces_{system}.png", outcome, system)
    save_sizes(folder / "sizes.png", outcome.results)
    save_controls(folder / "controls.png", outcome.results)


def save_cuts(path: Path, outcome: Outcome) -> None:
    """Q* and what was learnt along the state at one action: median and spread over seeds."""
    results, systems = outcome.results, list(outcome.optimal)
    figure = _figure(9.6, 0.7 + 2.2 * len(systems))
    axes = figure.subplots(len(systems), 3, sharex=True, squeeze=False)
    states, actions = grid()
    action = actions[RESOLUTION // 2]
    here = actions == action
    for row, system in zip(axes, systems, strict=True):
        for panel, name in zip(row, MEASURES, strict=True):
            for variant in PAIR:
                values = getattr(outcome.surfaces[system, variant.name], name)[:, here]
                low, middle, high = np.nanpercentile(values, [10, 50, 90], axis=0)
                color, style = _COLORS[variant.name], _STYLES[variant.name]
                panel.fill_between(states[here], low, high, color=color, alpha=0.18, lw=0)
                panel.plot(states[here], middle, style, color=color, lw=1.5)
            true = getattr(outcome.optimal[system], name)[here]
            panel.plot(states[here], true, color="black", lw=1.0)
            # The spread of plain learning may be many times larger than what there is to see.
            room = 0.6 * np.ptp(true)
            panel.set_ylim(true.min() - room, true.max() + room)
            _tidy(panel)
        row[0].set_ylabel(results["systems"][system]["label"])
    for panel, name in zip(axes[0], MEASURES, strict=True):
        panel.set_title(f"{_SYMBOLS[name]} at a = {action:.2f}", fontsize=9)
    for panel in axes[-1]:
        panel.set_xlabel("state s")
    handles = [
        Line2D(
            [],
            [],
            color=_COLORS[variant.name],
            linestyle=_STYLES[variant.name],
            label=_name(variant.name),
        )
        for variant in PAIR
    ]
    handles.insert(0, Line2D([], [], color="black", lw=1.0, label="$Q^*$"))
    figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    count, seeds = results["toy"]["transitions"], results["toy"]["seeds"]
    title = f"{count} transitions, {seeds} seeds: median, and 10 to 90 % of the seeds"
    _finish(figure, path, title)


def save_surfaces(path: Path, outcome: Outcome, system: str) -> None:
    """Q* and what was learnt over state and action, by the seed whose plain error is the median."""
    plain = outcome.surfaces[system, PLAIN.name]
    errors = plain.errors(outcome.optimal[system])["value"]
    seed = int(np.argsort(errors)[len(errors) // 2])
    figure = _figure(7.6, 6.6)
    axes = figure.subplots(3, 3, sharex=True, sharey=True)
    columns = {"$Q^*$": None, "plain": PLAIN.name, "Sobolev": SOBOLEV.name}
    for row, name in zip(axes, MEASURES, strict=True):
        true = getattr(outcome.optimal[system], name)
        image = None
        for panel, (label, variant) in zip(row, columns.items(), strict=True):
            values = (
                true if variant is None else getattr(outcome.surfaces[system, variant], name)[seed]
            )
            image = panel.imshow(
                values.reshape(RESOLUTION, RESOLUTION).T,
                origin="lower",
                extent=(-1, 1, -1, 1),
                vmin=float(true.min()),
                vmax=float(true.max()),
                cmap="cividis",
                aspect="auto",
            )
            panel.plot(*outcome.places[system][seed].T, "o", ms=2.5, color="white", mec="black")
            if name == MEASURES[0]:
                panel.set_title(label, fontsize=9)
            panel.tick_params(labelsize=7.5)
        row[0].set_ylabel("action a", fontsize=8.5)
        assert image is not None
        bar = figure.colorbar(image, ax=list(row), shrink=0.9)
        bar.set_label(_SYMBOLS[name], fontsize=8.5)
        bar.ax.tick_params(labelsize=7.5)
    for panel in axes[-1]:
        panel.set_xlabel("state s", fontsize=8.5)
    label = outcome.results["systems"][system]["label"]
    count = outcome.results["toy"]["transitions"]
    _finish(
        figure, path, f"{label}, {count} transitions (points), the seed of plain's median error"
    )


def save_sizes(path: Path, results: dict[str, Any]) -> None:
    """Errors over the number of transitions."""
    systems, counts = list(results["systems"]), results["toy"]["sizes"]
    figure = _figure(9.6, 0.7 + 2.2 * len(systems))
    axes = figure.subplots(len(systems), 3, sharex=True, squeeze=False)
    for row, system in zip(axes, systems, strict=True):
        for panel, name in zip(row, MEASURES, strict=True):
            for variant in PAIR:
                found = []
                for count in counts:
                    chosen = {"critic": MAIN, "system": system, "transitions": count}
                    [fit] = pick(results, variant=variant.name, **chosen)
                    found.append(median(fit["errors"][name]))
                color, style = _COLORS[variant.name], _STYLES[variant.name]
                lows, highs = _ends(found)
                panel.fill_between(counts, lows, highs, color=color, alpha=0.18, lw=0)
                middles = [one.median for one in found]
                panel.plot(counts, middles, style, color=color, lw=1.5, marker="o", ms=3)
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.set_xticks(counts, [str(count) for count in counts])
            panel.xaxis.set_minor_locator(NullLocator())
            _tidy(panel)
        row[0].set_ylabel(f"{results['systems'][system]['label']}\nsquared error")
    for panel, name in zip(axes[0], MEASURES, strict=True):
        panel.set_title(_SYMBOLS[name], fontsize=9)
    for panel in axes[-1]:
        panel.set_xlabel("transitions")
    handles = [
        Line2D(
            [],
            [],
            color=_COLORS[variant.name],
            linestyle=_STYLES[variant.name],
            label=_name(variant.name),
        )
        for variant in PAIR
    ]
    figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    critic, seeds = results["critics"][MAIN]["label"], results["toy"]["seeds"]
    _finish(figure, path, f"{critic}: median over {seeds} seeds and its 95 % interval")


def save_controls(path: Path, results: dict[str, Any]) -> None:
    """Errors of all variants, a point with its interval each."""
    systems, names = list(results["systems"]), list(results["variants"])
    figure = _figure(9.6, 0.9 + 0.24 * len(names) * len(systems))
    axes = figure.subplots(len(systems), 3, sharey=True, squeeze=False)
    places = np.arange(len(names))
    for row, system in zip(axes, systems, strict=True):
        chosen = {"critic": MAIN, "system": system, "transitions": results["toy"]["transitions"]}
        for panel, measure in zip(row, MEASURES, strict=True):
            for place, name in zip(places, names, strict=True):
                [fit] = pick(results, variant=name, **chosen)
                found = median(fit["errors"][measure])
                color = _COLORS.get(name, _GREY)
                lows, highs = _ends([found])
                panel.plot([lows[0], highs[0]], [place, place], color=color, lw=1.6)
                panel.plot(found.median, place, "o", color=color, ms=4.5)
                if name in _COLORS:
                    panel.axvline(found.median or np.nan, color=color, lw=0.7, alpha=0.6, ls=":")
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(numticks=7))
            panel.xaxis.set_minor_formatter(NullFormatter())
            _tidy(panel)
        row[0].set_yticks(places, [results["variants"][name]["label"] for name in names])
        row[0].invert_yaxis()
        row[0].set_ylabel(results["systems"][system]["label"])
    for panel, name in zip(axes[0], MEASURES, strict=True):
        panel.set_title(_SYMBOLS[name], fontsize=9)
    for panel in axes[-1]:
        panel.set_xlabel("mean squared error to $Q^*$")
    critic, count = results["critics"][MAIN]["label"], results["toy"]["transitions"]
    seeds = results["toy"]["seeds"]
    title = f"{critic}, {count} transitions: median over {seeds} seeds and its 95 % interval"
    _finish(figure, path, title)


def _name(variant: str) -> str:
    return {PLAIN.name: PLAIN.label, SOBOLEV.name: SOBOLEV.label}[variant]


def _ends(found: Sequence[Median]) -> tuple[list[float], list[float]]:
    """Ends of intervals; of those that there are too few seeds for, the median."""

    def end(one: Median, value: float | None) -> float:
        best = one.median if value is None else value
        return np.nan if best is None else best

    return [end(one, one.low) for one in found], [end(one, one.high) for one in found]


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_fontsize(8.5)
    axes.tick_params(which="both", labelsize=7.5)


def _finish(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=10)
    with path.open("xb") as file:
        figure.savefig(file, format="png")
