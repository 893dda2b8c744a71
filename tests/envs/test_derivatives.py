"""Tangents of MuJoCo's environments against central differences, both in float64.

A central difference with step h = 1e-6 is off by rounding, about 1e-16 / h = 1e-10 of the value,
by h² times the third derivative. Smooth systems have small third derivatives, and what is left is
rounding: 1e-8 leaves room for values larger than gradients. In contact the force's impedance is a
steep polynomial of the penetration (from 0 to its full width in 0.01 m), third derivatives are
large, and 4e-7 has been seen on the hopper near contact onset: 1e-5 there. A wrong derivative, such
as that of one solver iteration, is off by 0.1 to 10.
"""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import envs
from tests.envs.harness import named

SMOOTH, CONTACT = 1e-8, 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cartpole", "chain", "reacher"])
def test_smooth_systems(harness_of, name):
    harness = harness_of(name)
    states = harness.reset()
    assert harness.derivative_error(states) < SMOOTH
    states = harness.roll(states, 10, size=0.5)
    assert harness.derivative_error(states, lane=1) < SMOOTH


@pytest.mark.parametrize(
    "name",
    [
        # Half a minute of compilation; the rod of tests/sobolax/mjx touches the ground faster.
        pytest.param("hopper", marks=pytest.mark.slow),
        *named("half_cheetah", "walker2d", "ant", "humanoid"),
    ],
)
def test_in_the_air_and_on_the_floor(harness_of, name):
    harness = harness_of(name)
    # Lifted by 0.5 m and moving.
    states = harness.reset()
    height = 2 if name in ("ant", "humanoid") else 1
    qpos = np.array(states.physics.qpos)
    qpos[:, height] += 0.5
    flying = harness.roll(harness.moved(states, qpos=qpos), 2, size=0.5)
    assert all(_contact_force(harness.env, flying, lane) == 0 for lane in range(2))
    assert all(harness.derivative_error(flying, lane) < CONTACT for lane in range(2))
    # Settled: dropped, and some steps later at rest on the floor, pushed by it.
    settled = harness.roll(states, 40, size=0.1)
    lanes = [lane for lane in range(8) if _contact_force(harness.env, settled, lane) > 0][:2]
    assert len(lanes) == 2, "nothing touches the floor"
    assert all(harness.derivative_error(settled, lane) < CONTACT for lane in lanes)


def test_a_pendulum_wraps_without_a_jump_in_its_gradient(harness_of):
    """Past straight down the reward's gradient is that of the wrapped angle, not of the turn."""
    harness = harness_of("pendulum")
    states = harness.reset()
    for angle in (np.pi + 0.1, -np.pi - 0.1, 7 * np.pi - 0.2):
        moved = harness.moved(states, angle=np.full(harness.lanes, angle))
        assert harness.derivative_error(moved) < SMOOTH


@pytest.mark.slow
def test_a_reacher_at_the_limit_of_its_joint(harness_of):
    harness = harness_of("reacher")
    states = harness.reset()
    qpos = np.array(states.physics.qpos)
    qpos[:, 1] = 3.01  # the limit is at 3
    assert harness.derivative_error(harness.moved(states, qpos=qpos)) < CONTACT


def test_the_reward_of_a_reacher_on_its_target_has_a_gradient(float64):
    """A norm has none at zero, and its derivative is NaN: the reacher says zero."""
    environment = envs.make("reacher")
    action = jnp.array([0.3, -0.2])

    @jax.jit
    @jax.value_and_grad
    def reward(qpos):
        physics = environment._physics(qpos, jnp.zeros(4))
        return environment._assess(physics, action, physics)[0]

    reach = sum(environment._links)
    for short, slope in ((0.0, 0.0), (0.02, 1.0)):
        value, gradient = reward(jnp.array([0.0, 0.0, reach - short, 0.0]))
        np.testing.assert_allclose(value, -short - 0.13, rtol=1e-12)
        np.testing.assert_allclose(gradient, [0.0, 0.0, slope, 0.0], atol=1e-12)


@pytest.mark.slow
def test_a_reacher_on_its_target_has_a_gradient(harness_of):
    harness = harness_of("reacher")
    states = harness.reset()
    qpos = np.zeros_like(states.physics.qpos)
    qpos[:, 2] = sum(harness.env._links)
    at_rest = harness.moved(states, qpos=qpos, qvel=np.zeros_like(states.physics.qvel))
    transition, _ = harness.step(at_rest, np.zeros((harness.lanes, 2)))
    assert np.all(transition.reward == 0)
    # Its central difference is zero too: distances grow alike to both sides.
    assert harness.derivative_error(at_rest, action=np.zeros(2)) < SMOOTH


@pytest.mark.slow
def test_a_pusher_apart_from_the_object_and_pushing_it(harness_of, pushing):
    harness = harness_of("pusher")
    states, actions = pushing
    assert _contact_force(harness.env, states, 0) == 0
    assert all(harness.derivative_error(states, lane, actions[lane]) < SMOOTH for lane in (0, 9))
    for _ in range(3):
        _, states = harness.step(states, actions)
    lanes = [lane for lane in range(20) if _contact_force(harness.env, states, lane) > 0][:3]
    assert len(lanes) == 3, "nothing touches the object"
    assert all(harness.derivative_error(states, lane, actions[lane]) < CONTACT for lane in lanes)


@pytest.mark.slow
def test_a_pusher_with_the_object_on_the_goal_has_a_gradient(harness_of, pushing):
    harness = harness_of("pusher")
    states, _ = pushing
    qpos = np.array(states.physics.qpos)
    qpos[:, 9:] = qpos[:, 7:9]
    arrived = harness.moved(states, qpos=qpos)
    assert harness.derivative_error(arrived, action=np.zeros(7)) < SMOOTH


def _contact_force(env, states, lane: int) -> float:
    """The sum of the normal forces between geoms (N), from MuJoCo's own engine."""
    data = mujoco.MjData(env.mujoco_model)
    data.qpos[:] = states.physics.qpos[lane]
    data.qvel[:] = states.physics.qvel[lane]
    mujoco.mj_forward(env.mujoco_model, data)
    total, force = 0.0, np.zeros(6)
    for contact in range(data.ncon):
        mujoco.mj_contactForce(env.mujoco_model, data, contact, force)
        total += force[0]
    return total
