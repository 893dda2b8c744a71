"""Fitted Q-iteration on a few transitions, with a critic written in Flax NNX.

Without the marked lines it fits values alone. `python -m examples.nnx_critic` runs it with and
without them.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from examples.cart_task import ACTIONS, draw, mean_return

# Sobolev: begin
from sobolax.cart import Cart
from sobolax.losses import Weights, batch_loss, sobolev_terms
from sobolax.tangents import basis_directions, forward_tangents

# Sobolev: end
SAMPLES, UPDATES, DISCOUNT = 12, 200, 0.9


class Critic(nnx.Module):
    """A value of an observation and an action."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(3, 64, rngs=rngs)
        self.second = nnx.Linear(64, 64, rngs=rngs)
        self.out = nnx.Linear(64, 1, rngs=rngs)

    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """`(2,)` and `(1,)` to `()`."""
        x = nnx.swish(self.first(jnp.concatenate([observation, action])))
        return self.out(nnx.swish(self.second(x)))[0]


@partial(jax.jit, static_argnames="rounds")
def train(seed: int, state_weight: Any = 0.0, action_weight: Any = 0.0, rounds: int = 10):
    """Fits for `rounds` of 200 updates; the target critic is the last round's.

    Args:
        seed: Of the transitions and the critic.
        state_weight: lambda_s; without the marked lines it does nothing.
        action_weight: lambda_a; likewise.
        rounds: An evaluation follows each.

    Returns:
        Updates and mean returns, `(rounds,)` each, and the critic's parameters after each round,
        with a leading axis of rounds.
    """
    key_draw, key_critic = jax.random.split(jax.random.key(seed))
    states, actions, transitions = draw(key_draw, SAMPLES)
    # Sobolev: begin
    directions = basis_directions(2), basis_directions(1)
    differentiate = jax.vmap(lambda *where: forward_tangents(Cart(), *where, *directions)[2])
    tangents = differentiate(states, actions)
    # Sobolev: end
    static, parameters = nnx.split(Critic(nnx.Rngs(key_critic)), nnx.Param)
    optimizer = optax.adam(1e-3)

    def td_error(critic, target, t):
        value = jnp.max(jax.vmap(lambda action: target(t.next_observation, action))(ACTIONS))
        return critic(t.observation, t.action) - (t.reward + DISCOUNT * t.discount * value)

    def loss(parameters, target):
        critic = nnx.merge(static, parameters)
        loss = jnp.mean(jax.vmap(partial(td_error, critic, target))(transitions) ** 2)
        # Sobolev: begin
        terms = jax.vmap(partial(sobolev_terms, partial(td_error, critic, target)))
        weights = Weights(state_weight, action_weight, value=0.0)
        loss += batch_loss(terms(transitions, tangents), weights)
        # Sobolev: end
        return loss

    def play_round(carry, updates):
        target = nnx.merge(static, carry[0])

        def update(carry, _):
            parameters, moments = carry
            change, moments = optimizer.update(jax.grad(loss)(parameters, target), moments)
            return (optax.apply_updates(parameters, change), moments), None

        carry, _ = jax.lax.scan(update, carry, None, UPDATES)
        critic = nnx.merge(static, carry[0])
        return carry, (updates, mean_return(critic), carry[0])

    carry = parameters, optimizer.init(parameters)
    return jax.lax.scan(play_round, carry, UPDATES * jnp.arange(1, rounds + 1))[1]


if __name__ == "__main__":
    from examples.comparison import show

    show(__file__, "Fitted Q with a critic in Flax NNX, cart, 12 transitions", unit="updates")
