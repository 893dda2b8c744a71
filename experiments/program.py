"""All arms and all seeds as one compiled program, with its compilation timed apart."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments.configuration import Arm

T = TypeVar("T")


def members(arms: Sequence[Arm], seeds: int, seed: int) -> tuple[jax.Array, Any]:
    """Keys and hyperparameters of all members: arms times seeds, seeds innermost.

    Every arm gets the same keys: seed by seed, arms start from the same networks and states.
    """
    keys = jnp.tile(jax.random.split(jax.random.key(seed), seeds), len(arms))

    def stack(*values: Any) -> jax.Array:
        # By way of NumPy: a weakly typed value would compile everything a second time.
        dtype = jax.dtypes.canonicalize_dtype(np.float64)
        return jnp.asarray(np.repeat(np.asarray(values, dtype), seeds))

    return keys, jax.tree.map(stack, *(arm.hyper for arm in arms))


@dataclass(frozen=True)
class Program:
    """Compiled entry points.

    Attributes:
        initialise: `(keys, hypers) -> state`.
        epoch: `(state, hypers, index) -> (state, metrics)`; the state is donated.
        compile_seconds: Lowering and compiling both.
    """

    initialise: Callable[..., Any]
    epoch: Callable[..., Any]
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


def compile_program(training: Any, keys: jax.Array, hypers: Any) -> Program:
    """Compiles both entry points ahead of time."""
    start = time.perf_counter()
    initialise = jax.jit(jax.vmap(training.init)).lower(keys, hypers)
    epoch = jax.jit(jax.vmap(training.epoch, in_axes=(0, 0, None)), donate_argnums=0).lower(
        initialise.out_info, hypers, jnp.int32(0)
    )
    options = compiler_options()
    compiled = initialise.compile(options), epoch.compile(options)
    return Program(*compiled, compile_seconds=time.perf_counter() - start)


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
