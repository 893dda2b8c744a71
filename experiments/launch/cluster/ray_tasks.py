"""Tasks of a sweep on the workers of a Ray cluster; they read everything from its folder.

Ray starts these functions in processes of its own, on any machine of the cluster.
"""

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from experiments.launch import provenance, run_folder
from experiments.launch.memory import largest_held
from experiments.launch.sweep import shards
from experiments.launch.sweep.definition import Command, Prepared, prepare
from experiments.launch.sweep.machines import Machines
from experiments.launch.sweep.progress import Relay

# New names may take a while to appear on another machine; a lost machine may hold a lock.
_SEEN_SECONDS, _LOCK_SECONDS = 60.0, 180.0
MESSAGES = "messages.jsonl"


def look(answer: Path, driver: Mapping[str, Any]) -> None:
    """Writes the file that the driver waits for, if folder and versions are the driver's.

    Raises:
        ValueError: If they are not.
    """
    if not wait_for(answer.parent / run_folder.CONFIGURATION):
        raise ValueError(
            f"it does not see {answer.parent}: name a folder with --output on a file system that "
            "all machines of the cluster share"
        )
    found = provenance.describe()
    unlike = run_folder.differences(driver, {name: found[name] for name in driver})
    if unlike:
        raise ValueError(f"it has another sobolax (here -> there): {'; '.join(unlike)}")
    answer.touch()


def plan(folder: Path, env: str, gpus: int, requested: int | None, **limits: Any) -> dict[str, Any]:
    """Compiles the program of a shard on a worker, for its devices and memory.

    Args:
        folder: The sweep's folder.
        env: Its environment, as the driver's user names it.
        gpus: GPUs of a task.
        requested: Bytes that a shard may take; None for its share of the free memory.
        limits: Of `shards.plan`.

    Returns:
        The content of `plan.json`, with `takes`, the memory of a run in words, `bytes` of the
        host's memory that a task takes in all, and `device`.
    """
    made = shards.plan(_prepare(folder, env, gpus, requested), **limits)
    need, device = made.need, provenance.describe()["device"]
    in_all = largest_held() + (need.total if need.shared else need.host)
    return made.to_json() | {"takes": made.summary()[0], "bytes": in_all, "device": device}


def train(folder: Path, env: str, gpus: int, index: int, parts: Sequence[range]) -> None:
    """Trains one shard in its folder, from the last checkpoint there; reports to a file.

    Args:
        folder: The sweep's folder.
        env: Its environment, as the driver's user names it.
        gpus: GPUs of a task.
        index: Index of the shard.
        parts: The runs of all shards.
    """
    import ray

    messages = shards.shard_folder(folder, index) / MESSAGES
    run_folder.create(messages.parent)

    def send(kind: str, value: Any) -> None:
        with messages.open("a", encoding="utf-8") as file:
            file.write("\n")  # a worker that was killed may have left half a line
        run_folder.append_lines(messages, [{"kind": kind, "value": value}])

    send("begins", f"{ray.util.get_node_ip_address()}, process {os.getpid()}")
    prepared = _prepare(folder, env, gpus)
    program = partial(shards.compile_for, prepared, len(parts[0]))
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            shards.train_shard(prepared, parts[index], index, program, Relay(send))
            return
        except run_folder.FolderInUseError:
            if time.monotonic() > deadline:
                raise
            send("note", "waits until the worker before it releases the folder")
            time.sleep(5.0)


def wait_for(path: Path) -> bool:
    """Whether a file appears within the delay of a network file system."""
    deadline = time.monotonic() + _SEEN_SECONDS
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    return path.exists()


def _prepare(folder: Path, env: str, gpus: int, requested: int | None = None) -> Prepared:
    if gpus and jax.default_backend() == "cpu":
        raise ValueError(
            "Ray gives this task a GPU, but JAX finds none: install jax[cuda13] on every machine"
        )
    return prepare(Command(None, folder, requested, Machines(), env=env))
