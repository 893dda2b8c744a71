"""A cart on a line: the smallest environment that has everything, for examples and first tries.

It needs no simulator, and its numbers can be checked by hand: a push of 1 for one step of half a
second gives a speed of 1/2 and moves it by 1/4.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from sobolax.environment import State
from sobolax.tangents.forward import forward_tangents
from sobolax.transition import Tangents, Transition


class Cart:
    """A cart that is pushed along a line and rewarded for staying near the middle.

    An action is a force of at most 1 N on 1 kg. A step takes half a second: first
    `speed += action / 2`, then `position += speed / 2`. The reward is `-position^2`, after the
    step; 8 m from the middle the track ends, and with it the episode. The observation is the
    physics: position and speed.

    Example:
        >>> cart = Cart()
        >>> next_state = cart.step(cart.at(1.0, 0.0), jnp.ones(1))
        >>> next_state.observation.tolist(), float(next_state.reward)
        ([1.25, 0.5], -1.5625)
    """

    name = "cart"
    observation_size, action_size, state_size = 2, 1, 2
    state_names = ("position", "speed")
    episode_length = 40
    reverse_mode = True

    def at(self, position: jax.typing.ArrayLike, speed: jax.typing.ArrayLike) -> State:
        """The state at a position and a speed, both `()`."""
        physics = jnp.stack([jnp.asarray(position, float), jnp.asarray(speed, float)])
        zero = jnp.zeros((), physics.dtype)
        return State(physics, physics, zero, zero + 1, {})

    def reset(self, key: jax.Array) -> State:
        """At rest, within 1 m of the middle."""
        return self.at(jax.random.uniform(key, minval=-1.0, maxval=1.0), 0.0)

    def step(self, state: State, action: jax.Array) -> State:
        """Half a second on; `action` is `(1,)`."""
        speed = state.physics[1] + action[0] / 2
        position = state.physics[0] + speed / 2
        physics = jnp.stack([position, speed])
        discount = 1.0 - (jnp.abs(position) > 8.0).astype(physics.dtype)
        return State(physics, physics, -jnp.square(position), discount, {})

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Moves position and speed by `displacement`, `(2,)`."""
        physics = state.physics + displacement
        return replace(state, physics=physics, observation=physics)

    def coordinates(self, state: State) -> jax.Array:
        """Position and speed, `(2,)`."""
        return state.physics


def example_transition() -> tuple[Transition, Tangents]:
    """A transition of the cart and its tangents, to try a loss on: a push of 1 from rest at 1 m.

    Example:
        >>> transition, tangents = example_transition()
        >>> float(transition.reward), tangents.state.reward.tolist()  # along position and speed
        (-1.5625, [-2.5, -1.25])
    """
    cart = Cart()
    transition, _, tangents = forward_tangents(
        cart, cart.at(1.0, 0.0), jnp.ones(1), jnp.eye(2), jnp.eye(1)
    )
    return transition, tangents
