"""What produced the numbers of a run: versions, device, commit."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import sobolax

#: What `describe` gives.
WRITER = {
    "versions": dict[str, str | None],
    "device": dict[str, str | int | None],
    "commit": dict[str, str | bool | None] | None,
}


def describe() -> dict[str, Any]:
    """What produced the numbers: versions, device and commit, but no machine name."""
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


# Fields of a checkpoint's provenance that may change the last bits of a resumed training.
_MATTERS = (
    *(("versions", name) for name in ("sobolax", "jax", "jaxlib", "mujoco", "mujoco-mjx")),
    *(("device", name) for name in ("platform", "kind", "count")),
    ("commit", "hash"),
)


def differences(there: Mapping[str, Any]) -> list[str]:
    """How a `describe` differs from this process in fields that may change the last bits."""
    here = describe()

    def look(found: Mapping[str, Any], part: str, name: str) -> Any:
        return (found.get(part) or {}).get(name)

    return [
        f"{name} {look(there, part, name)} -> {look(here, part, name)}"
        for part, name in _MATTERS
        if look(there, part, name) != look(here, part, name)
    ]


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
