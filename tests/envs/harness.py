"""One environment in float64, with the few programs that the tests of it share."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax.tangents.forward import TransitionMap
from sobolax.tangents.methods import Derivatives, make_tangent_function

# Small environments of each family: the same code, compiled faster.
PARAMETERS = {"chain": {"joints": 2}, "lqr": {"dimension": 3, "actions": 2}}
STEP = 1e-6
PARTS = ("observation", "reward", "next_observation")
# Two are enough to compile for what holds for all: the hopper has contacts, the reacher limits.
ANALYTIC = ("lqr", "pendulum", "point_mass", "scalar")
SLOW = {"ant", "cartpole", "chain", "half_cheetah", "humanoid", "pusher", "walker2d"}


def named(*names: str) -> list:
    """Environments as parameters of a test, those that take the compiler long marked as slow."""
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in names]


class Harness:
    """Compiled functions of one environment. All calls run in float64, and nothing leaks.

    The environment is *made* in float64 too: its model's arrays are constants of the programs.
    Results are NumPy arrays, for a float64 array of JAX is no use outside of its context.
    """

    def __init__(self, name: str):
        with jax.enable_x64(True):
            self.env = envs.make(name, **PARAMETERS.get(name, {}))
            self.lanes = 2 * (self.env.state_size + self.env.action_size)
            self._reset = jax.jit(jax.vmap(self.env.reset))
            # One program moves states on (at zero displacement) and serves the differences.
            self._map = jax.jit(
                jax.vmap(lambda state, dx, a: TransitionMap(self.env, state)(dx, a))
            )
            # By default: from analytic Jacobians where there are any, else in forward mode.
            compute = make_tangent_function(self.env, Derivatives())
            self._tangents = jax.jit(
                lambda state, a: compute(
                    jax.random.key(0),
                    state,
                    a,
                    jnp.eye(self.env.state_size),
                    jnp.eye(self.env.action_size),
                )[2]
            )
            self._perturb = jax.jit(jax.vmap(self.env.perturb))

    def reset(self, seed: int = 0):
        """A batch of `lanes` first states."""
        with jax.enable_x64(True):
            return jax.device_get(self._reset(jax.random.split(jax.random.key(seed), self.lanes)))

    def perturb(self, states, displacement):
        with jax.enable_x64(True):
            return jax.device_get(self._perturb(states, displacement))

    def step(self, states, actions):
        """Transitions and next states of a batch."""
        with jax.enable_x64(True):
            still = np.zeros((self.lanes, self.env.state_size))
            return jax.device_get(self._map(states, still, actions))

    def tangents(self, state, action):
        """Of one state's transition, along all directions."""
        with jax.enable_x64(True):
            return jax.device_get(self._tangents(state, action))

    def actions(self, seed: int, size: float = 1.0) -> np.ndarray:
        shape = (self.lanes, self.env.action_size)
        return size * np.random.default_rng(seed).uniform(-1, 1, shape)

    def roll(self, states, steps: int, size: float = 1.0):
        """The states after some steps of random actions."""
        for index in range(steps):
            _, states = self.step(states, self.actions(index, size))
        return states

    def moved(self, states, **physics):
        """States with other arrays in their physics, observed anew."""
        physics = replace(states.physics, **physics)
        # A displacement that is not zero, though it moves nothing: the observation is fresh.
        nearly = np.full((self.lanes, self.env.state_size), 1e-300)
        return self.perturb(replace(states, physics=physics), nearly)

    def differences(self, state, action) -> dict[str, np.ndarray]:
        """Central differences of one state's transition, by part, state before action."""
        size, total = self.env.state_size, self.lanes // 2
        moves = STEP * np.concatenate([np.eye(total), -np.eye(total)])
        copies = jax.tree.map(lambda leaf: np.repeat(leaf[None], self.lanes, 0), state)
        with jax.enable_x64(True):
            ends, _ = self._map(copies, moves[:, :size], action + moves[:, size:])
        values = {part: np.asarray(getattr(ends, part)) for part in PARTS}
        return {
            part: np.moveaxis(value[:total] - value[total:], 0, -1) / (2 * STEP)
            for part, value in values.items()
        }

    def derivative_error(self, states, lane: int = 0, action=None) -> float:
        """The largest difference between a tangent and a central difference of the same.

        Relative to the largest entry of each part (observation, reward, next observation): that
        is what rounding and the curvature of a central difference scale with; and to no less
        than 0.01, for parts that do not move at all.
        """
        state = jax.tree.map(lambda leaf: leaf[lane], states)
        action = self.actions(0, 0.5)[lane] if action is None else action
        return largest_error(self.tangents(state, action), self.differences(state, action))


def largest_error(tangents, differences: dict[str, np.ndarray]) -> float:
    """Of tangents along all directions, relative to the largest entry of a part."""
    worst = 0.0
    for part, expected in differences.items():
        along_state = np.asarray(getattr(tangents.state, part))
        along_action = getattr(tangents.action, part)
        if along_action is None:
            along_action = np.zeros((*along_state.shape[:-1], tangents.action.reward.shape[-1]))
        computed = np.concatenate([along_state, along_action], axis=-1)
        assert np.all(np.isfinite(computed)), part
        scale = max(np.max(np.abs(expected)), 1e-2)
        worst = max(worst, float(np.max(np.abs(computed - expected)) / scale))
    return worst
