"""Trains an agent with many configurations at once: `python -m experiments.sweep --help`."""

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from experiments.launch.exit_status import (
    FAILED,
    bad_input,
    command,
    leave,
    second_interrupt_quits,
)
from experiments.launch.sweep import flags
from experiments.launch.sweep.definition import Command, Stopped
from experiments.launch.sweep.merging import Merged
from experiments.sweep import report


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0; 1 if shards are missing or failed for good; 2 for bad input or too
        little memory; 130 after Ctrl-C.
    """
    console, start = Console(), time.perf_counter()
    try:
        given = flags.read(argv)
        with second_interrupt_quits():
            merged = _runner(given)(given, console)
            report.write(merged, start)
    except ValueError as error:  # too little memory, a folder in use, no good checkpoint
        return bad_input(error)
    except Stopped as stopped:
        console.print(Text(str(stopped)), soft_wrap=True)
        return stopped.status
    report.show(merged.folder, console)
    if merged.mixed:
        console.print(Text(merged.mixed, style="yellow"), soft_wrap=True)
    for text in merged.missing:
        console.print(Text(f"not complete, and left out: {text}", style="bold red"), soft_wrap=True)
    return FAILED if merged.missing else 0


def _runner(given: Command) -> Callable[[Command, Console], Merged]:
    """The function that runs the sweep, in this process or together with others."""
    if given.machines.ray:
        from experiments.launch.cluster.ray_sweep import run
    elif given.machines.distributed:
        from experiments.launch.cluster.distributed import run
    else:
        from experiments.launch.sweep.local import run
    return run


if __name__ == "__main__":
    leave(main())
