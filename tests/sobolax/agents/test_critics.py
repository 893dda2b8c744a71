"""The critic's update: every weighting and gradient target within it, and the line search."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax.agents.config import CriticHyperparameters, register_hyperparameters
from sobolax.agents.critics import CriticOptions, make_critics
from sobolax.controls import GRADIENT_TARGETS
from sobolax.losses import Weights
from sobolax.tangents.sources import make_source
from sobolax.training import normalization
from sobolax.weighting import WEIGHTINGS, choose, make_weighting

BATCH, UPDATES = 16, 4
WITH_GRADIENTS = ("gradient_norm_balance", "conflict_free")


@register_hyperparameters
@dataclass(frozen=True)
class Hyperparameters(CriticHyperparameters):
    """Which weighting and which gradient target, as places in their tables."""

    weighting: Any = 0
    gradient_target: Any = 0


def make_learner(weightings=("constant",), line_search=False):
    """`init` and `update` of critics on one batch of pendulum, with an unmoved policy."""
    env = envs.make("pendulum")
    source = make_source("cached", env)

    def collect(key):
        state, action = env.reset(key), jax.random.uniform(key, (1,), minval=-1.0, maxval=1.0)
        return source.collect(key, state, action)[0]

    def weighting(hyper):
        base = Weights(hyper.state_weight, hyper.action_weight)
        made = [make_weighting(name, base, 10 * UPDATES) for name in weightings]
        return choose(hyper.weighting, made)

    def gradient_target(hyper):
        targets = list(GRADIENT_TARGETS.values())
        return lambda errors, key: jax.lax.switch(hyper.gradient_target, targets, errors, key)

    options = CriticOptions(
        (8, 8), gradient_target=gradient_target, weighting=weighting, line_search=line_search
    )
    critics = make_critics(env.observation_size, env.action_size, options)
    normalizer = normalization.init(env.observation_size)

    def update(state, hyper, key):
        def td_error(critic, _):
            def delta(t):
                next_q = critics.min_q(state.target, normalizer, t.next_observation, t.action)
                return critic(t.observation, t.action) - (t.reward + 0.9 * t.discount * next_q)

            return delta

        batch = jax.vmap(collect)(jax.random.split(jax.random.key(0), BATCH))
        extras = jnp.zeros(BATCH)
        return critics.update(
            state, normalizer, batch, td_error, extras, source.tangents, key, hyper
        )

    return critics.init, update


@cache
def learn_side_by_side(gradients: bool):
    """Some updates of many runs, one program: by name, parameters at last and metrics.

    Weightings that need gradients or those that do not, gradient targets and a bounded gradient
    error, with base weights of 0 and 1.
    """
    weightings = ("constant", *WITH_GRADIENTS) if gradients else WEIGHTINGS
    weightings = [name for name in weightings if gradients or name not in WITH_GRADIENTS]
    init, update = make_learner(tuple(weightings))
    changes = {name: {"weighting": at} for at, name in enumerate(weightings)}
    changes |= {name: {"gradient_target": at} for at, name in enumerate(GRADIENT_TARGETS) if at}
    changes |= {"huber": {"huber_delta": 1e-2}}
    runs = [
        Hyperparameters(weight, weight, **change)
        for change in changes.values()
        for weight in (0.0, 1.0)
    ]

    def run(hyper):
        keys = jax.random.split(jax.random.key(2), UPDATES)
        step = lambda state, key: update(state, hyper, key)  # noqa: E731
        state, metrics = jax.lax.scan(step, init(jax.random.key(1), hyper), keys)
        return jax.flatten_util.ravel_pytree(state.parameters)[0], metrics

    stacked = jax.tree.map(lambda *values: jnp.stack([jnp.asarray(v) for v in values]), *runs)
    found = jax.device_get(jax.jit(jax.vmap(run))(stacked))
    return {
        (name, weight): jax.tree.map(lambda leaf, i=2 * place + weight: leaf[i], found)
        for place, name in enumerate(changes)
        for weight in (0, 1)
    }


VARIANTS = [
    name
    for name in (*WEIGHTINGS, *GRADIENT_TARGETS)
    # The last acts when something goes wrong, which it does not here.
    if name not in ("constant", "bellman", "guarded")
]


@pytest.mark.parametrize("name", [*VARIANTS, "huber"])
def test_a_variant_changes_the_update_and_without_gradients_leaves_it_plain(name):
    runs = learn_side_by_side(name in WITH_GRADIENTS)
    plain, first_order = runs["constant", 0], runs["constant", 1]
    # Without gradients gradients are summed in another order at most.
    np.testing.assert_allclose(runs[name, 0][0], plain[0], atol=1e-5)
    parameters, metrics = runs[name, 1]
    assert np.isfinite(parameters).all()
    assert np.abs(parameters - first_order[0]).max() > 1e-5
    # Whatever becomes of gradients, the first update sees the same values.
    np.testing.assert_allclose(metrics["value_loss"][0], first_order[1]["value_loss"][0], rtol=1e-5)
    if name in WEIGHTINGS:
        weights = [metrics[f"weight_{term}"] for term in ("value", "state", "action")]
        assert np.min(weights) >= 0
        assert np.max(np.abs(np.asarray(weights) - 1.0)) > 1e-3


def test_a_bounded_gradient_error_pulls_less():
    runs = learn_side_by_side(False)
    bounded, squared = runs["huber", 1][1], runs["constant", 1][1]
    for name in ("state_gradient_loss", "action_gradient_loss"):
        assert 0 < bounded[name][0] < squared[name][0]


@cache
def make_stepper(line_search: bool):
    """`(learning rate, weight) -> (length of the step, value loss before it, after it)`."""
    init, update = make_learner(line_search=line_search)

    def step(learning_rate, weight):
        # The target does not move, so that both looks at the loss are at the same target.
        hyper = Hyperparameters(weight, weight, tau=0.0, critic_learning_rate=learning_rate)
        key = jax.random.key(2)
        before = init(jax.random.key(1), hyper)

        def look(state, _):
            next_state, metrics = update(state, hyper, key)
            return next_state, (next_state.parameters, metrics["value_loss"])

        _, (parameters, losses) = jax.lax.scan(look, before, None, length=2)
        gaps = jax.tree.map(lambda a, b: jnp.sum((a[0] - b) ** 2), parameters, before.parameters)
        return jnp.sqrt(sum(jax.tree.leaves(gaps))), losses[0], losses[1]

    return jax.jit(step)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_line_search_leaves_a_step_that_helps_as_it_is(weight):
    plain, searched = (make_stepper(flag)(1e-3, weight) for flag in (False, True))
    assert plain[2] < plain[1]
    np.testing.assert_allclose(searched, plain, rtol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_line_search_shortens_a_step_that_overshoots(weight):
    plain, searched = (make_stepper(flag)(2.0, weight) for flag in (False, True))
    assert plain[2] > plain[1]
    assert searched[2] <= searched[1]
    # Adam's step times a power of 0.8, from the first to the eighth.
    power = float(np.log(searched[0] / plain[0]) / np.log(0.8))
    assert power == pytest.approx(round(power), abs=0.02)
    assert 1 <= round(power) <= 8


def test_the_weights_are_the_first_two_hyperparameters():
    assert CriticHyperparameters(0.1, 0.2).weights == Weights(state=0.1, action=0.2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"gradient_units": "observation_sdt"}, "gradient_units='observation_sdt' is unknown"),
        ({"trust": "Soft"}, "trust='Soft' is unknown .did you mean 'soft'"),
        ({"norm": "layernorm"}, "critics.CriticOptions: norm='layernorm' is unknown"),
        ({"gradient_target": "belman"}, "gradient_target='belman' is unknown"),
        ({"smoothness": "paves"}, "smoothness='paves' is unknown"),
        ({"activation": "relu"}, "activation='relu' is not smooth"),
        ({"count": 0}, "count=0 must be a whole number"),
    ],
)
def test_options_that_there_are_not_are_refused_where_they_are_written(option, message):
    with pytest.raises(ValueError, match=message):
        CriticOptions(**option)
