"""Processes of JAX's multi-controller runtime: how they find each other, and agree."""

import pickle
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from experiments.launch.program import call
from experiments.launch.sweep.machines import Machines

T = TypeVar("T")

_WAIT_SECONDS = 30 * 24 * 3600


@dataclass
class Processes:
    """The processes, seen from one of them.

    Attributes:
        index: Which one this is.
        count: How many there are.
        meetings: How often they have met.
    """

    index: int
    count: int
    meetings: int = 0

    def gather(self, value: T) -> list[T]:
        """What each process hands over, in their order; anything that can be pickled.

        All have to call it, and it waits until they do.
        """

        def work() -> list[T]:
            from jax.experimental.multihost_utils import process_allgather
            from orbax.checkpoint.multihost import sync_global_processes

            # A collective gives up after half an hour; this one waits, unless a process dies.
            sync_global_processes(
                f"sweep-{self.meetings}", timeout=_WAIT_SECONDS, processes=set(range(self.count))
            )
            own = np.frombuffer(pickle.dumps(value), np.uint8)
            sizes = process_allgather(np.array([len(own)], np.int32)).ravel()
            padded = np.zeros(sizes.max(), np.uint8)
            padded[: len(own)] = own
            rows = process_allgather(padded)
            return [pickle.loads(row[:size]) for row, size in zip(rows, sizes, strict=True)]

        self.meetings += 1
        return call(work)

    def agree(self, work: Callable[[], T]) -> T:
        """Does something that may fail, and fails on all processes if it does on one.

        All have to call it.

        Raises:
            ValueError: What it raised, and on which process.
        """
        found, error = None, None
        try:
            found = work()
        except ValueError as raised:
            error = str(raised)
        errors = self.gather(error)
        if any(errors):
            if len(set(errors)) == 1:
                raise ValueError(errors[0])
            told = [f"process {index}: {text}" for index, text in enumerate(errors) if text]
            raise ValueError("; ".join(told))
        return found  # type: ignore[return-value]

    def part(self, members: int, index: int | None = None) -> range:
        """The members of a process, by default of this one."""
        index = self.index if index is None else index
        return range(index * members // self.count, (index + 1) * members // self.count)

    def folder(self, whole: Path) -> Path:
        """Where this process trains, in the folder of the whole sweep."""
        return whole / f"process-{self.index:05d}-of-{self.count:05d}"


def join(machines: Machines) -> Processes:
    """Finds the other processes; nothing may have used a device before.

    Raises:
        ValueError: If they do not come in time, or there are none.
    """
    arguments: dict[str, Any] = {}
    if machines.named:
        arguments = {
            "coordinator_address": machines.coordinator,
            "num_processes": machines.processes,
            "process_id": machines.process,
            "cluster_detection_method": "deactivate",
        }
    # At the end of its own time limit the runtime ends the process: the limit here comes first.
    arguments["initialization_timeout"] = machines.join_seconds + 60
    raised: list[BaseException] = []

    def start() -> None:
        try:
            jax.distributed.initialize(**arguments)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    deadline = time.monotonic() + machines.join_seconds
    while thread.is_alive():
        thread.join(0.1)
        if time.monotonic() > deadline:
            raise ValueError(_nobody_came(machines))
    if raised:
        raise ValueError(_cannot_join(machines, raised[0])) from raised[0]
    if jax.process_count() < 2:
        raise ValueError(
            "--distributed finds this process alone: start several (srun --ntasks N), or leave it "
            "out"
        )
    return Processes(jax.process_index(), jax.process_count())


def _nobody_came(machines: Machines) -> str:
    within = f"within {machines.join_seconds} s (--join-seconds)"
    if not machines.named:
        return (
            f"the other processes of this job did not come {within}: every one has to run the "
            "same command, and to reach the first one's machine"
        )
    if machines.process == 0:
        return (
            f"not all of the other {(machines.processes or 1) - 1} processes came {within}: start "
            f"each with its own --process, the same --processes and --coordinator "
            f"{machines.coordinator}, which must lead to this machine"
        )
    return (
        f"process {machines.process} reached no coordinator at {machines.coordinator} {within}: "
        "start --process 0 on that machine, all others too, and see that the port is open"
    )


def _cannot_join(machines: Machines, error: BaseException) -> str:
    if not machines.named and isinstance(error, ValueError):
        return (
            "--distributed finds no Slurm, Open MPI or TPU pod around this process: say "
            "--coordinator HOST:PORT --processes N --process I"
        )
    if machines.process == 0:
        return (
            f"process 0 cannot listen at {machines.coordinator} ({error}): choose a port that is "
            "free"
        )
    return f"the other processes could not be joined: {error}"
