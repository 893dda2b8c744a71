"""All variants and all seeds as one compiled program, with its compilation timed apart."""

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.launch.configuration import Variant

T = TypeVar("T")


def members(variants: Sequence[Variant], seeds: int, seed: int) -> tuple[jax.Array, Any]:
    """Keys and hyperparameters of all members: variants times seeds, seeds innermost.

    Every variant gets the same keys: seed by seed, variants start from the same networks and
    states.
    """
    keys = jnp.tile(jax.random.split(jax.random.key(seed), seeds), len(variants))

    def stack(*values: Any) -> jax.Array:
        # By way of NumPy: a weakly typed value would compile everything a second time.
        dtype = jax.dtypes.canonicalize_dtype(np.float64)
        return jnp.asarray(np.repeat(np.asarray(values, dtype), seeds))

    return keys, jax.tree.map(stack, *(variant.hyper for variant in variants))


@dataclass(frozen=True)
class Memory:
    """What compiled programs need on each of their devices, in bytes, as the compiler states it.

    Attributes:
        initialise: Largest at any time of the first program: arguments, results, temporaries.
        epoch: The same of the second one; what it donates counts once.
        state: The training state alone, which lives as long as the training.
    """

    initialise: int
    epoch: int
    state: int

    @property
    def peak(self) -> int:
        """The larger of the two."""
        return max(self.initialise, self.epoch)


@dataclass(frozen=True)
class Program:
    """Compiled entry points, for up to `width` members.

    Attributes:
        initialise: `(keys, hypers) -> state`; the state has `width` members, of which those
            beyond the keys repeat the last one.
        epoch: `(state, hypers, index) -> (state, metrics)`; the state is donated, and metrics are
            those of the members that `hypers` has.
        place: Puts a state that lies on the host where `epoch` takes it.
        width: Members that are computed.
        memory: What it needs; None where the compiler does not say.
        compile_seconds: Lowering and compiling both.
    """

    initialise: Callable[[jax.Array, Any], Any]
    epoch: Callable[[Any, Any, Any], tuple[Any, dict[str, jax.Array]]]
    place: Callable[[Any], Any]
    width: int
    memory: Memory | None
    compile_seconds: float


def compiler_options() -> dict[str, str | bool]:
    """How programs are compiled here, on whatever device JAX finds.

    A precaution on CPU: threads that share a large matrix product have been reported to wait for
    each other for ever in `vmap`ped programs on machines with few cores. Not sharing it cost
    nothing in a program of many members, where this was measured.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_cpu_multi_thread_eigen": False}


def keep_compiled_programs() -> None:
    """Keeps compiled programs between runs, in `.cache/jax` where nothing else is asked for."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(".cache/jax").absolute()))


def compile_program(training: Any, keys: jax.Array, hypers: Any, devices: int = 1) -> Program:
    """Compiles both entry points ahead of time, for as many members as there are keys.

    Args:
        training: A `sobolax.training.loop.Training`.
        keys: Of the members, `(members,)`.
        hypers: Their hyperparameters, every leaf `(members,)`.
        devices: Devices of this machine over which members are laid out, in equal parts: members
            are padded to a multiple of it. Devices exchange nothing.

    Raises:
        ValueError: If there are fewer devices.
    """
    start = time.perf_counter()
    mesh = make_mesh(devices)
    width = -(-len(keys) // devices) * devices
    init, epoch = jax.vmap(training.init), jax.vmap(training.epoch, in_axes=(0, 0, None))
    split = whole = None
    if devices > 1:
        members, all_same = PartitionSpec("members"), PartitionSpec()
        split, whole = NamedSharding(mesh, members), NamedSharding(mesh, all_same)
        # Nothing crosses members, which is what the check that is off would look for.
        layout = partial(jax.shard_map, mesh=mesh, out_specs=members, check_vma=False)
        init = layout(init, in_specs=(members, members))
        epoch = layout(epoch, in_specs=(members, members, all_same))

    def place(tree: Any) -> Any:
        return jax.device_put(tree, split)

    def pad(tree: Any) -> Any:
        """Repeats the last member until there are `width`."""

        def longer(leaf: Any) -> Any:
            missing = width - leaf.shape[0]
            last = jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))
            return jnp.concatenate([leaf, last]) if missing else leaf

        return place(jax.tree.map(longer, tree))

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split)

    initialise = jax.jit(init).lower(*pad((keys, hypers)))
    one_epoch = jax.jit(epoch, donate_argnums=0).lower(
        jax.tree.map(shape, initialise.out_info), pad(hypers), jax.device_put(jnp.int32(0), whole)
    )
    options = compiler_options()
    first, second = initialise.compile(options), one_epoch.compile(options)

    def run_epoch(state: Any, hypers: Any, index: Any) -> tuple[Any, dict[str, jax.Array]]:
        count = jax.tree.leaves(hypers)[0].shape[0]
        state, metrics = second(state, pad(hypers), jax.device_put(index, whole))
        return state, {name: row[:count] for name, row in metrics.items()}

    return Program(
        initialise=lambda keys, hypers: first(*pad((keys, hypers))),
        epoch=run_epoch,
        place=place,
        width=width,
        memory=_memory(first, second, initialise.out_info, devices),
        compile_seconds=time.perf_counter() - start,
    )


def make_mesh(devices: int) -> Mesh:
    """The first devices of this machine, in a row.

    Raises:
        ValueError: If there are fewer.
    """
    present = jax.local_devices()
    if not 1 <= devices <= len(present):
        what = f"{len(present)} {present[0].platform.upper()} device"
        hint = (
            "; XLA_FLAGS=--xla_force_host_platform_device_count=N splits the processor"
            if present[0].platform == "cpu"
            else ""
        )
        raise ValueError(
            f"--devices {devices} must be from 1 to {len(present)}: JAX finds {what}"
            f"{'s' if len(present) > 1 else ''} here{hint}"
        )
    return Mesh(np.array(present[:devices]), ("members",))


def size_of(tree: Any) -> int:
    """Bytes of all arrays of a tree, or of arrays that would have these shapes."""

    def one(leaf: Any) -> int:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        return math.prod(leaf.shape) * leaf.dtype.itemsize

    return sum(map(one, jax.tree.leaves(tree)))


def _memory(initialise: Any, epoch: Any, state: Any, devices: int) -> Memory | None:
    found = []
    for compiled in (initialise, epoch):
        stated = compiled.memory_analysis()
        if stated is None:
            return None
        found.append(
            stated.argument_size_in_bytes
            + stated.output_size_in_bytes
            + stated.temp_size_in_bytes
            - stated.alias_size_in_bytes
        )
    return Memory(*found, state=size_of(state) // devices)


def call(function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function in a thread of its own, and waits so that Ctrl-C gets through at once.

    Python notices a signal only between bytecodes of the main thread, and compiling, or waiting
    for an epoch, is one long call. After an interrupt the thread is left to itself.
    """
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.extend((True, jax.block_until_ready(function(*arguments))))
        except BaseException as error:
            outcome.extend((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    succeeded, value = outcome
    if not succeeded:
        raise value
    return value
