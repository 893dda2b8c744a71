"""One sweep over a Ray cluster: `--ray ADDRESS`. Every shard is a task; this is the driver.

The driver trains nothing. It plans on a worker, hands the shards out, shows how far they are, and
writes the results. A task knows the sweep's folder alone, which all machines see: where a worker
or a machine is lost, Ray starts the task elsewhere, and it goes on from the last checkpoint.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.text import Text

from experiments.launch import run_folder
from experiments.launch.cluster import ray_tasks
from experiments.launch.cluster.ray_cluster import (
    Node,
    asks,
    check_nodes,
    connected,
    environment,
    find_nodes,
    reason_of,
)
from experiments.launch.cluster.ray_progress import Overview
from experiments.launch.exit_status import INTERRUPTED
from experiments.launch.runner import Outcome
from experiments.launch.sweep import shards
from experiments.launch.sweep.machines import Machines
from experiments.launch.sweep.options import PROGRAM, Asked, Prepared, prepare_asked
from experiments.report.results import counted
from experiments.sweep import report

FAILED = 1
ERROR = "error.txt"
_STOP_SECONDS = 60.0  # to save in, after Ctrl-C


@dataclass
class _Ended:
    """How shards ended: with an outcome, or for good without."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    interrupted: bool = False


def run(asked: Asked, console: Console) -> int:
    """Runs a sweep, or goes on with one.

    Returns:
        The exit status: 0, 1 where shards failed for good, 130 after Ctrl-C.

    Raises:
        ValueError: If it cannot work; nothing is trained then.
    """
    start = time.perf_counter()
    # Ray first: it starts processes, and JAX threads.
    with connected(asked.machines) as ray:
        jax.config.update("jax_platforms", "cpu")  # devices of this machine are the tasks'
        prepared = prepare_asked(asked, here=False)
        prepared = replace(prepared, folder=prepared.folder.absolute())
        if (prepared.folder / run_folder.RESULTS).exists():
            text = f"{prepared.folder} is complete: nothing is left to do."
            console.print(Text(text), soft_wrap=True)
            return 0
        status = _run(ray, asked.machines, prepared, console, start)
    if status == 0:
        report.show(prepared.folder, console)
    return status


def _run(ray: Any, machines: Machines, prepared: Prepared, console: Console, start: float) -> int:
    sweep, folder = prepared.sweep, prepared.folder
    if sweep.devices != machines.devices:
        raise ValueError(
            f"shards of {folder} are laid out over {sweep.devices} devices: say --ray-gpus "
            f"{sweep.devices}"
        )
    nodes = find_nodes(ray, machines)
    places = sum(node.places for node in nodes)
    machine, shard = counted(len(nodes), "machine"), counted(places, "shard")
    console.print(f"{machine} of the cluster can train {shard} at a time.")
    shards.begin(prepared)
    with run_folder.locked(folder):
        try:
            check_nodes(ray, nodes, folder)
            made = _plan(ray, machines, nodes, prepared)
        except (ValueError, KeyboardInterrupt):
            if not prepared.resumes:
                shutil.rmtree(folder)  # it was new, and nothing is trained
            raise
        shards.save_plan(folder, made["plan"])
        parts = [range(first, end) for first, end in made["plan"]["shards"]]
        members, count = made["plan"]["members"], counted(len(parts), "shard")
        told = f"{made['told']} {members:,} runs are {count} of up to {len(parts[0])}."
        console.print(Text(told), soft_wrap=True)
        overview = Overview(console, len(parts), sweep.experiment.config.epochs, places)
        try:
            ended = _train(ray, machines, made, folder, parts, overview)
        finally:
            overview.close()
        again = f"{PROGRAM} --resume {folder} --ray {machines.ray}"
        if ended.interrupted:
            console.print(Text(f"Interrupted. Go on with: {again}"), soft_wrap=True)
            return INTERRUPTED
        if ended.failed:
            _tell_failed(ended, len(parts), again, console)
            return FAILED
        outcomes = [ended.outcomes[index] for index in range(len(parts))]
        done = shards.merge_shards(
            sweep,
            outcomes,
            compile_seconds=max(outcome.compile_seconds for outcome in outcomes),
            wall_seconds=time.perf_counter() - start,
            at_a_time=min(places, len(parts)),
        )
        report.write(folder, sweep, done, made["plan"] | {"device": made["device"]})
    return 0


