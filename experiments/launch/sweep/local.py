"""A sweep, or a part of it, in this process; and the merging of parts."""

from pathlib import Path

from rich.console import Console

from experiments.launch import run_folder
from experiments.launch.exit_status import INTERRUPTED
from experiments.launch.program import keep_compiled_programs
from experiments.launch.progress import console_progress
from experiments.launch.sweep import merging, shards
from experiments.launch.sweep.definition import (
    PROGRAM,
    Command,
    Prepared,
    Stopped,
    check_env,
    check_same,
    part_folders,
    prepare,
    read,
)
from experiments.launch.sweep.merging import Merged
from experiments.launch.sweep.progress import Overview


def run(command: Command, console: Console) -> Merged:
    """Trains the remaining shards and merges all of them.

    Raises:
        ValueError: If it cannot work.
        Stopped: If there is nothing to merge: after Ctrl-C, while other parts are incomplete, or
            if everything was already complete.
    """
    part, whole = command.part, command.whole
    if whole is not None and (command.merge or (part.count == 1 and part_folders(whole))):
        return _merge(command, whole)
    prepared = prepare(command, part)
    sweep, whole = prepared.sweep, prepared.whole
    left = merging.missing_in([merging.collect(sweep, whole, part)])
    if left:
        _train(prepared, console, f" --part {command.machines.part}" if part.count > 1 else "")
    parts = [merging.collect(sweep, whole, each) for each in shards.parts_of(whole)]
    missing = merging.missing_in(parts)
    if missing:
        raise Stopped(
            f"Part {command.machines.part} is complete. The last part to finish writes the "
            f"results; not complete yet: {'; '.join(missing)}",
            0,
        )
    if not left and merging.is_merged(whole):
        raise Stopped(f"{whole} is complete: nothing is left to do.", 0)
    return merging.merge(sweep, whole, parts)


def _train(prepared: Prepared, console: Console, flags: str) -> None:
    keep_compiled_programs()
    with console_progress(console) as progress:
        progress.phase("compiling")
        made = shards.plan(prepared)
        for text in made.summary():
            progress.note(text)
    epochs = prepared.sweep.experiment.config.epochs
    if not shards.train_all(prepared, made, Overview(console, len(made.shards), epochs)):
        again = f"{PROGRAM} --resume {prepared.whole}{flags}"
        raise Stopped(f"Interrupted. Go on with: {again}", INTERRUPTED)


def _merge(command: Command, whole: Path) -> Merged:
    """Merges the shards in a folder; `--merge` leaves out incomplete ones."""
    folders = [path for path in part_folders(whole) if (path / run_folder.CONFIGURATION).exists()]
    sweeps = {path: read(path) for path in folders or [whole]}
    sweep = command.sweep or next(iter(sweeps.values()))
    check_env(command, sweep)
    for path, other in sweeps.items():
        check_same(path, other, sweep)
    parts = [merging.collect(sweep, whole, each) for each in shards.parts_of(whole)]
    missing, count = merging.missing_in(parts), len(parts)
    if missing and not command.merge:
        raise ValueError(
            f"{whole} is a sweep in {count} parts, which are not complete: {'; '.join(missing)}. "
            f"Run each of them with --part I/{count}, or add --distributed and start {count} "
            f"processes; --merge {whole} leaves out what is missing"
        )
    if not command.merge and merging.is_merged(whole):
        raise Stopped(f"{whole} is complete: nothing is left to do.", 0)
    return merging.merge(sweep, whole, parts)
