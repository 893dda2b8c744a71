"""Physics on an accelerator: right, how fast, how often not finite.

`python -m experiments.bench.gpu.physics --help`
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.mujoco.base import MujocoEnvironment
from experiments.bench import command, timing
from experiments.bench.gpu import reference
from experiments.launch.configuration import make_environment
from experiments.launch.exit_status import leave
from experiments.launch.program import call
from experiments.launch.progress import Progress
from experiments.report.table import Table
from sobolax.environment import State
from sobolax.mjx import reason_against_jacobian
from sobolax.tangents.sources import make_source
from sobolax.training.evaluation import is_finite

# Environment steps of a call; more than one call leaves the first states behind.
_STEPS = 8


@dataclass(frozen=True)
class Options:
    """Derivatives of MuJoCo physics on the device that JAX finds; writes runs/...-bench-physics/.

    Attributes:
        envs: MuJoCo environments.
        batches: States side by side.
        transitions: Steps of random actions, with all their tangents, that are looked at for
            numbers that are not finite.
        compared: States whose Jacobians are compared with the CPU's.
        repetitions: Timed calls.
        output: Folder, new or empty; None for a new one under runs/.
    """

    envs: tuple[str, ...] = ("ant", "hopper", "humanoid")
    batches: tuple[int, ...] = (8_192, 2_048)
    transitions: int = 1_048_576
    compared: int = 64
    repetitions: int = 10
    output: Path | None = None


def prepare(options: Options) -> dict[str, Any]:
    """The environments; raises ValueError for one whose derivatives are not exact."""
    command.check_positive(options)
    made = {name: make_environment(name) for name in options.envs}
    for name, environment in made.items():
        if not isinstance(environment, MujocoEnvironment):
            raise ValueError(f"--envs {name} is no MuJoCo environment")
        if reason := reason_against_jacobian(environment._model):
            raise ValueError(f"--envs {name} has no analytic Jacobian: {reason}")
    return made


def measure(
    made: dict[str, Any], options: Options, folder: Path, progress: Progress
) -> Iterator[command.Results]:
    """Speed and health first, while the CPU computes what the errors are beside."""
    files = {name: folder / f"{name}_reference.npz" for name in made}
    others = {name: reference.start(name, options.compared, files[name]) for name in made}
    tables: list[Table] = []
    try:
        for name, environment in made.items():
            for table in _speed_and_health(name, environment, options, progress):
                tables.append(table)
                yield tables, {}
        for name, environment in made.items():
            progress.phase(f"{name}: waiting for the CPU's derivatives")
            if call(others[name].wait) != 0:
                progress.warn(f"{name}: the CPU's derivatives failed")
                continue
            tables.append(_errors(name, environment, files[name]))
            yield tables, {}
    finally:
        for process in others.values():
            process.kill()


def _speed_and_health(
    name: str, environment: Any, options: Options, progress: Progress
) -> Iterator[Table]:
    largest = max(options.batches)
    keys = jax.random.split(jax.random.key(0), largest)
    states = jax.eval_shape(jax.vmap(environment.reset), keys)
    roll = _roll(environment, largest)
    programs: list[tuple[Callable[..., Any], Sequence[Any]]] = [
        (jax.vmap(environment.reset), (keys,)),
        (roll, (states, jax.random.key(0))),
    ]
    for batch in options.batches:
        physics = jax.tree.map(
            lambda leaf, batch=batch: jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype),
            states.physics,
        )
        control = jax.eval_shape(
            jax.vmap(environment._control), jnp.zeros((batch, environment.action_size))
        )
        for function in (environment._substep, environment._substep_jacobian):
            programs.append((jax.vmap(function), (physics, control)))
    progress.phase(f"{name}: compiling {len(programs)} programs")
    reset, rolled, *steps = compile_together(programs)
    states = reset(keys)
    calls = -(-options.transitions // (largest * _STEPS))
    counts = []
    progress.phase(f"{name}: {calls * largest * _STEPS:,} transitions")
    for at in range(max(calls, 2)):
        states, found = rolled(states, jax.random.fold_in(jax.random.key(2), at))
        counts.append(found)
        call(jax.block_until_ready, states)
    total = {key: int(sum(one[key] for one in counts)) for key in counts[0]}
    yield Table(
        f"What is not finite in {name}: steps of random actions with all tangents",
        ("transitions", "transitions, not finite", "tangents, not finite", "largest tangent"),
        [
            (
                len(counts) * largest * _STEPS,
                total["transitions"],
                total["tangents"],
                float(max(one["largest"] for one in counts)),
            )
        ],
    )
    rows = []
    for batch, plain, jacobian in zip(options.batches, steps[::2], steps[1::2], strict=True):
        progress.phase(f"{name}: timing {batch} states")
        physics = jax.tree.map(lambda leaf, batch=batch: leaf[:batch], states.physics)
        actions = jax.random.uniform(
            jax.random.key(3), (batch, environment.action_size), minval=-1.0, maxval=1.0
        )
        control = jax.vmap(environment._control)(actions)
        measured = timing.measure(
            [
                timing.Alternative("plain", lambda p=plain, at=(physics, control): p(*at)),
                timing.Alternative("jacobian", lambda p=jacobian, at=(physics, control): p(*at)),
            ],
            options.repetitions,
            batch,
        )
        per_second = [1.0 / one.seconds for one in measured]
        rows.append((batch, *per_second, measured[1].ratio))
    yield Table(
        f"Physics steps of {name} and their whole Jacobians, per second",
        ("states side by side", "steps/s", "Jacobians/s", "Jacobian in plain steps"),
        rows,
        note="A Jacobian includes its step.",
    )


def _roll(environment: Any, batch: int) -> Callable[[State, jax.Array], tuple[State, Any]]:
    """Steps of random actions with tangents, and counts of what is not finite."""
    source = make_source("cached", environment)

    def step(states: State, key: jax.Array):
        action_key, *keys = jax.random.split(key, 3)
        shape = (batch, environment.action_size)
        actions = jax.random.uniform(action_key, shape, minval=-1.0, maxval=1.0)
        experience, after = jax.vmap(source.collect)(
            jax.random.split(keys[0], batch), states, actions
        )
        leaves = [leaf.reshape(batch, -1) for leaf in jax.tree.leaves(experience.tangents)]
        sound = jnp.stack([jnp.all(jnp.isfinite(leaf), axis=1) for leaf in leaves]).all(0)
        sizes = [jnp.max(jnp.where(jnp.isfinite(leaf), jnp.abs(leaf), 0.0)) for leaf in leaves]
        finite = jax.vmap(is_finite)(after, states)
        fresh = jax.vmap(environment.reset)(jax.random.split(keys[1], batch))
        over = ~finite | (after.discount == 0)
        states = jax.tree.map(
            lambda new, old: jnp.where(over.reshape(-1, *[1] * (new.ndim - 1)), new, old),
            fresh,
            after,
        )
        counts = {"transitions": jnp.sum(~finite), "tangents": jnp.sum(~sound)}
        return states, counts | {"largest": jnp.max(jnp.stack(sizes))}

    def roll(states: State, key: jax.Array):
        states, counts = jax.lax.scan(step, states, jax.random.split(key, _STEPS))
        return states, {
            name: (jnp.max if name == "largest" else jnp.sum)(count)
            for name, count in counts.items()
        }

    return roll


def _errors(name: str, environment: Any, path: Path) -> Table:
    """Of this device's float32 and of the CPU's, beside the CPU's float64."""
    physics, control, found = reference.read(path)
    found |= call(lambda: reference.outcomes(environment, physics, control, "here"))
    rows = []
    for device, ending in ((jax.default_backend(), "here"), ("cpu", "32")):
        for what, wrong in reference.errors(found, ending).items():
            rows.append((device, what, *(float(x) for x in np.quantile(wrong, (0.5, 0.95, 1.0)))))
    return Table(
        f"Errors of a physics step of {name} in float32, beside the CPU's float64",
        ("device", "of", "median", "95 %", "largest"),
        rows,
        note="Of every state the largest difference, over the largest number.",
    )


def compile_together(
    programs: Sequence[tuple[Callable[..., Any], Sequence[Any]]],
) -> list[Callable[..., Any]]:
    """Traces programs one after the other, and compiles them side by side."""

    def work() -> list[Callable[..., Any]]:
        lowered = [jax.jit(function).lower(*arguments) for function, arguments in programs]
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda one: one.compile(), lowered))

    return call(work)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit status."""
    return command.main("gpu.physics", Options, prepare, measure, argv)


if __name__ == "__main__":
    leave(main())
