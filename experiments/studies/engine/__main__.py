"""What finite differences of the C engine lose and cost: `python -m experiments.studies.engine`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from experiments.launch import run_folder
from experiments.launch.exit_status import bad_input
from experiments.report.table import Table, wide_console
from experiments.studies.engine.measure import PAIRS, PARTS, measure

PROGRAM = "python -m experiments.studies.engine"
_COSTS = ("engine step", "engine Jacobian", "MJX step", "MJX Jacobian")


@dataclass(frozen=True)
class EngineGradients:
    """Jacobians of Gymnasium's MuJoCo tasks, by differences, beside exact ones of our MJX twins.

    Both in float64 at the same states, with the same integrator. Writes to runs/engine_slopes-.../.

    Attributes:
        tasks: Which, by our names.
        states: At how many states of random motion.
        steps: Random actions before the last of them.
        repetitions: Of each timing.
        seed: Of states and actions.
        output: Folder, new or empty; None for a new one under runs/.
    """

    tasks: tuple[str, ...] = tuple(PAIRS)
    states: int = 64
    steps: int = 40
    repetitions: int = 5
    seed: int = 0
    output: Path | None = None


def prepare(asked: EngineGradients) -> Path:
    """Checks what was asked for; runs nothing.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    for task in asked.tasks:
        if task not in PAIRS:
            raise ValueError(f"--tasks {task!r} is unknown: choose from {', '.join(PAIRS)}")
    for name in ("states", "steps", "repetitions"):
        if getattr(asked, name) < 1:
            raise ValueError(f"--{name} {getattr(asked, name)} must be at least 1")
    return run_folder.choose(asked.output, "engine_gradients", asked.tasks)


def agreement(found: Sequence[Mapping[str, Any]]) -> Table:
    """How far the Jacobians agree."""
    rows = []
    for one in found:
        for part in PARTS:
            for where, said in one["agreement"][part].items():
                if said is not None:
                    rows.append(
                        (
                            one["theirs"],
                            part.replace("_", " "),
                            where,
                            f"{said['states']}",
                            f"{said['cosine median']:.6f}",
                            f"{said['cosine worst']:.3f}",
                            f"{said['cosine above 0.99']:.0%}",
                            f"{said['error median']:.1e}",
                            f"{said['error 95 %']:.1e}",
                            f"{said['error worst']:.1e}",
                        )
                    )
    headings = ("task", "of", "constraints", "states", "cosine, median", "cosine, worst")
    headings += ("cosine > 0.99", "error, median", "error, 95 %", "error, worst")
    note = (
        "The Jacobian of a whole environment step with respect to state and action, all entries of "
        "a state as one vector: central differences of the C engine against the exact derivative "
        "of our twin on MJX; error relative to the latter's length; *touching*: a contact or a "
        "limit acts at the state."
    )
    return Table("Numerical against exact Jacobians", headings, rows, names=3, note=note)


def costs(found: Sequence[Mapping[str, Any]]) -> Table:
    """What they cost."""
    rows = [
        (
            one["theirs"],
            f"{one['directions']}",
            *(f"{one['seconds'][name] * 1e6:,.0f}" for name in _COSTS),
            f"{one['seconds']['engine Jacobian'] / one['seconds']['engine step']:.1f}",
            f"{one['seconds']['MJX Jacobian'] / one['seconds']['MJX step']:.1f}",
            f"{one['seconds']['engine Jacobian'] / one['seconds']['MJX Jacobian']:.2f}",
        )
        for one in found
    ]
    headings = ("task", "directions", *(f"{name}, µs" for name in _COSTS))
    headings += ("engine, Jacobian / step", "MJX, Jacobian / step", "Jacobian, engine / MJX")
    note = (
        "Per transition, of a batch, in float64, on all cores, in one run. The engine's step is "
        "Gymnasium's own Python around MuJoCo's C, the state restored before and read after."
    )
    return Table("What Jacobians cost", headings, rows, note=note)


def main(argv: Sequence[str] | None = None) -> int:
    """What the command runs.

    Returns:
        The exit status: 0, or 2 for bad input.
    """
    asked = tyro.cli(EngineGradients, args=argv, prog=PROGRAM)
    console = Console()
    try:
        folder = prepare(asked)
    except (ValueError, ImportError) as error:
        return bad_input(error)
    run_folder.create(folder)
    found = []
    for task in asked.tasks:
        console.print(f"{task} ...")
        pair = PAIRS[task]
        found.append(measure(pair, asked.states, asked.steps, asked.repetitions, asked.seed))
    settings = {name: value for name, value in asdict(asked).items() if name != "output"}
    results = {"engine_gradients": settings, **run_folder.provenance(), "tasks": found}
    run_folder.write_json(folder / run_folder.RESULTS, results)
    tables = agreement(found), costs(found)
    run_folder.write_whole(
        folder / "table.md",
        "\n".join(f"## {table.title}\n\n{table.markdown()}" for table in tables),
    )
    for table in tables:
        wide_console(console).print(table.rendered())
    console.print(Text(f"Written to {folder}"), soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
