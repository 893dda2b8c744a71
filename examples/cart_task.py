"""What the fitted-Q examples share: a cart, a few random transitions of it, and a greedy policy."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from sobolax.cart import Cart
from sobolax.environment import State
from sobolax.tangents.forward import plain_transition
from sobolax.transition import Transition

ACTIONS = jnp.linspace(-1.0, 1.0, 9)[:, None]  # N; what a greedy policy chooses from, `(9, 1)`


def draw(key: jax.Array, count: int) -> tuple[State, jax.Array, Transition]:
    """Random states within 2 m at up to 1 m/s, random actions, what follows; `count` of each."""
    keys = jax.random.split(key, 3)
    position = jax.random.uniform(keys[0], (count,), minval=-2.0, maxval=2.0)
    speed = jax.random.uniform(keys[1], (count,), minval=-1.0, maxval=1.0)
    actions = jax.random.uniform(keys[2], (count, 1), minval=-1.0, maxval=1.0)
    states = jax.vmap(Cart().at)(position, speed)
    transitions, _ = jax.vmap(partial(plain_transition, Cart()))(states, actions)
    return states, actions, transitions


def mean_return(q: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """Mean return, `()`, of the policy that is greedy in `q(observation, action)`.

    Sixteen starts at rest, 20 steps each; what follows the track's end counts like the end.
    """
    cart = Cart()

    def move(state, _):
        values = jax.vmap(lambda action: q(state.observation, action))(ACTIONS)
        state = cart.step(state, ACTIONS[jnp.argmax(values)])
        return state, jnp.maximum(state.reward, -64.0)

    def episode(position):
        return jnp.sum(jax.lax.scan(move, cart.at(position, 0.0), None, 20)[1])

    return jnp.mean(jax.vmap(episode)(jnp.linspace(-1.0, 1.0, 16)))
