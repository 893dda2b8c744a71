"""Transitions of the scalar systems with their tangents, and Q* with its gradients."""

from dataclasses import dataclass
from typing import cast

import jax
import numpy as np

import envs
from envs.analytic.scalar import KINDS, Scalar
from sobolax.tangents import basis_directions, forward_tangents
from sobolax.transition import Tangents, Transition

DISCOUNT = 0.9
# Points per side on which critics are compared with Q*: middles of cells, so that none lies on
# the limits or on a kink of `contact`'s dynamics (at 0.6 s + 0.2 a = 0.05).
RESOLUTION = 50


@dataclass(frozen=True)
class Surface:
    """A function of state and action and its gradients, on the grid of `grid()`.

    Attributes:
        value: `(..., points)`.
        state: Gradient along the state, the same.
        action: Gradient along the action, the same.
    """

    value: np.ndarray
    state: np.ndarray
    action: np.ndarray

    def errors(self, reference: "Surface") -> dict[str, np.ndarray]:
        """Mean squared errors over the grid, `(...,)` each."""
        return {
            name: np.mean(np.square(getattr(self, name) - getattr(reference, name)), axis=-1)
            for name in MEASURES
        }


MEASURES = ("value", "state", "action")


def make_systems() -> dict[str, Scalar]:
    """All of them, by name."""
    return {kind: cast(Scalar, envs.make("scalar", kind=kind, discount=DISCOUNT)) for kind in KINDS}


def grid() -> tuple[np.ndarray, np.ndarray]:
    """States and actions, `(points,)` each, the action running faster."""
    middles = (np.arange(RESOLUTION) + 0.5) * (2 / RESOLUTION) - 1
    states, actions = np.meshgrid(middles, middles, indexing="ij")
    return states.ravel(), actions.ravel()


def optimal(system: Scalar) -> Surface:
    """Q* and its gradients, in float64."""

    def q(state: jax.Array, action: jax.Array) -> jax.Array:
        return system.optimal_q(state[None], action[None])

    with jax.enable_x64(True):
        value, gradients = jax.jit(jax.vmap(jax.value_and_grad(q, argnums=(0, 1))))(*grid())
        return Surface(np.asarray(value), *map(np.asarray, gradients))


def transitions(system: Scalar, seeds: jax.Array, count: int) -> tuple[Transition, Tangents]:
    """Transitions of states and actions uniform in their domain, with tangents.

    Args:
        system: The system.
        seeds: Keys, `(seeds,)`.
        count: Transitions of each.

    Returns:
        Both with leading axes `(seeds, count)`.
    """
    direction = basis_directions(1)

    def one(key: jax.Array) -> tuple[Transition, Tangents]:
        state_key, action_key = jax.random.split(key)
        action = jax.random.uniform(action_key, (1,), minval=-1.0, maxval=1.0)
        start = system.reset(state_key)
        transition, _, tangents = forward_tangents(system, start, action, direction, direction)
        return transition, tangents

    each = jax.vmap(lambda key: jax.vmap(one)(jax.random.split(key, count)))
    return jax.jit(each)(seeds)
