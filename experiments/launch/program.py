"""All variants and all seeds as one compiled program, with its compilation timed apart."""

import contextlib
import ctypes
import functools
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
from jax.sharding import NamedSharding, PartitionSpec

from experiments.launch.configuration import Variant
from experiments.launch.devices import mesh_of_runs
from experiments.launch.kept_programs import Kept
from experiments.launch.quiet_loads import quieten_cache
from sobolax.training import sharding

T = TypeVar("T")

# Evaluation is a small share of an epoch: XLA's expensive passes would take longer than they
# save.
_EVALUATION_OPTIONS: dict[str, str | bool] = {"xla_llvm_disable_expensive_passes": True}


def keys_and_hypers(variants: Sequence[Variant], seeds: int, seed: int) -> tuple[jax.Array, Any]:
    """Keys and hyperparameters of all runs: variants times seeds, seeds innermost.

    Every variant gets the same keys: seed by seed, variants start from the same networks and
    states.
    """
    keys = jnp.tile(jax.random.split(jax.random.key(seed), seeds), len(variants))

    def stack(*values: Any) -> jax.Array:
        # Through NumPy: a weakly typed value would compile everything a second time.
        dtype = jax.dtypes.canonicalize_dtype(np.float64)
        return jnp.asarray(np.repeat(np.asarray(values, dtype), seeds))

    return keys, jax.tree.map(stack, *(variant.hyper for variant in variants))


