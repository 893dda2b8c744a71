"""Deterministic evaluation, with keys of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sobolax.environment import Environment, State
from sobolax.training import sharding
from sobolax.training.freezing import stays_finite

_LARGEST = 1e10  # that an observation or a reward may be


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Evaluation:
    """Returns of some episodes, and states visited in them.

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
    mesh: Mesh | None = None,
) -> Evaluation:
    """Runs whole episodes, side by side, each to its termination or time limit.

    Args:
        environment: The environment.
        act: Policy of one raw observation; its actions are `(action_size,)`.
        key: Random key of the first states and of the times of the visited ones.
        episodes: How many.
        mesh: Devices that take equal parts of the episodes, where their number allows it; None for
            one device.

    Raises:
        ValueError: If an action has another shape, which a step might broadcast.

    Example:
        >>> from sobolax.cart import Cart
        >>> brake = lambda observation: -observation[1:]
        >>> evaluate(Cart(), brake, jax.random.key(0), episodes=2).lengths.tolist()
        [40, 40]
    """
    reset_key, time_key = jax.random.split(key)
    start = jax.vmap(environment.reset)(jax.random.split(reset_key, episodes))
    if sharding.divides(mesh, episodes):
        start = sharding.split(mesh, start)
    stop = jax.random.randint(time_key, (episodes,), 0, environment.episode_length)

    def one(state: State, visited: State, alive, stop, index):
        action = act(state.observation).astype(state.observation.dtype)
        if action.shape != (environment.action_size,):
            raise ValueError(
                f"evaluate: act gives an action of shape {action.shape} for one observation, but "
                f"environment {environment.name!r} takes ({environment.action_size},)"
            )
        next_state = environment.step(state, action)
        finite = is_finite(next_state, state)
        goes_on = alive & finite
        return (
            _select(goes_on, next_state, state),
            _select(alive & (index <= stop), state, visited),
            goes_on & (next_state.discount > 0),
            jnp.where(goes_on, next_state.reward, 0.0),
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
            nonfinite + jnp.sum(broken, dtype=jnp.int32),
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


def is_finite(next_state: State, state: State) -> jax.Array:
    """Whether a step left every number finite, `()` bool.

    An observation or a reward beyond 1e10 counts as infinite: what passes there on its way to NaN
    would overflow where it is squared, in a normalizer or an optimizer, which never recover.
    MuJoCo's own engine takes 1e10 (`mjMAXVAL`) for a simulation that has diverged. Metrics are for
    people and left out; an infinity that the physics held before the step is its own
    (`sobolax.training.freezing.stays_finite`).

    Args:
        next_state: The state after the step.
        state: The state before it.

    Example:
        >>> from sobolax.cart import Cart
        >>> start, broken = Cart().at(1.0, 0.0), Cart().at(float("nan"), 0.0)
        >>> bool(is_finite(start, start)), bool(is_finite(broken, start))
        (True, False)
    """
    seen = next_state.observation, next_state.reward, next_state.discount
    return is_bounded(seen) & stays_finite(state.physics, next_state.physics)


def is_bounded(tree: Any) -> jax.Array:
    """Whether every number of a pytree is finite and at most 1e10 in size, `()` bool.

    Example:
        >>> bool(is_bounded((jnp.ones(2), jnp.array([-1.0, 2e10]))))
        False
    """
    # False for NaN, too.
    return jnp.stack([jnp.all(jnp.abs(leaf) <= _LARGEST) for leaf in jax.tree.leaves(tree)]).all()


def _select(condition: jax.Array, chosen: State, other: State) -> State:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, other)
