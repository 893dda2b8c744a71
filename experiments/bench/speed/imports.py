"""Row `imports`: what importing the library takes, beside JAX, in processes of its own."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator

from experiments.bench import timing
from experiments.bench.speed.options import Bench
from experiments.bench.speed.work import timings
from experiments.launch.progress import Progress
from experiments.report.table import Table

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


def measure(plan: None, bench: Bench, progress: Progress) -> Iterator[Table]:
    """Processor seconds from starting Python to its end, the statements in turn."""
    del plan
    progress.phase("imports")
    alternatives = [
        timing.Alternative(name, _start(statement)) for name, statement in _STATEMENTS.items()
    ]
    measured = timing.measure(alternatives, bench.repetitions, 1, clock=_processor_seconds)
    title = "Importing, from starting Python, in processor seconds"
    yield timings(title, measured, "over jax", "s")


def _processor_seconds() -> float:
    """Of all processes started from here that have ended: what else runs has little part in it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _start(statement: str) -> Callable[[], None]:
    return lambda: subprocess.run([sys.executable, "-c", statement], check=True) and None
