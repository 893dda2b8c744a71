"""Measures how the first-order term's worth grows with the number of dimensions.

`python -m experiments.studies.scaling`, and `python -m experiments.studies.scaling report --runs
runs/*-scaling
--output runs/all` for tables and plot of what is there, of killed runs too.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from experiments.launch import run_folder
from experiments.launch.exit_status import INTERRUPTED, bad_input, leave
from experiments.launch.program import keep_compiled_programs
from experiments.studies.scaling import measure, report
from experiments.studies.scaling.options import PROGRAM, Prepared, parse, prepare

_SECONDS_BETWEEN_LINES = 15.0  # where the output is no terminal


def main(argv: Sequence[str] | None = None) -> int:
    """What the command runs.

    Returns:
        The exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    console = Console()
    try:
        if argv[:1] == ["report"]:
            asked = tyro.cli(report.Report, args=argv[1:], prog=f"{PROGRAM} report")
            folder = report.merge(asked)
            console.print(Text(f"Written to {folder}"), soft_wrap=True)
            return 0
        prepared = prepare(parse(argv))
    except ValueError as error:
        return bad_input(error)
    keep_compiled_programs()
    try:
        with Teller(console) as tell:
            interrupted = execute(prepared, tell)
    finally:
        console.print(Text(f"Everything is in {prepared.folder}"), soft_wrap=True)
    done = list(prepared.folder.glob(report.SIZES))
    if done:
        report.show(report.read([prepared.folder]), console)
    return INTERRUPTED if interrupted else 0


def execute(prepared: Prepared, tell: measure.Tell) -> bool:
    """Measures size by size; each is on disk when it is done, tables and plot at the end.

    Returns:
        Whether Ctrl-C cut it short.
    """
    folder, interrupted = prepared.folder, False
    run_folder.create(folder)
    asked = {key: value for key, value in asdict(prepared.scaling).items() if key != "output"}
    run_folder.write_json(
        folder / run_folder.CONFIGURATION, {"scaling": asked, **run_folder.provenance()}
    )
    sizes: list[dict[str, Any]] = []
    try:
        for size in prepared.scaling.sizes:
            found = measure.measure_size(prepared, size, folder, tell)
            run_folder.write_json(report.size_path(folder, size), found)
            sizes.append(found)
    except KeyboardInterrupt:
        interrupted = True
    if sizes:
        tell("drawing")
        report.write(folder, report.read([folder]))
    return interrupted


class Teller:
    """A status line on a terminal; elsewhere a line when a phase begins, and now and then."""

    def __init__(self, console: Console):
        self._console = console
        self._status = console.status("") if console.is_terminal else None
        self._phase, self._last = "", 0.0

    def __enter__(self) -> "Teller":
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, text: str) -> None:
        """Tells what is under way."""
        if self._status is not None:
            self._status.update(f"{text} ...")
            return
        phase, now = text.partition(": step")[0], time.monotonic()
        if phase != self._phase or now - self._last >= _SECONDS_BETWEEN_LINES:
            self._phase, self._last = phase, now
            self._console.print(Text(text), soft_wrap=True)
            self._console.file.flush()


if __name__ == "__main__":
    leave(main())
