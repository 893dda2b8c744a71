"""An environment whose observation ends with its physics state.

Tangents of its transitions then show how the physics state moves, whatever method computes them.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from sobolax.environment import Environment, State


def vector(physics: Any) -> jax.Array:
    """All real numbers of a physics state, one after the other."""
    leaves = [leaf for leaf in jax.tree.leaves(physics) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])


class _Exposed:
    """Around any environment without derivatives of its own."""

    def __init__(self, environment: Environment):
        self._environment = environment
        self.name = environment.name
        self.action_size, self.state_size = environment.action_size, environment.state_size
        self.episode_length = environment.episode_length
        self.reverse_mode = environment.reverse_mode
        zero = jax.eval_shape(lambda: self.reset(jax.random.key(0)))
        self.observation_size = int(zero.observation.shape[0])

    def reset(self, key: jax.Array) -> State:
        return _exposed(self._environment.reset(key))

    def step(self, state: State, action: jax.Array) -> State:
        return _exposed(self._environment.step(self._bare(state), action))

    def perturb(self, state: State, displacement: jax.Array) -> State:
        return _exposed(self._environment.perturb(self._bare(state), displacement))

    def _bare(self, state: State) -> State:
        size = self._environment.observation_size
        return replace(state, observation=state.observation[:size])


def _exposed(state: State) -> State:
    observation = jnp.concatenate([state.observation, vector(state.physics)])
    return replace(state, observation=observation)


def make_exposed(name: str, parameters: Mapping[str, Any]) -> Environment:
    """Makes an environment whose observation is followed by `vector` of its physics.

    A MuJoCo environment has derivatives of its own, which observe by its method `_observe`: there
    a subclass with another one, so that all of them see the physics too.
    """
    environment: Any = envs.make(name, **parameters)
    if not is_mujoco(environment):
        exposed: Any = _Exposed(environment)
        return exposed
    kind = type(environment)

    def observe(self: Any, physics: Any) -> jax.Array:
        return jnp.concatenate([kind._observe(self, physics), vector(physics)])

    subclass: Any = type(kind.__name__, (kind,), {"_observe": observe})
    return subclass(**parameters)


def is_mujoco(environment: Environment) -> bool:
    """Whether an environment is one of ours on MJX."""
    module = sys.modules.get("envs.mujoco.base")  # one of them has loaded it
    return module is not None and isinstance(environment, module.MujocoEnvironment)


def frame(environment: Environment, state: State) -> jax.Array:
    """How `vector` of the physics moves with local coordinates, `(numbers, state_size)`.

    Numbers that local coordinates do not move (hidden state, a solver's warm start) have rows of
    zeros.
    """
    still = jnp.zeros(environment.state_size, state.observation.dtype)
    return jax.jacfwd(lambda dx: vector(environment.perturb(state, dx).physics))(still)


def local(moved: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Displacements in local coordinates of moved physics, by least squares.

    Args:
        moved: Along each direction, `(batch, numbers, directions)`.
        frames: `(batch, numbers, state_size)`, each where the movement ends.

    Returns:
        `(batch, state_size, directions)`: a Jacobian each; not finite where an argument is not.
    """
    frames, moved = np.asarray(frames, np.float64), np.asarray(moved, np.float64)
    sound = np.asarray(np.isfinite(frames).all(axis=(1, 2)))[:, None, None]
    frames = np.where(sound, frames, np.eye(*frames.shape[1:]))
    # Hidden numbers may be anything: times zero they would still spoil others if not finite.
    visible = np.where(np.asarray(frames.any(axis=2))[:, :, None], moved, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        transposed = np.swapaxes(frames, 1, 2)
        found = np.linalg.solve(transposed @ frames, transposed @ visible)
    return np.where(sound, found, np.nan)
