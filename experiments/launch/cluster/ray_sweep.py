"""One sweep over a Ray cluster: `--ray ADDRESS`. Every shard is a task; this is the driver.

The driver trains nothing. It plans on a worker, submits the shards, shows their progress and
merges them. A task knows only the sweep's folder, which all machines share: if a worker or a
machine is lost, Ray restarts the task elsewhere, and it continues from the last checkpoint.
"""

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.text import Text

from experiments.launch import json_files, provenance, run_folder
from experiments.launch.cluster import ray_tasks
from experiments.launch.exit_status import FAILED, INTERRUPTED
from experiments.launch.sweep import merging, shards
from experiments.launch.sweep.definition import PROGRAM, Command, Prepared, Stopped, prepare
from experiments.launch.sweep.machines import LOCAL, Machines
from experiments.launch.sweep.merging import Merged
from experiments.launch.sweep.progress import Overview

ERROR = "error.txt"
_CHECKOUT = Path(__file__).parents[3]
_STARTS = 3  # attempts to start a local cluster: on a busy machine Ray gives up early
_CONNECT_SECONDS, _LOOK_SECONDS = 10.0, 300.0
_STOP_SECONDS = 60.0  # for saving, after Ctrl-C


def run(command: Command, console: Console) -> Merged:
    """Runs or continues a sweep.

    Raises:
        ValueError: If it cannot work; nothing is trained.
        Stopped: If shards failed for good, after Ctrl-C, or if all was already complete.
    """
    machines = command.machines
    # Ray first: it starts processes, and JAX threads.
    with connected(machines) as ray:
        jax.config.update("jax_platforms", "cpu")  # devices of this machine are the tasks'
        prepared = prepare(command, here=False)
        prepared = replace(prepared, whole=prepared.whole.absolute())
        sweep, folder = prepared.sweep, prepared.folder
        if merging.is_merged(folder):
            raise Stopped(f"{folder} is complete: nothing is left to do.", 0)
        if sweep.devices != machines.devices:
            count = sweep.devices
            raise ValueError(f"{folder} has shards over {count} devices: say --ray-gpus {count}")
        nodes = find_nodes(ray, machines)
        places = sum(node.places for node in nodes)
        several, some = "s" * (len(nodes) > 1), "s" * (places > 1)
        text = f"{len(nodes)} machine{several} of the cluster can train {places} shard{some}"
        console.print(f"{text} at a time.")
        run_folder.create(folder)
        with run_folder.locked(folder):
            shards.begin(folder, sweep)
            planned = _plan(ray, machines, nodes, prepared)
            parts = [range(*ends) for ends in planned["shards"]]
            text = f"{sweep.runs:,} runs are {len(parts)} shards of up to {len(parts[0])}."
            console.print(Text(f"{planned['takes']} {text}"), soft_wrap=True)
            tasks = needs(machines, planned["bytes"])
            with Overview(console, len(parts), sweep.experiment.config.epochs, places) as overview:
                failed = _train(ray, machines, tasks, prepared, parts, overview)
    again = f"Go on with: {PROGRAM} --resume {folder} --ray {machines.ray}"
    if failed is None:
        raise Stopped(f"Interrupted. {again}", INTERRUPTED)
    if failed:
        lines = [f"shard {i + 1}/{len(parts)} failed: {why}" for i, why in sorted(failed.items())]
        lines.append(
            f"{len(failed)} of {len(parts)} shards failed (see {ERROR} in their folders); the "
            f"others are complete. {again}"
        )
        raise Stopped("\n".join(lines), FAILED)
    found = merging.collect(sweep, folder, prepared.part)
    return merging.merge(sweep, folder, [found], at_a_time=min(places, len(parts)))


