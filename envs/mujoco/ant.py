"""A four-legged robot, after Gymnasium's Ant-v5."""

import jax
import jax.numpy as jnp

from envs.mujoco import gymnasium_models
from envs.mujoco.base import MujocoEnvironment
from envs.mujoco.physics import Physics


class Ant(MujocoEnvironment):
    """Ant-v5: walk forward on four legs.

    The observation is `(qpos without x and y (13), qvel (14))`, `(27,)`, in m, rad and per second,
    with the torso's attitude as a quaternion; the reward of a step is
    `x velocity + 1 while healthy - 0.5 |action|²`; an episode starts near the model's own posture,
    terminates when the torso is below 0.2 m or above 1 m, and has 1000 steps of 0.05 s. Model and
    formulas are Gymnasium's (`gymnasium/envs/mujoco/ant_v5.py`).

    `state_size` is 28: a quaternion has four numbers and three directions.

    Differences: no contact forces in the observation and no contact cost (they jump with the state
    and have no gradient); semi-implicit Euler, where the model's own integrator is `"rk4"`;
    positions are read after the step (Gymnasium's torso position is one physics step late in the
    velocity); the action is not clipped; a state that is not finite is seen in observation and
    reward, and terminates nothing; where a leg stands steeper than 60 degrees, MJX turns the
    friction pyramid of its contact another way than MuJoCo's C engine, and sideways forces differ.

    Args:
        integrator: `"euler"`, `"implicitfast"` or `"rk4"`.
        iterations: Solver iterations, at most.
        ls_iterations: Line-search iterations of each of them, at most.
    """

    name = "ant"
    episode_length = 1000

    def __init__(self, integrator: str = "euler", iterations: int = 8, ls_iterations: int = 8):
        super().__init__(gymnasium_models.load("ant.xml"), 5, integrator, iterations, ls_iterations)

    def _reset_physics(self, key: jax.Array) -> Physics:
        for_position, for_velocity = jax.random.split(key)
        dtype = jnp.result_type(float)
        qpos = jnp.asarray(self.mujoco_model.qpos0, dtype)
        qpos = qpos + jax.random.uniform(for_position, (15,), dtype, minval=-0.1, maxval=0.1)
        # The noise reaches the quaternion, as in Gymnasium; MuJoCo uses it normalised, and a
        # tangent is a rotation only of a unit quaternion, so it is normalised here.
        attitude = qpos[3:7] / jnp.sqrt(jnp.sum(qpos[3:7] ** 2))
        qpos = jnp.concatenate([qpos[:3], attitude, qpos[7:]])
        return self._physics(qpos, 0.1 * jax.random.normal(for_velocity, (14,), dtype))

    def _observe(self, physics: Physics) -> jax.Array:
        return jnp.concatenate([physics.qpos[2:], physics.qvel])

    def _assess(
        self, before: Physics, action: jax.Array, after: Physics
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        x, y, height = after.qpos[:3]
        x_velocity, y_velocity = (after.qpos[:2] - before.qpos[:2]) / self.dt
        terminated = (height < 0.2) | (height > 1.0)
        healthy = jnp.where(terminated, jnp.zeros_like(x), jnp.ones_like(x))
        control_cost = 0.5 * jnp.sum(action**2)
        metrics = {
            "x_position": x,
            "y_position": y,
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
            "healthy_reward": healthy,
            "control_cost": control_cost,
        }
        return x_velocity + healthy - control_cost, terminated, metrics