def _plan(
    ray: Any, machines: Machines, nodes: Sequence[Node], prepared: Prepared
) -> Mapping[str, Any]:
    """Plans on a worker, for its devices and its share of a machine's memory.

    Raises:
        ValueError: If a shard does not fit there.
    """
    members = len(shards.all_members(prepared.sweep)[0])
    plan = ray.remote(max_calls=1, max_retries=machines.ray_retries)(ray_tasks.plan)
    answer = plan.options(**asks(machines)).remote(
        prepared.folder,
        asked=prepared.sweep.memory,
        sharers=max(node.places for node in nodes),
        limit=min(node.memory // node.places for node in nodes) or None,
        at_most=-(-members // sum(node.places for node in nodes)),
        gpus=machines.ray_gpus,
    )
    try:
        return ray.get(answer)
    except ray.exceptions.RayError as error:
        raise ValueError(f"on a worker of the cluster: {reason_of(error)}") from error


def _train(
    ray: Any,
    machines: Machines,
    made: Mapping[str, Any],
    folder: Path,
    parts: Sequence[range],
    overview: Overview,
) -> _Ended:
    """Hands all shards out, and waits for them."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board = (
        ray.remote(ray_tasks.Board)
        .options(
            num_cpus=0, scheduling_strategy=here, runtime_env={"env_vars": environment(Machines())}
        )
        .remote()
    )
    train = ray.remote(max_calls=1, max_retries=machines.ray_retries)(ray_tasks.train)
    need = made["plan"]["need"]
    memory = made["beside"] + (need["device"] * need["devices"] if need["shared"] else 0)
    train = train.options(
        **asks(machines), memory=memory + need["host"], scheduling_strategy="SPREAD"
    )
    waiting = {
        train.remote(folder, index, parts, board, machines.ray_gpus): index
        for index in range(len(parts))
    }
    ended = _Ended()
    try:
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=0.5)
            overview.hear(ray.get(board.take.remote()))
            for one in ready:
                _take(ray, one, waiting.pop(one), folder, overview, ended)
    except KeyboardInterrupt:
        ended.interrupted = True
        for one in waiting:
            ray.cancel(one, force=False)
        if waiting:
            ray.wait(list(waiting), num_returns=len(waiting), timeout=_STOP_SECONDS)
    return ended


def _take(ray: Any, one: Any, index: int, folder: Path, overview: Overview, ended: _Ended) -> None:
    """Takes in a shard that is over."""
    path = shards.shard_folder(folder, index) / ERROR
    try:
        ended.outcomes[index] = ray.get(one)
        path.unlink(missing_ok=True)  # of an earlier time
        overview.over(index, "done")
    except ray.exceptions.RayError as error:
        ended.failed[index] = reason_of(error)
        path.parent.mkdir(parents=True, exist_ok=True)
        run_folder.write_whole(path, f"{error}\n")
        overview.over(index, f"FAILED: {ended.failed[index]}")


def _tell_failed(ended: _Ended, count: int, again: str, console: Console) -> None:
    for index, reason in sorted(ended.failed.items()):
        text = f"shard {index + 1}/{count} failed: {reason}"
        console.print(Text(text, style="bold red"), soft_wrap=True)
    console.print(
        Text(
            f"{len(ended.failed)} of {count} shards failed (see {ERROR} in their folders); the "
            f"others are whole. Go on with: {again}"
        ),
        soft_wrap=True,
    )