@contextlib.contextmanager
def connected(machines: Machines) -> Iterator[Any]:
    """Ray, connected to a cluster, which `local` starts here.

    Ray listens at every address of the machine, so a local cluster gets a token of its own.

    Raises:
        ValueError: If Ray is not installed, or there is no cluster.
    """
    address, starts = machines.ray, 1
    if address == LOCAL and "RAY_AUTH_MODE" not in os.environ:  # read when Ray is imported
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "--ray needs Ray: pip install 'ray>=2.50', here and on every machine of the cluster"
        ) from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    no_cluster = (
        f"no Ray cluster could be reached at {address}: start one with ray start --head, join it "
        "with ray start --address HOST:PORT, or use --ray local. A cluster that requires a token "
        "needs RAY_AUTH_MODE=token here, too"
    )
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        starts, no_cluster = _STARTS, "Ray could not be started: see /tmp/ray/session_latest/logs"
        # The object store holds hardly anything.
        options |= {"include_dashboard": False, "object_store_memory": 100 * 2**20}
    for attempt in range(starts):
        try:
            host, colon, port = address.rpartition(":")
            if colon:  # Ray would try for minutes
                socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
            ray.init(address=address, **options)
            break
        except Exception as error:  # Ray raises errors of any class
            ray.shutdown()
            if attempt + 1 == starts:
                reason = " ".join(str(error).split())[:200]
                raise ValueError(f"{no_cluster} ({reason})") from error
    try:
        yield ray
    finally:
        ray.shutdown()


class Node(NamedTuple):
    """A machine that can train: Ray's name for it, concurrent tasks, bytes that they share."""

    name: str
    address: str
    places: int
    memory: int


