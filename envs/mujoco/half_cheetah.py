"""A two-legged running robot in a plane, after Gymnasium's HalfCheetah-v5."""

import jax
import jax.numpy as jnp

from envs.mujoco import gymnasium_models
from envs.mujoco.base import MujocoEnvironment
from envs.mujoco.physics import Physics


class HalfCheetah(MujocoEnvironment):
    """HalfCheetah-v5: run forward.

    The observation is `(qpos without x (8), qvel (9))`, `(17,)`, in m, rad and per second; the
    reward of a step is `x velocity - 0.1 |action|²`; an episode starts near the model's own
    posture, has 1000 steps of 0.05 s and never terminates. Model and formulas are Gymnasium's
    (`gymnasium/envs/mujoco/half_cheetah_v5.py`).

    Differences: the action is not clipped. Semi-implicit Euler is the model's own integrator here.

    Args:
        integrator: `"euler"`, `"implicitfast"` or `"rk4"`.
        iterations: Solver iterations, at most.
        ls_iterations: Line-search iterations of each of them, at most.
    """

    name = "half_cheetah"
    episode_length = 1000

    def __init__(self, integrator: str = "euler", iterations: int = 8, ls_iterations: int = 8):
        super().__init__(
            gymnasium_models.load("half_cheetah.xml"), 5, integrator, iterations, ls_iterations
        )

    def _reset_physics(self, key: jax.Array) -> Physics:
        for_position, for_velocity = jax.random.split(key)
        dtype = jnp.result_type(float)
        noise = jax.random.uniform(for_position, (9,), dtype, minval=-0.1, maxval=0.1)
        return self._physics(
            jnp.asarray(self.mujoco_model.qpos0, dtype) + noise,
            0.1 * jax.random.normal(for_velocity, (9,), dtype),
        )

    def _observe(self, physics: Physics) -> jax.Array:
        return jnp.concatenate([physics.qpos[1:], physics.qvel])

    def _assess(
        self, before: Physics, action: jax.Array, after: Physics
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        x_velocity = (after.qpos[0] - before.qpos[0]) / self.dt
        control_cost = 0.1 * jnp.sum(action**2)
        metrics = {
            "x_position": after.qpos[0],
            "x_velocity": x_velocity,
            "control_cost": control_cost,
        }
        return x_velocity - control_cost, jnp.zeros((), bool), metrics