@dataclass(frozen=True)
class Memory:
    """Memory of compiled programs on each device, in bytes, as the compiler reports it.

    Attributes:
        initialise: Peak of the first program: arguments, results, temporaries.
        epoch: Peak of the larger part of an epoch; donated arguments count once.
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
    """Compiled entry points, for up to `width` runs.

    Attributes:
        initialise: `(keys, hypers) -> state`; the state has `width` runs, of which those beyond
            the keys repeat the last one.
        epoch: `(state, hypers, index, learned=None) -> (state, metrics)`; the state is donated, and
            metrics are those of the runs that `hypers` has. `learned` receives the metrics of
            learning before the evaluation begins.
        place: Puts a state that lies on the host where `epoch` takes it.
        width: Runs that the program computes.
        find_memory: Waits until all of it is compiled; see `memory`.
        compile_seconds: Lowering and compiling, or loading, until training can begin.
        wait_until_kept: Waits until what was compiled is on disk, if it is kept.
    """

    initialise: Callable[[jax.Array, Any], Any]
    epoch: Callable[..., tuple[Any, dict[str, jax.Array]]]
    place: Callable[[Any], Any]
    width: int
    find_memory: Callable[[], Memory | None]
    compile_seconds: float
    wait_until_kept: Callable[[], None] = lambda: None

    @property
    def memory(self) -> Memory | None:
        """The memory it needs; None if the compiler does not report it."""
        return self.find_memory()


def compiler_options(quickly: bool = False) -> dict[str, Any]:
    """How programs are compiled here, on whatever device JAX finds.

    `quickly` is for what is called a few times only: on CPU it compiles in half the time and runs
    slower.

    On CPU two things are switched off:

    - `xla_cpu_experimental_ynn_fusion_type`: XLA on x86-64 gives sums and matrix products to
      YNNPACK. A sum of a few thousand numbers takes four times as long that way, and a step of
      hopper 1.7 times (docs/results/speed.md). Worse, jaxlib 0.10.2 computes some sums wrong (jax
      issue #39103), and some crash (#39257).
    - `xla_cpu_multi_thread_eigen`, a precaution: threads that share a large matrix product have
      been reported to wait for each other forever in `vmap`ped programs on machines with few cores.
      Not sharing it cost nothing in a program of many runs, where this was measured.

    An option that this jaxlib does not know is left out.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {"xla_cpu_multi_thread_eigen": False, "xla_cpu_experimental_ynn_fusion_type": ""}
    known = {name: value for name, value in options.items() if _is_known(name, value)}
    return known | ({"xla_backend_optimization_level": 0} if quickly else {})


@functools.cache
def _is_known(option: str, value: str | bool) -> bool:
    """Whether the compiler takes an option; it refuses a program with one that it does not know."""
    try:
        jax.jit(lambda: 0).lower().compile({option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def keep_compiled_programs() -> None:
    """Keeps compiled programs between runs, in `.cache/jax` unless JAX is configured otherwise."""
    quieten_cache()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(".cache/jax").absolute()))


def compile_program(
    training: Any,
    keys: jax.Array,
    hypers: Any,
    devices: int = 1,
    kept: Kept | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Program:
    """Compiles all entry points ahead of time, for as many runs as there are keys.

    An epoch is two programs: learning, and its evaluation, which may still compile in a thread
    when the first epoch begins.

    Args:
        training: A `sobolax.training.loop.Training`, or anything else with `init` and `epoch`. One
            with a mesh is split over its devices, and `devices` is 1.
        keys: Keys of the runs, `(runs,)`.
        hypers: Their hyperparameters, every leaf `(runs,)`.
        devices: Devices of this machine over which runs are laid out, in equal parts: runs are
            padded to a multiple of it. Devices exchange nothing.
        kept: Where the same programs may lie compiled, or are put: then nothing is traced.
        tell: Receives a line if they cannot be used or kept.

    Raises:
        ValueError: If there are fewer devices.
    """
    start = time.perf_counter()
    shared, mesh = getattr(training, "mesh", None), mesh_of_runs(devices)
    width = -(-len(keys) // devices) * devices
    split = whole = None
    if shared is not None:
        split = whole = NamedSharding(shared, PartitionSpec())
    elif devices > 1:
        split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["runs"], []))

    def over_runs(function: Callable[..., Any], *same: bool, **options: Any) -> Any:
        """The function over all runs, jitted; `same` are the arguments that all runs share."""
        function = jax.vmap(function, in_axes=tuple(None if one else 0 for one in same))
        if devices > 1:
            parts = tuple(PartitionSpec() if one else PartitionSpec("runs") for one in same)
            # Runs exchange nothing, which is what the disabled check would verify.
            function = jax.shard_map(
                function,
                mesh=mesh,
                in_specs=parts,
                out_specs=PartitionSpec("runs"),
                check_vma=False,
            )
        return jax.jit(function, **options)

    def find_places(state: Any) -> Any:
        if shared is None:
            return jax.tree.map(lambda _: split, state)
        return sharding.shardings(state, shared, axes=1)

    def place(state: Any) -> Any:
        return jax.device_put(state, None if split is None else find_places(state))

    def pad(tree: Any) -> Any:
        """Repeats the last run up to `width` runs."""

        def longer(leaf: Any) -> Any:
            missing = width - leaf.shape[0]
            last = jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))
            return jnp.concatenate([leaf, last]) if missing else leaf

        return jax.device_put(jax.tree.map(longer, tree), split)

    def shape(leaf: Any, where: Any = None) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    def compiling(name: str, lowered: Any, further: Any = {}) -> Callable[[], Any]:  # noqa: B006
        options = compiler_options() | further

        def compile_it() -> Any:
            found = (
                lowered.compile(options) if kept is None else kept.compile(name, lowered, options)
            )
            give_back_memory()
            return found

        return begin(compile_it)

    def compile_all() -> tuple[dict[str, Callable[[], Any]], int]:
        """Functions that wait for the programs, and the bytes of the state on each device."""
        init = over_runs(training.init, False, False).trace(*pad((keys, hypers)))
        places = () if split is None else (find_places(init.out_info),)
        arguments = (
            jax.tree.map(shape, init.out_info, *places),
            pad(hypers),
            jax.device_put(jnp.int32(0), whole),
        )
        options = {} if shared is None else {"out_shardings": (*places, whole)}
        learn = getattr(training, "learn", training.epoch)
        learn = over_runs(learn, False, False, True, donate_argnums=0, **options)
        # The slowest first: tracing holds Python's lock, compiling does not.
        programs = {
            "learn": compiling("learn", learn.lower(*arguments)),
            "init": compiling("init", init.lower()),
        }
        if hasattr(training, "look"):
            lowered = over_runs(training.look, False, False, True).lower(*arguments)
            programs["look"] = compiling("look", lowered, _EVALUATION_OPTIONS)
        return programs, size_of(arguments[0], on_device=True)

    names = ("learn", "init", "look") if hasattr(training, "look") else ("learn", "init")
    loaded = None if kept is None else kept.load_all(names, tell)
    if kept is not None and loaded is not None and (size := kept.state_bytes):
        programs = {name: partial(_same, one) for name, one in loaded.items()}
        keeping = partial(_same, None)
    else:
        programs, size = compile_all()
        keeping = begin(kept.save_all, programs, size, tell) if kept else partial(_same, None)
    init, learn, look = (programs.get(name) for name in ("init", "learn", "look"))
    assert init is not None
    assert learn is not None

    def initialise(keys: jax.Array, hypers: Any) -> Any:
        return init()(*pad((keys, hypers)))

    def epoch(
        state: Any,
        hypers: Any,
        index: Any,
        learned: Callable[[dict[str, jax.Array]], None] | None = None,
    ) -> tuple[Any, dict[str, jax.Array]]:
        count = jax.tree.leaves(hypers)[0].shape[0]
        hypers, index = pad(hypers), jax.device_put(index, whole)
        # The compiler leaves arrays without elements on one device; nothing else moves here.
        state, metrics = learn()(place(state), hypers, index)
        if look is not None:
            if learned is not None:
                learned({name: row[:count] for name, row in metrics.items()})
            state = place(state)
            metrics |= look()(state, hypers, index)
        return state, {name: row[:count] for name, row in metrics.items()}

    def find_memory() -> Memory | None:
        stated = [one().memory_analysis() for one in (init, learn, look) if one is not None]
        if any(one is None for one in stated):
            return None
        first, *epoch = map(_peak, stated)
        return Memory(first, max(epoch), size)

    for needed in (init, learn):
        needed()
    seconds = time.perf_counter() - start
    return Program(initialise, epoch, place, width, find_memory, seconds, keeping)


