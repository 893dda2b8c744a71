"""Brax's SAC: its networks, its losses and its replay buffer, imported, in a loop of our own.

The loop is ours because `brax.training.agents.sac.train` of Brax 0.14.2 calls what JAX 0.10 no
longer has; the losses run. Without the marked lines nothing but Brax's losses is trained.
`python -m examples.brax_sac` runs it with and without them.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import sobolax.mjx  # noqa: F401  (before Brax: it drops what MJX prints on import)

# isort: split
from brax.training import replay_buffers
from brax.training.agents.sac import losses as sac_losses
from brax.training.agents.sac import networks as sac_networks
from brax.training.types import Transition

from envs.analytic.point_mass import PointMass

# Sobolev: begin
from sobolax.losses import Weights, batch_loss, sobolev_terms
from sobolax.tangents import basis_directions, forward_tangents

# Sobolev: end
ENVIRONMENTS, EPISODE, UPDATES, BATCH, CAPACITY = 8, 50, 2, 64, 4_096  # two updates a step
DISCOUNT, TARGET_RATE = 0.95, 0.01


@partial(jax.jit, static_argnames="rounds")
def train(seed: int, state_weight: Any = 0.0, action_weight: Any = 0.0, rounds: int = 8):
    """Trains for `rounds` of one episode of every environment.

    Args:
        seed: Of everything random.
        state_weight: lambda_s; without the marked lines it does nothing.
        action_weight: lambda_a; likewise.
        rounds: An evaluation follows each.

    Returns:
        Environment steps and mean returns, `(rounds,)` each, and the parameters after each round,
        with a leading axis of rounds.
    """
    env = PointMass()
    networks = sac_networks.make_sac_networks(  # smooth: a gradient is trained
        env.observation_size, env.action_size, hidden_layer_sizes=(64, 64), activation=nn.swish
    )
    losses = sac_losses.make_losses(networks, 1.0, DISCOUNT, env.action_size)
    alpha_loss, brax_critic_loss, actor_loss = losses
    distribution, optimizer = networks.parametric_action_distribution, optax.adam(1e-3)

    def critic_loss(q, policy, target, alpha, transitions, key):
        loss = brax_critic_loss(q, policy, None, target, alpha, transitions, key)

        # Sobolev: begin
        def td_error(index, key, t):
            next_one = jax.tree.map(
                lambda leaf: leaf[None], t._replace(observation=t.next_observation)
            )
            # Brax stops the gradient at its target; its actor's loss is minus the soft value.
            value = -actor_loss(policy, None, target, alpha, next_one, key)
            own = networks.q_network.apply(None, q, t.observation, t.action)[index]
            return own - (t.reward + DISCOUNT * t.discount * value)

        keys = jax.random.split(key, BATCH)
        tangents, bare = transitions.extras["tangents"], transitions._replace(extras=())
        weights = Weights(state_weight, action_weight, value=0.0)
        for index in range(2):  # twin critics, whose squares Brax averages and halves
            terms = jax.vmap(lambda k, *at, i=index: sobolev_terms(partial(td_error, i, k), *at))
            loss += 0.25 * batch_loss(terms(keys, bare, tangents), weights)
        # Sobolev: end
        return loss

    @jax.vmap
    def step(state, action):
        next_state = env.step(state, action)
        extras: dict[str, Any] = {"state_extras": {"truncation": jnp.zeros(())}}
        # Sobolev: begin
        directions = basis_directions(env.state_size), basis_directions(env.action_size)
        extras["tangents"] = forward_tangents(env, state, action, *directions)[2]
        # Sobolev: end
        outcome = next_state.reward, next_state.discount, next_state.observation
        return next_state, Transition(state.observation, action, *outcome, extras)

    def update(learner, transitions, key):
        w, target, moments = learner
        keys = jax.random.split(key, 3)
        policy, q, alpha = w["policy"], w["q"], jnp.exp(w["log_alpha"])
        gradient = {
            "log_alpha": jax.grad(alpha_loss)(w["log_alpha"], policy, None, transitions, keys[0]),
            "q": jax.grad(critic_loss)(q, policy, target, alpha, transitions, keys[1]),
            "policy": jax.grad(actor_loss)(policy, None, q, alpha, transitions, keys[2]),
        }
        change, moments = optimizer.update(gradient, moments)
        w = optax.apply_updates(w, change)
        return w, optax.incremental_update(w["q"], target, TARGET_RATE), moments

    def act_and_learn(carry, key):
        learner, states, buffer = carry
        key_action, key_updates = jax.random.split(key)
        wanted = networks.policy_network.apply(None, learner[0]["policy"], states.observation)
        states, transitions = step(states, distribution.sample(wanted, key_action))
        buffer = queue.insert(buffer, transitions)

        def sample_and_update(carry, key):
            buffer, transitions = queue.sample(carry[1])
            return (update(carry[0], transitions, key), buffer), None

        keys = jax.random.split(key_updates, UPDATES)
        (learner, buffer), _ = jax.lax.scan(sample_and_update, (learner, buffer), keys)
        return (learner, states, buffer), None

    def evaluate(policy, key):
        def move(states, _):
            wanted = networks.policy_network.apply(None, policy, states.observation)
            states = jax.vmap(env.step)(states, distribution.mode(wanted))
            return states, states.reward

        starts = jax.vmap(env.reset)(jax.random.split(key, 32))
        return jnp.mean(jnp.sum(jax.lax.scan(move, starts, None, EPISODE)[1], axis=0))

    def play_round(carry, inputs):
        index, key = inputs
        learner, buffer = carry
        key_reset, key_steps, key_evaluation = jax.random.split(key, 3)
        states = jax.vmap(env.reset)(jax.random.split(key_reset, ENVIRONMENTS))
        keys = jax.random.split(key_steps, EPISODE)
        (learner, _, buffer), _ = jax.lax.scan(act_and_learn, (learner, states, buffer), keys)
        w = learner[0]
        steps = (index + 1) * EPISODE * ENVIRONMENTS
        return (learner, buffer), (steps, evaluate(w["policy"], key_evaluation), w)

    key_policy, key_q, key_buffer, key = jax.random.split(jax.random.key(seed), 4)
    start = jax.vmap(env.reset)(jax.random.split(key, ENVIRONMENTS))
    _, example = step(start, jnp.zeros((ENVIRONMENTS, env.action_size)))
    queue = replay_buffers.UniformSamplingQueue(
        CAPACITY, jax.tree.map(lambda leaf: leaf[0], example), BATCH
    )
    q = networks.q_network.init(key_q)
    w = {"policy": networks.policy_network.init(key_policy), "q": q, "log_alpha": jnp.zeros(())}
    carry = (w, q, optimizer.init(w)), queue.init(key_buffer)
    inputs = jnp.arange(rounds), jax.random.split(key, rounds)
    return jax.lax.scan(play_round, carry, inputs)[1]


if __name__ == "__main__":
    from examples.comparison import show

    show(__file__, "Brax's SAC loss, point mass with 4 mixed actuators", seeds=1, rounds=8)
