"""An arm that pushes an object to a goal, after Gymnasium's Pusher-v5."""

import jax
import jax.numpy as jnp

from envs.mujoco import gymnasium_models
from envs.mujoco.base import MujocoEnvironment
from envs.mujoco.physics import Physics
from sobolax.mjx.engine import MjModel, mujoco

_CONTROL = 2.0  # the control of a full action: the torque at a joint (N m)
_CANDIDATES = 32  # for the object's place at the start; all are too near once in 1e13


class Pusher(MujocoEnvironment):
    """Pusher-v5: push an object on a table to a goal, with an arm of seven joints.

    The observation is `(arm's angles (7), their velocities (7), wrist (3), object (3), goal (3))`,
    `(23,)`, in rad, rad/s and m; with the control `u = 2 action`, the reward of a step is
    `-|object - goal| - 0.5 |object - wrist| - 0.1 |u|²`; an episode starts with the stretched arm
    almost at rest and the object at random at 0.17 m or more from the goal, has 100 steps of
    0.05 s and never terminates. Model and formulas are Gymnasium's
    (`gymnasium/envs/mujoco/pusher_v5.py`).

    Object and goal are two sliding joints each, so they belong to the physics state and `perturb`
    moves them: `state_size` is 22.

    Differences: the object is an upright capsule around the cylinder that it is there, of the same
    radius, side and mass: MJX looks for contacts with a cylinder by ten steps of gradient descent,
    which leave it wrong by up to 4 mm and 0.2 rad at this size, with derivatives of their own. The
    ends, domes instead of discs, matter where the arm presses from above. The object does not
    touch the table, which could move it nowhere. Actions are in [-1, 1] instead of ±2 and not
    clipped; positions are read after the step (Gymnasium's are one physics step late in
    observation and reward); where a distance is zero, its gradient is taken as zero. Semi-implicit
    Euler is the model's own integrator here. As in Gymnasium, elbow and wrist start just at their
    limits, where the step has a kink.

    Args:
        integrator: `"euler"`, `"implicitfast"` or `"rk4"`.
        iterations: Solver iterations, at most.
        ls_iterations: Line-search iterations of each of them, at most.
    """

    name = "pusher"
    episode_length = 100

    def __init__(self, integrator: str = "euler", iterations: int = 8, ls_iterations: int = 8):
        model = gymnasium_models.load("pusher_v5.xml")
        _make_the_object_a_capsule(model)
        self._base = model.body("r_shoulder_pan_link").pos.copy()
        # From the pan to the lift, the elbow and the wrist (m), along x where all angles are 0.
        self._links = (
            model.body("r_shoulder_lift_link").pos[0],
            model.body("r_elbow_flex_link").pos[0],
            model.body("r_wrist_flex_link").pos[0],
        )
        self._object, self._goal = model.body("object").pos.copy(), model.body("goal").pos.copy()
        super().__init__(model, 5, integrator, iterations, ls_iterations)

    def _reset_physics(self, key: jax.Array) -> Physics:
        for_object, for_velocity = jax.random.split(key)
        dtype = jnp.result_type(float)
        # (y, x), in the order of the joints.
        low, high = jnp.asarray([-0.3, -0.2], dtype), jnp.asarray([0.0, 0.2], dtype)
        places = jax.random.uniform(for_object, (_CANDIDATES, 2), dtype, low, high)
        far = jnp.sum(places**2, axis=1) > 0.17**2
        place = places[jnp.argmax(far)]  # the first, as Gymnasium's loop until one is
        velocity = jax.random.uniform(for_velocity, (7,), dtype, minval=-0.005, maxval=0.005)
        return self._physics(
            jnp.concatenate([jnp.zeros(7, dtype), place, jnp.zeros(2, dtype)]),
            jnp.concatenate([velocity, jnp.zeros(4, dtype)]),
        )

    def _control(self, action: jax.Array) -> jax.Array:
        return _CONTROL * action

    def _observe(self, physics: Physics) -> jax.Array:
        return jnp.concatenate([physics.qpos[:7], physics.qvel[:7], *self._places(physics)])

    def _assess(
        self, before: Physics, action: jax.Array, after: Physics
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        wrist, thing, goal = self._places(after)
        distance, reach = _distance(thing, goal), _distance(thing, wrist)
        control_cost = 0.1 * jnp.sum(self._control(action) ** 2)
        reward = -distance - 0.5 * reach - control_cost
        metrics = {"distance": distance, "reach": reach, "control_cost": control_cost}
        return reward, jnp.zeros((), bool), metrics

    def _places(self, physics: Physics) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Where wrist, object and goal are (m), `(3,)` each."""
        # The rolls of the forearm and of the wrist turn the hand about where the wrist is.
        pan, lift, roll, elbow = physics.qpos[:4]
        shoulder, upper_arm, forearm = self._links
        x, z = upper_arm + forearm * jnp.cos(elbow), -forearm * jnp.sin(elbow)
        y, z = -jnp.sin(roll) * z, jnp.cos(roll) * z
        x, z = jnp.cos(lift) * x + jnp.sin(lift) * z, jnp.cos(lift) * z - jnp.sin(lift) * x
        x = x + shoulder
        x, y = jnp.cos(pan) * x - jnp.sin(pan) * y, jnp.sin(pan) * x + jnp.cos(pan) * y
        wrist = jnp.asarray(self._base, x.dtype) + jnp.stack([x, y, z])
        object_y, object_x, goal_y, goal_x = physics.qpos[7:]
        zero = jnp.zeros_like(x)
        thing = jnp.asarray(self._object, x.dtype) + jnp.stack([object_x, object_y, zero])
        goal = jnp.asarray(self._goal, x.dtype) + jnp.stack([goal_x, goal_y, zero])
        return wrist, thing, goal


def _make_the_object_a_capsule(model: MjModel) -> None:
    """Changes the object's shape in place; mass and inertia stay as they were compiled."""
    geom = int(model.body("object").geomadr[0])
    radius, half_length = model.geom_size[geom, :2]  # of the straight part, for a capsule
    model.geom_type[geom] = mujoco.mjtGeom.mjGEOM_CAPSULE
    # What the engine skips distant pairs by grows with the domes.
    model.geom_rbound[geom] = radius + half_length
    model.geom_aabb[geom] = [0, 0, 0, radius, radius, radius + half_length]
    # Its lower dome is in the table. A bit of its own lets it meet the hand and not the table,
    # whose push, upward, could move it nowhere.
    hand = model.geom_bodyid == model.body("r_wrist_roll_link").id
    model.geom_contype[geom] = 2
    model.geom_conaffinity[hand] |= 2


def _distance(first: jax.Array, second: jax.Array) -> jax.Array:
    squared = jnp.sum((first - second) ** 2)
    equal = squared == 0
    return jnp.where(equal, 0.0, jnp.sqrt(jnp.where(equal, 1.0, squared)))
