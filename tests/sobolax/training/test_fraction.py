"""Gradients on a fraction of the transitions: what the buffers hold, and that means stay."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sobolax
from sobolax.agents import q_learning, sac, td3
from sobolax.agents.critics import CriticOptions, make_critics
from sobolax.cart import Cart
from sobolax.tangents.sources import Experience, make_source
from sobolax.training import normalization, replay
from sobolax.training.state import Setup
from sobolax.training.updates import _sample

SMALL = {
    "total_timesteps": 128,
    "num_envs": 8,
    "epochs": 2,
    "gradient_steps": 1,
    "learning_starts": 32,
    "batch_size": 16,
    "replay_capacity": 64,
    "hidden_sizes": (8,),
    "evaluation_episodes": 2,
    "report_states": 0,
}
UNEVEN = {"num_envs": 16, "batch_size": 100, "replay_capacity": 128}
NO_UPDATES = SMALL | {"gradient_steps": 0}


@cache
def collected(fraction, n_step=1):
    config = sac.Config(**NO_UPDATES, gradient_fraction=fraction, n_step=n_step)
    training = sobolax.make_training(Cart(), config)
    hyper = sac.Hyperparameters()

    def run(key):
        return training.learn(training.init(key, hyper), hyper, jnp.int32(0))[0]

    return config, jax.jit(run)(jax.random.key(0))


@pytest.mark.parametrize("n_step", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_two_buffers_together_hold_what_one_would(n_step):
    _, whole = collected(1.0, n_step)
    _, split = collected(0.25, n_step)
    # Rows that are written together lie side by side: 8 times those of 2 and of 6 environments.
    assert split.replay.rows.shape[:2] == (8, 2)
    assert split.plain_replay.rows.shape[:2] == (8, 6)
    assert whole.plain_replay is None
    # In the order of the steps: 8 environments, of which the first 2 have tangents.
    read_all = jax.jit(replay.read_all)
    expected, own, plain = (
        jax.tree.map(
            lambda leaf: leaf.reshape(8, -1, *leaf.shape[1:]), jax.device_get(read_all(buffer))
        )
        for buffer in (whole.replay, split.replay, split.plain_replay)
    )
    for name in ("observation", "action", "reward", "discount", "next_observation"):
        found = [getattr(part.transition, name) for part in (own, plain)]
        # Compiled into another program.
        np.testing.assert_allclose(
            np.concatenate(found, axis=1), getattr(expected.transition, name), rtol=1e-5, atol=1e-6
        )
    for found, wanted in zip(
        jax.tree.leaves(own.tangents), jax.tree.leaves(expected.tangents), strict=True
    ):
        np.testing.assert_allclose(found, wanted[:, :2], rtol=1e-5, atol=1e-6)
    assert plain.tangents is None
    for found, wanted in zip(
        jax.tree.leaves(split.normalizer), jax.tree.leaves(whole.normalizer), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_every_transition_is_as_likely_as_any_other():
    config, split = collected(0.25)
    setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
    keys = jax.random.split(jax.random.key(1), 4_000)
    drawn = jax.jit(jax.vmap(lambda key: _sample(setup, split, key)))(keys)
    assert drawn.transition.reward.shape == (4_000, 16)
    assert drawn.tangents.state.reward.shape == (4_000, 4, 2)
    buffers = split.replay, split.plain_replay
    rewards = np.concatenate([replay.read_all(b).transition.reward for b in buffers])
    # 64 transitions, 64,000 draws: the share of each is known to 3 %, and the mean far better.
    values, counts = np.unique(np.asarray(drawn.transition.reward), return_counts=True)
    assert len(values) == len(np.unique(rewards))
    assert drawn.transition.reward.mean() == pytest.approx(rewards.mean(), rel=0.02)
    once = np.isin(values, [value for value in rewards if np.sum(rewards == value) == 1])
    np.testing.assert_allclose(counts[once], 1_000, rtol=0.2)


def test_the_loss_of_a_batch_is_the_mean_of_values_and_of_fewer_gradients():
    """The mean over batches is that over all transitions: both terms are unbiased."""
    cart, source = Cart(), make_source("cached", Cart())
    critics = make_critics(2, 1, CriticOptions(hidden_sizes=(8,), count=2))
    normalizer = normalization.init(2)
    hyper = sac.Hyperparameters(state_weight=0.5, action_weight=0.25)

    def collect(key):
        state = cart.perturb(cart.reset(key), jax.random.normal(key, (2,)))
        return source.collect(key, state, jax.random.uniform(key, (1,), minval=-1.0))[0]

    def td_error(critic, extra):
        return lambda t: critic(t.observation, t.action) - t.reward - 0.9 * t.next_observation[0]

    def metrics_of(batch):
        size = batch.transition.reward.shape[0]
        state = critics.init(jax.random.key(0), hyper)
        return critics.update(
            state, normalizer, batch, td_error, jnp.zeros(size), source.tangents,
            jax.random.key(1), hyper,
        )[1]  # fmt: skip

    @jax.jit
    def run(key):
        items = jax.vmap(collect)(jax.random.split(key, 12))
        part = lambda at: jax.tree.map(lambda leaf: leaf[at], items)  # noqa: E731
        # All ways to give gradients to three neighbours of the twelve, the others without.
        mixed = []
        for start in range(0, 12, 3):
            order = np.roll(np.arange(12), -start)
            chosen = part(order)
            tangents = jax.tree.map(lambda leaf: leaf[:3], chosen.tangents)
            mixed.append(metrics_of(Experience(chosen.transition, tangents, None)))
        return metrics_of(items), mixed

    whole, mixed = run(jax.random.key(2))
    means = jax.tree.map(lambda *values: np.mean(values, axis=0), *mixed)
    for name in ("critic_loss", "value_loss", "state_gradient_loss", "action_gradient_loss"):
        np.testing.assert_allclose(means[name], whole[name], rtol=1e-5, err_msg=name)
    losses = [float(metrics["state_gradient_loss"]) for metrics in mixed]
    assert max(losses) > 1.01 * min(losses)


def learning_from_a_fraction(source):
    """A function of two seeds' hyperparameters, and these."""
    module = {"cached": sac, "recomputed": td3, "reverse": q_learning}[source]
    config = module.Config(**SMALL, first_order=source, gradient_fraction=0.5)
    train = sobolax.make_training(Cart(), replace(config, gradient_target="shuffled")).run
    hyper = jax.tree.map(lambda value: np.full(2, value, np.float32), module.Hyperparameters())
    hyper = replace(hyper, state_weight=np.arange(2, dtype=np.float32))
    return jax.vmap(train, in_axes=(None, 0)), hyper


