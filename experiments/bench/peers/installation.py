"""Environments of the peers: made once, each of pinned packages, apart from our own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_WORKERS = _HERE / "workers"
PEERS = ("brax", "rejax", "sbx")
# Below the repository, where `make clean` finds it.
FOLDER = _HERE.parents[2] / ".cache" / "peers"
_MARK = "requirements-installed.txt"
_TIMEOUT = 1800.0  # s, for one call of uv


class PeerUnavailable(RuntimeError):
    """A peer's environment cannot be made."""


def command(worker: str) -> list[str]:
    """Interpreter and script of a worker; the peer's environment must be there."""
    python = sys.executable if worker == "sobolax" else str(interpreter(worker))
    return [python, str(_WORKERS / f"{worker}_sac.py")]


def interpreter(peer: str, folder: Path = FOLDER) -> Path:
    """Python of a peer's environment, which is there once `install` has made it."""
    return folder / peer / "bin" / "python"


def requirements(peer: str) -> Path:
    """The file with a peer's pinned packages."""
    return _HERE / f"{peer}.txt"


def install(peer: str, folder: Path = FOLDER, uv: str | None = None) -> bool:
    """Makes the environment of a peer, unless it is there with these very packages.

    Args:
        peer: One of `PEERS`.
        folder: Where environments lie.
        uv: The program; by default the one beside our interpreter, or on the path.

    Returns:
        Whether anything had to be done.

    Raises:
        PeerUnavailable: With uv's own last words, say if there is no network.
    """
    target, wanted = folder / peer, requirements(peer).read_text()
    mark = target / _MARK
    python = interpreter(peer, folder)
    if mark.is_file() and mark.read_text() == wanted and python.exists():
        return False
    uv = uv or _uv()
    mark.unlink(missing_ok=True)
    _call(peer, [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(target)])
    arguments = ["--python", str(python), "--requirements", str(requirements(peer))]
    _call(peer, [uv, "pip", "install", "--quiet", *arguments])
    mark.write_text(wanted)
    return True


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise PeerUnavailable("uv is not installed: run make setup, or pip install uv")
    return found


def _call(peer: str, command: list[str]) -> None:
    # uv has a variable of its own for folders of wheels; pip's says the same.
    wheels = os.environ.get("PIP_FIND_LINKS")
    environment = {"UV_FIND_LINKS": wheels, **os.environ} if wheels else None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailable(f"the environment of {peer} cannot be made: {error}") from error
    if done.returncode:
        said = " ".join(done.stderr.split())[-600:]
        raise PeerUnavailable(
            f"the environment of {peer} cannot be made (is there a network, and room on the "
            f"disk?); uv said: {said}"
        )
