"""What workers of a Ray cluster do for a sweep; they know its folder, and all else from there.

Ray starts these functions in processes of its own, on any machine of the cluster.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from experiments.launch import run_folder
from experiments.launch.cluster.ray_progress import Event
from experiments.launch.history import History
from experiments.launch.program import Program
from experiments.launch.progress import Progress, Step, seconds_left
from experiments.launch.runner import Outcome
from experiments.launch.sweep import memory, options, shards
from experiments.launch.sweep.options import Prepared
from experiments.launch.sweep.progress import status

# Names may be seen later on another machine; a machine that is lost may hold a lock for a while.
_SEEN_SECONDS, _LOCK_SECONDS = 60.0, 180.0


class Board:
    """An actor: what shards told, until the driver takes it."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def tell(self, *event: Any) -> None:
        """A shard tells something."""
        self._events.append(event)  # type: ignore[arg-type]

    def take(self) -> list[Event]:
        """Everything new."""
        events, self._events = self._events, []
        return events


class _BoardProgress(Progress):
    """Progress that passes everything on to the board, and waits for nothing."""

    def __init__(self, board: Any, index: int):
        self._board, self._index = board, index

    def begins(self, where: str) -> None:
        self._tell("begins", where)

    def phase(self, name: str) -> None:
        self._tell("phase", name)

    def epoch(self, history: History, epochs: int) -> None:
        left = seconds_left(history, epochs)
        self._tell("epoch", Step(len(history.epochs), epochs, status(history), left))

    def note(self, text: str) -> None:
        self._tell("note", text)

    def warn(self, text: str) -> None:
        self._tell("warn", text)

    def close(self) -> None:
        pass

    def _tell(self, kind: str, value: Any) -> None:
        self._board.tell.remote(self._index, kind, value)


def look(folder: Path, question: str, answer: str) -> dict[str, Any]:
    """What a machine of the cluster is like, and whether it sees the sweep's folder.

    Args:
        folder: Of the sweep.
        question: Name of a file there that the driver wrote.
        answer: Name of a file to write there, which the driver looks for.
    """
    seen = wait_for(folder / question)
    if seen:
        (folder / answer).touch()
    found = run_folder.provenance()
    return {"seen": seen, "versions": found["versions"], "commit": found["commit"]}


def plan(
    folder: Path, asked: int | None, sharers: int, limit: int | None, at_most: int, gpus: int
) -> dict[str, Any]:
    """Compiles the program of a shard on a worker, and says what it takes there.

    Args:
        folder: Of the sweep.
        asked: Bytes that a shard may take; None for its part of what is free.
        sharers: How many shards train at a time on one machine.
        limit: Bytes of a machine's memory that each of them may hold in all; None for its part.
        at_most: Members of a shard: with more, some workers would have nothing to do.
        gpus: GPUs of a task.

    Returns:
        `plan`, as `Plan.described`; `told`, how much a run takes; `beside`, bytes that the process
        holds beside what the plan says; `device`.

    Raises:
        ValueError: If not even one member fits, or JAX finds no GPU.
    """
    prepared = _prepare(folder, asked, gpus)
    made = shards.plan(prepared, at_most=at_most, sharers=sharers, limit=limit)
    return {
        "plan": made.described(),
        "told": made.told()[0],
        "beside": memory.largest_held(),
        "device": run_folder.provenance()["device"],
    }


def train(folder: Path, index: int, parts: Sequence[range], board: Any, gpus: int) -> Outcome:
    """Trains one shard in its folder, from the last checkpoint there.

    Args:
        folder: Of the sweep.
        index: Which shard.
        parts: The members of all shards.
        board: Whom to tell.
        gpus: GPUs of a task.

    Returns:
        What came out, but for the policies, which are in the folder.

    Raises:
        ValueError: If it cannot be trained.
    """
    import ray

    teller = _BoardProgress(board, index)
    teller.begins(f"{ray.util.get_node_ip_address()}, process {os.getpid()}")
    prepared = _prepare(folder, None, gpus)

    def program() -> Program:
        return shards.compile_for(prepared, len(parts[0]))

    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            outcome = shards.run_shard(prepared, parts[index], index, program, teller)
            return replace(outcome, policies=None)
        except run_folder.FolderInUseError:
            if time.monotonic() > deadline:
                raise
            teller.note("waits for the worker before it to let go of the folder")
            time.sleep(5.0)


def _prepare(folder: Path, asked: int | None, gpus: int) -> Prepared:
    if gpus and jax.default_backend() == "cpu":
        raise ValueError(
            "Ray gives this task a GPU, but JAX finds none: install jax[cuda13] on every machine"
        )
    return options.resume(folder, asked)


def wait_for(path: Path) -> bool:
    """Whether a file can be seen, within the time that file systems take over a network."""
    deadline = time.monotonic() + _SEEN_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True
