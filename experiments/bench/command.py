"""What both benchmarks share: flags, a folder, results on disk as they come, the console."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from rich.console import Console
from rich.text import Text

from experiments.launch import provenance, run_folder
from experiments.launch.exit_status import (
    FAILED,
    INTERRUPTED,
    bad_input,
    command,
    second_interrupt_quits,
)
from experiments.launch.flags import read_flags
from experiments.launch.program import compiler_options
from experiments.launch.progress import Progress, console_progress
from experiments.report import table
from experiments.report.table import Table

Options = TypeVar("Options", bound=Any)
Plan = TypeVar("Plan")

#: All tables so far, and what `results.json` holds beside them.
Results: TypeAlias = tuple[Sequence[Table], Mapping[str, Any]]


@command
def main(
    name: str,
    options: type[Options],
    prepare: Callable[[Options], Plan],
    measure: Callable[[Plan, Options, Path, Progress], Iterator[Results]],
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a benchmark's command.

    Args:
        name: Of its command.
        options: A dataclass whose fields are the flags, `output` among them.
        prepare: Checks the options; a ValueError says what to do instead. Compiles nothing.
        measure: Measures what is planned; every result replaces the one before.
        argv: The command line; None for the process's own.

    Returns:
        The exit status: 0, 1 if nothing could be measured, 2 for bad input, 130 after Ctrl-C.
    """
    console, status = Console(), 0
    try:
        given = read_flags(options, argv, f"python -m experiments.bench.{name}")
        plan = prepare(given)
        folder = run_folder.choose(given.output, "bench", [name])
    except (ValueError, OSError) as error:
        return bad_input(error)
    run_folder.create(folder)
    flags = {flag: value for flag, value in asdict(given).items() if flag != "output"}
    header = {
        "options": flags,
        **provenance.describe(),
        "compiler_options": compiler_options(),
    }
    tables: Sequence[Table] = ()
    with second_interrupt_quits(), console_progress(console) as progress:
        try:
            for tables, values in measure(plan, given, folder, progress):
                save(folder, tables, {**header, **values})
        except KeyboardInterrupt:
            status = INTERRUPTED
    table.show(tables, console)
    console.print(Text(f"Everything is in {folder}"), soft_wrap=True)
    return status or (0 if tables else FAILED)


def check_positive(options: Any, prefix: str = "--") -> None:
    """Raises ValueError that names the flag if an integer of a benchmark's options is below 1."""
    for name, value in vars(options).items():
        flag = prefix + name.replace("_", "-")
        if is_dataclass(value):
            check_positive(value, f"{flag}.")
        for count in value if isinstance(value, tuple) else (value,):
            if isinstance(count, int) and count < 1:
                raise ValueError(f"{flag} {count} must be at least 1")


def save(folder: Path, tables: Sequence[Table], values: Mapping[str, Any]) -> None:
    """Writes `results.json`, `table.md` and `tables/*.csv`, or replaces them."""
    table.save(folder, tables)
    results = {**values, "tables": [one.to_json() for one in tables]}
    run_folder.replace_json(folder / run_folder.RESULTS, results)
