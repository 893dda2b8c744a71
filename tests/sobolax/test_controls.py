"""Controls: each against numbers worked out by hand."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax import make_training
from sobolax.agents import sac, shac
from sobolax.agents.critics import CriticOptions, make_critics
from sobolax.cart import Cart, example_transition
from sobolax.controls import GRADIENT_TARGETS
from sobolax.losses import DirectionalDerivatives, Errors, Weights, squares
from sobolax.tangents.sources import Experience
from sobolax.training import normalization
from sobolax.training.teacher import given
from sobolax.weighting import constant, scale_free

KEY = jax.random.key(0)


def batch_of_errors(size=5, valid=None):
    """Errors of a batch with two state directions and one of the action."""
    draw = np.random.default_rng(0).normal(size=(4, size, 2)).astype(np.float32)
    ones = np.ones((size, 2), bool) if valid is None else valid
    return Errors(
        np.arange(size, dtype=np.float32),
        np.ones(size, bool),
        DirectionalDerivatives(*(np.where(ones, part, np.float32(0)) for part in draw[:2]), ones),
        DirectionalDerivatives(draw[2, :, :1], draw[3, :, :1], np.ones((size, 1), bool)),
    )


def change(name, errors):
    return jax.device_get(jax.jit(GRADIENT_TARGETS[name])(errors, KEY))


@pytest.mark.parametrize("name", GRADIENT_TARGETS)
def test_nothing_but_gradients_is_touched(name):
    errors = batch_of_errors()
    changed = change(name, errors)
    np.testing.assert_array_equal(changed.value, errors.value)
    np.testing.assert_array_equal(changed.value_valid, errors.value_valid)
    np.testing.assert_array_equal(changed.state.critic, errors.state.critic)
    assert changed.state.valid.all()
    same = name == "bellman"
    assert np.array_equal(changed.state.target, errors.state.target) == same
    assert np.array_equal(changed.action.target, errors.action.target) == same


def test_zero_is_a_penalty_on_the_squared_gradient():
    errors = batch_of_errors()
    terms = squares(change("zero", errors))
    np.testing.assert_allclose(terms.state, np.square(errors.state.critic), rtol=1e-6)


def test_unit_norm_has_the_value_and_the_gradient_of_the_distance_from_norm_one():
    errors = batch_of_errors()

    def penalty(critic):
        changed = Errors(
            errors.value,
            errors.value_valid,
            DirectionalDerivatives(critic, errors.state.target, errors.state.valid),
            errors.action,
        )
        return jnp.sum(squares(GRADIENT_TARGETS["unit_norm"](changed, KEY)).state)

    critic = np.asarray(errors.state.critic, np.float64)
    norm = np.linalg.norm(critic, axis=1, keepdims=True)
    look = jax.jit(jax.value_and_grad(penalty))
    value, gradient = look(errors.state.critic)
    # Float32 sums of ten squares.
    np.testing.assert_allclose(value, np.sum((norm - 1) ** 2), rtol=1e-5)
    np.testing.assert_allclose(gradient, 2 * (norm - 1) * critic / norm, rtol=1e-4, atol=1e-5)
    _, at_zero = look(np.zeros_like(errors.state.critic))
    assert np.isfinite(at_zero).all()


def test_shuffled_gives_every_gradient_to_some_transition_state_and_action_together():
    errors = batch_of_errors(64)
    changed = change("shuffled", errors)
    matches = np.all(
        np.asarray(changed.state.target)[:, None] == np.asarray(errors.state.target)[None], axis=2
    )
    np.testing.assert_array_equal(matches.sum(axis=0), 1)
    order = matches.argmax(axis=1)
    np.testing.assert_array_equal(changed.action.target, errors.action.target[order])
    assert not np.any(order == np.arange(64))


def test_shuffled_leaves_no_gradient_where_it_was():
    errors = batch_of_errors(2)
    for seed in range(4):
        changed = jax.jit(GRADIENT_TARGETS["shuffled"])(errors, jax.random.key(seed))
        np.testing.assert_array_equal(changed.state.target, errors.state.target[::-1])
    with pytest.raises(ValueError, match=r"a batch has 1 with gradients: choose a batch of 2"):
        change("shuffled", batch_of_errors(1))


@pytest.mark.parametrize(
    "config",
    [
        sac.Config(gradient_target="shuffled", batch_size=1),
        sac.Config(gradient_target="shuffled", batch_size=16, gradient_fraction=1 / 16),
        shac.Config(gradient_target="shuffled", num_envs=4, horizon=2, minibatches=8),
    ],
    ids=["batch", "fraction", "minibatches"],
)
def test_shuffled_in_batches_of_one_is_refused_before_anything_compiles(config):
    with pytest.raises(ValueError, match=r"Config: gradient_target='shuffled' .* has 1 with"):
        config.check(Cart())


def test_shuffled_counts_a_gradient_only_where_both_transitions_have_one():
    valid = np.ones((5, 2), bool)
    valid[2, 0] = False
    changed = change("shuffled", batch_of_errors(valid=valid))
    missing = np.argwhere(~np.asarray(changed.state.valid))
    assert 1 <= len(missing) <= 2  # its own place, and where it went
    assert (missing[:, 1] == 0).all()
    assert (np.asarray(changed.state.critic)[~np.asarray(changed.state.valid)] == 0).all()


@pytest.mark.parametrize("name", ["shuffled", "random"])
def test_controls_that_mix_a_batch_are_refused_inside_its_vmap(name):
    with pytest.raises(ValueError, match=f"{name}: .* the batch is the first axis"):
        jax.vmap(lambda errors: GRADIENT_TARGETS[name](errors, KEY))(batch_of_errors())


def test_random_keeps_the_norm_and_forgets_the_direction():
    errors = batch_of_errors(512)
    changed = change("random", errors)
    before, after = np.asarray(errors.state.target), np.asarray(changed.state.target)
    norm = np.linalg.norm(before, axis=1)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), norm, rtol=1e-5)
    cosine = np.sum(before * after, axis=1) / norm**2
    # The cosine of two random directions in the plane has deviation 0.71: five standard errors.
    assert abs(cosine.mean()) < 5 * 0.71 / np.sqrt(512)
    # With one number a direction is a sign.
    np.testing.assert_allclose(
        np.abs(changed.action.target), np.abs(errors.action.target), rtol=1e-5
    )


def test_bellmans_gradients_are_what_the_target_moves_by():
    """The split into critic and target, on a TD error whose parts are known."""
    from sobolax.losses import sobolev_errors
    from sobolax.tangents.forward import basis_directions, forward_tangents

    env = envs.make("lqr", dimension=2)
    action = np.float32([0.3, -0.5])

    def td_error(t):
        return jnp.sum(t.observation**2) * t.action[0] - (t.reward + jnp.sum(t.next_observation))

    @jax.jit
    def look(key):
        state = env.reset(key)
        transition, _, tangents = forward_tangents(
            env, state, action, basis_directions(2), basis_directions(2)
        )
        return state, sobolev_errors(td_error, transition, tangents)

    state, errors = look(KEY)
    x = np.asarray(state.observation)
    np.testing.assert_allclose(errors.state.critic, 2 * x * 0.3, rtol=1e-5)
    np.testing.assert_allclose(errors.action.critic, [np.sum(x**2), 0.0], rtol=1e-5)
    target = -2 * env.state_cost @ x + env.dynamics.sum(axis=0)
    np.testing.assert_allclose(errors.state.target, target, rtol=1e-5)
    target = -2 * env.action_cost @ np.asarray(action) + env.control.sum(axis=0)
    np.testing.assert_allclose(errors.action.target, target, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"gradient_target": "zeros"},
            r"gradient_target='zeros' is unknown \(did you mean 'zero'\?\)",
        ),
        (
            {"gradient_target": "zero", "first_order": "off"},
            "needs tangents, and first_order='off'",
        ),
        (
            {"gradient_target": "shuffled", "state_directions": 2},
            "needs whole gradients, but state_directions=2 draws random directions",
        ),
        (
            {"gradient_target": "unit_norm", "action_directions": 1},
            "needs whole gradients, but action_directions=1",
        ),
        ({"weighting": "scalefree"}, "did you mean 'scale_free'"),
        ({"weighting": lambda base: constant(Weights(-1.0, base.action))}, r"state.*-1"),
    ],
)
def test_options_that_cannot_work_are_refused_before_compilation(changes, message):
    with pytest.raises(ValueError, match=message):
        make_training(envs.make("pendulum"), sac.Config(**changes))


def updated_once(critics, hyper, batch, td_error):
    @jax.jit
    def update(batch):
        state, seen = critics.init(KEY, hyper), normalization.init(2)
        return critics.update(state, seen, batch, td_error, jnp.zeros(2), given, KEY, hyper)

    return update(batch)


@pytest.mark.parametrize(
    ("name", "each"), [("bellman", 0.0), ("shuffled", 0.0), ("zero", 1.0), ("unit_norm", 0.0858)]
)
def test_trust_weighs_what_a_control_asks_for_and_does_not_change_it(name, each):
    # Two transitions whose critic and target have the gradient (1, 1), of which one stretches:
    # its squared gradients count a ten-thousandth, and another's gradient is (1, 1) all the same.
    transition, tangents = example_transition()

    def stretching(factor):
        state = replace(
            tangents.state,
            observation=jnp.eye(2),
            reward=jnp.ones(2),
            next_observation=factor * jnp.eye(2),
        )
        return Experience(transition, replace(tangents, state=state), None)

    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), stretching(0.0), stretching(100.0))

    def td_error(critic, _):
        return lambda t: jnp.sum(t.observation) - t.reward + 0 * critic(t.observation, t.action)

    options = CriticOptions((4,), gradient_target=name, trust="soft")
    critics, hyper = make_critics(2, 1, options), sac.Hyperparameters(discount=0.5)
    _, metrics = updated_once(critics, hyper, batch, td_error)
    trusted = [1.0, 1.0 / (1.0 + (0.5 * float(transition.discount) * 100.0) ** 2)]
    expected = 2 * 2 * each * np.mean(trusted)  # critics, directions; (1 - 1 / sqrt(2))^2 = 0.0858
    np.testing.assert_allclose(metrics["state_gradient_loss"], expected, rtol=1e-3, atol=1e-9)


@functools.cache
def weights_of(gradient_target):
    transition, tangents = example_transition()
    batch = jax.tree.map(
        lambda leaf: jnp.stack([leaf, 2 * leaf]), Experience(transition, tangents, None)
    )

    def td_error(critic, _):
        return lambda t: critic(t.observation, t.action) - t.reward

    options = CriticOptions(
        (4,), gradient_target=gradient_target, weighting=lambda hyper: scale_free(hyper.weights)
    )
    _, found = updated_once(make_critics(2, 1, options), sac.Hyperparameters(), batch, td_error)
    return found["weight_state"], found["weight_action"]


@pytest.mark.parametrize("name", ["zero", "unit_norm", "random"])
def test_a_weighting_sees_bellmans_gradients_whatever_a_control_asks_for(name):
    expected = weights_of("bellman")
    assert expected[0] > 0
    np.testing.assert_allclose(weights_of(name), expected, rtol=1e-5)
