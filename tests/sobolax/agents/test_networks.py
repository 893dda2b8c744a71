"""Normalisation, the tanh-Gaussian and the networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax.agents import sac, shac
from sobolax.agents.distributions import sample_tanh_gaussian
from sobolax.agents.networks import ACTIVATIONS, Critic
from sobolax.cart import Cart
from sobolax.training import normalization


def test_running_statistics_equal_those_of_all_data_at_once():
    data = 1000.0 + np.random.default_rng(0).normal(size=(60, 3)) * [1.0, 5.0, 0.1]
    statistics = normalization.init(3)
    for batch in np.split(data.astype(np.float32), [10, 11, 40]):
        statistics = jax.jit(normalization.update)(statistics, batch)
    np.testing.assert_allclose(statistics.mean, data.mean(axis=0), rtol=1e-6)
    # Numbers near 1000 in float32 carry 6e-5 of rounding each.
    np.testing.assert_allclose(
        statistics.sum_of_squares / statistics.count, data.var(axis=0), rtol=5e-3
    )


def test_nothing_seen_yet_means_nothing_changed():
    observation = np.float32([3.0, -4.0])
    seen = jax.jit(normalization.normalize)(normalization.init(2), observation)
    np.testing.assert_array_equal(seen, observation)


def test_a_constant_number_is_not_blown_up():
    @jax.jit
    def normalized(batch, observation):
        statistics = normalization.update(normalization.init(1), batch)
        return normalization.normalize(statistics, observation)

    assert abs(normalized(np.full((10, 1), 2, np.float32), np.float32([2.001]))[0]) < 0.11


@jax.jit
@jax.value_and_grad
def log_probability(mean):
    return sample_tanh_gaussian(mean, jnp.zeros(1), jnp.full(1, 0.5))[1]


@pytest.mark.parametrize("pre_image", [0.0, -0.3, 3.0, 8.0, -20.0, 60.0])
def test_log_probability_is_exact_in_saturation(pre_image):
    # log(1 - tanh(u)^2) = -2 log cosh u, in float64 and without cancellation.
    u = np.float64(pre_image)
    log_cosh = np.abs(u) + np.log1p(np.exp(-2 * np.abs(u))) - np.log(2)
    expected = -0.125 - 0.5 * np.log(2 * np.pi) + 2 * log_cosh
    found, gradient = log_probability(np.float32([pre_image - 0.5]))
    np.testing.assert_allclose(found, expected, rtol=3e-6, atol=3e-6)  # a few float32 roundings
    np.testing.assert_allclose(gradient[0], 2 * np.tanh(u), rtol=1e-5, atol=1e-6)


def test_the_density_of_actions_integrates_to_one():
    grid = np.linspace(-12.0, 12.0, 20_001, dtype=np.float32)

    @jax.jit
    @jax.vmap
    def density(u):
        noise = (u[None] - 0.3) / 0.8
        action, log_probability = sample_tanh_gaussian(
            jnp.asarray([0.3]), jnp.log(jnp.asarray([0.8])), noise
        )
        return action[0], jnp.exp(log_probability)

    actions, densities = density(grid)
    total = np.trapezoid(np.asarray(densities, np.float64), np.asarray(actions, np.float64))
    assert total == pytest.approx(1.0, abs=1e-4)  # trapezoids of width 1e-3


def test_a_batch_of_samples_is_many_samples():
    draws = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    batched, each = jax.jit(
        lambda *where: (sample_tanh_gaussian(*where), jax.vmap(sample_tanh_gaussian)(*where))
    )(*draws)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), batched, each)


@pytest.mark.parametrize("module", [sac, shac])
def test_a_policy_takes_a_batch_of_observations(module):
    agent = module.Config(hidden_sizes=(4,)).make_agent(Cart())
    seen, observations = normalization.init(2), np.float32([[1, 0], [0, 1], [0.5, 0.5], [-1, 2]])

    @jax.jit
    def act(key):
        state = agent.init(key, module.Hyperparameters())
        one = lambda observation: agent.act(state, seen, observation)  # noqa: E731
        return one(observations), jax.vmap(one)(observations)

    batched, each = act(jax.random.key(0))
    assert batched.shape == (4, 1)
    np.testing.assert_allclose(batched, each, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_gradients_of_activations_do_not_jump(name):
    gradient = jax.jit(jax.vmap(jax.grad(ACTIVATIONS[name])))
    gradient = gradient(np.linspace(-1.0, 1.0, 2001, dtype=np.float32))
    assert np.abs(np.diff(gradient)).max() < 5e-3  # steps of 1e-3 times a curvature below 2


@pytest.mark.parametrize("norm", ["none", "layer", "rms"])
def test_a_normalised_critic_equals_its_formula(norm):
    critic = Critic(hidden_sizes=(5,), activation="tanh", norm=norm)
    observation, action = np.float32([0.5, -1.0]), np.float32([0.2])
    parameters = jax.jit(critic.init)(jax.random.key(0), observation, action)
    first, last = (parameters["params"]["MLP_0"][f"Dense_{at}"] for at in (0, 1))
    x = np.concatenate([observation, action]) @ np.asarray(first["kernel"])
    if norm == "layer":
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    elif norm == "rms":
        x = x / np.sqrt(np.mean(x**2) + 1e-5)
    expected = np.tanh(x) @ np.asarray(last["kernel"])
    look = jax.jit(jax.value_and_grad(critic.apply, argnums=1))
    found, gradient = look(parameters, observation, action)
    np.testing.assert_allclose(found, expected[0], rtol=1e-5)
    assert np.isfinite(gradient).all()
    assert len(parameters["params"]["MLP_0"]) == (2 if norm == "none" else 3)


def test_batch_normalisation_is_refused_with_the_reason():
    for name in ("batch", "BatchNorm", "batch_norm"):
        with pytest.raises(ValueError, match=r"couples the samples of a batch.*'layer' or 'rms'"):
            sac.Config(critic_norm=name).check(Cart())
    with pytest.raises(ValueError, match=r"critic_norm='leyer' is unknown.*'layer'"):
        sac.Config(critic_norm="leyer").check(Cart())
