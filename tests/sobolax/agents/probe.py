"""A tiny system whose action values are known."""

import jax
import jax.numpy as jnp

from sobolax.environment import State

IMMEDIATE, DELAYED, ENDLESS = range(3)


class Probe:
    """Three systems in one, distinguished by the observation `(kind (3), x, step)`.

    - immediate: one step, reward `x - (a - x/2)^2`: value, both gradients, termination, and whether
      the policy finds `a = x/2`;
    - delayed: no reward, then `2 x`, then the end: bootstrapping and the discount;
    - endless: reward 1 forever, cut by the time limit: truncation is no termination.
    """

    name = "probe"
    observation_size = 5
    action_size = state_size = 1
    episode_length = 3
    reverse_mode = True

    def _state(self, physics, reward, discount):
        kind, x, step = physics
        observation = jnp.concatenate([jax.nn.one_hot(kind, 3), x[None], step[None]])
        return State(physics, observation, reward, discount, {})

    def reset(self, key):
        kind_key, x_key = jax.random.split(key)
        kind = jax.random.randint(kind_key, (), 0, 3)
        x = jax.random.uniform(x_key, (), minval=-1.0, maxval=1.0)
        return self._state((kind, x, jnp.zeros(())), jnp.zeros(()), jnp.ones(()))

    def step(self, state, action):
        kind, x, step = state.physics
        immediate = x - (action[0] - x / 2) ** 2
        delayed = jnp.where(step == 1, 2 * x, 0.0)
        reward = jnp.stack([immediate, delayed, jnp.ones(())])[kind]
        terminated = (kind == IMMEDIATE) | ((kind == DELAYED) & (step == 1))
        # The endless one stands still, so that no observation shows its age.
        step = jnp.where(kind == DELAYED, step + 1, step)
        return self._state((kind, x, step), reward, 1.0 - terminated.astype(reward.dtype))

    def perturb(self, state, displacement):
        kind, x, step = state.physics
        return self._state((kind, x + displacement[0], step), state.reward, state.discount)