def _same(value: T) -> T:
    return value


def size_of(tree: Any, on_device: bool = False) -> int:
    """Bytes of all arrays of a tree, or of arrays that would have these shapes.

    Args:
        tree: Arrays or shapes.
        on_device: Whether to count what each device has of them, as their shardings say.
    """

    def one(leaf: Any) -> int:
        where = getattr(leaf, "sharding", None)
        if on_device and where is not None:
            leaf = jax.ShapeDtypeStruct(where.shard_shape(leaf.shape), leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        return math.prod(leaf.shape) * leaf.dtype.itemsize

    return sum(map(one, jax.tree.leaves(tree)))


def _peak(stated: Any) -> int:
    return (
        stated.argument_size_in_bytes
        + stated.output_size_in_bytes
        + stated.temp_size_in_bytes
        - stated.alias_size_in_bytes
    )


def give_back_memory() -> None:
    """Gives what was freed back to the system.

    The compiler takes gigabytes for a program with contact physics and frees them, and glibc keeps
    them for this process: beside a large training that is memory that the machine does not have.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def begin(function: Callable[..., T], *arguments: Any) -> Callable[[], T]:
    """Calls a function in a thread of its own, in the precision of the caller.

    Returns:
        A function that waits for it and returns its result or raises its error. Ctrl-C interrupts
        the wait at once, and leaves the thread running.
    """
    outcome: list[Any] = []
    precision = jnp.result_type(float)

    def work() -> None:
        # `jax.enable_x64` holds for one thread alone.
        same = jnp.result_type(float) == precision
        try:
            with contextlib.nullcontext() if same else jax.enable_x64(precision == jnp.float64):
                outcome.extend((True, jax.block_until_ready(function(*arguments))))
        except BaseException as error:
            outcome.extend((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def result() -> T:
        while thread.is_alive():
            thread.join(0.1)
        succeeded, value = outcome
        if not succeeded:
            raise value
        return value

    return result


def call(function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function in a thread of its own; Ctrl-C interrupts the wait at once.

    Python notices a signal only between bytecodes of the main thread, and compiling, or waiting
    for an epoch, is one long call.
    """
    return begin(function, *arguments)()


def compile_ahead(
    function: Callable[..., Any], *arguments: Any, donate: tuple[int, ...] = ()
) -> tuple[Callable[..., Any], float]:
    """A compiled program for arguments of these shapes, and the seconds that it took.

    Args:
        function: What to compile.
        arguments: Arrays, or `jax.ShapeDtypeStruct`s, that it is called with.
        donate: Places of the arguments that it may write into.
    """

    def work() -> Callable[..., Any]:
        lowered = jax.jit(function, donate_argnums=donate).lower(*arguments)
        return lowered.compile(compiler_options())

    start = time.perf_counter()
    compiled = call(work)
    return compiled, time.perf_counter() - start


def call_ahead(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives, compiled as all programs here are; Ctrl-C gets through."""
    compiled, _ = compile_ahead(function, *arguments)
    return call(compiled, *arguments)
