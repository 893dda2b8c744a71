"""Row `imports`: what importing the library takes, beside JAX, in processes of its own."""

import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType

from experiments.bench.speed.options import Bench
from experiments.bench.speed.tables import heading, table
from experiments.bench.speed.work import Tell
from experiments.bench.timing import Alternative, measure

# What somebody writes, and what it loads. The package itself loads a module when it is named.
_STATEMENTS = {
    "jax": "import jax",
    "sobolax": "import sobolax",
    "one loss": "import sobolax.losses, sobolax.tangents.forward",
    "functional core": "import sobolax.losses, sobolax.tangents.forward, sobolax.weighting",
    "everything": "import sobolax; [getattr(sobolax, name) for name in sobolax.__all__]",
}


def prepare(bench: Bench) -> None:
    """Nothing can be wrong with it."""
    del bench


def run(prepared: None, bench: Bench, tell: Tell) -> dict[str, Any]:
    """Processor seconds from starting Python to its end, the statements in turn."""
    del prepared
    tell("imports")
    alternatives = [
        Alternative(name, _starting(statement), 0.0) for name, statement in _STATEMENTS.items()
    ]
    measured = measure(alternatives, bench.repetitions, units=1, clock=_processor_seconds)
    return {"imports": [asdict(one) for one in measured]}


def _processor_seconds() -> float:
    """Of all processes started from here that have ended: what else runs has little part in it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _starting(statement: str) -> Any:
    def start() -> None:
        subprocess.run([sys.executable, "-c", statement], check=True)

    return start


def render(found: Mapping[str, Any]) -> list[RenderableType]:
    """Processor seconds, and their ratios to JAX's."""
    made = table(("import", "processor s", "of jax's", "min to max"))
    for entry in found["imports"]:
        spread = f"{entry['smallest_ratio']:.2f} to {entry['largest_ratio']:.2f}"
        made.add_row(entry["name"], f"{entry['seconds']:.2f}", f"{entry['ratio']:.2f}", spread)
    return [heading("Importing, from starting Python"), made]
