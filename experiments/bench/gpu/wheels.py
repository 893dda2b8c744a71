"""Wheels for a machine that has JAX for its accelerator, but no network."""

import subprocess
import sys
from pathlib import Path

#: What images with JAX and the usual scientific packages lack.
PACKAGES = (
    "docstring-parser",
    "farama-notifications",
    "glfw",
    "gymnasium",
    "mujoco",
    "mujoco-core",
    "mujoco-mjx",
    "mujoco-studio",
    "pyopengl",
    "trimesh",
    "typeguard",
    "tyro",
    "websockets",
)
_LOCK = Path(__file__).parents[3] / "requirements.lock"
# pip matches a platform's number exactly.
_PLATFORMS = (
    *(f"manylinux_2_{number}_x86_64" for number in (39, 34, 31, 28, 27, 24, 17)),
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
)


def locked(names: tuple[str, ...] = PACKAGES, lock: Path = _LOCK) -> list[str]:
    """`name==version` of those that the lock holds, as it says.

    Raises:
        ValueError: If there is no lock.
    """
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{lock} cannot be read: run this in a checkout of sobolax") from error
    pinned = dict(line.split()[0].split("==") for line in lines if "==" in line and line[0] != " ")
    return [f"{name}=={pinned[name]}" for name in names if name in pinned]


def download(folder: Path, python: str) -> int:
    """Downloads them for Linux on x86-64; returns the exit status.

    Without what they depend on: that is there, or among them.
    """
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    pip += ["--quiet", "--disable-pip-version-check", "--python-version", python]
    pip += ["--implementation", "cp", *platforms, "--dest", str(folder)]
    status = subprocess.run([*pip, *locked()], check=False).returncode
    if status == 0:
        print(f"Wheels are in {folder}. There, beside a copy of this checkout:")
        print("  python3 -m pip install --no-index --no-deps --target site WHEELS/*.whl")
        print("  PYTHONPATH=site python3 -m experiments.bench.gpu --minutes 9")
    return status
