"""A point mass pushed by mixed actuators."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from envs import parameters
from sobolax.environment import State, anchored

_STEP = 0.1  # s
_FORCE = 2.0  # N at full action, for a mass of 1 kg
_DAMPING = 0.5  # 1/s


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Physics:
    """Position (m) and velocity (m/s) of the point, each `(dimension,)`."""

    position: jax.Array
    velocity: jax.Array


class PointMass:
    """A point mass in any number of dimensions, to be brought to the origin and held there.

    There are as many actuators as dimensions, and each pushes along a direction of a fixed random
    orthogonal matrix, so that every dimension needs all of them: an agent has to find out which
    way each actuator leads, which is what a gradient with respect to the action says.

    The observation is `(position, velocity)`, `(2 * dimension,)`. The reward is
    `-(|position|² + 0.1 |velocity|² + 0.01 |action|²)`. An episode starts at a position uniform in
    [-1, 1] and at rest, has 100 steps of 0.1 s, and never terminates. Actions are not clipped.

    Args:
        dimension: Of the space, 1 to 256.
        seed: Which mixing matrix.
    """

    name = "point_mass"
    episode_length = 100
    reverse_mode = True

    def __init__(self, dimension: int = 4, seed: int = 0):
        self.action_size = parameters.integer("dimension", dimension, 1, 256)
        self.state_size = self.observation_size = 2 * self.action_size
        draw = np.random.default_rng(parameters.integer("seed", seed, 0))
        self.mixing, _ = np.linalg.qr(draw.normal(size=(self.action_size, self.action_size)))

    def reset(self, key: jax.Array) -> State:
        """Draws a position in the cube of [-1, 1]; the velocity is zero."""
        position = jax.random.uniform(
            key, (self.action_size,), jnp.result_type(float), minval=-1.0, maxval=1.0
        )
        physics = Physics(position, jnp.zeros_like(position))
        return self._state(physics, jnp.zeros((), position.dtype))

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by 0.1 s (semi-implicit Euler); the reward is of the state left behind."""
        position, velocity = state.physics.position, state.physics.velocity
        reward = -(jnp.sum(position**2) + 0.1 * jnp.sum(velocity**2) + 0.01 * jnp.sum(action**2))
        mixing = jnp.asarray(self.mixing, position.dtype)
        force = _FORCE * jnp.dot(mixing, action, precision=jax.lax.Precision.HIGHEST)
        velocity = velocity + _STEP * (force - _DAMPING * velocity)
        return self._state(Physics(position + _STEP * velocity, velocity), reward)

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Adds `(position, velocity)` to the state."""
        to_position, to_velocity = jnp.split(displacement, 2)
        physics = Physics(
            state.physics.position + to_position, state.physics.velocity + to_velocity
        )
        observation = anchored(_observe(physics), state, displacement)
        return replace(state, physics=physics, observation=observation)

    def coordinates(self, state: State) -> jax.Array:
        """Position and velocity, `(state_size,)`."""
        return jnp.concatenate([state.physics.position, state.physics.velocity])

    def _state(self, physics: Physics, reward: jax.Array) -> State:
        metrics = {"distance": jnp.sqrt(jnp.sum(jax.lax.stop_gradient(physics.position) ** 2))}
        return State(physics, _observe(physics), reward, jnp.ones_like(reward), metrics)


def _observe(physics: Physics) -> jax.Array:
    return jnp.concatenate([physics.position, physics.velocity])
