"""Deterministic evaluation, with keys of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
        visited: A state of each episode, at a uniformly random time (or the last one of an
            episode that ends earlier), leading axis `episodes`.

    Example:
        >>> from sobolax.cart import Cart
        >>> brake = lambda observation: -observation[1:]
        >>> evaluate(Cart(), brake, jax.random.key(0), episodes=2).visited.observation.shape
        (2, 2)
    """

    returns: jax.Array
    lengths: jax.Array
    nonfinite: jax.Array
    visited: State


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
        key: Random key of the first states and of the times of the visited ones.
        episodes: How many.

    Example:
        >>> from sobolax.cart import Cart
        >>> brake = lambda observation: -observation[1:]
        >>> evaluate(Cart(), brake, jax.random.key(0), episodes=2).lengths.tolist()
        [40, 40]
    """
    reset_key, time_key = jax.random.split(key)
    start = jax.vmap(environment.reset)(jax.random.split(reset_key, episodes))
    stop = jax.random.randint(time_key, (episodes,), 0, environment.episode_length)

    def one(state: State, visited: State, alive, stop, index):
        following = environment.step(state, act(state.observation))
        finite = is_finite(following)
        goes_on = alive & finite
        return (
            _select(goes_on, following, state),
            _select(alive & (index <= stop), state, visited),
            goes_on & ~following.terminated,
            jnp.where(goes_on, following.reward, 0.0),
            goes_on,
            alive & ~finite,
        )

    def step(carry, index):
        state, visited, alive, returns, lengths, nonfinite = carry
        state, visited, alive, gained, counted, broken = jax.vmap(one, in_axes=(0, 0, 0, 0, None))(
            state, visited, alive, stop, index
        )
        return (
            state,
            visited,
            alive,
            returns + gained,
            lengths + counted,
            nonfinite + jnp.sum(broken),
        ), None

    carry = (
        start,
        start,
        jnp.ones(episodes, bool),
        jnp.zeros(episodes, start.reward.dtype),
        jnp.zeros(episodes, jnp.int32),
        jnp.zeros((), jnp.int32),
    )
    (_, visited, _, returns, lengths, nonfinite), _ = jax.lax.scan(
        step, carry, jnp.arange(environment.episode_length)
    )
    return Evaluation(returns, lengths, nonfinite, visited)


def is_finite(state: State) -> jax.Array:
    """Whether every number in a state is finite, `()` bool.

    Example:
        >>> from sobolax.cart import Cart
        >>> bool(is_finite(Cart().at(1.0, 0.0))), bool(is_finite(Cart().at(float("nan"), 0.0)))
        (True, False)
    """
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in _floating(state)]).all()


def stays_finite(before: Any, after: Any) -> jax.Array:
    """Whether a pytree has no NaN, and no infinity but where an earlier one had it; `()` bool.

    Some states begin at infinity: the line search's memory of losses does, and a weighting of
    one's own may. A number that has become infinite is sick; one that still is need not be.

    Example:
        >>> before, after = jnp.array([jnp.inf, 0.0]), jnp.array([jnp.inf, jnp.inf])
        >>> bool(stays_finite(before, before)), bool(stays_finite(before, after))
        (True, False)
    """
    pairs = zip(_floating(before), _floating(after), strict=True)
    return jnp.stack(
        [jnp.all(jnp.isfinite(new) | (jnp.isinf(old) & (old == new))) for old, new in pairs]
    ).all()


def _floating(tree: Any) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _select(condition: jax.Array, chosen: State, other: State) -> State:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, other)