def find_nodes(ray: Any, machines: Machines) -> list[Node]:
    """Machines that can train a shard.

    Raises:
        ValueError: If there is none.
    """
    found, others = [], []
    for node in ray.nodes():
        resources, address = node["Resources"], node["NodeManagerAddress"]
        cores, gpus, memory = (int(resources.get(kind, 0)) for kind in ("CPU", "GPU", "memory"))
        places = cores // machines.ray_cpus
        if machines.ray_gpus:
            places = min(places, gpus // machines.ray_gpus)
        if node["Alive"] and places:
            found.append(Node(node["NodeID"], address, places, memory))
        elif node["Alive"]:
            others.append(f"{address} has {cores} cores and {gpus} GPUs")
    if not found:
        raise ValueError(
            f"no machine of the cluster has --ray-cpus {machines.ray_cpus} and --ray-gpus "
            f"{machines.ray_gpus}: {'; '.join(others) or 'there is none'}"
        )
    return found


def _plan(ray: Any, machines: Machines, nodes: Sequence[Node], prepared: Prepared) -> Any:
    """Checks the machines and plans on one of them, for its devices and a task's share of memory.

    Raises:
        ValueError: If a shard does not fit there, or a machine lacks the folder or the versions.
    """
    folder, places = prepared.folder, [node.places for node in nodes]
    try:
        check_nodes(ray, nodes, folder)
        plan = ray.remote(max_calls=1, max_retries=machines.ray_retries)(ray_tasks.plan)
        answer = plan.options(**needs(machines)).remote(
            folder,
            prepared.sweep.experiment.env,
            machines.ray_gpus,
            prepared.sweep.memory,
            at_most=-(-len(prepared.runs) // sum(places)),
            sharers=max(places),
            limit=min(node.memory // node.places for node in nodes) or None,
        )
        planned = _get(ray, answer, "on a worker of the cluster: ")
    except (ValueError, KeyboardInterrupt):
        if not prepared.resumes and not (folder / shards.PLAN).exists():
            shutil.rmtree(folder)  # it was new, and nothing is trained
        raise
    shards.begin(folder, prepared.sweep, planned)
    return planned


def check_nodes(ray: Any, nodes: Sequence[Node], folder: Path) -> None:
    """Checks that every machine shares the sweep's folder, and has the same versions.

    Raises:
        ValueError: If a machine does not; the message names it.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    found = provenance.describe()
    own = {name: found[name] for name in ("versions", "commit")}
    look, waiting = ray.remote(max_calls=1, max_retries=2)(ray_tasks.look), []
    for node in nodes:
        answer = folder / f".seen-{node.name}-{os.getpid()}"
        there = NodeAffinitySchedulingStrategy(node.name, soft=False)
        task = look.options(scheduling_strategy=there, **needs(Machines(ray_cpus=0)))
        waiting.append((node, answer, task.remote(answer, own)))
    try:
        for node, answer, one in waiting:
            _get(ray, one, f"machine {node.address} of the cluster cannot train: ", _LOOK_SECONDS)
            if not ray_tasks.wait_for(answer):
                raise ValueError(f"what {node.address} writes to {folder} is not seen here")
    finally:
        for _, answer, _ in waiting:
            answer.unlink(missing_ok=True)


def needs(machines: Machines, memory: int = 0) -> dict[str, Any]:
    """What a task needs: cores, GPUs, bytes, and variables of JAX.

    JAX uses NPROC threads; without it, one per core of the machine.
    """
    own = {name: text for name, text in os.environ.items() if name.startswith(("JAX_", "XLA_"))}
    path = [str(_CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own |= {"PYTHONPATH": os.pathsep.join(path), "NPROC": str(machines.ray_cpus or 1)}
    own.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(".cache/jax").absolute()))
    own.pop("JAX_PLATFORMS", None)
    if not machines.ray_gpus:
        own["JAX_PLATFORMS"] = "cpu"
    cores, gpus = machines.ray_cpus, machines.ray_gpus
    runtime = {"env_vars": own}
    return {"num_cpus": cores, "num_gpus": gpus, "memory": memory, "runtime_env": runtime}


def _get(ray: Any, task: Any, place: str = "", seconds: float | None = None) -> Any:
    """The result of a task; its errors become a ValueError of one line."""
    try:
        return ray.get(task, timeout=seconds)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        text = " ".join(str(cause).split())
        text = text if isinstance(cause, ValueError) else f"{type(cause).__name__}: {text[:500]}"
        raise ValueError(place + text) from error


def _train(
    ray: Any,
    machines: Machines,
    tasks: dict[str, Any],
    prepared: Prepared,
    parts: Sequence[range],
    overview: Overview,
) -> dict[int, str] | None:
    """Submits all shards and waits for them.

    Returns:
        Why shards failed for good; None after Ctrl-C.
    """
    folder, env = prepared.folder, prepared.sweep.experiment.env
    train = ray.remote(max_calls=1, max_retries=machines.ray_retries)(ray_tasks.train)
    train = train.options(scheduling_strategy="SPREAD", **tasks)
    folders = [shards.shard_folder(folder, index) for index in range(len(parts))]
    messages = Messages([path / ray_tasks.MESSAGES for path in folders])
    waiting = {
        train.remote(folder, env, machines.ray_gpus, index, parts): index
        for index in range(len(parts))
    }
    failed: dict[int, str] = {}
    try:
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=0.5)
            messages.show(overview)
            for one in ready:
                index = waiting.pop(one)
                try:
                    _get(ray, one)
                    (folders[index] / ERROR).unlink(missing_ok=True)  # of an earlier time
                except ValueError as error:
                    failed[index] = str(error)
                    run_folder.create(folders[index])
                    run_folder.write_whole(folders[index] / ERROR, f"{error.__cause__}\n")
                overview.over(index, failed.get(index, ""))
    except KeyboardInterrupt:
        for one in waiting:
            ray.cancel(one, force=False)
        if waiting:
            ray.wait(list(waiting), num_returns=len(waiting), timeout=_STOP_SECONDS)
        return None
    return failed


class Messages:
    """Messages that tasks write into the shards' files, from now on."""

    def __init__(self, paths: Sequence[Path]):
        self._read = {path: path.stat().st_size if path.exists() else 0 for path in paths}

    def show(self, overview: Overview) -> None:
        """Shows new messages."""
        for index, (path, start) in enumerate(self._read.items()):
            if path.exists():
                with path.open("rb") as file:
                    file.seek(start)
                    whole, newline, _ = file.read().rpartition(b"\n")
                self._read[path] = start + len(whole + newline)
                for line in whole.splitlines():
                    with contextlib.suppress(ValueError):  # half a line of a killed worker
                        message = json_files.parse(line, {"kind": str, "value": Any})
                        overview.hear(index, message["kind"], message["value"])
