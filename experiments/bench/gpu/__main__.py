"""All GPU measurements by one command: `python -m experiments.bench.gpu --help`.

Every part is a process of its own, which holds the accelerator alone and whose results are on disk
as they come: one that fails, or whose time is over, costs the others nothing.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from experiments.bench.gpu import wheels
from experiments.bench.gpu.parts import PARTS, Part
from experiments.launch import run_folder
from experiments.launch.devices import flags_to_compile_quickly
from experiments.launch.exit_status import (
    FAILED,
    INTERRUPTED,
    bad_input,
    command,
    leave,
    second_interrupt_quits,
)
from experiments.launch.flags import read_flags
from sobolax.checks import check_choice

# A part that was interrupted writes what it has within this time, or is killed.
_GRACE = 20.0


@dataclass(frozen=True)
class Options:
    """Measures on an accelerator what matters most, first; writes runs/...-gpu/.

    Attributes:
        parts: Which, in this order.
        minutes: For everything together; a part is interrupted, or not begun, where they end.
        tiny: Sizes at which every part runs on a CPU within minutes, as a rehearsal: its numbers
            mean nothing.
        wheels: Downloads what a machine with JAX but without a network lacks into this folder, and
            measures nothing.
        python: Version of Python that the wheels are for.
        output: Folder, new or empty; None for a new one under runs/.
    """

    parts: tuple[str, ...] = tuple(PARTS)
    minutes: float = 30.0
    tiny: bool = False
    wheels: Path | None = None
    python: str = "3.12"
    output: Path | None = None


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit status: 1 if a part failed."""
    console = Console()
    try:
        options = read_flags(Options, argv, "python -m experiments.bench.gpu")
        if options.wheels:
            return wheels.download(options.wheels, options.python)
        for name in options.parts:
            check_choice("--parts ", name, PARTS)
        if not 0 < options.minutes < float("inf"):
            raise ValueError(f"--minutes {options.minutes} must be above 0 and finite")
        folder = run_folder.choose(options.output, "gpu", ["tiny"] if options.tiny else [])
    except (ValueError, OSError) as error:
        return bad_input(error)
    run_folder.create(folder)
    end, done, status = time.monotonic() + 60.0 * options.minutes, [], 0
    with second_interrupt_quits():
        for name in options.parts:
            console.print(Text(f"{name}: {PARTS[name].about}"))
            try:
                done.append(_run(name, PARTS[name], folder, end, options.tiny))
            except KeyboardInterrupt:
                status = INTERRUPTED
                break
            _save(folder, options, done)
            console.print(Text(f"{name}: {done[-1]['outcome']}, {done[-1]['seconds']:.0f} s"))
    _save(folder, options, done)
    console.print(Text(f"Everything is in {folder}"), soft_wrap=True)
    return status or (FAILED if any(one["outcome"] == "failed" for one in done) else 0)


def _run(name: str, part: Part, folder: Path, end: float, tiny: bool) -> dict[str, Any]:
    """Runs a part until it is done or its time is over."""
    start = time.monotonic()
    left = min(60.0 * part.minutes, end - start - _GRACE)
    record: dict[str, Any] = {"part": name, "about": part.about, "outcome": "no time left"}
    if end - start < 60.0 * part.least:
        return {**record, "seconds": 0.0}
    arguments = [sys.executable, *part.arguments(folder / name, tiny)]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            arguments,
            env=_quickly() if tiny else None,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            outcome = "done" if process.wait(left) == 0 else "failed"
        except subprocess.TimeoutExpired:
            outcome = "cut off"
        finally:
            _end(process)
    seconds = round(time.monotonic() - start, 1)
    return {**record, "outcome": outcome, "seconds": seconds, "command": arguments[1:]}


def _quickly() -> dict[str, str]:
    """An environment whose programs compile quickly and run slowly."""
    flags = f"{flags_to_compile_quickly()} {os.environ.get('XLA_FLAGS', '')}"
    return {**os.environ, "XLA_FLAGS": flags}


def _end(process: subprocess.Popen) -> None:
    """Ends a part and its processes: by an interrupt, which lets it write, or by force."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _save(folder: Path, options: Options, done: Sequence[Mapping[str, Any]]) -> None:
    """Writes `results.json` anew."""
    flags = {name: value for name, value in asdict(options).items() if name != "output"}
    run_folder.replace_json(folder / run_folder.RESULTS, {"options": flags, "parts": list(done)})


if __name__ == "__main__":
    leave(main())
