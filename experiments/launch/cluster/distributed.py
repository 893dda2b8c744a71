"""One sweep over several processes, by JAX's own runtime: `--distributed`.

Each process trains a part of the runs, as with `--part`, in a folder of its own. The runtime
assigns the parts, ends all processes when one dies, compares their commands, and sends their
measurements to process 0: they need no shared file system.
"""

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from rich.console import Console
from rich.text import Text

from experiments.launch import json_files, provenance, run_folder
from experiments.launch.exit_status import INTERRUPTED
from experiments.launch.program import call, keep_compiled_programs
from experiments.launch.progress import console_progress
from experiments.launch.sweep import merging, shards
from experiments.launch.sweep.definition import Command, Part, Stopped, prepare
from experiments.launch.sweep.machines import Machines
from experiments.launch.sweep.merging import Merged
from experiments.launch.sweep.progress import Overview

T = TypeVar("T")

_WAIT_SECONDS = 30 * 24 * 3600
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def run(command: Command, console: Console) -> Merged:
    """Runs one process of the sweep.

    Returns:
        On process 0, the measurements of all processes.

    Raises:
        ValueError: On all processes, if they do not find each other or the sweep cannot work.
        Stopped: If there is nothing to write: on the other processes, and after Ctrl-C.
    """
    keep_compiled_programs()
    processes = Processes(join(command.machines))
    if processes.part.index:
        console = _Marked(processes.part.index)
    try:
        merged = _run(command, processes, console)
    except (ValueError, Stopped):
        jax.distributed.shutdown()  # all of them are here
        raise
    jax.distributed.shutdown()
    return merged


def _run(command: Command, processes: "Processes", console: Console) -> Merged:
    part, sweep = processes.part, command.sweep
    if sweep is not None and not sweep.devices:
        command = replace(command, sweep=replace(sweep, devices=jax.local_device_count()))
    prepared = processes.agree(lambda: prepare(command, part))
    sweep, found = prepared.sweep, provenance.describe()
    commit = (found["commit"] or {}).get("hash")
    own = {"sweep": sweep.to_json(), "folder": str(command.whole), "commit": commit}
    processes.compare(own | {"versions": found["versions"]})
    whole = Path(processes.gather(str(prepared.whole))[0])
    prepared, hosts = replace(prepared, whole=whole), processes.gather(socket.gethostname())
    with console_progress(console) as progress:
        machines = len(set(hosts))
        progress.note(
            f"{part.count} processes on {machines} machine{'s' * (machines > 1)} share the sweep; "
            f"this one has its runs {prepared.runs.start + 1} to {prepared.runs.stop}."
        )
        left = bool(merging.missing_in([merging.collect(sweep, whole, part)]))
        states = processes.gather([left, merging.is_merged(whole)])
        if states[0][1] and not any(left for left, _ in states):
            raise Stopped(f"{whole} is complete: nothing is left to do.", 0)
        progress.phase("compiling")
        # All are measured before one of them trains.
        sharers = hosts.count(socket.gethostname())
        made = processes.agree(lambda: shards.plan(prepared, sharers=sharers))
        for text in made.summary():
            progress.note(text)
    overview = Overview(console, len(made.shards), sweep.experiment.config.epochs)
    processes.agree(lambda: shards.train_all(prepared, made, overview))
    parts = processes.gather(merging.collect(sweep, whole, part))
    if merging.missing_in(parts):
        text = f"Interrupted. Go on with --resume {whole} in place of what defined the sweep."
        raise Stopped(text, INTERRUPTED)
    if part.index:
        raise Stopped(f"Process {part.index} is complete; process 0 writes the results.", 0)
    return merging.merge(sweep, whole, parts)


