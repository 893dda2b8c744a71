"""What a step makes of an observation and an action, and the tangents of that.

The outcome of a transition is its reward and the change of its observation. Another step than the
simulator's, a network of it say, has tangents of its own along the same directions.
"""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from sobolax.transition import Tangents, Transition

#: `(observation, action) -> (reward, next_observation)`, unbatched.
Step = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def replace_tangents(step: Step, transition: Transition, tangents: Tangents) -> Tangents:
    """Tangents of a transition whose reward and next observation are those of another step.

    Args:
        step: A function `(observation, action) -> (reward, next_observation)`.
        transition: Where it is differentiated; unbatched.
        tangents: Their observation and action are what it is differentiated along, and stay as they
            are. Directions along which these are not finite stay so, and drop out of the loss.

    Example:
        >>> from sobolax.cart import example_transition
        >>> transition, tangents = example_transition()  # at (1, 0), of a push of 1
        >>> step = lambda o, a: (o[0] * a[0], 2 * o + a)
        >>> replaced = replace_tangents(step, transition, tangents)
        >>> replaced.state.reward.tolist(), replaced.state.next_observation.tolist()
        ([1.0, 0.0], [[2.0, 0.0], [0.0, 2.0]])
        >>> replaced.action.reward.tolist(), replaced.action.next_observation.tolist()
        ([1.0], [[1.0], [1.0]])
    """
    along = _inputs(transition, tangents)
    where = transition.observation, transition.action

    def follow(observation: jax.Array, action: jax.Array):
        return jax.jvp(step, where, (observation, action))[1]

    # Directions lead in here: rows of a matrix product.
    reward, after = jax.vmap(follow)(along[0].T, along[1].T)
    count = columns(transition, tangents.state, "observation").shape[-1]
    return Tangents(
        replace(tangents.state, reward=reward[:count], next_observation=after[:count].T),
        replace(tangents.action, reward=reward[count:], next_observation=after[count:].T),
    )


def columns(transition: Transition, kind: Transition, name: str) -> jax.Array:
    """Tangents of one part of a transition, zeros where it does not move, `(size, directions)`.

    Example:
        >>> from sobolax.cart import example_transition
        >>> transition, tangents = example_transition()
        >>> columns(transition, tangents.state, "reward").tolist()
        [[-2.5, -1.25]]
        >>> columns(transition, tangents.state, "action").tolist()
        [[0.0, 0.0]]
    """
    leaf, tangent = getattr(transition, name), getattr(kind, name)
    if tangent is None:
        return jnp.zeros((leaf.size, jax.tree.leaves(kind)[0].shape[-1]), leaf.dtype)
    return tangent.reshape(leaf.size, tangent.shape[-1]).astype(leaf.dtype)


def combine_directions(
    transition: Transition, tangents: Tangents, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One direction of observation and action: a combination, `(both,)`, of state's and action's.

    What is not finite counts as zero.

    Example:
        >>> from sobolax.cart import example_transition
        >>> along = combine_directions(*example_transition(), jnp.array([1.0, 2.0, -1.0]))
        >>> [part.tolist() for part in along]
        [[1.0, 2.0], [-1.0]]
    """
    observation, action = (
        jnp.matmul(both, weights.astype(both.dtype), precision="highest")
        for both in _inputs(transition, tangents)
    )
    return observation, action


def outcome_of(transition: Transition) -> jax.Array:
    """Reward and change of the observation, `(1 + observation_size,)`.

    Example:
        >>> from sobolax.cart import example_transition
        >>> outcome_of(example_transition()[0]).tolist()  # from rest at 1 m
        [-1.5625, 0.25, 0.5]
    """
    change = transition.next_observation - transition.observation
    return jnp.concatenate([transition.reward[None], change])


def outcome_tangents(transition: Transition, tangents: Tangents) -> jax.Array:
    """Of the outcome, along directions of state, then action, `(1 + observation_size, both)`.

    Example:
        >>> from sobolax.cart import example_transition
        >>> outcome_tangents(*example_transition()).tolist()
        [[-2.5, -1.25, -0.625], [0.0, 0.5, 0.25], [0.0, 0.0, 0.5]]
    """

    def of(kind: Transition) -> jax.Array:
        reward, before, after = (
            columns(transition, kind, name)
            for name in ("reward", "observation", "next_observation")
        )
        return jnp.concatenate([reward, after - before])

    return jnp.concatenate([of(tangents.state), of(tangents.action)], axis=-1)


def _inputs(transition: Transition, tangents: Tangents) -> list[jax.Array]:
    """Of observation and action, along directions of state and action, `(size, both)` each."""
    kinds = tangents.state, tangents.action
    found = [
        jnp.concatenate([columns(transition, kind, name) for kind in kinds], axis=-1)
        for name in ("observation", "action")
    ]
    # Not finite times zero is not finite: one direction would spoil the gradient of all.
    return [jnp.where(jnp.isfinite(both), both, 0.0) for both in found]
