"""A Ray cluster: how it is reached, what its machines are, and what a task asks of them."""

import contextlib
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.launch import run_folder
from experiments.launch.cluster import ray_tasks
from experiments.launch.sweep.machines import LOCAL, Machines

_CHECKOUT = Path(__file__).parents[3]
_STARTS = 3  # of a local cluster: on a busy machine Ray gives up early
_KNOCK_SECONDS, _LOOK_SECONDS = 10.0, 300.0


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that can train.

    Attributes:
        name: Ray's name for it.
        address: For people.
        places: Tasks that it can run at a time.
        memory: Bytes that Ray shares out among them.
    """

    name: str
    address: str
    places: int
    memory: int


@contextlib.contextmanager
def connected(machines: Machines) -> Iterator[Any]:
    """Ray, connected to a cluster, which is started here where `local` is asked for.

    Raises:
        ValueError: If Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "--ray needs Ray: pip install 'ray>=2.50', here and on every machine of the cluster"
        ) from error
    told: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    _knock(str(machines.ray))
    starts = 1
    if machines.ray == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Next to nothing goes through the object store.
        told |= {"include_dashboard": False, "object_store_memory": 100 * 2**20}
        starts = _STARTS
    for attempt in range(starts):
        try:
            ray.init(address=machines.ray, **told)
            break
        except Exception as error:  # Ray raises whatever came up
            ray.shutdown()
            if attempt + 1 < starts:
                continue
            raise ValueError(_no_cluster(str(machines.ray), error)) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Finds out whether anybody is at HOST:PORT: Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ValueError(_no_cluster(address, error)) from error


def _no_cluster(address: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    if address == LOCAL:
        return (
            f"Ray could not be started on this machine ({reason}): see its log in "
            "/tmp/ray/session_latest/logs"
        )
    return (
        f"no Ray cluster could be reached at {address} ({reason}): start one with ray start "
        "--head, join it with ray start --address HOST:PORT, or say --ray local. One that asks for "
        "a token needs RAY_AUTH_MODE=token here, too"
    )


def find_nodes(ray: Any, machines: Machines) -> list[Node]:
    """Machines that can train a shard.

    Raises:
        ValueError: If there is none.
    """
    found, others = [], []
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        has = node["Resources"]
        cores, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
        places = cores // machines.ray_cpus
        if machines.ray_gpus:
            places = min(places, gpus // machines.ray_gpus)
        address = node["NodeManagerAddress"]
        if places:
            found.append(Node(node["NodeID"], address, places, int(has.get("memory", 0))))
        else:
            others.append(f"{address} has {cores} cores and {gpus} GPUs")
    if not found:
        raise ValueError(
            f"no machine of the cluster has --ray-cpus {machines.ray_cpus} and --ray-gpus "
            f"{machines.ray_gpus}: {'; '.join(others) or 'there is none'}"
        )
    return found


def check_nodes(ray: Any, nodes: Sequence[Node], folder: Path) -> None:
    """Checks that every machine sees the folder, and has the same versions.

    Raises:
        ValueError: Naming the machine, and what is wrong there.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = uuid.uuid4().hex
    question = f".asked-{token}"
    answers = {node: f".seen-{node.name}-{token}" for node in nodes}
    (folder / question).touch()
    look = ray.remote(num_cpus=0, max_calls=1, max_retries=2)(ray_tasks.look)
    asked = {
        node: look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.name, soft=False),
            runtime_env={"env_vars": environment(Machines())},
        ).remote(folder, question, answers[node])
        for node in nodes
    }
    own = run_folder.provenance()
    own = {"versions": own["versions"], "commit": own["commit"]}
    try:
        for node, answer in asked.items():
            try:
                found = ray.get(answer, timeout=_LOOK_SECONDS)
            except ray.exceptions.GetTimeoutError as error:
                raise ValueError(
                    f"machine {node.address} of the cluster did not answer within "
                    f"{_LOOK_SECONDS:.0f} s"
                ) from error
            except ray.exceptions.RayError as error:
                raise ValueError(
                    f"machine {node.address} of the cluster cannot run a task of this sweep: "
                    f"{reason_of(error)}. sobolax and what it needs must be there as they are here"
                ) from error
            if not (found.pop("seen") and ray_tasks.wait_for(folder / answers[node])):
                raise ValueError(
                    f"machine {node.address} does not see {folder}, or this machine not what it "
                    "writes there: name a folder with --output on a file system that all machines "
                    "of the cluster share"
                )
            unlike = run_folder.differences(own, found)
            if unlike:
                raise ValueError(
                    f"machine {node.address} has another sobolax than this one (here -> there): "
                    f"{'; '.join(unlike)}"
                )
    finally:
        for name in (question, *answers.values()):
            (folder / name).unlink(missing_ok=True)


def asks(machines: Machines) -> dict[str, Any]:
    """What a task needs."""
    return {
        "num_cpus": machines.ray_cpus,
        "num_gpus": machines.ray_gpus,
        "runtime_env": {"env_vars": environment(machines)},
    }


def environment(machines: Machines) -> dict[str, str]:
    """Variables of a task: this one's of JAX, where the code is, and what part of a machine it has.

    JAX takes as many threads as NPROC says; without it, as many as the machine has cores.
    """
    own = {name: text for name, text in os.environ.items() if name.startswith(("JAX_", "XLA_"))}
    path = [str(_CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own |= {"PYTHONPATH": os.pathsep.join(path), "NPROC": str(machines.ray_cpus)}
    own.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(".cache/jax").absolute()))
    own.pop("JAX_PLATFORMS", None)
    return own if machines.ray_gpus else own | {"JAX_PLATFORMS": "cpu"}


def reason_of(error: Exception) -> str:
    """On one line, what went wrong in a task."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ValueError):
        return str(cause)
    if cause is not None:
        return f"{type(cause).__name__}: {' '.join(str(cause).split())[:500]}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
