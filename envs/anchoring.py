"""How an observation of a perturbed state keeps the bits of the state that it came from."""

import jax
import jax.numpy as jnp

from sobolax.environment import State


def anchored(observation: jax.Array, state: State, displacement: jax.Array) -> jax.Array:
    """The observation of `state` moved by `displacement`; at zero, `state.observation` itself.

    The same formula, compiled into two programs, may differ in its last bit (the compiler fuses and
    vectorises as it likes), so computing an observation anew is not enough for `perturb(state, 0)`
    to equal `state`. Here the value at zero is the stored one, and the derivative is that of
    `observation`.

    Args:
        observation: The observation computed from the moved physics.
        state: The state before the move.
        displacement: The move.

    Returns:
        The observation, of the shape of `observation`.
    """
    stay = jax.lax.stop_gradient(state.observation) + (
        observation - jax.lax.stop_gradient(observation)
    )
    return jnp.where(jnp.all(displacement == 0), stay, observation)
