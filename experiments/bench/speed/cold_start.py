"""Row `cold_start`: from starting Python to the first update, twice, the second time with a cache.

In processes of their own, which start from nothing but this checkout; the compilation cache is an
empty folder at first, and what the first process left in it afterwards. Programs are traced and
compiled, or loaded, as `experiments.train` does it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from experiments.bench.speed.options import Bench
from experiments.bench.speed.work import make_setup
from experiments.launch.progress import Progress
from experiments.report.table import Table

_PHASES = ("import", "build", "programs", "run")


def prepare(bench: Bench) -> None:
    """Raises ValueError if there is no such environment."""
    make_setup(bench.cold_start)


def measure(plan: None, bench: Bench, progress: Progress) -> Iterator[Table]:
    """Seconds by the clock, and of all cores together, without and with a cache."""
    del plan
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for name in ("empty cache", "warm cache"):
            progress.phase(f"cold start of {bench.cold_start}, {name}")
            for kind, phases in _start(bench.cold_start, cache).items():
                rows.append((name, kind, *phases, sum(phases)))
    title = f"From starting Python to the first updates in {bench.cold_start}, in seconds"
    yield Table(title, ("", "", *_PHASES, "in all"), rows, names=2)


def _start(env: str, cache: str) -> dict[str, list[float]]:
    """Times of the phases, in order."""
    variables = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "true",
    }
    module, begin = "experiments.bench.speed.first_update", str(time.time())
    done = subprocess.run(
        [sys.executable, "-m", module, env, begin],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
