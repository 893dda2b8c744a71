"""One environment held to the protocol, in a process of its own, and the verdict."""

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiments.studies.suites.catalogue import Candidate

WORKS = "works"
BY_DIFFERENCES = "works with finite differences"
FAILS = "does not work"
NOT_TRIED = "unknown"

_PACKAGES = ("brax", "gymnasium", "gymnax", "jax", "mujoco", "mujoco-mjx", "playground")

# Nearly all of a trial is compilation, of programs that run a few times.
_DEFAULTS = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

# What is only about gradients by autodiff: central differences of the values need none of it.
_GRADIENTS = {"finite tangents", "tangents", "reverse mode", "actions at their limits"}


def verdict(trial: Mapping[str, Any]) -> tuple[str, str]:
    """What the table says of a trial, and why.

    Args:
        trial: Of `run`.
    """
    if trial["error"] is not None:
        missing = "which is not installed" in trial["error"] or trial["timed_out"]
        return (NOT_TRIED if missing else FAILS), trial["error"]
    report = trial["report"]
    faults = report["faults"]
    why = "; ".join(f"{check}: {' '.join(text.split())}" for check, text in faults.items())
    if set(faults) - _GRADIENTS:
        return FAILS, why
    if faults:
        return BY_DIFFERENCES, why
    return (BY_DIFFERENCES if trial["numerical"] else WORKS), ""


def run(
    candidate: Candidate, steps: int, states: int, timeout: float, python: Sequence[str] = ()
) -> dict[str, Any]:
    """Tries an environment.

    A process of its own: what one leaves behind (memory, a crash) does not reach the next.

    Args:
        candidate: Which.
        steps: Of its rollouts.
        states: At which tangents are held to differences.
        timeout: Seconds that it may take.
        python: The interpreter and its flags; by default this one's.

    Returns:
        For JSON: `label`, `report` or `error`, `numerical`, `reverse_mode`, `seconds`,
        `timed_out`, `versions`.
    """
    asked = {"name": candidate.name, "parameters": dict(candidate.parameters)}
    asked |= {"steps": steps, "states": states}
    command = [
        *(python or [sys.executable]),
        "-m",
        "experiments.studies.suites.trial",
        json.dumps(asked),
    ]
    blank = {"label": candidate.label, "report": None, "error": None, "numerical": False}
    blank |= {"reverse_mode": None, "seconds": None, "timed_out": False, "versions": {}}
    environment = {**_DEFAULTS, **os.environ}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment
        )
    except subprocess.TimeoutExpired:
        return blank | {"error": f"it took longer than {timeout:g} s", "timed_out": True}
    lines = done.stdout.strip().splitlines()
    try:
        return blank | json.loads(lines[-1])
    except (IndexError, ValueError):
        said = " ".join(done.stderr.split())[-300:]
        return blank | {"error": f"its process ended with status {done.returncode}: {said}"}


def main(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the process does.

    Args:
        asked: Of `run`.
    """
    import envs
    from sobolax.testing import NonconformingEnvironment, check_environment

    warnings.simplefilter("ignore")
    make = functools.partial(envs.make, asked["name"], **asked["parameters"])
    start = time.perf_counter()
    try:
        environment = make()
        try:
            report = check_environment(make, steps=asked["steps"], states=asked["states"])
        except NonconformingEnvironment as error:
            report = error.report
        return {
            "report": asdict(report),
            "numerical": bool(getattr(environment, "numerical", False)),
            "reverse_mode": bool(environment.reverse_mode),
            "seconds": time.perf_counter() - start,
            "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        }
    except Exception as error:
        text = " ".join(str(error).split())[:400]
        known = isinstance(error, ValueError | ImportError)
        return {"error": text if known else f"{type(error).__name__}: {text}"}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
