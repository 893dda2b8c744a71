"""A planar arm of many links that reaches for a target: its dimension is a parameter."""

import jax
import jax.numpy as jnp

from envs import parameters
from envs.mujoco.base import MujocoEnvironment
from envs.mujoco.physics import Physics
from sobolax.mjx.engine import mujoco

_LENGTH = 1.0  # m, of the whole arm
_TORQUE = 4.5  # N m at full action, at every joint
_ARMATURE = 0.05  # kg m², per joint and for each joint
_DAMPING = 0.5  # N m s / rad, per joint and for each joint


class Chain(MujocoEnvironment):
    """An arm of `joints` equal links, 1 m in all, on a table: bring its tip to a target.

    No gravity, no contacts, no limits: the dynamics are smooth, no constraint solver runs, and
    derivatives exist in both modes. A motor sits at every joint, whose rotor (armature) and damping
    grow with the number of joints as one joint's share of the bending shrinks: with all joints
    pulling together the arm bends by up to about 9 rad/s whatever their number, and no joint gets
    far on its own.

    The observation is `(cos q, sin q, q', tip, target - tip)`, `(3 * joints + 4,)`, in rad/s and m.
    The reward is `-|target - tip|² - 0.01 mean(action²)`, of the state after the step. An episode
    starts with the arm along the x axis, bent at random and almost at rest, and a target at 0.4 to
    0.9 m from the base and at most 2 rad from the x axis; it has 100 steps of 0.04 s and never
    terminates. The target is part of the physics, but `perturb` does not move it.

    Written for this project.

    Args:
        joints: 2 to 32.
    """

    name = "chain"
    episode_length = 100

    def __init__(self, joints: int = 6):
        self.joints = parameters.integer("joints", joints, 2, 32)
        super().__init__(mujoco.MjModel.from_xml_string(_xml(self.joints)), substeps=2)

    def _reset_physics(self, key: jax.Array) -> Physics:
        for_position, for_velocity, for_radius, for_angle = jax.random.split(key, 4)
        dtype = jnp.result_type(float)
        # The sum of the angles spreads as much for many joints as for few.
        bend = 1.0 / self.joints**0.5
        shape = (self.joints,)
        qpos = jax.random.uniform(for_position, shape, dtype, minval=-bend, maxval=bend)
        qvel = 0.1 * jax.random.uniform(for_velocity, shape, dtype, minval=-bend, maxval=bend)
        radius = _LENGTH * jax.random.uniform(for_radius, (), dtype, minval=0.4, maxval=0.9)
        angle = jax.random.uniform(for_angle, (), dtype, minval=-2.0, maxval=2.0)
        target = jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle), 0 * angle])
        return self._physics(qpos, qvel, target[None])

    def _observe(self, physics: Physics) -> jax.Array:
        tip = self._tip(physics.qpos)
        return jnp.concatenate(
            [
                jnp.cos(physics.qpos),
                jnp.sin(physics.qpos),
                physics.qvel,
                tip,
                physics.mocap_pos[0, :2] - tip,
            ]
        )

    def _assess(
        self, before: Physics, action: jax.Array, after: Physics
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        squared = jnp.sum((after.mocap_pos[0, :2] - self._tip(after.qpos)) ** 2)
        reward = -squared - 0.01 * jnp.mean(action**2)
        distance = jnp.sqrt(jax.lax.stop_gradient(squared))
        return reward, jnp.zeros((), bool), {"distance": distance}

    def _tip(self, qpos: jax.Array) -> jax.Array:
        """The planar position of the tip (m), `(2,)`, in closed form."""
        heading = jnp.cumsum(qpos)
        link = _LENGTH / self.joints
        return link * jnp.stack([jnp.sum(jnp.cos(heading)), jnp.sum(jnp.sin(heading))])


def _xml(joints: int) -> str:
    link = _LENGTH / joints
    width = min(0.02, link / 4)
    bodies = "".join(
        f'<body pos="{link if index else 0} 0 0"><joint name="joint_{index}"/>'
        f'<geom class="link" fromto="0 0 0 {link} 0 0"/>'
        for index in range(joints)
    )
    motors = "".join(f'<motor joint="joint_{index}"/>' for index in range(joints))
    return f"""
    <mujoco model="chain">
      <option timestep="0.02" gravity="0 0 0"><flag contact="disable"/></option>
      <default>
        <joint type="hinge" axis="0 0 1"
               armature="{_ARMATURE * joints}" damping="{_DAMPING * joints}"/>
        <motor gear="{_TORQUE}"/>
        <default class="link">
          <geom type="capsule" size="{width}" mass="{1 / joints}" rgba="0.25 0.45 0.75 1"/>
        </default>
      </default>
      <worldbody>
        <light pos="0 0 3" dir="0 0 -1"/>
        <geom name="table" type="plane" size="1.3 1.3 0.1" pos="0 0 -0.05" rgba="0.9 0.9 0.9 1"/>
        <body name="target" mocap="true">
          <geom name="target" type="sphere" size="0.035" rgba="0.85 0.25 0.2 1"/>
        </body>
        {bodies}
        <geom name="tip" type="sphere" size="{1.3 * width}" pos="{link} 0 0" mass="0"
              rgba="0.95 0.7 0.2 1"/>
        <site name="tip" pos="{link} 0 0"/>
        {"</body>" * joints}
      </worldbody>
      <actuator>{motors}</actuator>
    </mujoco>"""
