"""The swing-up of a pole on a cart."""

import jax
import jax.numpy as jnp

from envs.mujoco.base import MujocoEnvironment
from envs.mujoco.physics import Physics
from sobolax.mjx.engine import mujoco

_XML = """
<mujoco model="cartpole">
  <option timestep="0.02"><flag contact="disable"/></option>
  <worldbody>
    <light pos="0 -2 4" dir="0 0.4 -1"/>
    <geom name="rail" type="capsule" fromto="-8 0.08 0 8 0.08 0" size="0.02"
          rgba="0.6 0.6 0.6 1"/>
    <body name="cart">
      <joint name="slider" type="slide" axis="1 0 0" damping="0.1"/>
      <geom name="cart" type="box" size="0.2 0.06 0.1" mass="1" rgba="0.25 0.45 0.75 1"/>
      <body name="pole">
        <joint name="hinge" type="hinge" axis="0 1 0" damping="0.002"/>
        <geom name="pole" type="capsule" fromto="0 0 0 0 0 1" size="0.03" mass="0.1"
              rgba="0.95 0.7 0.2 1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slider" gear="10"/></actuator>
</mujoco>
"""


class Cartpole(MujocoEnvironment):
    """Swing a pole up by moving the cart it hangs from, and balance it near the middle.

    A cart of 1 kg on an endless rail (no stops, so that the dynamics are smooth and derivatives
    exist in both modes), a pole of 1 m and 0.1 kg, a force of up to 10 N.

    The observation is `(x, cos θ, sin θ, x', θ')`, `(5,)`, in m and rad, with `θ` from upright. The
    reward, of the state after the step, is `(1 + cos θ) / 2 / (1 + x² / 4) - 0.01 action²`: near 1
    when upright in the middle. An episode starts with the pole hanging, both moved a little at
    random; it has 250 steps of 0.04 s and never terminates.

    Written for this project, after the swing-up of the DeepMind Control Suite.
    """

    name = "cartpole"
    episode_length = 250

    def __init__(self):
        super().__init__(mujoco.MjModel.from_xml_string(_XML), substeps=2)

    def _reset_physics(self, key: jax.Array) -> Physics:
        noise = 0.1 * jax.random.uniform(key, (4,), jnp.result_type(float), minval=-1, maxval=1)
        hanging = jnp.asarray([0.0, jnp.pi], noise.dtype)
        return self._physics(hanging + noise[:2], noise[2:])

    def _observe(self, physics: Physics) -> jax.Array:
        position, angle = physics.qpos
        place = jnp.stack([position, jnp.cos(angle), jnp.sin(angle)])
        return jnp.concatenate([place, physics.qvel])

    def _assess(
        self, before: Physics, action: jax.Array, after: Physics
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        position, angle = after.qpos
        upright = (1 + jnp.cos(angle)) / 2
        reward = upright / (1 + position**2 / 4) - 0.01 * jnp.sum(action**2)
        return reward, jnp.zeros((), bool), {"upright": upright, "position": position}
