"""A two-link arm that reaches for a target, after Gymnasium's Reacher-v5."""

import jax
import jax.numpy as jnp

from envs.mujoco import gymnasium_models
from envs.mujoco.base import MujocoEnvironment
from envs.mujoco.physics import Physics


class Reacher(MujocoEnvironment):
    """Reacher-v5: bring the fingertip of a planar arm to a target.

    The observation is `(cos q (2), sin q (2), target (2), q' (2), tip - target (2))`, `(10,)`, in m
    and rad/s; the reward of a step is `-|tip - target| - |action|²`; an episode starts near the
    stretched arm with a target uniform in the disc of 0.2 m, has 50 steps of 0.02 s and never
    terminates. Model and formulas are Gymnasium's (`gymnasium/envs/mujoco/reacher_v5.py`).

    The target is two sliding joints of the model, so it belongs to the physics state and `perturb`
    moves it: `state_size` is 8.

    Differences: semi-implicit Euler, where the model's own integrator is `"rk4"`; the tip is read
    after the step (Gymnasium's is one physics step late in observation and reward); the action is
    not clipped; where the tip is on the target, the gradient of the distance is taken as zero.

    Args:
        integrator: `"euler"`, `"implicitfast"` or `"rk4"`.
        iterations: Solver iterations, at most (of the joint limits).
        ls_iterations: Line-search iterations of each of them, at most.
    """

    name = "reacher"
    episode_length = 50

    def __init__(self, integrator: str = "euler", iterations: int = 8, ls_iterations: int = 8):
        model = gymnasium_models.load("reacher.xml")
        # Along the first link and from the second joint to the tip (m).
        self._links = (model.body("body1").pos[0], model.body("fingertip").pos[0])
        super().__init__(model, 2, integrator, iterations, ls_iterations)

    def _reset_physics(self, key: jax.Array) -> Physics:
        for_arm, for_velocity, for_radius, for_angle = jax.random.split(key, 4)
        dtype = jnp.result_type(float)
        arm = jax.random.uniform(for_arm, (2,), dtype, minval=-0.1, maxval=0.1)
        velocity = jax.random.uniform(for_velocity, (2,), dtype, minval=-0.005, maxval=0.005)
        # The root makes it uniform over the disc, as Gymnasium's rejection of the corners does.
        radius = 0.2 * jnp.sqrt(jax.random.uniform(for_radius, (), dtype))
        angle = jax.random.uniform(for_angle, (), dtype, maxval=2 * jnp.pi)
        target = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return self._physics(
            jnp.concatenate([arm, target]), jnp.concatenate([velocity, jnp.zeros(2, dtype)])
        )

    def _observe(self, physics: Physics) -> jax.Array:
        arm, target = physics.qpos[:2], physics.qpos[2:]
        return jnp.concatenate(
            [jnp.cos(arm), jnp.sin(arm), target, physics.qvel[:2], self._miss(physics)]
        )

    def _assess(
        self, before: Physics, action: jax.Array, after: Physics
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        squared = jnp.sum(self._miss(after) ** 2)
        hit = squared == 0
        distance = jnp.where(hit, 0.0, jnp.sqrt(jnp.where(hit, 1.0, squared)))
        reward = -distance - jnp.sum(action**2)
        return reward, jnp.zeros((), bool), {"distance": distance}

    def _miss(self, physics: Physics) -> jax.Array:
        """From the target to the tip (m), `(2,)`: both move in the same plane."""
        first, second = physics.qpos[0], physics.qpos[0] + physics.qpos[1]
        near, far = self._links
        tip = jnp.stack(
            [
                near * jnp.cos(first) + far * jnp.cos(second),
                near * jnp.sin(first) + far * jnp.sin(second),
            ]
        )
        return tip - physics.qpos[2:]
