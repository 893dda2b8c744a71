"""The differentiable twin of Pendulum-v1 beside the pendulums that it stands for."""

import importlib.util
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples.pendulum_twin import batch_step_and_tangents, step_and_tangents

# Theirs compute in float32, and the angle goes through its cosine and sine and back.
_ROUNDING = 2e-5


def drawn(count):
    draw = np.random.default_rng(0)
    angles, speeds = draw.uniform(-3.1, 3.1, count), draw.uniform(-7.9, 7.9, count)
    observations = np.stack([np.cos(angles), np.sin(angles), speeds], axis=1)
    return angles, speeds, observations, draw.uniform(-2, 2, (count, 1))


def test_it_is_gymnasiums_pendulum():
    import gymnasium

    theirs = gymnasium.make("Pendulum-v1").unwrapped
    theirs.reset(seed=0)
    angles, speeds, observations, torques = drawn(50)
    twins, _ = batch_step_and_tangents(observations, torques, largest_action=2.0)
    for index, torque in enumerate(torques):
        theirs.state = np.array([angles[index], speeds[index]])
        observation, reward, *_ = theirs.step(torque)
        np.testing.assert_allclose(twins.next_observation[index], observation, atol=8 * _ROUNDING)
        np.testing.assert_allclose(twins.reward[index], reward, atol=16 * _ROUNDING)


@pytest.mark.skipif(
    importlib.util.find_spec("gymnax") is None,
    reason="the extra 'gymnax' is not installed: pip install --editable '.[gymnax]'",
)
def test_it_is_gymnaxs_pendulum():
    import gymnax

    theirs, options = gymnax.make("Pendulum-v1")
    _, first = theirs.reset_env(jax.random.key(0), options)
    angles, speeds, observations, torques = drawn(50)
    twins, _ = batch_step_and_tangents(observations, torques, largest_action=2.0)
    for index, torque in enumerate(torques):
        state = first.replace(
            theta=jnp.asarray(angles[index]), theta_dot=jnp.asarray(speeds[index])
        )
        found = theirs.step_env(jax.random.key(0), state, jnp.asarray(torque), options)
        np.testing.assert_allclose(
            twins.next_observation[index], found[0].ravel(), atol=8 * _ROUNDING
        )
        np.testing.assert_allclose(twins.reward[index], found[2], atol=16 * _ROUNDING)


def test_its_tangents_are_differences_of_its_step(float64):
    @jax.jit
    def step(angle, speed, torque):
        observation = jnp.stack([jnp.cos(angle), jnp.sin(angle), speed])
        return step_and_tangents(observation, torque[None], largest_action=2.0)[0]

    at, h = np.array([0.4, -1.3, 0.9]), 1e-6
    moves = [
        jax.tree.map(
            lambda a, b: (a - b) / (2 * h), *jax.device_get([step(*(at + d)), step(*(at - d))])
        )
        for d in h * np.eye(3)
    ]
    observation = np.stack([np.cos(at[0]), np.sin(at[0]), at[1]])
    differentiated = jax.jit(partial(step_and_tangents, largest_action=2.0))
    _, tangents = differentiated(observation, at[2:])
    for part in ("reward", "next_observation"):
        sides = getattr(tangents.state, part), getattr(tangents.action, part)
        found = np.concatenate(sides, axis=-1)
        expected = np.stack([getattr(move, part) for move in moves], axis=-1)
        # Rounding of differences at this step is 1e-10 of values up to 4.
        np.testing.assert_allclose(found, expected, atol=1e-8)
