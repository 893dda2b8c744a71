"""Measures the derivatives of an environment, or merges such measurements into a page.

`python -m experiments.studies.derivatives --env hopper`, and
`python -m experiments.studies.derivatives report --runs runs/*-gradient-audit --output docs`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from experiments.launch import run_folder
from experiments.launch.exit_status import INTERRUPTED, bad_input, leave
from experiments.launch.program import call, keep_compiled_programs
from experiments.studies.derivatives import audit, plots, report
from experiments.studies.derivatives.options import Audit, prepare

_PROGRAM = "python -m experiments.studies.derivatives"


def main(argv: Sequence[str] | None = None) -> int:
    """What the command runs.

    Returns:
        The exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    console = Console()
    try:
        if argv[:1] == ["report"]:
            asked = tyro.cli(report.Report, args=argv[1:], prog=f"{_PROGRAM} report")
            for path in report.write(asked):
                console.print(Text(f"Written to {path}"), soft_wrap=True)
            return 0
        prepared = prepare(tyro.cli(Audit, args=argv, prog=_PROGRAM))
    except ValueError as error:
        return bad_input(error)
    keep_compiled_programs()
    try:
        with console.status("") as status:
            results = call(audit.execute, prepared, lambda text: status.update(f"{text} ..."))
    except KeyboardInterrupt:
        console.print("Interrupted: nothing is written.")
        return INTERRUPTED
    results = write(prepared.folder, results)
    report.show(results, console)
    console.print(Text(f"Everything is in {prepared.folder}"), soft_wrap=True)
    return 0


def write(folder: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Writes the folder of an audit; gives back what its JSON holds."""
    run_folder.create(folder)
    run_folder.write_json(folder / audit.AUDIT, results)
    results = report.read(folder)
    report.write_tables(folder, results)
    plots.save_all(folder, results)
    return results


if __name__ == "__main__":
    leave(main())
