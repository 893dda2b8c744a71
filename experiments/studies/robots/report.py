"""Two tables, of errors and of costs, and a figure of both."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.report import figure as kit
from experiments.report.rows import Rows
from experiments.report.table import Cell, Table

_PRECISIONS = ("float64", "float32")
_SOURCES = (*_PRECISIONS, "floor")
_PROGRAMS = ("step", "jacobian", "gradient")
_OF_ERRORS = (
    "robot",
    "joints",
    "nv",
    "states",
    "cosine, float32, worst",
    "uncertainty, median",
    "uncertainty, worst",
)
_OF_COSTS = (
    "robot",
    "constraints",
    *("step, µs", "Jacobian, µs", "gradient, µs", "Jacobian, steps", "gradient, steps"),
    *("compile step, s", "compile Jacobian, s", "compile gradient, s"),
)
_ABOUT_ERRORS = """
Relative distances (L2) of a step's derivatives to central differences of MuJoCo's C engine in
float64, with a step of 1e-6 and solvers run to their end. *Jacobian*: of positions and speeds with
respect to positions, speeds and controls, in local coordinates. *Gradient*: of a random linear
function of the next state, by reverse mode. *Uncertainty*: of the differences, their distance to
those with a step of 2e-6: an error below it is no error. *Float32 floor*: what the derivatives in
float64 change by, median of 8 draws, when every coordinate, speed and control is moved up or down
by half of what neighbours in float32 are apart by.
""".replace("\n", " ").strip()
_ABOUT_COSTS = """
In float32, of one physics step, {batch} states side by side; in plain steps of the same batch,
interleaved. *Constraints*: rows that MJX has in every step. Compiled from nothing, tracing
included.
""".replace("\n", " ").strip()


def tables(rows: Rows) -> list[Table]:
    """Errors, and costs."""
    errors: list[Sequence[Cell]] = []
    costs: list[Sequence[Cell]] = []
    for (robot,), some in rows.groups("robot"):
        line: list[Cell] = [
            robot,
            *(int(_first(some, name)) for name in ("joints", "nv")),
            len(some),
        ]
        for source in _SOURCES:
            for part in ("jacobian", "gradient"):
                found = some.column(f"{part}_{source}")
                line += [float(np.median(found)), float(np.max(found))]
        line.append(float(np.min(some.column("cosine_float32"))))
        uncertainty = some.column("uncertainty")
        errors.append([*line, float(np.median(uncertainty)), float(np.max(uncertainty))])
        line = [robot, int(_first(some, "constraints"))]
        line += [_first(some, f"{name}_us") for name in _PROGRAMS]
        line += [_first(some, f"{name}_steps") for name in _PROGRAMS[1:]]
        costs.append([*line, *(_first(some, f"{name}_compile") for name in _PROGRAMS)])
    named = (*_PRECISIONS, "float32 floor")
    parts = [f"{part}, {source}" for source in named for part in ("Jacobian", "gradient")]
    headings = [f"{part}, {which}" for part in parts for which in ("median", "worst")]
    batch = rows.options.get("batch")
    return [
        Table("Errors", (*_OF_ERRORS[:4], *headings, *_OF_ERRORS[4:]), errors, note=_ABOUT_ERRORS),
        Table("Costs", _OF_COSTS, costs, note=_ABOUT_COSTS.format(batch=batch)),
    ]


def figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Errors of every state, and costs in plain steps."""
    robots = rows.distinct("robot")
    figure, grid = kit.panels(1, 2, 9.0, 3.4)
    errors, costs = grid[0]
    looks = {"float64": kit.BLUE, "float32": kit.ORANGE}
    for at, robot in enumerate(robots):
        some = rows.where(robot=robot)
        for shift, (precision, color) in zip((-0.15, 0.15), looks.items(), strict=True):
            found = some.column(f"jacobian_{precision}")
            across = at + shift + np.linspace(-0.08, 0.08, len(found))
            label = precision if at == 0 else None
            errors.plot(across, found, ".", color=color, label=label)
        steps = [_first(some, f"{name}_steps") for name in _PROGRAMS[1:]]
        for shift, height, color, label in zip(
            (-0.15, 0.15),
            steps,
            looks.values(),
            ("whole Jacobian", "gradient, reverse"),
            strict=True,
        ):
            costs.bar(at + shift, height, 0.28, color=color, label=label if at == 0 else None)
    kit.log_scale(errors, "y")
    errors.set_title("Jacobian: relative distance to differences (L2)")
    costs.set_title("Time, in plain steps")
    for axes in (errors, costs):
        axes.set_xticks(range(len(robots)), robots)
        axes.legend()
    yield "robots", figure


def _first(rows: Rows, name: str) -> float:
    return float(rows.column(name)[0])
