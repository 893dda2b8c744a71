"""A critic that is smooth for its own sake, against numbers done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax.agents import sac
from sobolax.agents.critics import CriticOptions, make_critics
from sobolax.agents.smoothness import ALONG, CURVED, MIXED, NOISE, mean_pave, pave
from sobolax.cart import Cart
from sobolax.tangents.sources import Experience
from sobolax.training import normalization
from sobolax.transition import Transition


@pytest.mark.parametrize("bend", [-3.0, 0.25])
def test_terms_of_a_quadratic_value_are_those_done_by_hand(bend):
    turn = np.array([[1.0, 2.0], [0.0, -1.0]])  # of the action's gradient with the observation
    unit = jnp.array([2.0, 0.5])
    where = jnp.array([0.5, 0.1]), jnp.array([0.2, 0.3]), jnp.array([1.5, 0.1])

    def value(observation, action):
        return action @ jnp.asarray(turn) @ observation + bend * jnp.sum(action**2) / 2

    keys = jax.random.split(jax.random.key(0), 20_000)
    found = float(jnp.mean(jax.jit(jax.vmap(lambda key: pave(value, *where, unit, key)))(keys)))
    mixed = np.sum((turn * NOISE * np.asarray(unit)) ** 2) / 2
    along = np.sum(turn[:, 0] ** 2) / 2  # the first number moves by one
    curved = max(0.0, 2 * bend + 1.0)
    # Of the noise's mean square: sqrt(2 / 20,000) is 1 %.
    close = {"rel": 1e-5, "abs": 0.05 * MIXED * mixed}
    assert found == pytest.approx(MIXED * mixed + ALONG * along + CURVED * curved, **close)


def fit(smoothness, weights):
    """Critics after 300 updates towards a value that turns fast, and the metrics of each."""
    critics = make_critics(1, 1, CriticOptions((16,), smoothness=smoothness))
    normalizer, size = normalization.init(1), 32
    places = jax.random.uniform(jax.random.key(1), (3, size, 1), minval=-1.0, maxval=1.0)
    values = 3.0 * jnp.sin(4.0 * places[0, :, 0]) * places[1, :, 0]
    transitions = Transition(places[0], places[1], values, jnp.zeros(size), places[2])
    batch = Experience(transitions, None, None)

    def one(weight):
        hyper = sac.Hyperparameters(critic_learning_rate=1e-2, smoothness_weight=weight)

        def step(state, key):
            return critics.update(
                state,
                normalizer,
                batch,
                lambda critic, _: lambda t: critic(t.observation, t.action) - t.reward,
                jnp.zeros(size),
                lambda experience, key, bound: (None, bound),
                key,
                hyper,
            )

        start = critics.init(jax.random.key(0), hyper)
        return jax.lax.scan(step, start, jax.random.split(jax.random.key(2), 300))

    return jax.jit(jax.vmap(one))(jnp.asarray(weights))


def test_it_makes_a_smoother_critic_and_with_a_weight_of_zero_it_changes_nothing():
    _, metrics = fit("pave", [0.0, 1.0])
    free, smooth = metrics["smoothness_loss"][:, -1]
    assert smooth < 0.5 * free
    _, without = fit("none", [0.0, 1.0])
    assert "smoothness_loss" not in without
    values, others = metrics["value_loss"][0, :8], without["value_loss"][0, :8]
    # The same arithmetic in another program: rounding, which later steps of Adam amplify.
    np.testing.assert_allclose(values, others, rtol=1e-4)
    np.testing.assert_array_equal(*without["value_loss"])


def test_a_transition_that_is_not_finite_is_left_out():
    def value(w, o, a):
        return w * a[0] * o[0] - 2.0 * a[0] ** 2

    def penalty(w, next_observation):
        places = jnp.zeros((2, 1))
        batch = Transition(places, places, places[:, 0], places[:, 0], next_observation)
        return mean_pave(w, value, batch, jnp.zeros(1), jax.random.key(0))

    # 0.1 * 3^2 of the second critic, of the one transition that is left.
    found, gradient = jax.value_and_grad(penalty)(
        jnp.array([0.0, 1.0]), jnp.array([[3.0], [jnp.nan]])
    )
    assert found == pytest.approx(0.9)
    np.testing.assert_allclose(gradient, [0.0, 1.8], rtol=1e-5)


@pytest.mark.parametrize("name", ["unit", "next_observation"])
def test_shapes_that_would_be_broadcast_are_refused(name):
    given = {name_: jnp.zeros(1) for name_ in ("observation", "next_observation", "unit", "action")}
    given[name] = jnp.zeros(2)
    with pytest.raises(ValueError, match=rf"{name} has the shape \(2,\) where .* has \(1,\): .*"):
        pave(lambda o, a: o[0] * a[0], **given, key=jax.random.key(0))


def test_an_unknown_smoother_is_refused_by_name():
    with pytest.raises(ValueError, match=r"critic_smoothness='paved' is unknown.*'pave'"):
        sac.Config(critic_smoothness="paved").check(Cart())
    with pytest.raises(ValueError, match=r"smoothness_weight=-1\.0 must be finite and at least 0"):
        sac.Hyperparameters(smoothness_weight=-1.0)
