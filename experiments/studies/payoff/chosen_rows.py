"""Which rows flags choose under `--report`, and what columns rows have, here and beside peers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from experiments.report.results import RETURN
from experiments.report.rows import Row
from experiments.studies.payoff.tasks import REGIMES, TASKS

#: No two rows of a run have the same of all of these.
UNIQUE = ("task", "regime", "variant", "seed", "epoch")

#: By flag, for options that have fields of these names.
SELECTS: Mapping[str, Callable[[Row, Any], bool]] = {
    "tasks": lambda row, options: row.get("task") in options.tasks,
    "variants": lambda row, options: row.get("variant") in options.variants,
    "first_seed": lambda row, options: row["seed"] >= options.first_seed,
    "seeds": lambda row, options: row["seed"] < options.first_seed + options.seeds,
}


def columns(variants: Iterable[str]) -> dict[str, Mapping[str, Any] | type | None]:
    """Of rows in a file, with the values or the type that some have, for these variants."""
    return {
        "job": None,
        "task": TASKS,
        "regime": REGIMES,
        "variant": dict.fromkeys(variants),
        **dict.fromkeys(("seed", "epoch"), int),
        **dict.fromkeys(("seconds", "environment_steps", RETURN), float),
    }
