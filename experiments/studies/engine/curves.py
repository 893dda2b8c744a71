"""Learning curves on the C engine and on its MJX twin, beside each other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from experiments.launch import run_folder
from experiments.report.curves import COLORS
from experiments.report.intervals import Estimate, bands
from experiments.report.results import RETURN, RETURN_OVER_TRAINING, metric
from experiments.report.table import Table, text

ENGINE, TWIN = "mujoco_fd", "mjx"
_NAMES = {ENGINE: "C engine, differences", TWIN: "MJX, exact"}
_STYLES: dict[str, Literal["-", "--"]] = {ENGINE: "-", TWIN: "--"}
CURVES, TABLE = "curves.png", "table.md"


def write(folder: Path, configuration: Mapping[str, Any]) -> Table:
    """Writes the table and the plot of a run whose parts are done.

    Args:
        folder: Of `experiments.studies.engine.training`, with a run of `experiments.train` each.
        configuration: What the folder's configuration holds.

    Returns:
        The table.
    """
    results = {side: run_folder.read_results(folder / side) for side in _NAMES}
    found = {side: result for side, result in results.items() if result is not None}
    title = configuration["engine_training"]["task"]
    listed = listing(found, title)
    run_folder.write_whole(folder / TABLE, listed.markdown())
    rows = {side: run_folder.read_lines(folder / side / run_folder.METRICS) for side in found}
    (folder / CURVES).unlink(missing_ok=True)
    save(folder / CURVES, rows, f"{title}: mean and 95 % interval over seeds")
    return listed


def listing(results: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """Returns, what gradients gain on either, and how fast it went."""
    rows = []
    for side, result in results.items():
        for variant, told in result["variants"].items():
            gain = result["paired_differences"].get(f"{variant} - plain", {})
            speed = result["timing"]["steady_steps_per_second"]
            rows.append(
                (
                    _NAMES[side],
                    told["label"],
                    text(metric(result, variant, RETURN)),
                    text(metric(result, variant, RETURN_OVER_TRAINING)),
                    *(
                        text(Estimate(**gain[name]), signed=True) if gain else "–"
                        for name in (RETURN, RETURN_OVER_TRAINING)
                    ),
                    f"{told['whole_run']['gradients_dropped']:.2%}",
                    "–" if speed is None else f"{speed:,.0f}",
                )
            )
    headings = ("gradients from", "agent", "return, at the end", "return, all epochs")
    headings += (
        "gain, at the end",
        "gain, all epochs",
        "gradients, dropped",
        "steps/s, all members",
    )
    note = "*Gain*: over the plain agent on the same engine, paired by seed. [95 % interval]"
    return Table(title, headings, rows, names=2, note=note)


def save(path: Path, rows: Mapping[str, list[dict[str, Any]]], title: str) -> None:
    """Writes returns over environment steps and over time.

    Args:
        path: A new file.
        rows: Of the engine's and the twin's metrics.
        title: What stands above.
    """
    figure = Figure(figsize=(9.0, 4.0), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    handles = []
    for axes, across in zip(figure.subplots(1, 2), ("environment_steps", "seconds"), strict=True):
        axes.set_xlabel(
            {"environment_steps": "environment steps per seed", "seconds": "seconds"}[across]
        )
        handles = [
            _draw(
                axes, [row for row in of_side if row["variant"] == variant], across, side, variant
            )
            for side, of_side in rows.items()
            for variant in dict.fromkeys(row["variant"] for row in of_side)
        ]
        axes.set_ylabel("undiscounted return per episode")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=handles, frameon=False, loc="outside lower center", ncols=2)
    figure.suptitle(title, fontsize=10)
    with path.open("xb") as file:
        figure.savefig(file, format="png")


def _draw(axes: Axes, rows: list[dict[str, Any]], across: str, side: str, variant: str) -> Line2D:
    epochs = sorted({row["epoch"] for row in rows})
    values = [[row[RETURN] for row in rows if row["epoch"] == epoch] for epoch in epochs]
    places = [np.mean([row[across] for row in rows if row["epoch"] == epoch]) for epoch in epochs]
    mean, low, high = bands(np.array(values, np.float64))
    color = COLORS.get(variant, "#009E73")
    [line] = axes.plot(places, mean, color=color, linestyle=_STYLES[side], linewidth=1.6)
    axes.fill_between(places, low, high, color=color, alpha=0.12, linewidth=0)
    name = {"plain": "plain", "sobolev": "with gradients"}.get(variant, variant)
    line.set_label(f"{name} · {_NAMES[side]}")
    return line
