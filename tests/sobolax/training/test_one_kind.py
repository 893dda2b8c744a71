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
from sobolax.tangents import Derivatives
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


@functools.cache
def epoch_of(config):
    training = make_training(envs.make("pendulum"), config)
    return jax.jit(
        lambda hyper: training.learn(training.init(jax.random.key(0), hyper), hyper, jnp.int32(0))
    )


def learned(config, **weights):
    return epoch_of(config)(sac.Hyperparameters(**weights))


@pytest.mark.parametrize("kind", [pytest.param("state", marks=pytest.mark.slow), "action"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"tangent_dtype": "int8"}, marks=pytest.mark.slow),
        pytest.param({"tangent_dtype": "int4", "trust": "hard"}, marks=pytest.mark.slow),
        pytest.param({"first_order": "recomputed", "n_step": 3}, marks=pytest.mark.slow),
        pytest.param({"gradient_fraction": 0.5}, marks=pytest.mark.slow),
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
