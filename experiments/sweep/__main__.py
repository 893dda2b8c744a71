"""Trains an agent under many settings at once: `python -m experiments.sweep --help`."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from experiments.launch import run_folder
from experiments.launch.exit_status import INTERRUPTED, bad_input, leave, second_interrupt_quits
from experiments.launch.program import keep_compiled_programs
from experiments.launch.progress import Progress, console_progress
from experiments.launch.sweep import flags, shards
from experiments.launch.sweep.options import PROGRAM, Asked, Prepared, prepare_asked
from experiments.sweep import report


def main(argv: Sequence[str] | None = None) -> int:
    """What the command runs.

    Returns:
        The exit status: 0, 2 for bad input and for what does not fit, 130 after Ctrl-C.
    """
    console = Console()
    try:
        asked = flags.read(argv)
        prepared = None if asked.machines.several else prepare_asked(asked)
    except ValueError as error:
        return bad_input(error)
    if prepared is None:
        return _on_several(asked, console)
    if prepared.resumes and (prepared.folder / run_folder.RESULTS).exists():
        console.print(
            Text(f"{prepared.folder} is complete: nothing is left to do."), soft_wrap=True
        )
        return 0
    keep_compiled_programs()
    told = console_progress(console)
    try:
        with second_interrupt_quits():
            return execute(prepared, told, console)
    except ValueError as error:  # too little memory, a folder in use, no good checkpoint
        return bad_input(error)
    finally:
        told.close()


def _on_several(asked: Asked, console: Console) -> int:
    """The same, on several machines."""
    if asked.machines.ray is None:
        from experiments.launch.cluster.distributed import run
    else:
        from experiments.launch.cluster.ray_sweep import run
    keep_compiled_programs()
    try:
        with second_interrupt_quits():
            return run(asked, console)
    except ValueError as error:
        return bad_input(error)
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return INTERRUPTED


def execute(prepared: Prepared, told: Progress, console: Console) -> int:
    """Plans, trains what is left, and writes results, table and plots.

    Args:
        prepared: What to run.
        told: Shows how it goes on.
        console: Where the table goes.

    Returns:
        The exit status.

    Raises:
        ValueError: If it does not fit into memory, or the folder cannot be trained in.
    """
    start = time.perf_counter()
    folder = prepared.folder
    told.phase("compiling")
    try:
        plan = shards.plan(prepared)
        for text in plan.told():
            told.note(text)
        shards.begin(prepared)
        shards.save_plan(folder, plan.described())
    except KeyboardInterrupt:
        told.note("Interrupted before anything was trained.")
        return INTERRUPTED
    with run_folder.locked(folder):
        done = shards.run_all(prepared, plan, told, start)
        if done.interrupted:
            text = f"Interrupted. Go on with: {PROGRAM} --resume {folder}"
            told.note(text)
            return INTERRUPTED
        told.phase("drawing")
        report.write(folder, prepared.sweep, done, plan.described())
    told.close()
    report.show(folder, console)
    return 0


if __name__ == "__main__":
    leave(main())
