"""A robot in the shape of a person, after Gymnasium's Humanoid-v5."""

import jax
import jax.numpy as jnp

from envs.mujoco import gymnasium_models
from envs.mujoco.base import MujocoEnvironment
from envs.mujoco.physics import Physics
from sobolax.mjx import for_cpu
from sobolax.mjx.engine import mjx, mujoco

_CONTROL = 0.4  # the control of a full action; the model's gears make torques of it


class Humanoid(MujocoEnvironment):
    """Humanoid-v5: walk forward on two legs, without falling.

    The observation is `(qpos without x and y (22), qvel (23))`, `(45,)`, in m, rad and per second,
    with the torso's attitude as a quaternion; with the control `u = 0.4 action`, the reward of a
    step is `1.25 * x velocity of the centre of mass + 5 while healthy - 0.1 |u|²`; an episode
    starts upright, moved a little at random, terminates when the torso is below 1 m or above 2 m,
    and has 1000 steps of 0.015 s. Model and formulas are Gymnasium's
    (`gymnasium/envs/mujoco/humanoid_v5.py`).

    `state_size` is 46: a quaternion has four numbers and three directions.

    Differences: of the observation only positions and velocities (Gymnasium's with all `include_*`
    off: inertias and velocities of bodies follow from these, and each number costs 63 gradients);
    no contact forces in the observation and no contact cost (they jump with the state and have no
    gradient); actions in [-1, 1] instead of ±0.4; semi-implicit Euler, where the model's own
    integrator is `"rk4"`; Newton's method as the solver, where the model specifies a projected
    Gauss-Seidel, which MJX lacks; the quaternion is normalised after the reset's noise; the centre
    of mass is read after the step (Gymnasium's is one physics step late); the action is not
    clipped; a state that is not finite is seen in observation and reward, and terminates nothing;
    where a limb that touches the floor stands steeper than 60 degrees, MJX turns the friction
    pyramid of its contact another way than MuJoCo's C engine, and sideways forces differ (where
    limbs touch one another both engines agree to 1e-4).

    Args:
        integrator: `"euler"`, `"implicitfast"` or `"rk4"`.
        iterations: Solver iterations, at most.
        ls_iterations: Line-search iterations of each of them, at most.
    """

    name = "humanoid"
    episode_length = 1000

    def __init__(self, integrator: str = "euler", iterations: int = 8, ls_iterations: int = 8):
        model = gymnasium_models.load("humanoid.xml")
        model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
        # Under `jit`, as the step: traced once.
        self._center_of_mass = jax.jit(for_cpu(self._locate_center_of_mass))
        super().__init__(model, 5, integrator, iterations, ls_iterations)

    def _reset_physics(self, key: jax.Array) -> Physics:
        noise = jax.random.uniform(key, (47,), jnp.result_type(float), minval=-1e-2, maxval=1e-2)
        qpos = jnp.asarray(self.mujoco_model.qpos0, noise.dtype) + noise[:24]
        # The noise reaches the quaternion, as in Gymnasium; MuJoCo uses it normalised, and a
        # tangent is a rotation only of a unit quaternion, so it is normalised here.
        attitude = qpos[3:7] / jnp.sqrt(jnp.sum(qpos[3:7] ** 2))
        return self._physics(jnp.concatenate([qpos[:3], attitude, qpos[7:]]), noise[24:])

    def _control(self, action: jax.Array) -> jax.Array:
        return _CONTROL * action

    def _observe(self, physics: Physics) -> jax.Array:
        return jnp.concatenate([physics.qpos[2:], physics.qvel])

    def _assess(
        self, before: Physics, action: jax.Array, after: Physics
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        x, y, height = after.qpos[:3]
        masses = self._model_of(after).body_mass
        moved = self._center_of_mass(masses, after.qpos) - self._center_of_mass(masses, before.qpos)
        x_velocity, y_velocity = moved[:2] / self.dt
        terminated = (height <= 1.0) | (height >= 2.0)
        healthy = jnp.where(terminated, jnp.zeros_like(x), 5 * jnp.ones_like(x))
        control_cost = 0.1 * jnp.sum(self._control(action) ** 2)
        metrics = {
            "x_position": x,
            "y_position": y,
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
            "healthy_reward": healthy,
            "control_cost": control_cost,
        }
        return 1.25 * x_velocity + healthy - control_cost, terminated, metrics

    def _locate_center_of_mass(self, masses: jax.Array, qpos: jax.Array) -> jax.Array:
        """Where the centre of mass of all bodies is (m), `(3,)`; masses are `(bodies,)`."""
        data = mjx.kinematics(self._model, self._data.replace(qpos=qpos))
        return (masses / jnp.sum(masses)).astype(qpos.dtype) @ data.xipos
