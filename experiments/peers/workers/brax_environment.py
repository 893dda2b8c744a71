"""A Brax environment behind sobolax's protocol, for plain training alone."""

from typing import Any

import jax
import jax.numpy as jnp
from brax import envs

from sobolax.environment import State


class BraxEnvironment:
    """Physics, observation and reward are the Brax environment's own; there are no tangents.

    Unlike Brax's wrapper, which starts every episode of an environment from one stored state, the
    training loop draws the first state of every episode anew.

    Args:
        name: As Brax calls it.
        backend: Of its physics.
        episode_length: Steps of an episode.
    """

    state_size = 1
    reverse_mode = False

    def __init__(self, name: str, backend: str, episode_length: int):
        # Any: Brax allows observations of many parts, which these environments do not have.
        self._environment: Any = envs.get_environment(name, backend=backend)
        self.name = name
        self.episode_length = episode_length
        self.observation_size = int(self._environment.observation_size)
        self.action_size = int(self._environment.action_size)

    def reset(self, key: jax.Array) -> State:
        """Draws the first state of an episode."""
        return _state(self._environment.reset(key))

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by one step."""
        return _state(self._environment.step(state.physics, action))

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Leaves the state as it is: there are no tangents here."""
        return state


def _state(state: Any) -> State:
    # Brax leaves some numbers weakly typed after a reset, which would compile everything twice.
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), state)
    return State(state, state.obs, state.reward, state.done.astype(bool), {})
