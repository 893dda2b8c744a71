"""Deterministic evaluation, with keys of its own."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from sobolax.environment import Environment, State


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Evaluation:
    """What some episodes brought.

    Attributes:
        returns: Undiscounted sum of rewards of each episode, `(episodes,)`.
        lengths: Steps of each episode, `(episodes,)`.
        nonfinite: Episodes that physics ended by a number that is not finite, `()`; their
            returns hold what came before.
    """

    returns: jax.Array
    lengths: jax.Array
    nonfinite: jax.Array


def evaluate(
    environment: Environment,
    act: Callable[[jax.Array], jax.Array],
    key: jax.Array,
    episodes: int,
) -> Evaluation:
    """Runs whole episodes, side by side, each to its termination or time limit.

    Args:
        environment: The environment.
        act: Policy of one raw observation.
        key: Random key of the first states.
        episodes: How many.
    """
    start = jax.vmap(environment.reset)(jax.random.split(key, episodes))

    def step(carry, _):
        state, alive, returns, lengths, nonfinite = carry
        following = jax.vmap(lambda s: environment.step(s, act(s.observation)))(state)
        finite = jax.vmap(is_finite)(following)
        gained = jnp.where(alive & finite, following.reward, 0.0)
        state = jax.vmap(_select)(alive & finite, following, state)
        nonfinite += jnp.sum(alive & ~finite)
        lengths += alive & finite
        return (state, alive & finite & ~following.terminated, returns + gained, lengths, nonfinite)

    def scan_step(carry, x):
        return step(carry, x), None

    returns = jnp.zeros(episodes, start.reward.dtype)
    carry = (
        start,
        jnp.ones(episodes, bool),
        returns,
        jnp.zeros(episodes, jnp.int32),
        jnp.zeros((), jnp.int32),
    )
    (_, _, returns, lengths, nonfinite), _ = jax.lax.scan(
        scan_step, carry, None, length=environment.episode_length
    )
    return Evaluation(returns, lengths, nonfinite)


def is_finite(state: State) -> jax.Array:
    """Whether every number in a state is finite, `()` bool."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]).all()


def _select(condition: jax.Array, chosen: State, other: State) -> State:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, other)
