"""The swing-up of a pendulum, after Gymnasium's Pendulum-v1."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from sobolax.environment import State, anchored

_STEP = 0.05  # s
_GRAVITY = 10.0  # m/s², of a rod of 1 m and 1 kg
_TORQUE = 2.0  # N m at full action
_SPEED = 8.0  # rad/s, at most


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Physics:
    """Angle from upright (rad, not wrapped) and angular velocity (rad/s), each `()`."""

    angle: jax.Array
    velocity: jax.Array


class Pendulum:
    """Pendulum-v1: swing a rod up with a torque too small to lift it, and hold it upright.

    The observation is `(cos θ, sin θ, θ')`, `(3,)`; the reward of a step is
    `-(θ² + 0.1 θ'² + 0.001 τ²)` with `θ` wrapped to [-π, π); an episode starts at an angle uniform
    in [-π, π) and a velocity uniform in [-1, 1), has 200 steps of 0.05 s and never terminates. All
    of this is Gymnasium's (`gymnasium/envs/classic_control/pendulum.py`).

    Differences: the action is in [-1, 1], scaled to the torque of [-2, 2] N m and not clipped.

    The reward has a kink where `θ` wraps, straight down; elsewhere its gradient is that of `θ²`.
    The speed is clipped at 8 rad/s, as in Gymnasium: at the clip the next state does not depend on
    the velocity or the torque, and its derivative with respect to them is zero.
    """

    name = "pendulum"
    state_names = ("angle", "velocity")
    action_names = ("torque",)
    observation_size = 3
    action_size = 1
    state_size = 2
    episode_length = 200
    reverse_mode = True

    def reset(self, key: jax.Array) -> State:
        """Draws an angle in [-π, π) and a velocity in [-1, 1)."""
        bound = jnp.asarray([jnp.pi, 1.0], jnp.result_type(float))
        angle, velocity = jax.random.uniform(key, (2,), bound.dtype, minval=-bound, maxval=bound)
        return _state(Physics(angle, velocity), jnp.zeros((), bound.dtype))

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by 0.05 s; the reward is of the state left behind."""
        angle, velocity = state.physics.angle, state.physics.velocity
        torque = _TORQUE * action[0]
        reward = -(wrapped(angle) ** 2 + 0.1 * velocity**2 + 0.001 * torque**2)
        velocity = velocity + _STEP * (1.5 * _GRAVITY * jnp.sin(angle) + 3.0 * torque)
        velocity = jnp.clip(velocity, -_SPEED, _SPEED)
        return _state(Physics(angle + _STEP * velocity, velocity), reward)

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Adds `(angle, velocity)` to the state."""
        physics = Physics(
            state.physics.angle + displacement[0], state.physics.velocity + displacement[1]
        )
        observation = anchored(_observe(physics), state, displacement)
        return replace(state, physics=physics, observation=observation)

    def coordinates(self, state: State) -> jax.Array:
        """Angle and velocity, `(state_size,)`."""
        return jnp.stack([state.physics.angle, state.physics.velocity])


def wrapped(angle: jax.Array) -> jax.Array:
    """The angle plus a multiple of 2π, in [-π, π): its gradient is 1."""
    # The number of turns is a constant: said outright, not left to the derivative of a remainder.
    turns = jnp.floor((jax.lax.stop_gradient(angle) + jnp.pi) / (2 * jnp.pi))
    return angle - 2 * jnp.pi * turns


def _observe(physics: Physics) -> jax.Array:
    return jnp.stack([jnp.cos(physics.angle), jnp.sin(physics.angle), physics.velocity])


def _state(physics: Physics, reward: jax.Array) -> State:
    metrics = {"height": jax.lax.stop_gradient(jnp.cos(physics.angle))}
    return State(physics, _observe(physics), reward, jnp.ones_like(reward), metrics)
