"""How much memory there is, and whether a training could fit: before anything compiles."""

import re
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import psutil

from experiments.launch.devices import ONE_DEVICE, Layout
from experiments.launch.program import size_of
from sobolax.training import sharding

# The share of free memory that a sweep takes: others use the machine, allocators round up.
_SHARE = {"cpu": 0.85, "other": 0.95}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_LISTED = 2**10  # bytes of a run's name, key and hyperparameters
_CGROUPS, _OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# Of control groups, version 2 and 1: the controller, their folder, files of limit and use, and in
# `memory.stat` the part of that use that is a cache, which gives way.
_CGROUP_FILES = (
    ("", "", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@dataclass(frozen=True)
class Budget:
    """Memory that a sweep may take, in bytes.

    Attributes:
        device: On each device.
        host: On the host.
        requested: Whether it comes from `--memory`.
    """

    device: int
    host: int
    requested: bool = False

    @property
    def source(self) -> str:
        """The source of the numbers, for messages."""
        return "is what --memory says" if self.requested else "may be taken"


def find_budget(
    devices: int, requested: int | None = None, sharers: int = 1, limit: int | None = None
) -> Budget:
    """The memory that may be taken now.

    Args:
        devices: Devices in use; those of a processor share its memory.
        requested: Bytes on the host or on each accelerator; None for what is free.
        sharers: Processes like this one that share the host's memory, but not the devices.
        limit: Bytes of the host's memory that each of them may hold in all; None for its share.

    Raises:
        ValueError: If less than that is free, or a device does not report its memory.
    """
    free = free_memory()
    if sharers > 1 or limit is not None:  # each of them holds what this one holds
        held = largest_held()
        each = (free + held) // sharers
        free = max((each if limit is None else min(each, limit)) - held, 0)
    if jax.default_backend() == "cpu":
        whole = _granted(requested, free, _SHARE["cpu"])
        return Budget(whole // devices, whole, requested is not None)
    left = [
        stats["bytes_limit"] - stats.get("bytes_in_use", 0)
        for device in jax.local_devices()[:devices]
        if "bytes_limit" in (stats := device.memory_stats() or {})
    ]
    if not left and requested is None:
        raise ValueError("this device does not say how much memory it has: say so with --memory")
    each = _granted(requested, min(left, default=requested or 0), _SHARE["other"])
    return Budget(each, int(_SHARE["cpu"] * free), requested is not None)


def _granted(requested: int | None, free: int, share: float) -> int:
    if requested is None:
        return int(share * free)
    if requested > free:
        raise ValueError(
            f"--memory {in_words(requested)} is more than the {in_words(free)} that are free: name "
            "less, or leave it out"
        )
    return requested


def largest_held() -> int:
    """The peak memory of this process so far, in bytes, including compilation."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def free_memory() -> int:
    """Free memory of the host in bytes, within a container's limit."""
    free = psutil.virtual_memory().available
    own = [line.split(":", 2) for line in _read(_OWN_CGROUPS).splitlines()]
    for controller, folder, limit, used, cache in _CGROUP_FILES:
        root = _CGROUPS / folder
        names = [name for _, names, name in own if controller in names.split(",")]
        group = root.joinpath(*(name.strip("/") for name in names))
        for path in (group, *group.parents):  # the limits of all groups hold
            try:
                left = int((path / limit).read_text()) - int((path / used).read_text())
            except (OSError, ValueError):  # not there, or "max"
                continue
            found = re.search(rf"^{cache} (\d+)$", _read(path / "memory.stat"), re.MULTILINE)
            free = min(free, max(left + int(found[1] if found else 0), 0))
    return free


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def parse_size(flag: str, text: str) -> int:
    """Bytes of `4GiB`, `500MB` or `1e9`.

    Raises:
        ValueError: If it is not a size, or not above 0.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([kmg]?i?)b?\s*", text.lower())
    size = float(found[1]) * _UNITS.get(found[2], 0) if found else 0.0
    if not 1 <= size < 2**63:
        raise ValueError(f"{flag} {text!r} must be a size above 0, such as 4GiB or 500MB")
    return int(size)


def in_words(size: float) -> str:
    """`3.2 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB" if size < 1000 else f"{size:,.0f} GiB"


def check_fits(
    init: Callable[[Any, Any], Any],
    environment: Any,
    config: Any,
    hyper: Any,
    runs: int,
    layout: Layout = ONE_DEVICE,
    state_bytes: int | None = None,
) -> None:
    """Checks that a training's state, and the environments of its evaluation, are not too large.

    A lower bound from shapes alone; the compiled program takes more. Compiling traces the same
    functions and finds them traced.

    Args:
        init: `(key, hyper) -> state` of one run.
        environment: Its environment.
        config: Its configuration.
        hyper: Its hyperparameters.
        runs: Runs that one program trains.
        layout: The devices that it trains them on.
        state_bytes: Of the states on each device, of whole runs, where known; None to trace `init`.

    Raises:
        ValueError: If it cannot fit, with what it takes and what there is.
    """

    def need() -> int:
        key = jax.eval_shape(lambda: jax.random.key(0))
        one = size_of(jax.eval_shape(environment.reset, key))
        states = config.evaluated_states + config.stored_states
        each = -(-runs // layout.runs)
        if state_bytes is not None:
            return state_bytes + each * one * states
        state = jax.eval_shape(init, key, jax.tree.map(_scalar, hyper))
        if layout.mesh is not None:
            places = sharding.shardings(state, layout.mesh)
            state = jax.tree.map(
                lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
                state,
                places,
            )
            states //= layout.mesh.size
        return each * (size_of(state, on_device=True) + one * states)

    _check_need(
        need,
        layout.devices,
        "fewer --seeds, a smaller --replay-capacity (or --horizon) or --num-envs, smaller "
        "--hidden-sizes, fewer "
        "--evaluation-episodes, or a smaller --tangent-dtype",
    )


def check_episodes(environment: Any, runs: int, episodes: int) -> None:
    """As `check_fits`, of nothing but an evaluation's environments.

    Raises:
        ValueError: If they cannot fit.
    """

    def need() -> int:
        key = jax.eval_shape(lambda: jax.random.key(0))
        return runs * episodes * size_of(jax.eval_shape(environment.reset, key))

    _check_need(need, 1, "fewer --episodes")


def _check_need(find_need: Callable[[], int], devices: int, fewer: str) -> None:
    try:
        free = find_budget(devices).device
    except ValueError:
        return  # the device does not say
    try:
        need = find_need()
    except (OverflowError, MemoryError):
        need = None
    if need is None or need > free:
        takes = "more than can be counted" if need is None else f"at least {in_words(need)}"
        raise ValueError(
            f"this takes {takes} of memory, but {in_words(free)} may be taken: free memory, or "
            f"take {fewer}"
        )


def check_listed(runs: int) -> None:
    """Checks that a list of so many runs fits into the host's memory.

    Raises:
        ValueError: If it does not.
    """
    need, free = runs * _LISTED, free_memory()
    if need > _SHARE["cpu"] * free:
        raise ValueError(
            f"a list of {runs:,} runs takes {in_words(need)} of memory, but {in_words(free)} are "
            "free: take fewer configurations or --seeds"
        )


def _scalar(_: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((), jnp.result_type(float))
