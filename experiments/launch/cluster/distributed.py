"""One sweep over several processes, by JAX's own runtime: `--distributed`.

Members exchange nothing. So every process trains a part of them on its own devices, in a folder of
its own, with checkpoints of its own, at its own pace. The runtime says who is who, ends all when
one dies, compares what they were asked for, and brings the results together: processes need no
file system in common.
"""

import socket
import time
from dataclasses import replace
from pathlib import Path

import jax
from rich.console import Console

from experiments.launch import run_folder
from experiments.launch.exit_status import INTERRUPTED
from experiments.launch.progress import Lines, Progress, console_progress
from experiments.launch.runner import Outcome
from experiments.launch.sweep import options, shards
from experiments.launch.sweep.options import Asked, Prepared, sweep_to_json
from experiments.launch.sweep.processes import Processes, join
from experiments.report.results import counted
from experiments.sweep import report


def run(asked: Asked, console: Console) -> int:
    """What each of the processes does; process 0 writes the results.

    Returns:
        The exit status.

    Raises:
        ValueError: If processes do not find each other, or it cannot work: on all of them.
    """
    start = time.perf_counter()
    processes = join(asked.machines)
    told = console_progress(console) if processes.index == 0 else _Marked(console, processes.index)
    try:
        status = _run(asked, processes, told, console, start)
    except ValueError:
        jax.distributed.shutdown()  # all of them are here
        raise
    finally:
        told.close()
    jax.distributed.shutdown()
    return status


def _run(asked: Asked, processes: Processes, told: Progress, console: Console, start: float) -> int:
    prepared = processes.agree(lambda: _prepare(asked, processes))
    sweep, whole = prepared.sweep, _compare(asked, prepared, processes)
    if processes.gather((whole / run_folder.RESULTS).exists())[0]:
        told.note(f"{whole} is complete: nothing is left to do.")
        return 0
    own = replace(prepared, folder=processes.folder(whole))
    hosts = processes.gather(socket.gethostname())
    part = processes.part(len(shards.all_members(sweep)[0]))
    told.note(
        f"{processes.count} processes on {counted(len(set(hosts)), 'machine')} share the sweep; "
        f"this one has its runs {part.start + 1} to {part.stop}."
    )
    told.phase("compiling")
    # All are measured before one of them trains.
    plan = processes.agree(
        lambda: shards.plan(own, part, sharers=hosts.count(socket.gethostname()))
    )
    for text in plan.told():
        told.note(text)

    def train() -> list[Outcome]:
        if processes.index == 0:
            shards.begin(replace(prepared, folder=whole))
        shards.begin(own)
        shards.save_plan(own.folder, plan.described())
        with run_folder.locked(own.folder):
            outcomes = shards.train_all(own, plan, told)
        told.phase("waiting for the other processes")
        return [replace(outcome, policies=None) for outcome in outcomes]

    everything = processes.gather(processes.agree(train))
    plans = processes.gather(plan.described())
    done = shards.merge_shards(
        sweep,
        [outcome for outcomes in everything for outcome in outcomes],
        compile_seconds=plan.program.compile_seconds,
        wall_seconds=time.perf_counter() - start,
        at_a_time=processes.count,
    )
    if done.interrupted:
        told.note(f"Interrupted. Go on with --resume {whole} in place of what was asked for.")
        return INTERRUPTED
    if processes.index == 0:
        told.phase("drawing")
        report.write(whole, sweep, done, {"processes": plans})
        told.close()
        report.show(whole, console)
    return 0


def _prepare(asked: Asked, processes: Processes) -> Prepared:
    """Checks what was asked for, on this process."""
    if asked.sweep is None:
        assert asked.folder is not None
        own = processes.folder(asked.folder)
        if not own.is_dir():
            there = sorted(path.name for path in asked.folder.glob(options.PROCESS_FOLDERS))
            raise ValueError(
                f"--resume {asked.folder} holds no {own.name}, but {', '.join(there) or 'nothing'}"
                ": start as many processes as there were, each where its folder is"
            )
        return options.resume(own, asked.memory)
    sweep = asked.sweep
    if not sweep.devices:
        sweep = replace(sweep, devices=jax.local_device_count())
    members = len(sweep.settings) * sweep.experiment.seeds
    if members < processes.count:
        raise ValueError(
            f"{members} runs are too few for {processes.count} processes: start fewer, or ask for "
            "more seeds or settings"
        )
    return options.prepare(sweep)


def _compare(asked: Asked, prepared: Prepared, processes: Processes) -> Path:
    """The folder of the whole sweep: the one that process 0 chose.

    Raises:
        ValueError: If processes were asked for different things, or have different versions.
    """
    found = run_folder.provenance()
    own = {
        "sweep": sweep_to_json(prepared.sweep),
        "resume": str(asked.folder),
        "output": str(asked.sweep and asked.sweep.experiment.output),
        "versions": found["versions"],
        "commit": (found["commit"] or {}).get("hash"),
    }
    all_of_them = processes.gather((own, asked.folder or prepared.folder))
    first = all_of_them[0][0]
    for index, (other, _) in enumerate(all_of_them):
        unlike = run_folder.differences(first, other)
        if unlike:
            raise ValueError(
                f"process {index} was started otherwise than process 0 (process 0 -> process "
                f"{index}): {'; '.join(unlike[:5])}. Start all with the same command"
            )
    return all_of_them[0][1]


class _Marked(Lines):
    """Lines of a process that is not the first."""

    def __init__(self, console: Console, index: int):
        super().__init__(console)
        self._mark = f"process {index}: "

    def _print(self, text: str) -> None:
        super()._print(self._mark + text)
