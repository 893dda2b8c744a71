"""Row `cold_start`: from starting Python to the first update, twice, the second time with a cache.

In processes of their own, which start from nothing but this checkout; the compilation cache is an
empty folder at first, and what the first process left in it afterwards.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from experiments.bench.speed.options import Bench
from experiments.bench.speed.tables import heading, table
from experiments.bench.speed.work import Tell, make_environment
from experiments.launch.configuration import defaults

_PHASES = ("import", "build", "lower", "compile", "run")


def prepare(bench: Bench) -> None:
    """Raises ValueError if there is no such environment."""
    make_environment(bench.cold_start.env, defaults(bench.cold_start.env).env_args)


def run(prepared: None, bench: Bench, tell: Tell) -> dict[str, Any]:
    """Seconds and processor seconds of every phase, without and with a cache."""
    del prepared
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("empty cache", "warm cache"):
            tell(f"cold start of {bench.cold_start.env}, {name}")
            found[name] = _start(bench.cold_start.env, cache)
    return {"env": bench.cold_start.env, "starts": found}


def _start(env: str, cache: str) -> dict[str, dict[str, float]]:
    variables = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "true",
    }
    done = subprocess.run(
        [sys.executable, "-m", "experiments.bench.speed.first_update", env],
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def render(found: Mapping[str, Any]) -> list[RenderableType]:
    """Seconds by the clock and, in brackets, of all cores together."""
    made = table(("seconds (processor)", *_PHASES, "in all"))
    for name, phases in found["starts"].items():
        chosen = [phases[phase] for phase in _PHASES]
        whole = {key: sum(phase[key] for phase in chosen) for key in ("seconds", "processor")}
        made.add_row(
            name,
            *(f"{phase['seconds']:.3g} ({phase['processor']:.3g})" for phase in (*chosen, whole)),
        )
    return [heading(f"From starting Python to the first updates in {found['env']}"), made]
