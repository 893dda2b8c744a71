"""Compares critics with a Q* that is known: `python -m experiments.studies.toy --help`."""

import time
from collections.abc import Sequence
from pathlib import Path

import tyro
from rich.console import Console
from rich.text import Text

from experiments.launch import run_folder
from experiments.launch.exit_status import INTERRUPTED, bad_input, leave
from experiments.launch.program import call, keep_compiled_programs
from experiments.report.table import wide_console
from experiments.studies.toy import plots, tables
from experiments.studies.toy.options import Toy, prepare
from experiments.studies.toy.study import Outcome, execute

RESULTS, TABLE = "toy.json", "table.md"


def main(argv: Sequence[str] | None = None) -> int:
    """What the command runs.

    Returns:
        The exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    console = Console()
    try:
        prepared = prepare(tyro.cli(Toy, args=argv, prog="python -m experiments.studies.toy"))
    except ValueError as error:
        return bad_input(error)
    keep_compiled_programs()
    begin = time.perf_counter()
    try:
        with console.status("compiling ...") as status:

            def tell(done: int, total: int, text: str) -> None:
                seconds = time.perf_counter() - begin
                line = f"{done} of {total} calls after {seconds:.0f} s: {text}"
                status.update(line)
                if not console.is_terminal and done % 10 == 0:
                    console.print(line)

            outcome = call(execute, prepared, tell)
    except KeyboardInterrupt:
        console.print("Interrupted: nothing is written.")
        return INTERRUPTED
    write(prepared.folder, outcome)
    show(outcome, console)
    console.print(Text(f"Everything is in {prepared.folder}"), soft_wrap=True)
    return 0


def write(folder: Path, outcome: Outcome) -> None:
    """Writes JSON, tables and plots into a new folder."""
    run_folder.create(folder)
    run_folder.write_json(folder / RESULTS, outcome.results)
    parts = [
        f"## {listing.title}\n\n{listing.markdown()}"
        for listing in tables.listings(outcome.results)
    ]
    with (folder / TABLE).open("x") as file:
        file.write("\n".join(parts))
    if outcome.results["toy"]["study"] == "main":
        plots.save_all(folder, outcome)


def show(outcome: Outcome, console: Console) -> None:
    """Prints all tables; where the output is no terminal, as wide as they need."""
    console = wide_console(console)
    for listing in tables.listings(outcome.results, intervals=False):
        console.print(listing.rendered())
    seconds, compiling = (outcome.results[name] for name in ("seconds", "compile_seconds"))
    fits = len(outcome.results["fits"]) * outcome.results["toy"]["seeds"]
    console.print(f"{fits:,} critics in {seconds:.0f} s, of which {compiling:.0f} s compilation.")
    console.print(f"Intervals are in {TABLE}.")


if __name__ == "__main__":
    leave(main())
