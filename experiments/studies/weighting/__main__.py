"""Compares rules for weighting gradients, or draws such comparisons once more.

`python -m experiments.studies.weighting --tasks toy pendulum`, and
`python -m experiments.studies.weighting report --runs runs/*-weighting-* --output runs/weighting`.
"""

import sys
from collections.abc import Sequence

import tyro
from rich.console import Console
from rich.text import Text

from experiments.launch.exit_status import INTERRUPTED, bad_input, leave, second_interrupt_quits
from experiments.launch.program import keep_compiled_programs
from experiments.studies.weighting import report, sweep
from experiments.studies.weighting.options import Sweep, prepare

_PROGRAM = "python -m experiments.studies.weighting"


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
            report.show(report.write(asked), console)
            console.print(Text(f"Everything is in {asked.output}"), soft_wrap=True)
            return 0
        prepared = prepare(tyro.cli(Sweep, args=argv, prog=_PROGRAM))
    except ValueError as error:
        return bad_input(error)
    keep_compiled_programs()

    def tell(text: str) -> None:
        console.print(Text(text), soft_wrap=True)
        console.file.flush()

    with second_interrupt_quits():
        measured, interrupted = sweep.execute(prepared, tell)
    if measured:
        report.save(prepared.folder, measured)
        report.show(measured, console)
    if interrupted:
        console.print("Interrupted: what was done is kept.")
    console.print(Text(f"Everything is in {prepared.folder}"), soft_wrap=True)
    return INTERRUPTED if interrupted else 0


if __name__ == "__main__":
    leave(main())
