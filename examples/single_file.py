"""DDPG in one file, in the manner of CleanRL and purejaxrl: JAX, flax and optax.

Without the marked lines this is plain DDPG. `python -m examples.single_file` runs it with and
without them.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from envs.analytic.point_mass import PointMass

# Sobolev: begin
from sobolax.losses import Weights, batch_loss, sobolev_terms
from sobolax.tangents import basis_directions, forward_tangents

# Sobolev: end
ENVIRONMENTS, EPISODE, UPDATES, BATCH, CAPACITY = 8, 50, 4, 64, 4_096  # four updates a step
DISCOUNT, TARGET_RATE, NOISE = 0.95, 0.01, 0.3


class Transition(NamedTuple):
    """One step, as the agent sees it."""

    observation: Any
    action: Any
    reward: Any
    discount: Any
    next_observation: Any


class Network(nn.Module):
    """Two smooth layers."""

    outputs: int

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """Maps vectors to `(outputs,)`."""
        x = jnp.concatenate(inputs)
        for _ in range(2):
            x = nn.swish(nn.Dense(64)(x))
        return nn.Dense(self.outputs, kernel_init=nn.initializers.normal(3e-3))(x)


@partial(jax.jit, static_argnames="rounds")
def train(seed: int, state_weight: Any = 0.0, action_weight: Any = 0.0, rounds: int = 10):
    """Trains for `rounds` of one episode of every environment.

    Args:
        seed: Of everything random.
        state_weight: lambda_s; without the marked lines it does nothing.
        action_weight: lambda_a; likewise.
        rounds: An evaluation follows each.

    Returns:
        Environment steps and mean returns, `(rounds,)` each, and the networks' parameters after
        each round, with a leading axis of rounds.
    """
    env = PointMass()
    actor, critic = Network(env.action_size), Network(1)
    optimizer = optax.adam(1e-3)

    def policy(w, observation):
        return jnp.tanh(actor.apply(w, observation))

    def q(w, observation, action):
        return critic.apply(w, observation, action)[0]

    def td_error(w, target, t):
        action = policy(target["actor"], t.next_observation)
        value = q(target["critic"], t.next_observation, action)
        return q(w, t.observation, t.action) - (t.reward + DISCOUNT * t.discount * value)

    def critic_loss(w, target, batch):
        errors = jax.vmap(lambda t: td_error(w, target, t))(batch["transition"])
        loss = jnp.mean(errors**2)

        # Sobolev: begin
        def terms(t, dt):
            return sobolev_terms(lambda moved: td_error(w, target, moved), t, dt, tangent_bound=1e3)

        gradients = jax.vmap(terms)(batch["transition"], batch["tangents"])
        loss += batch_loss(gradients, Weights(state_weight, action_weight, value=0.0))
        # Sobolev: end
        return loss

    def actor_loss(w, critic_w, observations):
        return -jnp.mean(jax.vmap(lambda o: q(critic_w, o, policy(w, o)))(observations))

    @jax.vmap
    def step(state, action):
        next_state = env.step(state, action)
        item = {}
        outcome = next_state.reward, next_state.discount, next_state.observation
        item["transition"] = Transition(state.observation, action, *outcome)
        # Sobolev: begin
        directions = basis_directions(env.state_size), basis_directions(env.action_size)
        item["tangents"] = forward_tangents(env, state, action, *directions)[2]
        # Sobolev: end
        return next_state, item

    def update(learner, key, buffer, size):
        w, target, moments = learner
        rows = jax.random.randint(key, (BATCH,), 0, size)
        batch = jax.tree.map(lambda leaf: leaf[rows], buffer)
        gradient = {
            "actor": jax.grad(actor_loss)(w["actor"], w["critic"], batch["transition"].observation),
            "critic": jax.grad(critic_loss)(w["critic"], target, batch),
        }
        change, moments = optimizer.update(gradient, moments)
        w = optax.apply_updates(w, change)
        return w, optax.incremental_update(w, target, TARGET_RATE), moments

    def act_and_learn(carry, key):
        learner, states, buffer, steps = carry
        key_noise, key_updates = jax.random.split(key)
        actions = jax.vmap(lambda o: policy(learner[0]["actor"], o))(states.observation)
        noise = NOISE * jax.random.normal(key_noise, actions.shape)
        states, items = step(states, jnp.clip(actions + noise, -1.0, 1.0))
        buffer = jax.tree.map(
            lambda leaf, new: jax.lax.dynamic_update_slice_in_dim(leaf, new, steps % CAPACITY, 0),
            buffer,
            items,
        )
        steps += ENVIRONMENTS
        size = jnp.minimum(steps, CAPACITY)
        learner, _ = jax.lax.scan(
            lambda learner, key: (update(learner, key, buffer, size), None),
            learner,
            jax.random.split(key_updates, UPDATES),
        )
        return (learner, states, buffer, steps), None

    def evaluate(w, key):
        def move(state, _):
            state = env.step(state, policy(w, state.observation))
            return state, state.reward

        def episode(key):
            return jnp.sum(jax.lax.scan(move, env.reset(key), None, EPISODE)[1])

        return jnp.mean(jax.vmap(episode)(jax.random.split(key, 32)))

    def play_round(carry, key):
        learner, buffer, steps = carry
        key_reset, key_steps, key_evaluation = jax.random.split(key, 3)
        states = jax.vmap(env.reset)(jax.random.split(key_reset, ENVIRONMENTS))
        carry = learner, states, buffer, steps
        keys = jax.random.split(key_steps, EPISODE)
        (learner, _, buffer, steps), _ = jax.lax.scan(act_and_learn, carry, keys)
        w = learner[0]
        return (learner, buffer, steps), (steps, evaluate(w["actor"], key_evaluation), w)

    key_actor, key_critic, key_reset, key = jax.random.split(jax.random.key(seed), 4)
    start = jax.vmap(env.reset)(jax.random.split(key_reset, ENVIRONMENTS))
    observation, action = start.observation[0], jnp.zeros(env.action_size)
    w = {
        "actor": actor.init(key_actor, observation),
        "critic": critic.init(key_critic, observation, action),
    }
    _, items = step(start, jnp.zeros((ENVIRONMENTS, env.action_size)))
    buffer = jax.tree.map(lambda leaf: jnp.zeros((CAPACITY, *leaf.shape[1:]), leaf.dtype), items)
    carry = (w, w, optimizer.init(w)), buffer, jnp.zeros((), jnp.int32)
    return jax.lax.scan(play_round, carry, jax.random.split(key, rounds))[1]


if __name__ == "__main__":
    from examples.comparison import show

    show(__file__, "DDPG in one file, point mass with 4 mixed actuators")
