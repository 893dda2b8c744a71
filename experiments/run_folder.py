"""The folder of one run: what lies in it, and that nothing in it is ever overwritten."""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import sobolax

CONFIGURATION = "configuration.json"
METRICS = "metrics.jsonl"
RESULTS = "results.json"
LEARNING_CURVES = "learning_curves.png"
SLOPE_ERROR = "slope_error.png"
POLICY = "policy"
REPLAY = "replay.html"


def choose(output: Path | None, env: str, arms: Iterable[str]) -> Path:
    """The folder a run would write to; creates nothing.

    Raises:
        ValueError: If something lies there already.
    """
    if output is None:
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        name = f"{stamp}-{env}-{'-'.join(arms)}"
        candidates = [name, *(f"{name}-{count}" for count in range(2, 100))]
        return next(path for path in map(Path("runs").joinpath, candidates) if not path.exists())
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file: name a new or an empty folder")
    if output.is_dir() and any(output.iterdir()):
        what = "holds another run" if (output / CONFIGURATION).exists() else "is not empty"
        raise ValueError(f"--output {output} {what}: name a new or an empty folder")
    for parent in output.parents:
        if parent.exists():
            if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
                raise ValueError(f"--output {output} cannot be made: {parent} is not writable")
            break
    return output


def create(path: Path) -> None:
    """Makes the folder that `choose` named."""
    path.mkdir(parents=True, exist_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a new file; numbers that are not finite become null, as JSON knows none."""
    text = json.dumps(plain(values), indent=2, allow_nan=False)
    with path.open("x") as file:
        file.write(text + "\n")


def append_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends a line of JSON per row; the file is whole and readable after every call."""
    lines = "".join(json.dumps(plain(row), allow_nan=False) + "\n" for row in rows)
    with path.open("a") as file:
        file.write(lines)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `append_lines` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def plain(value: Any) -> Any:
    """Arrays, NumPy numbers, tuples and paths as what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def provenance() -> dict[str, Any]:
    """What produced the numbers: versions, device and commit; nothing that names the machine."""
    device = jax.devices()[0]
    return {
        "versions": {
            "python": platform.python_version(),
            "sobolax": sobolax.__version__,
            **{name: _version(name) for name in ("jax", "jaxlib", "mujoco", "mujoco-mjx")},
        },
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processor_cores": os.cpu_count(),
        },
        "commit": _commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> dict[str, Any] | None:
    """The commit of the source checkout and whether files differ from it; None outside of one."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()

    try:
        return {
            "hash": git("rev-parse", "HEAD"),
            "modified": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
