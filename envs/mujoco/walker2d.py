"""A two-legged walker in a plane, after Gymnasium's Walker2d-v5."""

import jax
import jax.numpy as jnp

from envs.mujoco import gymnasium_models
from envs.mujoco.base import MujocoEnvironment
from envs.mujoco.physics import Physics


class Walker2d(MujocoEnvironment):
    """Walker2d-v5: walk forward on two legs, without falling.

    The observation is `(qpos without x (8), qvel clipped to ±10 (9))`, `(17,)`, in m, rad and per
    second; the reward of a step is `x velocity + 1 while healthy - 0.001 |action|²`; an episode
    starts upright, moved a little at random, terminates when the torso is below 0.8 m or above 2 m
    or tilts by more than 1 rad, and has 1000 steps of 0.008 s. Model and formulas are Gymnasium's
    (`gymnasium/envs/mujoco/walker2d_v5.py`).

    Differences: semi-implicit Euler, where the model's own integrator is `"rk4"`; the action is
    not clipped; a state that is not finite is seen in observation and reward, and terminates
    nothing. Where the clip of a velocity acts, the observation's derivative with respect to it is
    zero.

    Args:
        integrator: `"euler"`, `"implicitfast"` or `"rk4"`.
        iterations: Solver iterations, at most.
        ls_iterations: Line-search iterations of each of them, at most.
    """

    name = "walker2d"
    episode_length = 1000

    def __init__(self, integrator: str = "euler", iterations: int = 8, ls_iterations: int = 8):
        super().__init__(
            gymnasium_models.load("walker2d_v5.xml"), 4, integrator, iterations, ls_iterations
        )

    def _reset_physics(self, key: jax.Array) -> Physics:
        noise = jax.random.uniform(key, (18,), jnp.result_type(float), minval=-5e-3, maxval=5e-3)
        return self._physics(
            jnp.asarray(self.mujoco_model.qpos0, noise.dtype) + noise[:9], noise[9:]
        )

    def _observe(self, physics: Physics) -> jax.Array:
        return jnp.concatenate([physics.qpos[1:], jnp.clip(physics.qvel, -10.0, 10.0)])

    def _assess(
        self, before: Physics, action: jax.Array, after: Physics
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        x, height, tilt = after.qpos[:3]
        terminated = (height <= 0.8) | (height >= 2.0) | (jnp.abs(tilt) >= 1.0)
        x_velocity = (x - before.qpos[0]) / self.dt
        healthy = jnp.where(terminated, jnp.zeros_like(x), jnp.ones_like(x))
        control_cost = 1e-3 * jnp.sum(action**2)
        metrics = {
            "x_position": x,
            "x_velocity": x_velocity,
            "healthy_reward": healthy,
            "control_cost": control_cost,
        }
        return x_velocity + healthy - control_cost, terminated, metrics
