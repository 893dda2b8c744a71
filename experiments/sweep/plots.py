"""Heat maps of a sweep with the intervals in their cells; lines and dots where there is no grid."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.report import figure as kit
from experiments.report.intervals import Estimate
from experiments.report.results import RETURN, RETURN_OVER_TRAINING, metric
from experiments.report.table import number
from experiments.sweep.summary import Results, lost_seeds
from experiments.sweep.tables import title

# The file of each measure; its name says what kind of plot it is.
MEASURES = {RETURN: "", RETURN_OVER_TRAINING: "_over_training"}
HEAT_MAP, LINE, DRAWS = "heat_map", "line", "draws"
_LABELS = {RETURN: "return at the end", RETURN_OVER_TRAINING: "return averaged over training"}
_SYMBOLS = {"state_weight": r"$\lambda_s$", "action_weight": r"$\lambda_a$"}
_ABREAST = 3  # panels

# Values of the two axes of a heat map, to the configuration in that cell.
Cells = Mapping[tuple[float, float], str]


def save(folder: Path, results: Results) -> None:
    """Writes a figure for each measure."""
    if not results["order"]:
        return
    kind = DRAWS if results["drawn"] else LINE if len(results["varied"]) == 1 else HEAT_MAP
    seeds = results["seeds"]
    over = f"mean and 95 % interval over {seeds} seeds" if seeds > 1 else "1 seed"
    for measure, ending in MEASURES.items():
        with kit.style():
            drawn = _heat_maps(results, measure) if kind == HEAT_MAP else _dots(results, measure)
        heading = f"{title(results)}\n{_LABELS[measure]}, {over}"
        kit.save(drawn, folder / f"{kind}{ending}.png", heading)


def panels(results: Results, measure: str) -> tuple[str, str, dict[str, Cells]]:
    """The content of a measure's heat maps.

    Two hyperparameters are the axes. A third makes a panel of each of its values; with more than
    three, a cell shows the best of the configurations that share its two values.

    Returns:
        Names of the upward and the rightward axis, and the cells of each panel by its title.
    """
    varied, configs = results["varied"], _configs(results)
    if len(varied) == 3:
        third = min(varied, key=lambda name: len({config[name] for config in configs.values()}))
        up, right = (name for name in varied if name != third)
        split: dict[str, Cells] = {}
        for value in sorted({config[third] for config in configs.values()}):
            split[f"{_label(third)} = {value:g}"] = {
                (config[up], config[right]): name
                for name, config in configs.items()
                if config[third] == value
            }
        return up, right, split
    up, right, *others = varied
    means = {name: _mean(results, name, measure) for name in results["order"]}
    best: dict[tuple[float, float], str] = {}
    for name in sorted(
        results["order"],
        key=lambda name: (not lost_seeds(results, name), np.nan_to_num(means[name], nan=-np.inf)),
    ):  # the best comes last and overwrites the others
        best[configs[name][up], configs[name][right]] = name
    heading = f"each cell: the best over {', '.join(map(_label, others))}" if others else ""
    return up, right, {heading: best}


def _heat_maps(results: Results, measure: str) -> Figure:
    up, right, split = panels(results, measure)
    names = [name for cells in split.values() for name in cells.values()]
    rows, columns = (
        sorted({place[axis] for cells in split.values() for place in cells}) for axis in (0, 1)
    )
    abreast = len(split) if len(split) <= _ABREAST else math.ceil(math.sqrt(len(split)))
    below = -(-len(split) // abreast)
    width, height = 1.12 * len(columns) + 0.7, 0.62 * len(rows) + 0.7
    figure, grid = kit.panels(below, abreast, max(abreast * width + 0.9, 5.2), below * height + 0.5)
    norm = _norm([_mean(results, name, measure) for name in names])
    for axes in grid.ravel()[len(split) :]:
        axes.set_axis_off()
    for axes, (heading, cells) in zip(grid.ravel(), split.items(), strict=False):
        _draw_cells(axes, results, measure, cells, (rows, columns), norm)
        axes.set(title=heading, xlabel=_label(right), ylabel=_label(up))
    notes = ["thick frame: the best" + (" at the end" if measure != RETURN else "")]
    if measure == RETURN and results["seeds"] > 1:
        notes.append("dashed: may be as good, paired by seed")
    if any(lost_seeds(results, name) for name in names):
        notes.append("*: over the seeds left")
    color = "colour: mean return"
    if any(_mean(results, name, measure) < (norm.vmin or -np.inf) for name in names):
        color += f", darkest below {number(norm.vmin or 0.0)}"
    figure.supxlabel(f"{color}   ·   {'; '.join(notes)}", fontsize=7)
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
    framed = {best, *(results["close_to_best"] if measure == RETURN else ())}
    for (row, column), name in cells.items():
        x, y = columns.index(column), rows.index(row)
        mean = image[y, x] = _mean(results, name, measure)
        ink = "white" if np.isfinite(mean) and norm(mean) < 0.6 else "black"
        text = number(mean) + ("*" if lost_seeds(results, name) and np.isfinite(mean) else "")
        interval = _interval(metric(results, name, measure))
        axes.text(x, y, text, ha="center", va="bottom", color=ink, fontsize=9)
        axes.text(x, y, interval, ha="center", va="top", color=ink, fontsize=6.5)
        if name in framed:
            width, line = (2.2, "-") if name == best else (0.9, (0, (4, 3)))
            frame = {"fill": False, "edgecolor": ink, "linewidth": width, "linestyle": line}
            axes.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, **frame))
    axes.imshow(image, origin="lower", aspect="auto", cmap=colormaps["viridis"], norm=norm)
    axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
    axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _dots(results: Results, measure: str) -> Figure:
    """A panel for each hyperparameter: the mean and interval of every configuration."""
    varied, configs = results["varied"], _configs(results)
    abreast = min(len(varied), _ABREAST)
    below = -(-len(varied) // abreast)
    figure, grid = kit.panels(
        below, abreast, max(3.6 * abreast + 0.8, 5.2), 3.0 * below + 0.4, sharey=True
    )
    for axes in grid.ravel()[len(varied) :]:
        axes.set_axis_off()
    best, close = results["order"][0], set(results["close_to_best"])
    shown = [name for name in configs if np.isfinite(_mean(results, name, measure))]
    for axes, hyperparameter in zip(grid.ravel(), varied, strict=False):
        names = sorted(shown, key=lambda name: configs[name][hyperparameter])
        across = [configs[name][hyperparameter] for name in names]
        if not results["drawn"]:
            # Listed values may be decades apart, and one of them zero: evenly spaced.
            axes.set_xticks(range(len(across)), [f"{value:g}" for value in across])
            across = list(range(len(across)))
            axes.plot(across, [_mean(results, name, measure) for name in names], color=kit.BLUE)
        elif across and 0 < 5 * min(across) <= max(across):
            axes.set_xscale("log")
        for name, x in zip(names, across, strict=True):
            found = metric(results, name, measure)
            assert found is not None
            color = kit.BLUE if name == best or name in close else kit.GREY
            kit.point(axes, x, found, color, upright=True)
            filled = "white" if lost_seeds(results, name) else color
            size = 8 if name == best else 4.5
            axes.plot([x], [found.mean], "o", color=color, markersize=size, markerfacecolor=filled)
        axes.set_xlabel(_label(hyperparameter))
    for axes in grid[:, 0]:
        axes.set_ylabel("return")
    limits = _norm([_mean(results, name, measure) for name in shown])
    if limits.vmin is not None and limits.vmax is not None:
        margin = 0.25 * (limits.vmax - limits.vmin)
        grid[0, 0].set_ylim(limits.vmin - margin, limits.vmax + margin)
    note = "large: the best at the end; blue: may be as good; hollow: lost seeds"
    figure.supxlabel(note, fontsize=7.5)
    return figure


def _norm(means: Sequence[float]) -> Normalize:
    """A colour scale that clips means far below or above most others."""
    finite = np.array([mean for mean in means if np.isfinite(mean)])
    if not finite.size:
        return Normalize(0.0, 1.0)
    middle = float(np.median(finite))
    reach = 5 * float(np.percentile(np.abs(finite - middle), 60))
    reach = reach or float(np.abs(finite - middle).max())
    low, high = max(finite.min(), middle - reach), min(finite.max(), middle + reach)
    least = 1e-6 * max(1.0, abs(middle))
    return Normalize(low - least, high + least, clip=True)


def _configs(results: Results) -> dict[str, dict[str, float]]:
    return {
        name: {part: float(value) for part, value in config.items()}
        for name, config in results["configs"].items()
    }


def _mean(results: Results, name: str, measure: str) -> float:
    found = metric(results, name, measure)
    return np.nan if found is None or found.mean is None else found.mean


def _interval(found: Estimate | None) -> str:
    if found is None or found.low is None or found.high is None:
        return ""
    return f"[{number(found.low)}, {number(found.high)}]"


def _label(name: str) -> str:
    return f"{_SYMBOLS[name]} ({name})" if name in _SYMBOLS else name
