"""Tangents of a whole transition from how its physics state moves, in local coordinates."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from envs.mujoco.physics import Physics
from sobolax.environment import State
from sobolax.mjx import StepJacobian
from sobolax.tangents.forward import direction_block, tangents_of_block, transition_to
from sobolax.transition import Tangents, Transition

# Moves the physics on at a control, and columns of displacements of both with it:
# (physics, control, (state size, n), (nu, n)) -> (physics, (state size, n)).
Move = Callable[[Physics, jax.Array, jax.Array, jax.Array], tuple[Physics, jax.Array]]


def chained(
    linearize: Callable[[Physics, jax.Array], tuple[Physics, StepJacobian]],
    substeps: int,
    physics: Physics,
    control: jax.Array,
    start: jax.Array,
    controls: jax.Array,
) -> tuple[Physics, jax.Array]:
    """Physics steps at a constant control: the product of their Jacobians with displacements.

    Args:
        linearize: One physics step and its Jacobian.
        substeps: How many.
        physics: Where to start.
        control: `(nu,)`.
        start: Displacements of the physics, `(state size, n)`.
        controls: Of the control, `(nu, n)`.

    Returns:
        The physics at the end, and its displacements, `(state size, n)`.
    """

    def substep(carry: tuple[Physics, jax.Array], _: None):
        physics, moved = carry
        physics, jacobian = linearize(physics, control)
        # In full precision: accelerators would round to 10 bits by default.
        moved = jnp.matmul(jacobian.state, moved, precision="highest")
        return (physics, moved + jnp.matmul(jacobian.control, controls, precision="highest")), None

    return jax.lax.scan(substep, (physics, start), length=substeps)[0]


def tangents_of_move(
    environment: Any,
    move: Move,
    state: State,
    action: jax.Array,
    state_directions: jax.Array,
    action_directions: jax.Array,
) -> tuple[Transition, State, Tangents]:
    """One step, its transition and its tangents, as `sobolax.tangents.forward.forward_tangents`.

    Control, observation and reward are differentiated in forward mode: they are cheap.

    Args:
        environment: A `MujocoEnvironment`.
        move: How physics and its displacements move on.
        state: One unbatched state.
        action: `(action_size,)`.
        state_directions: `(state_size, number of state directions)`.
        action_directions: `(action_size, number of action directions)`.
    """
    dtype = state.observation.dtype
    control = environment._control(action)
    state_directions = state_directions.astype(dtype)
    action_directions = action_directions.astype(action.dtype)
    driven = jax.vmap(
        lambda along: jax.jvp(environment._control, (action,), (along,))[1],
        in_axes=-1,
        out_axes=-1,
    )(action_directions)
    starts, actions = direction_block(state_directions, action_directions)
    _, controls = direction_block(state_directions, driven)
    physics, ends = move(state.physics, control, starts, controls)

    def outcome(start: jax.Array, action: jax.Array, end: jax.Array):
        before = environment._perturb_physics(state.physics, start)
        after = environment._perturb_physics(physics, end)
        next_state = environment._arrive(before, action, after)
        return transition_to(next_state, environment.observe(before), action), next_state

    still = jnp.zeros(state_directions.shape[0], dtype)

    def push(*directions: jax.Array):
        return jax.jvp(outcome, (still, action, still), directions, has_aux=True)

    _, tangent, next_state = jax.vmap(push, in_axes=-1, out_axes=(None, -1, None))(
        starts, actions, ends
    )
    next_state = replace(next_state, physics=physics)
    tangents = tangents_of_block(tangent, state_directions.shape[-1])
    return transition_to(next_state, state.observation, action), next_state, tangents