def test_agents_that_learn_from_a_fraction_are_traced():
    """Their numbers are for the slow tests."""
    train, hyper = learning_from_a_fraction("cached")
    _, metrics = jax.eval_shape(train, jax.random.key(0), hyper)
    assert metrics["critic_loss"].shape == metrics["state_gradient_loss"].shape == (2, 2)
    assert all(f"state_gradient_share/{name}" in metrics for name in Cart.state_names)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["cached", "recomputed", "reverse"])
def test_agents_learn_from_a_fraction_whatever_the_source(source):
    train, hyper = learning_from_a_fraction(source)
    _, metrics = jax.jit(train)(jax.random.key(0), hyper)
    assert np.isfinite(metrics["critic_loss"]).all()
    assert (metrics["state_gradient_loss"][:, 1] > 0).all()
    shares = [metrics[f"state_gradient_share/{name}"][:, 1] for name in Cart.state_names]
    np.testing.assert_allclose(sum(shares), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_fraction": 0.0}, "must be above 0 and at most 1"),
        ({"gradient_fraction": 1.5}, "must be above 0 and at most 1"),
        ({"gradient_fraction": float("nan")}, "must be above 0 and at most 1"),
        ({"gradient_fraction": 0.01}, "of num_envs=8 is 0.08, .* choose 0.125"),
        ({"gradient_fraction": 0.3}, "of num_envs=8 is 2.4, .* choose 0.25"),
        ({"gradient_fraction": 0.125, "batch_size": 4}, "of batch_size=4 is 0.5, .* choose 0.25"),
        # A share that is good for the environments alone would be refused for the batch.
        ({"gradient_fraction": 0.3, **UNEVEN}, "of num_envs=16 is 4.8, .* choose 0.25"),
        ({"gradient_fraction": 0.3125, **UNEVEN}, "of batch_size=100 is 31.25, .* choose 0.25"),
        ({"gradient_fraction": 0.5, "first_order": "off"}, "would do nothing"),
    ],
)
def test_a_fraction_without_a_batch_of_its_own_is_refused(options, message):
    with pytest.raises(ValueError, match=f"sac.Config: gradient_fraction.*{message}"):
        sac.Config(**SMALL | options).check(Cart())
