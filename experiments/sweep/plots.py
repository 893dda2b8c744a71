"""Heat maps of a sweep with the intervals in their cells; lines and dots where there is no grid."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.report.intervals import Estimate
from experiments.report.results import RETURN, RETURN_OVER_TRAINING, metric
from experiments.report.table import number
from experiments.sweep.summary import Results
from experiments.sweep.tables import title

# A file for each measure; its name says what kind of plot it is.
MEASURES = {RETURN: "", RETURN_OVER_TRAINING: "_over_training"}
HEAT_MAP, LINE, DRAWS = "heat_map", "line", "draws"
_LABELS = {RETURN: "return at the end", RETURN_OVER_TRAINING: "return averaged over training"}
_SYMBOLS = {"state_weight": r"$\lambda_s$", "action_weight": r"$\lambda_a$"}
_BLUE, _GREY = "#0072B2", "0.45"
_PANELS_ABREAST = 3

# Values of the two axes of a heat map, to the setting in that cell.
Cells = Mapping[tuple[float, float], str]


def save(folder: Path, results: Results) -> list[Path]:
    """Writes a figure for each measure; says where they are."""
    if not results["order"]:
        return []
    kind = DRAWS if results["drawn"] else LINE if len(results["varied"]) == 1 else HEAT_MAP
    paths = []
    for measure, ending in MEASURES.items():
        figure = _heat_maps(results, measure) if kind == HEAT_MAP else _dots(results, measure, kind)
        seeds = results["seeds"]
        over = f"mean and 95 % interval over {seeds} seeds" if seeds > 1 else "1 seed"
        figure.suptitle(f"{title(results)}\n{_LABELS[measure]}, {over}", fontsize=9.5)
        paths.append(folder / f"{kind}{ending}.png")
        with paths[-1].open("xb") as file:
            figure.savefig(file, format="png")
    return paths


def panels(results: Results, measure: str) -> tuple[str, str, dict[str, Cells]]:
    """What the heat maps of a measure show.

    Two hyperparameters are the axes. A third makes a panel of each of its values; with more than
    three, a cell shows the best of all settings that share its two values.

    Returns:
        Names of the upward and the rightward axis, and the cells of each panel by its title.
    """
    varied, settings = results["varied"], _settings(results)
    if len(varied) == 3:
        counts = {name: len({setting[name] for setting in settings.values()}) for name in varied}
        third = min(varied, key=lambda name: counts[name])
        up, right = (name for name in varied if name != third)
        split: dict[str, dict[tuple[float, float], str]] = {}
        values = sorted({setting[third] for setting in settings.values()})
        for value in values:
            split[f"{_label(third)} = {value:g}"] = {
                (setting[up], setting[right]): name
                for name, setting in settings.items()
                if setting[third] == value
            }
        return up, right, dict(split)
    up, right, *others = varied
    best: dict[tuple[float, float], str] = {}
    for name in reversed(_ranked(results, measure)):  # the best comes last, and stays
        best[settings[name][up], settings[name][right]] = name
    heading = f"each cell: the best over {', '.join(map(_label, others))}" if others else ""
    return up, right, {heading: best}


def _heat_maps(results: Results, measure: str) -> Figure:
    up, right, split = panels(results, measure)
    everything = [name for cells in split.values() for name in cells.values()]
    rows = sorted({place[0] for cells in split.values() for place in cells})
    columns = sorted({place[1] for cells in split.values() for place in cells})
    abreast = len(split) if len(split) <= _PANELS_ABREAST else math.ceil(math.sqrt(len(split)))
    below = -(-len(split) // abreast)
    width, height = 1.12 * len(columns) + 0.7, 0.62 * len(rows) + 0.7
    figure = _figure(abreast * width + 0.9, below * height + 0.5)
    means = [_mean(results, name, measure) for name in everything]
    norm = _norm(means)
    grid = figure.subplots(below, abreast, squeeze=False)
    for axes in grid.ravel()[len(split) :]:
        axes.set_axis_off()
    for axes, (heading, cells) in zip(grid.ravel(), split.items(), strict=False):
        axes.set_title(heading, fontsize=9)
        _draw_cells(axes, results, measure, cells, (rows, columns), norm)
        axes.set_xlabel(_label(right), fontsize=9)
        axes.set_ylabel(_label(up), fontsize=9)
    note = "thick frame: the best" + (" at the end" if measure != RETURN else "")
    if measure == RETURN:
        told = "dashed: not told from it, paired by seed"
        note += "; " + (told if results["seeds"] > 1 else "one seed tells nothing apart")
    if any(_lost(results, name) for name in everything):
        note += "; *: over the seeds left"
    low, finite = norm.vmin, [mean for mean in means if np.isfinite(mean)]
    color = "colour: mean return"
    if low is not None and min(finite, default=low) < low:
        color += f", darkest below {number(low)}"
    figure.supxlabel(f"{color}   ·   {note}", fontsize=7)
    return figure


def _draw_cells(
    axes: Axes,
    results: Results,
    measure: str,
    cells: Cells,
    ticks: tuple[Sequence[float], Sequence[float]],
    norm: Normalize,
) -> None:
    rows, columns = ticks
    image = np.full((len(rows), len(columns)), np.nan)
    best = results["order"][0]
    close = set(results["not_told_from_best"]) if measure == RETURN else set()
    colors = colormaps["viridis"]
    for (row, column), name in cells.items():
        place = columns.index(column), rows.index(row)
        found = metric(results, name, measure)
        mean = _mean(results, name, measure)
        image[place[1], place[0]] = mean
        dark = np.isfinite(mean) and norm(mean) < 0.6
        ink = "white" if dark else "black"
        mark = "*" if _lost(results, name) else ""
        text = "–" if not np.isfinite(mean) else number(mean) + mark
        axes.text(*place, text, ha="center", va="bottom", color=ink, fontsize=9)
        axes.text(*place, _interval(found), ha="center", va="top", color=ink, fontsize=6.5)
        if name == best or name in close:
            axes.add_patch(
                Rectangle(
                    (place[0] - 0.46, place[1] - 0.44),
                    0.92,
                    0.88,
                    fill=False,
                    edgecolor=ink,
                    linewidth=2.2 if name == best else 0.9,
                    linestyle="-" if name == best else (0, (4, 3)),
                )
            )
    axes.imshow(image, origin="lower", aspect="auto", cmap=colors, norm=norm)
    axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns], fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _dots(results: Results, measure: str, kind: str) -> Figure:
    """A panel for each hyperparameter: every setting's mean and interval over its value."""
    varied, settings = results["varied"], _settings(results)
    abreast = min(len(varied), _PANELS_ABREAST)
    below = -(-len(varied) // abreast)
    figure = _figure(3.6 * abreast + 0.8, 3.0 * below + 0.4)
    grid = figure.subplots(below, abreast, squeeze=False, sharey=True)
    for axes in grid.ravel()[len(varied) :]:
        axes.set_axis_off()
    best, close = results["order"][0], set(results["not_told_from_best"])
    shown = [name for name in settings if np.isfinite(_mean(results, name, measure))]
    for axes, hyperparameter in zip(grid.ravel(), varied, strict=False):
        ordered = sorted(shown, key=lambda name: settings[name][hyperparameter])
        across = [settings[name][hyperparameter] for name in ordered]
        if kind == LINE:
            # Listed values may be decades apart, and one of them zero: evenly spaced.
            axes.set_xticks(range(len(across)), [f"{value:g}" for value in across])
            across = list(range(len(across)))
        means = np.array([_mean(results, name, measure) for name in ordered])
        if kind == LINE:
            axes.plot(across, means, color=_BLUE, linewidth=1.2, zorder=1)
        for name, x, mean in zip(ordered, across, means, strict=True):
            found = metric(results, name, measure)
            color = _BLUE if name == best or name in close else _GREY
            if found and found.low is not None and found.high is not None:
                axes.plot([x, x], [found.low, found.high], color=color, linewidth=1.2, alpha=0.5)
            filled = "white" if _lost(results, name) else color
            size = 8 if name == best else 4.5
            axes.plot(
                [x],
                [mean],
                marker="o",
                markersize=size,
                color=color,
                markerfacecolor=filled,
                linestyle="none",
                zorder=2,
            )
        if kind == DRAWS and across and 0 < 5 * min(across) <= max(across):
            axes.set_xscale("log")
        axes.set_xlabel(_label(hyperparameter), fontsize=9)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(which="both", labelsize=8)
    for axes in grid[:, 0]:
        axes.set_ylabel("return", fontsize=9)
    limits = _norm([_mean(results, name, measure) for name in shown])
    if limits.vmin is not None and limits.vmax is not None:
        margin = 0.25 * (limits.vmax - limits.vmin)
        grid[0, 0].set_ylim(limits.vmin - margin, limits.vmax + margin)
    note = "large: the best at the end; blue: not told from it there; hollow: lost seeds"
    figure.supxlabel(note, fontsize=7.5)
    return figure


def _norm(means: Sequence[float]) -> Normalize:
    """Colours for all but means far below or above most others, which get the end's colour."""
    finite = np.array([mean for mean in means if np.isfinite(mean)])
    if not finite.size:
        return Normalize(0.0, 1.0)
    middle = float(np.median(finite))
    reach = 5 * float(np.percentile(np.abs(finite - middle), 60))
    reach = reach or float(np.abs(finite - middle).max())
    low, high = max(finite.min(), middle - reach), min(finite.max(), middle + reach)
    least = 1e-6 * max(1.0, abs(middle))
    return Normalize(low - least, high + least, clip=True)


def _settings(results: Results) -> dict[str, dict[str, float]]:
    return {
        name: {part: float(value) for part, value in setting.items()}
        for name, setting in results["settings"].items()
    }


def _ranked(results: Results, measure: str) -> list[str]:
    """Settings by a measure, the best first; those that lost seeds last."""
    return sorted(
        results["order"],
        key=lambda name: (
            _lost(results, name),
            -np.nan_to_num(_mean(results, name, measure), nan=-np.inf),
        ),
    )


def _lost(results: Results, name: str) -> bool:
    found = metric(results, name, RETURN)
    return found is None or found.count < found.total


def _mean(results: Results, name: str, measure: str) -> float:
    found = metric(results, name, measure)
    return np.nan if found is None or found.mean is None else found.mean


def _interval(found: Estimate | None) -> str:
    if found is None or found.low is None or found.high is None:
        return ""
    return f"[{number(found.low)}, {number(found.high)}]"


def _label(name: str) -> str:
    return f"{_SYMBOLS[name]} ({name})" if name in _SYMBOLS else name


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(max(width, 5.2), height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
