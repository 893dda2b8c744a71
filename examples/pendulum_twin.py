"""A differentiable twin of Pendulum-v1, for agents whose own environment has no derivatives.

Gymnasium's Pendulum-v1 is NumPy, and gymnax's stops the gradient after a step. Their observation
holds the whole state, so a transition's tangents can be had from observation and action alone.
"""

from functools import partial

import jax
import jax.numpy as jnp

from envs.analytic.pendulum import Pendulum, Physics
from sobolax.environment import State
from sobolax.tangents import basis_directions, forward_tangents
from sobolax.transition import Tangents, Transition


class _Scaled(Pendulum):
    """The pendulum, with actions in a unit of the caller's."""

    def __init__(self, largest_action: float):
        self.largest_action = largest_action

    def step(self, state: State, action: jax.Array) -> State:
        return super().step(state, action / self.largest_action)


def step_and_tangents(
    observation: jax.Array, action: jax.Array, largest_action: float = 1.0
) -> tuple[Transition, Tangents]:
    """The twin's transition and its tangents.

    Args:
        observation: `(cos θ, sin θ, θ')`, `(3,)`.
        action: `(1,)`, in the unit that the agent uses.
        largest_action: The action that stands for a torque of 2 N m.

    Returns:
        The transition, to compare with the host's, and its tangents along angle, angular velocity
        and action.
    """
    physics = Physics(jnp.arctan2(observation[1], observation[0]), observation[2])
    state = State(physics, observation, jnp.zeros(()), jnp.ones(()), {})
    transition, _, tangents = forward_tangents(
        _Scaled(largest_action), state, action, basis_directions(2), basis_directions(1)
    )
    return transition, tangents


def batch_step_and_tangents(
    observations: jax.Array, actions: jax.Array, largest_action: float = 1.0
) -> tuple[Transition, Tangents]:
    """The same for a batch: `(batch, 3)` and `(batch, 1)`."""
    return jax.vmap(partial(step_and_tangents, largest_action=largest_action))(
        observations, actions
    )
