"""PPO in one file, in the manner of purejaxrl, on our environments as Brax's.

It knows nothing of this library: Brax's wrappers cut and reset the episodes, and the whole training
is one compiled program. `python -m examples.brax_view_ppo` trains it on the pendulum.
"""

from collections import namedtuple
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from brax.envs.base import Env
from brax.envs.wrappers import training as wrappers

import envs

ENVIRONMENTS, UPDATES, PASSES, MINIBATCHES = 64, 4, 4, 8  # four updates an episode
DISCOUNT, TRACE, CLIP, RATE, REWARD_SCALE = 0.95, 0.9, 0.2, 1e-3, 0.1


class Network(nn.Module):
    """A Gaussian policy's mean and log standard deviation, `(actions,)` each, and a value, `()`."""

    actions: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Maps observations."""
        heads = []
        for outputs, scale in ((self.actions, 1e-2), (1, 1.0)):
            y = nn.tanh(nn.Dense(64)(nn.tanh(nn.Dense(64)(x))))
            heads.append(nn.Dense(outputs, kernel_init=nn.initializers.orthogonal(scale))(y))
        log_std = self.param("log_std", nn.initializers.constant(-0.5), (self.actions,))
        return heads[0], log_std, heads[1][..., 0]


Sample = namedtuple("Sample", "observation action log_prob value reward done truncation")


def log_prob(mean: jax.Array, log_std: jax.Array, action: jax.Array) -> jax.Array:
    """Of a Gaussian, but for a constant."""
    return -jnp.sum(0.5 * jnp.square((action - mean) / jnp.exp(log_std)) + log_std, axis=-1)


@partial(jax.jit, static_argnames=("env", "episode_length", "episodes"))
def train(env: Env, episode_length: int, seed: int, episodes: int = 20) -> jax.Array:
    """Trains for `episodes` in each of 64 environments.

    Args:
        env: A view of `envs.brax_env`, or any other environment of Brax's interface.
        episode_length: Steps after which an episode is cut, a multiple of 4.
        seed: Of everything random.
        episodes: How many; the networks are fitted four times in each.

    Returns:
        Sum of rewards over `episode_length` steps, the mean of the environments, `(episodes,)`.
    """
    wrapped, network = wrappers.wrap(env, episode_length=episode_length), Network(env.action_size)
    unroll = episode_length // UPDATES
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(RATE))

    def act(w, state, key):
        mean, log_std, value = network.apply(w, state.obs)
        action = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        after = wrapped.step(state, action)
        outcome = REWARD_SCALE * after.reward, after.done, after.info["truncation"]
        return after, Sample(state.obs, action, log_prob(mean, log_std, action), value, *outcome)

    def back(carry, sample):
        advantage, value = carry
        error = sample.reward + DISCOUNT * (1 - sample.done) * value - sample.value
        advantage = error + DISCOUNT * TRACE * (1 - sample.done) * advantage
        # Brax's wrapper has replaced the observation at the cut: nothing is learned from that step.
        advantage *= 1 - sample.truncation
        return (advantage, sample.value), advantage

    def loss(w, batch):
        samples, advantage = batch
        mean, log_std, value = network.apply(w, samples.observation)
        ratio = jnp.exp(log_prob(mean, log_std, samples.action) - samples.log_prob)
        scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        policy = jnp.minimum(ratio * scaled, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * scaled)
        return 0.5 * jnp.mean((value - samples.value - advantage) ** 2) - jnp.mean(policy)

    def fit(learner, batch):
        change, moments = optimizer.update(jax.grad(loss)(learner[0], batch), learner[1])
        return (optax.apply_updates(learner[0], change), moments), None

    def update(carry, key):
        (w, moments), state = carry
        key_act, key_fit = jax.random.split(key)
        state, samples = jax.lax.scan(partial(act, w), state, jax.random.split(key_act, unroll))
        last = network.apply(w, state.obs)[2]
        advantage = jax.lax.scan(back, (jnp.zeros_like(last), last), samples, reverse=True)[1]
        size = ENVIRONMENTS * unroll
        order = [jax.random.permutation(key, size) for key in jax.random.split(key_fit, PASSES)]
        order = jnp.stack(order).reshape(PASSES * MINIBATCHES, -1)
        rows = jax.tree.map(lambda x: x.reshape(size, *x.shape[2:])[order], (samples, advantage))
        learner, _ = jax.lax.scan(fit, (w, moments), rows)
        return (learner, state), samples.reward.sum() / ENVIRONMENTS / REWARD_SCALE

    key_init, key_reset, key = jax.random.split(jax.random.PRNGKey(seed), 3)
    state = wrapped.reset(jax.random.split(key_reset, ENVIRONMENTS))
    w = network.init(key_init, state.obs)
    carry = (w, optimizer.init(w)), state
    earned = jax.lax.scan(update, carry, jax.random.split(key, episodes * UPDATES))[1]
    return earned.reshape(episodes, UPDATES).sum(axis=1)


if __name__ == "__main__":
    view = envs.brax_env(envs.make("pendulum"))
    for done, earned in enumerate(train(view, view.episode_length, seed=0), 1):
        print(f"{done * ENVIRONMENTS * view.episode_length:7d} steps: return {earned:7.1f}")
