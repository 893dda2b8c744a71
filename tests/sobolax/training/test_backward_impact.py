"""Gradients of a window through an impact, beside differences of MuJoCo's own engine."""

import jax
import jax.numpy as jnp
import numpy as np

from envs.mujoco.mjcf import MjcfEnvironment
from sobolax.mjx.engine import mujoco
from sobolax.training.backward import differentiate
from sobolax.training.rollouts import Rollout

GAMMA, HORIZON = 0.9, 8


class Bounce(MjcfEnvironment):
    """A ball that falls obliquely onto a plane with friction, pushed along both axes."""

    # The solver converges to rounding: only then are differences of its results derivatives.
    xml = """
    <mujoco>
      <option timestep="0.01" iterations="50" ls_iterations="50" tolerance="1e-15"/>
      <worldbody>
        <geom type="plane" size="1 1 1"/>
        <body pos="0 0 0.13">
          <joint name="x" type="slide" axis="1 0 0"/><joint name="z" type="slide" axis="0 0 1"/>
          <geom size="0.1" mass="1"/>
        </body>
      </worldbody>
      <actuator><motor joint="x"/><motor joint="z"/></actuator>
    </mujoco>"""

    def reward(self, before, action, after):
        return reward(after.qpos, after.qvel, action)


def reward(qpos, qvel, action):
    return qvel[0] - qpos[1] ** 2 - 0.1 * (action[0] ** 2 + action[1] ** 2)


def policy(observation, noise):
    """Of arrays of either library."""
    xp = np if isinstance(observation, np.ndarray) else jnp
    action = xp.tanh(0.3 * xp.sin(observation[:2]) + 0.2 * observation[2:] + 0.1 * noise)
    return action, jnp.zeros(())


def value(observation):
    return observation[1] + observation[3] ** 2


def engine_rollout(env, noise, pushes):
    """States before every step, `(steps + 1, 4)`, and the objective, by MuJoCo's C engine."""
    data = mujoco.MjData(env.mujoco_model)
    data.qvel[:] = 1.0, -1.0
    states, total = [np.concatenate([data.qpos, data.qvel])], 0.0
    for step, (one, push) in enumerate(zip(noise, pushes, strict=True)):
        data.ctrl[:] = action = policy(states[-1], one)[0] + push
        mujoco.mj_step(env.mujoco_model, data)
        states.append(np.concatenate([data.qpos, data.qvel]))
        total += GAMMA**step * reward(data.qpos, data.qvel, action)
    return np.array(states), total + GAMMA**HORIZON * value(states[-1])


def test_gradients_go_through_an_impact(float64):
    """The total derivative of the objective along every action, before and after the impact."""
    env = Bounce(iterations=50, ls_iterations=50)
    noise = np.random.default_rng(0).normal(size=(HORIZON, 2))
    still = np.zeros((HORIZON, 2))
    states, objective = engine_rollout(env, noise, still)
    assert states[1, 3] < -1  # it falls,
    assert states[-1, 3] > 0  # and has bounced

    @jax.jit
    def run(states):
        physics = jax.vmap(env._physics)(states[:, :2], states[:, 2:])
        start = env.reset(jax.random.key(0))
        made = jax.vmap(lambda one, seen: type(start)(one, seen, start.reward, start.discount, {}))
        flags = jnp.ones(HORIZON), jnp.zeros(HORIZON, bool), jnp.ones(HORIZON, bool)
        before = made(jax.tree.map(lambda leaf: leaf[:-1], physics), states[:-1])
        rollout = Rollout(before, jnp.asarray(noise), states[1:], *flags)
        return differentiate(env, policy, value, rollout, discount=GAMMA)

    found = run(jnp.asarray(states))
    # The engines agree to rounding, as the objective shows, summed over the steps.
    np.testing.assert_allclose(found.objective[0], objective, rtol=1e-12)

    def differences(distance):
        moves = distance * np.eye(still.size).reshape(-1, HORIZON, 2)
        up, down = (
            np.array([engine_rollout(env, noise, sign * move)[1] for move in moves])
            for sign in (1, -1)
        )
        return (up - down).reshape(HORIZON, 2) / (2 * distance)

    expected = differences(1e-5)
    # What rounding, 1e-16 in the objective over a distance of 1e-5, and curvature leave.
    uncertainty = np.abs(expected - differences(2e-5)).max()
    assert uncertainty < 1e-9
    actions = found.weights[:, None] * found.actions
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-9)
    assert np.abs(expected[:3]).min() > 1e-3  # of actions before the impact, too
