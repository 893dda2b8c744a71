"""What several rows need: environments, random actions, experience to fill buffers with."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

import envs
from experiments.bench.timing import compile_ahead
from experiments.launch.program import call
from sobolax.environment import Environment, State
from sobolax.tangents.sources import Experience, Source

Tell = Callable[[str], None]


def make_environment(name: str, parameters: Mapping[str, Any]) -> Environment:
    """An environment by name; whatever does not fit is a ValueError."""
    try:
        return envs.make(name, **parameters)
    except (TypeError, ImportError) as error:
        raise ValueError(str(error)) from error


def random_actions(environment: Environment, states: State, key: jax.Array) -> jax.Array:
    """Uniform actions, `(states, action_size)`."""
    shape = (states.observation.shape[0], environment.action_size)
    return jax.random.uniform(key, shape, states.observation.dtype, minval=-1.0, maxval=1.0)


def collect_experience(
    environment: Environment, source: Source, environments: int, steps: int, items: int
) -> Experience:
    """Transitions of random actions with all that any source needs, repeated to fill a buffer.

    Repeated, because a buffer of real size lies in memory, not in a cache.

    Args:
        environment: The environment.
        source: Collects.
        environments: How many are stepped side by side.
        steps: Their steps, at most.
        items: Transitions wanted.

    Returns:
        Experience with a leading axis of `items`, the states before the steps included.
    """
    rounds = max(1, min(steps, items // environments))

    def collect(key: jax.Array) -> Experience:
        def step(states: State, key: jax.Array):
            actions = random_actions(environment, states, key)
            keys = jax.random.split(key, environments)
            experience, following = jax.vmap(source.collect)(keys, states, actions)
            return following, replace(experience, state=states)

        reset_key, step_key = jax.random.split(key)
        states = jax.vmap(environment.reset)(jax.random.split(reset_key, environments))
        _, experience = jax.lax.scan(step, states, jax.random.split(step_key, rounds))
        collected = rounds * environments
        chosen = jnp.arange(items) % collected
        return jax.tree.map(
            lambda leaf: leaf.reshape(collected, *leaf.shape[2:])[chosen], experience
        )

    compiled, _ = compile_ahead(collect, jax.random.key(1))
    return call(compiled, jax.random.key(1))
