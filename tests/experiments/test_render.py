"""Episodes that are drawn."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from experiments.render import record
from sobolax.environment import State


def test_an_episode_ends_before_a_reward_that_is_not_finite():
    def state(count, reward):
        return State(count, count[None], reward, jnp.ones(()), {})

    def frame(states):
        return np.zeros((1, 6, 1, 3)), np.zeros((1, 6, 1, 3, 3))

    counting = SimpleNamespace(
        episode_length=5,
        reset=lambda key: state(jnp.zeros(()), jnp.zeros(())),
        # 1, then 2, then not a number.
        step=lambda before, action: state(
            before.physics + 1, jnp.where(before.physics < 2, before.physics + 1, jnp.nan)
        ),
        frame=frame,
    )
    [episode] = record(counting, lambda policy, seen: seen, jnp.zeros(1), ["one"])
    np.testing.assert_array_equal(episode.returns, [0.0, 1.0, 3.0])
    assert episode.positions.shape[0] == 3
    assert episode.note == "ended after 2 steps"
