"""A one-legged hopper, after Gymnasium's Hopper-v5."""

import jax
import jax.numpy as jnp

from envs.mujoco import gymnasium_models
from envs.mujoco.base import MujocoEnvironment
from envs.mujoco.physics import Physics


class Hopper(MujocoEnvironment):
    """Hopper-v5: hop forward on one leg, without falling.

    The observation is `(qpos without x (5), qvel clipped to ±10 (6))`, `(11,)`, in m, rad and per
    second; the reward of a step is `x velocity + 1 while healthy - 0.001 |action|²`; an episode
    starts upright, moved a little at random, terminates when the torso is below 0.7 m or tilts by
    more than 0.2 rad (or a number of the state leaves ±100), and has 1000 steps of 0.008 s. Model
    and formulas are Gymnasium's (`gymnasium/envs/mujoco/hopper_v5.py`).

    Differences: semi-implicit Euler, where the model's own integrator is `"rk4"`; the action is
    not clipped; a state that is not finite is seen in observation and reward, and terminates
    nothing. Where the clip of a velocity acts, the observation's derivative with respect to it is
    zero.

    Args:
        integrator: `"euler"`, `"implicitfast"` or `"rk4"`.
        iterations: Solver iterations, at most.
        ls_iterations: Line-search iterations of each of them, at most.
    """

    name = "hopper"
    episode_length = 1000

    def __init__(self, integrator: str = "euler", iterations: int = 8, ls_iterations: int = 8):
        super().__init__(
            gymnasium_models.load("hopper.xml"), 4, integrator, iterations, ls_iterations
        )

    def _reset_physics(self, key: jax.Array) -> Physics:
        noise = jax.random.uniform(key, (12,), jnp.result_type(float), minval=-5e-3, maxval=5e-3)
        return self._physics(
            jnp.asarray(self.mujoco_model.qpos0, noise.dtype) + noise[:6], noise[6:]
        )

    def _observe(self, physics: Physics) -> jax.Array:
        return jnp.concatenate([physics.qpos[1:], jnp.clip(physics.qvel, -10.0, 10.0)])

    def _assess(
        self, before: Physics, action: jax.Array, after: Physics
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        x, height, tilt = after.qpos[:3]
        others = jnp.concatenate([after.qpos[2:], after.qvel])
        terminated = (height <= 0.7) | (jnp.abs(tilt) >= 0.2) | jnp.any(jnp.abs(others) >= 100)
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