@dataclass
class Processes:
    """Collective operations of the processes; all processes must call each of the methods.

    Attributes:
        part: Index of this process, and their number.
        meetings: Collective calls so far.
    """

    part: Part
    meetings: int = 0

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order; waits for all of them.

        Values travel as JSON, so that nothing received can run as code.
        """

        def work() -> list[Any]:
            from jax.experimental.multihost_utils import process_allgather
            from orbax.checkpoint.multihost import sync_global_processes

            # JAX's collectives time out after half an hour; this waits unless a process dies.
            everyone, name = set(range(self.part.count)), f"sweep-{self.meetings}"
            sync_global_processes(name, timeout=_WAIT_SECONDS, processes=everyone)
            own = np.frombuffer(json.dumps(value).encode(), np.uint8)
            sizes = process_allgather(np.array([len(own)], np.int32)).ravel()
            rows = process_allgather(np.pad(own, (0, sizes.max() - len(own))))
            texts = [bytes(row[:size]) for row, size in zip(rows, sizes, strict=True)]
            return [json_files.parse(text) for text in texts]

        self.meetings += 1
        return call(work)

    def agree(self, work: Callable[[], T]) -> T:
        """Calls a function that may fail; a failure on one process is raised on all.

        Raises:
            ValueError: The error and its process.
        """
        found, error = None, None
        try:
            found = work()
        except ValueError as raised:
            error = str(raised)
        errors = self.gather(error)
        if any(errors):
            texts = [f"process {index}: {text}" for index, text in enumerate(errors) if text]
            raise ValueError(errors[0] if len(set(errors)) == 1 else "; ".join(texts))
        return found  # type: ignore[return-value]

    def compare(self, value: Any) -> None:
        """Raises ValueError that names the differences, if processes have different values."""
        first, *others = self.gather(value)
        for index, other in enumerate(others, start=1):
            if unlike := run_folder.differences(first, other):
                raise ValueError(
                    f"process {index} was started otherwise than process 0 (process 0 -> process "
                    f"{index}): {'; '.join(unlike[:5])}. Start all with the same command"
                )


def join(machines: Machines) -> Part:
    """Joins the other processes; call it before anything uses a device.

    Raises:
        ValueError: If they do not join in time, or there are none.
    """
    where, process = machines.coordinator, machines.process
    # The runtime kills the process at its own time limit: this limit comes first.
    arguments: dict[str, Any] = {"initialization_timeout": machines.join_seconds + 60}
    if where is not None:
        arguments |= {"coordinator_address": where, "num_processes": machines.processes}
        arguments |= {"process_id": process, "cluster_detection_method": "deactivate"}
        if where.rpartition(":")[0] in _LOOPBACK:
            # By default JAX listens on every address of the machine.
            arguments["coordinator_bind_address"] = where
    raised: list[BaseException] = []

    def start() -> None:
        try:
            jax.distributed.initialize(**arguments)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    deadline = time.monotonic() + machines.join_seconds
    while thread.is_alive() and time.monotonic() < deadline:
        thread.join(0.1)
    if thread.is_alive():
        late = f"within {machines.join_seconds} s (--join-seconds)"
        if process:
            late = f"process {process} reached no coordinator at {where} {late}"
        else:
            others = "" if machines.processes is None else f"{machines.processes - 1} "
            late = f"not all of the other {others}processes came {late}"
        raise ValueError(
            f"{late}: start all of them with the same command, each with its own --process, and "
            "see that the first one's port can be reached"
        )
    if raised:
        text = f"the other processes could not be joined: {raised[0]}"
        if where is None and isinstance(raised[0], ValueError):
            text = (
                "--distributed finds no Slurm, Open MPI or TPU pod around this process: say "
                "--coordinator HOST:PORT --processes N --process I"
            )
        elif process == 0:
            text = f"process 0 cannot listen at {where} ({raised[0]}): choose a port that is free"
        raise ValueError(text) from raised[0]
    if jax.process_count() < 2:
        raise ValueError(
            "--distributed finds this process alone: start several (srun --ntasks N), or leave it "
            "out"
        )
    return Part(jax.process_index(), jax.process_count())


class _Marked(Console):
    """A console that marks each line with its process."""

    def __init__(self, index: int):
        super().__init__(force_terminal=False)
        self._mark = Text(f"process {index}:")

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints the objects after the mark."""
        super().print(self._mark, *objects, **options)
