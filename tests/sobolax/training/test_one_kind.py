"""Gradients along the action alone, or along the state alone: none of the other is computed."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax import make_training
from sobolax.agents import sac
from sobolax.agents.critics import make_critics
from sobolax.cart import Cart
from sobolax.tangents import Derivatives
from sobolax.training import normalization
from sobolax.weighting import WEIGHTINGS
from sobolax.weighting.interface import Signals

SMALL = sac.Config(
    total_timesteps=64,
    num_envs=4,
    epochs=1,
    gradient_steps=2,
    learning_starts=16,
    batch_size=8,
    replay_capacity=64,
    hidden_sizes=(8,),
    report_states=0,
    gradient_units="observation_std",
    trust="soft",
)
KINDS = ("state", "action")


@pytest.mark.parametrize("kind", KINDS)
def test_no_rule_counts_a_kind_without_directions(kind):
    config = replace(SMALL, weighting="relative_loss_progress", **{f"{kind}_directions": 0})
    weighting = config.critic_options(1).weighting(sac.Hyperparameters())
    signals = [np.float32(1.0)] * 6
    state = weighting.init()
    for _ in range(3):
        weights, state = weighting.update(state, Signals(*signals, gram=None))
    assert float(getattr(weights, kind)) == 0.0
    assert float(weights.value) == pytest.approx(1.0)  # the terms stay as they are


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_without_a_kind_is_that_with_a_weight_of_zero_for_it(kind):
    cart = Cart()
    critics = make_critics(2, 1, replace(SMALL.critic_options(2), count=1))
    normalizer = normalization.update(normalization.init(2), 3 * jnp.eye(2))

    def td_error(critic, extra):
        return lambda t: critic(t.observation, t.action) - t.reward - 0.9 * t.next_observation[0]

    def updated(config, hyper):
        source = config.make_source(cart)

        def collect(key):
            state = cart.perturb(cart.reset(key), jax.random.normal(key, (2,)))
            return source.collect(key, state, jax.random.uniform(key, (1,), minval=-1.0))[0]

        batch = jax.vmap(collect)(jax.random.split(jax.random.key(1), 6))
        state, metrics = critics.update(
            critics.init(jax.random.key(0), hyper), normalizer, batch, td_error, jnp.zeros(6),
            source.tangents, jax.random.key(2), hyper,
        )  # fmt: skip
        return jax.flatten_util.ravel_pytree(state.parameters)[0], metrics

    @jax.jit
    def both():
        without = replace(SMALL, **{f"{kind}_directions": 0})
        weightless = sac.Hyperparameters(**{f"{kind}_weight": 0.0})
        return updated(without, sac.Hyperparameters()), updated(SMALL, weightless)

    (found, metrics), (expected, its) = both()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    other = KINDS[1 - KINDS.index(kind)]
    loss = f"{other}_gradient_loss"
    np.testing.assert_allclose(metrics[loss], its[loss], rtol=1e-5)
    assert metrics[f"{kind}_gradient_loss"] == 0
    assert its[f"{kind}_gradient_loss"] > 0


@functools.cache
def epoch_of(config):
    training = make_training(envs.make("pendulum"), config)
    return jax.jit(
        lambda hyper: training.learn(training.init(jax.random.key(0), hyper), hyper, jnp.int32(0))
    )


def test_shares_are_of_the_other_kind_alone():
    learn = epoch_of(replace(SMALL, action_directions=0))
    _, metrics = jax.eval_shape(learn, sac.Hyperparameters())
    assert {name.split("_")[0] for name in metrics if "_gradient_share/" in name} == {"state"}


def learned(config, **weights):
    return epoch_of(config)(sac.Hyperparameters(**weights))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tangent_dtype": "int8"},
        {"tangent_dtype": "int4", "trust": "hard"},
        {"first_order": "recomputed", "n_step": 3},
        {"gradient_fraction": 0.5},
    ],
    ids=lambda options: "-".join(map(str, options.values())) or "cached",
)
def test_no_direction_of_a_kind_is_a_weight_of_zero_for_it(kind, options):
    config = replace(SMALL, **options)
    without, metrics = learned(replace(config, **{f"{kind}_directions": 0}))
    weightless, both = learned(config, **{f"{kind}_weight": 0.0})
    # Other programs: float32 rounds some sums otherwise, and 24 updates carry it along.
    np.testing.assert_allclose(
        jax.flatten_util.ravel_pytree(without.agent.actor)[0],
        jax.flatten_util.ravel_pytree(weightless.agent.actor)[0],
        rtol=1e-3,
        atol=1e-5,
    )
    other = KINDS[1 - KINDS.index(kind)]
    loss = f"{other}_gradient_loss"
    np.testing.assert_allclose(metrics[loss], both[loss], rtol=1e-3)
    assert metrics[f"{kind}_gradient_loss"] == 0
    assert both[f"{kind}_gradient_loss"] > 0
    shares = {name.split("_")[0] for name in metrics if "_gradient_share/" in name}
    assert shares == {other}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_that_kind_is_stored(kind):
    env = envs.make("pendulum")
    source = replace(SMALL, **{f"{kind}_directions": 0}).make_source(env)
    experience, _ = jax.eval_shape(
        source.collect, jax.random.key(0), jax.eval_shape(env.reset, jax.random.key(0)), np.ones(1)
    )
    stored = getattr(experience.tangents, kind)
    assert sum(leaf.size for leaf in jax.tree.leaves(stored)) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        *({"weighting": rule} for rule in WEIGHTINGS),
        *({"gradient_target": name} for name in ("zero", "unit_norm", "shuffled", "random")),
        {"line_search": True, "teacher": "fitted"},
        {"derivatives": Derivatives(max_norm=10.0, max_disagreement=0.5, smoothing_samples=2)},
        {"derivatives": Derivatives(method="differences")},
    ],
    ids=lambda options: str(next(iter(options.values())))[:30],
)
@pytest.mark.slow
def test_every_option_learns_from_one_kind(kind, options):
    state, metrics = learned(replace(SMALL, **{f"{kind}_directions": 0}, **options))
    assert all(np.all(np.isfinite(value)) for value in metrics.values())
    assert np.all(np.isfinite(jax.flatten_util.ravel_pytree(state.agent)[0]))
    assert metrics[f"{KINDS[1 - KINDS.index(kind)]}_gradient_loss"] > 0


def test_no_kind_at_all_is_refused():
    with pytest.raises(ValueError, match="leave no gradient at all"):
        replace(SMALL, state_directions=0, action_directions=0).check(envs.make("pendulum"))
