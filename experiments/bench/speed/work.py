"""What several rows need: environments, experience, programs of one run or of many, tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from experiments.bench import timing
from experiments.bench.speed.options import Bench
from experiments.launch.configuration import (
    Variant,
    defaults,
    make_environment,
    parse_environment_arguments,
)
from experiments.launch.program import call_ahead, compile_ahead, keys_and_hypers
from experiments.launch.progress import Progress
from experiments.report.table import Table
from sobolax import make_training
from sobolax.agents.config import AgentConfig, ValueHyperparameters
from sobolax.environment import Environment, State
from sobolax.tangents.sources import Experience, Source

#: The source "cached" with every direction, as a configuration says it.
FULL_BASIS = {"first_order": "cached", "state_directions": None, "action_directions": None}

# Calls before the timed ones, so that legs are on the floor.
_WARM_UP = 8
_UNITS: dict[str, Callable[[float], float]] = {
    "s": lambda seconds: seconds,
    "ms": lambda seconds: seconds * 1e3,
    "us": lambda seconds: seconds * 1e6,
    "steps/s": lambda seconds: 1 / seconds,
}


@dataclass(frozen=True)
class Setup:
    """An environment, and what its agent is trained with.

    Attributes:
        environment: The environment.
        config: Sizes and counts; an epoch is a timed call.
        hyper: Hyperparameters.
    """

    environment: Environment
    config: AgentConfig
    hyper: ValueHyperparameters


def make_setup(env: str, env_args: tuple[str, ...] = (), steps: int = 1, **changes: Any) -> Setup:
    """What `experiments.train` would take, with changes; compiles nothing.

    Args:
        env: Name of the environment.
        env_args: Its parameters as name=value.
        steps: Steps of all environments in an epoch.
        changes: Fields of the configuration; those that are None stay the preset's, but for
            numbers of directions.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    base = defaults(env)
    parameters = {**base.env_args, **parse_environment_arguments(env_args)}
    environment = make_environment(env, parameters)
    # The counts of a loop that learns from its first step on.
    given = {"learning_starts": 0, "report_states": 0, "epochs": 1} | {
        name: value
        for name, value in changes.items()
        if value is not None or name.endswith("directions")
    }
    config = replace(base.config, **given)
    config = replace(config, total_timesteps=steps * config.num_envs)
    config.check(environment)
    return Setup(environment, config, base.hyper)


def runs_in_words(count: int) -> str:
    """How many runs a program holds."""
    return "one run alone" if count == 1 else f"{count} runs in one program"


def vectorize(setup: Setup, count: int) -> tuple[jax.Array, Any, Callable[..., Any]]:
    """Keys, hyperparameters, and what makes of a function of one run that of so many."""
    keys, hypers = keys_and_hypers([Variant("bench", setup.hyper)], count, 0)
    if count > 1:
        return keys, hypers, jax.vmap
    return *jax.tree.map(lambda leaf: leaf[0], (keys, hypers)), lambda function, **_: function


def time_epoch(
    name: str, setup: Setup, runs: int = 1, warm_up: int = _WARM_UP
) -> timing.Alternative:
    """An epoch, on a state that is handed on from call to call and written in place."""
    training = make_training(setup.environment, setup.config)
    keys, hypers, over_runs = vectorize(setup, runs)
    learn = over_runs(training.learn, in_axes=(0, 0, None))
    held = [jax.jit(over_runs(training.init))(keys, hypers)]
    compiled, seconds = compile_ahead(learn, held[0], hypers, jnp.int32(0), donate=(0,))

    def once() -> Any:
        held[0], metrics = compiled(held[0], hypers, jnp.int32(0))
        return metrics

    for _ in range(warm_up):
        jax.block_until_ready(once())
    program: Any = compiled
    scratch = int(program.memory_analysis().temp_size_in_bytes)
    return timing.Alternative(name, once, seconds, runs, scratch)


def time_sources(
    setup: Setup,
    kinds: Mapping[str, Mapping[str, Any]],
    bench: Bench,
    units: int,
    progress: Progress,
) -> list[timing.Measurement]:
    """Times epochs by where their gradients come from.

    Args:
        setup: What all have in common.
        kinds: By name, the fields of the configuration that differ; the first is the reference.
        bench: How many repetitions.
        units: Units of work in an epoch.
        progress: Shows what is under way.
    """
    alternatives = []
    for name, changes in kinds.items():
        progress.phase(f"compiling steps in {setup.environment.name}: {name}")
        config = replace(setup.config, **changes)
        config.check(setup.environment)
        alternatives.append(time_epoch(name, replace(setup, config=config)))
    progress.phase(f"timing steps in {setup.environment.name}")
    return timing.measure(alternatives, bench.repetitions, units)


def timings(
    title: str, measured: Sequence[timing.Measurement], over: str, unit: str = "ms", note: str = ""
) -> Table:
    """Times of alternatives and their ratios to the first.

    Args:
        title: Of the table.
        measured: The first is what ratios are to.
        over: What the column of ratios is called.
        unit: "s", "ms", "us" or "steps/s".
        note: Sizes that times depend on.
    """
    rows = [
        (
            one.name,
            _UNITS[unit](one.seconds),
            one.ratio,
            one.smallest_ratio,
            one.largest_ratio,
            one.compile_seconds,
        )
        for one in measured
    ]
    return Table(title, ("", unit, over, "min", "max", "compile s"), rows, note=note)


def example_item(environment: Environment, source: Source) -> Experience:
    """Shapes of what the replay buffer keeps of a step."""

    def collect(key: jax.Array) -> Experience:
        state = environment.reset(key)
        action = jnp.zeros(environment.action_size, state.observation.dtype)
        return source.collect(key, state, action)[0]

    return jax.eval_shape(collect, jax.random.key(0))


def collect_experience(
    environment: Environment, source: Source, num_envs: int, steps: int, count: int
) -> Experience:
    """Transitions of random actions with all that any source needs, repeated to fill a buffer.

    Repeated, because a buffer of real size lies in memory, not in a cache.

    Args:
        environment: The environment.
        source: Collects.
        num_envs: Environments that are stepped side by side.
        steps: Their steps, at most.
        count: Transitions wanted.

    Returns:
        Experience with a leading axis of `count`, the states before the steps included.
    """
    rounds = max(1, min(steps, count // num_envs))

    def collect(key: jax.Array) -> Experience:
        def step(states: State, key: jax.Array):
            shape = (num_envs, environment.action_size)
            actions = jax.random.uniform(key, shape, states.observation.dtype, -1.0, 1.0)
            keys = jax.random.split(key, num_envs)
            experience, next_states = jax.vmap(source.collect)(keys, states, actions)
            return next_states, replace(experience, state=states)

        reset_key, step_key = jax.random.split(key)
        states = jax.vmap(environment.reset)(jax.random.split(reset_key, num_envs))
        _, experience = jax.lax.scan(step, states, jax.random.split(step_key, rounds))
        collected = rounds * num_envs
        chosen = jnp.arange(count) % collected
        return jax.tree.map(
            lambda leaf: leaf.reshape(collected, *leaf.shape[2:])[chosen], experience
        )

    return call_ahead(collect, jax.random.key(1))
