"""What finite differences of the C engine lose and cost: `python -m experiments.studies.engine`."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.launch.exit_status import leave
from experiments.report.rows import Rows
from experiments.report.table import Cell, Table
from experiments.studies import command, study
from experiments.studies.engine.measure import PAIRS, Pair, measure
from experiments.studies.study import Plan, check_flags, check_names

_COSTS = ("engine step", "engine Jacobian", "MJX step", "MJX Jacobian")


@dataclass(frozen=True)
class Options:
    """Jacobians of Gymnasium's MuJoCo tasks, by differences, beside exact ones of our MJX twins.

    Both in float64 at the same states, with the same integrator.

    Allow hours for the defaults on 2 cores. For a trial: `--tasks hopper --states 4 --repetitions
    1`.

    Attributes:
        tasks: Which, by our names.
        states: At how many states of random motion.
        steps: Random actions before the last of them.
        repetitions: Of each timing.
        seed: Of states and actions.
    """

    tasks: tuple[str, ...] = tuple(PAIRS)
    states: int = 64
    steps: int = 40
    repetitions: int = 5
    seed: int = 0


def prepare(options: Options) -> Plan[Options, Pair]:
    """Checks the options.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    tasks = check_names("tasks", options.tasks, tuple(PAIRS))
    check_flags(options, ("states", "steps", "repetitions"), lambda x: x >= 1, "at least 1")
    return Plan(options, {task: PAIRS[task] for task in tasks}, "-".join(tasks))


def tables(rows: Rows) -> list[Table]:
    """How far the Jacobians agree, and what they cost."""
    return [agreement(rows), costs(rows)]


def agreement(rows: Rows) -> Table:
    """How far the Jacobians agree, over states."""
    lines: list[Sequence[Cell]] = []
    for (task, part, constraints), some in rows.groups("task", "part", "constraints"):
        cosine, error = some.column("cosine"), some.column("error")
        numbers = [1 - np.median(cosine), 1 - np.min(cosine), np.mean(cosine > 0.99)]
        numbers += [np.median(error), np.quantile(error, 0.95), np.max(error)]
        names = task, part.replace("_", " "), constraints
        lines.append((*names, len(some), *map(float, numbers)))
    headings = ("task", "of", "constraints", "states", "1 − cosine, median", "1 − cosine, worst")
    headings += ("share with cosine, > 0.99", "error, median", "error, 95 %", "error, worst")
    note = (
        "The Jacobian of a whole environment step with respect to state and action, all entries of "
        "a state as one vector: central differences of the C engine against the exact derivative "
        "of our twin on MJX; error relative to the latter's length; *touching*: a contact or a "
        "limit acts at the state."
    )
    return Table("Numerical against exact Jacobians", headings, lines, names=3, note=note)


def costs(rows: Rows) -> Table:
    """What a transition costs."""
    lines: list[Sequence[Cell]] = []
    for (task,), some in rows.groups("task"):
        step, jacobian, mjx_step, mjx_jacobian = (some[0][name] for name in _COSTS)
        micro = [1e6 * some[0][name] for name in _COSTS]
        ratios = jacobian / step, mjx_jacobian / mjx_step, jacobian / mjx_jacobian
        lines.append((task, some[0]["directions"], *micro, *ratios))
    headings = ("task", "directions", *(f"{name}, µs" for name in _COSTS))
    headings += ("engine, Jacobian / step", "MJX, Jacobian / step", "Jacobian, engine / MJX")
    note = (
        "Per transition, of a batch, in float64, on all cores, in one run. The engine's step is "
        "Gymnasium's own Python around MuJoCo's C, the state restored before and read after."
    )
    return Table("What Jacobians cost", headings, lines, note=note)


STUDY = study.Study("engine", Options, prepare, measure, tables)

main = functools.partial(command.main, STUDY)


if __name__ == "__main__":
    leave(main())
