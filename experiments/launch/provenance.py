"""What produced the numbers of a run: versions, device, commit, source."""

import datetime
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import envs
import sobolax

#: What `describe` gives.
WRITER = {
    "versions": dict[str, str | None],
    "device": dict[str, str | int | None],
    "commit": dict[str, str | bool | None] | None,
    "source_digest?": str,  # older files lack it
}
_ROOTS = (Path(sobolax.__path__[0]), Path(envs.__path__[0]), Path(__file__).parents[1])


def describe() -> dict[str, Any]:
    """What produced the numbers: versions, device, commit, source, but no machine name."""
    device = jax.devices()[0]
    return {
        "versions": {
            "python": platform.python_version(),
            "sobolax": sobolax.__version__,
            **{name: version(name) for name in ("jax", "jaxlib", "mujoco", "mujoco-mjx")},
        },
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processor_cores": os.cpu_count(),
        },
        "commit": _commit(),
        "source_digest": source()[:12],
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


# Fields of a checkpoint's provenance that may change the last bits of a resumed training.
_MATTERS = (
    *(("versions", name) for name in ("sobolax", "jax", "jaxlib", "mujoco", "mujoco-mjx")),
    *(("device", name) for name in ("platform", "kind", "count")),
    ("commit", "hash"),
)


def differences(there: Mapping[str, Any], here: Mapping[str, Any] | None = None) -> list[str]:
    """How a `describe` differs from another in fields that may change the last bits.

    Args:
        there: The one.
        here: The other; None for this process.
    """
    here = describe() if here is None else here

    def look(found: Mapping[str, Any], part: str, name: str) -> Any:
        return (found.get(part) or {}).get(name)

    pairs = [(name, look(there, part, name), look(here, part, name)) for part, name in _MATTERS]
    if "source_digest" in there and "source_digest" in here:
        pairs.append(("source", there["source_digest"], here["source_digest"]))
    return [f"{name} {one} -> {other}" for name, one, other in pairs if one != other]


def source_files() -> dict[str, Path]:
    """The files of this project's packages, by name; hidden ones are an editor's."""
    return {
        f"{root.name}/{path.relative_to(root)}": path
        for root in _ROOTS
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }


@functools.cache
def source() -> str:
    """A digest of this project's files at the first call: later edits are not what runs."""
    digest = hashlib.sha256()
    for name, path in source_files().items():
        digest.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def version(name: str) -> str | None:
    """The version of a package; None if it is not installed."""
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
