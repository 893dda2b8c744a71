"""One environment checked against the protocol, in a process of its own, and the verdict."""

import functools
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from experiments.report.rows import Row
from experiments.studies.suites.catalogue import Candidate

WORKS = "works"
BY_DIFFERENCES = "works with finite differences"
FAILS = "does not work"
NOT_TRIED = "unknown"

_PACKAGES = ("brax", "gymnasium", "gymnax", "jax", "mujoco", "mujoco-mjx", "playground")

# Nearly all of a trial is compilation, of programs that run a few times.
_DEFAULTS = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

# Checks of gradients by autodiff only: central differences of the values need none of it.
_GRADIENTS = {"finite tangents", "tangents", "reverse mode", "actions at their limits"}


def verdict(found: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict of the table, and why.

    Args:
        found: What the process printed: `check`'s result, or `error` and `timed_out`.
    """
    error = found.get("error")
    if error is not None:
        missing = "which is not installed" in error or found.get("timed_out")
        return (NOT_TRIED if missing else FAILS), error
    faults = found["report"]["faults"]
    why = "; ".join(f"{check}: {' '.join(text.split())}" for check, text in faults.items())
    if set(faults) - _GRADIENTS:
        return FAILS, why
    if faults:
        return BY_DIFFERENCES, why
    return (BY_DIFFERENCES if found["numerical"] else WORKS), ""


def run(candidate: Candidate, steps: int, states: int, timeout: float) -> Row:
    """Tries an environment.

    A process of its own: memory that one keeps, or its crash, does not reach the next.

    Args:
        candidate: Which.
        steps: Of its rollouts.
        states: At which tangents are compared with differences.
        timeout: Seconds that it may take.
    """
    found = _run(candidate, steps, states, timeout)
    said, why = verdict(found)
    report = found.get("report") or {}
    return {
        "environment": candidate.label,
        "verdict": said,
        **{name: report.get(name) for name in ("tangent_error", "judged", "precision", "steps")},
        **{name: found.get(name) for name in ("reverse_mode", "numerical", "seconds", "packages")},
        "why": why,
    }


def _run(candidate: Candidate, steps: int, states: int, timeout: float) -> dict[str, Any]:
    arguments = {"name": candidate.name, "parameters": dict(candidate.parameters)}
    text = json.dumps({**arguments, "steps": steps, "states": states})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "experiments.studies.suites.trial", text],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**_DEFAULTS, **os.environ},
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it took longer than {timeout:g} s", "timed_out": True}
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        said = " ".join(done.stderr.split())[-300:]
        return {"error": f"its process ended with status {done.returncode}: {said}"}


def check(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The work of the process: `report` and more of `run`'s row, or `error`."""
    import envs
    from experiments.launch import provenance
    from sobolax.testing import NonconformingEnvironment, check_environment

    warnings.simplefilter("ignore")
    make = functools.partial(envs.make, arguments["name"], **arguments["parameters"])
    start = time.perf_counter()
    try:
        environment = make()
        try:
            report = check_environment(make, steps=arguments["steps"], states=arguments["states"])
        except NonconformingEnvironment as error:
            report = error.report
        return {
            "report": asdict(report),
            "numerical": bool(getattr(environment, "numerical", False)),
            "reverse_mode": bool(environment.reverse_mode),
            "seconds": time.perf_counter() - start,
            "packages": ", ".join(
                f"{name} {number}" for name in _PACKAGES if (number := provenance.version(name))
            ),
        }
    except Exception as error:
        text = " ".join(str(error).split())[:400]
        known = isinstance(error, ValueError | ImportError)
        return {"error": text if known else f"{type(error).__name__}: {text}"}


if __name__ == "__main__":
    print(json.dumps(check(json.loads(sys.argv[1]))))
