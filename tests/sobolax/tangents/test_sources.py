"""All sources of gradients are one loss."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax.agents import sac
from sobolax.agents.critics import CriticOptions
from sobolax.agents.sac import Hyperparameters
from sobolax.cart import Cart
from sobolax.losses import Weights, batch_loss, sobolev_errors, squares
from sobolax.tangents.methods import Derivatives
from sobolax.tangents.sources import SOURCES, make_source
from sobolax.training import normalization

ENVIRONMENTS = [
    ("lqr", {"dimension": 3}),
    pytest.param("pendulum", {}, marks=pytest.mark.slow),
    # These compile MJX four times each; the hopper has contacts.
    pytest.param("chain", {"joints": 2}, marks=pytest.mark.slow),
    pytest.param("hopper", {}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "parameters"), ENVIRONMENTS)
def test_cached_recomputed_and_reverse_give_one_loss_and_one_gradient(float64, name, parameters):
    env = envs.make(name, **parameters)
    options = CriticOptions(hidden_sizes=(16,))
    agent = sac.make_agent(env.observation_size, env.action_size, options)
    hyper = Hyperparameters()
    state = jax.jit(agent.init)(jax.random.key(0), hyper)
    seen = np.random.default_rng(1).normal(size=(50, env.observation_size))
    normalizer = jax.jit(normalization.update)(normalization.init(env.observation_size), seen)
    weights = Weights(0.4, 0.6)

    def gradient(source_name):
        source = make_source(source_name, env, tangent_dtype="float64")

        def collect(key):
            reset_key, action_key = jax.random.split(key)
            action = jax.random.uniform(action_key, (env.action_size,), minval=-0.9, maxval=0.9)
            return source.collect(key, env.reset(reset_key), action)[0]

        def loss(critic, experience, key):
            def one(e, noise, k):
                def target(t):
                    action, bonus = agent.sample(state, normalizer, t.next_observation, noise)
                    next_value = agent.value(state, normalizer, t.next_observation, action)
                    return t.reward + 0.99 * t.discount * (next_value + bonus)

                def td_error(t):
                    updated = replace(state, critics=replace(state.critics, parameters=critic))
                    q = agent.value(updated, normalizer, t.observation, t.action)
                    return q - target(t)

                found = source.tangents(e, k, jnp.inf)
                return squares(sobolev_errors(td_error, e.transition, *found))

            noise = jax.random.normal(jax.random.key(2), (4, env.action_size))
            return batch_loss(jax.vmap(one)(experience, noise, jax.random.split(key, 4)), weights)

        @jax.jit
        def evaluate(key):
            experience = jax.vmap(collect)(jax.random.split(key, 4))
            return jax.value_and_grad(loss)(state.critics.parameters, experience, key)

        return evaluate(jax.random.key(5))

    results = [gradient(source) for source in ("cached", "recomputed", "reverse")]
    plain, _ = gradient("off")
    loss, gradient = results[0]
    assert loss > plain * 1.0001, "the gradients must add something, or this test shows nothing"
    for other_loss, other_gradient in results[1:]:
        # Rounding of float64, through a simulator whose derivatives reach a few thousand.
        np.testing.assert_allclose(other_loss, loss, rtol=1e-10)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9),
            other_gradient,
            gradient,
        )


def test_cached_tangents_are_stored_in_the_precision_asked_for():
    env = envs.make("lqr", dimension=3)

    def collected(source):
        collect = jax.jit(lambda key: source.collect(key, env.reset(key), jnp.ones(3))[0])
        return jax.device_get(collect(jax.random.key(1)))

    experience = collected(make_source("cached", env, tangent_dtype="bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(experience.tangents)} == {jnp.bfloat16.dtype}
    assert {leaf.dtype for leaf in jax.tree.leaves(experience.transition)} == {jnp.float32.dtype}
    full = collected(make_source("cached", env))
    jax.tree.map(
        # bfloat16 keeps eight bits: half a unit in the last place is 2^-9.
        lambda a, b: np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=2**-8, atol=1e-30),
        experience.tangents,
        full.tangents,
    )


def test_a_source_stores_only_what_it_needs():
    env = envs.make("lqr", dimension=3)

    def collected(source):
        collect = jax.eval_shape(source.collect, key, jax.eval_shape(env.reset, key), jnp.ones(3))
        return collect[0]

    key = jax.random.key(0)
    stored = {name: collected(make_source(name, env)) for name in SOURCES}
    assert stored["off"].tangents is None
    assert stored["off"].state is None
    assert stored["cached"].state is None
    assert stored["recomputed"].tangents is None
    assert stored["cached"].tangents.state.observation.shape == (3, 3)
    # Along an action direction the first observation cannot move: nothing is stored for it.
    assert stored["cached"].tangents.action.observation is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cache", "pendulum"), "choose one of off, cached, recomputed, reverse"),
        (("cached", "pendulum", 3), "state_directions=3 does not fit .* choose 1 to 2"),
        (("cached", "pendulum", -1), "state_directions=-1 does not fit"),
        (("cached", "pendulum", 0, 0), "leave no gradient at all"),
        (("reverse", "pendulum", 0), "gives all gradients at once"),
        (("reverse", "pendulum", 1), "gives all gradients at once"),
    ],
)
def test_bad_input(arguments, message):
    name, environment, *counts = arguments
    with pytest.raises(ValueError, match=message):
        make_source(name, envs.make(environment), *counts)


class NoReverse(Cart):
    reverse_mode = False


def test_what_an_environment_lacks_is_refused():
    with pytest.raises(ValueError, match=r"no reverse mode .* use the source 'cached'"):
        make_source("reverse", NoReverse())
    env = envs.make("reacher", integrator="rk4")
    with pytest.raises(ValueError, match=r"analytic.* RK4 .* These work: auto, forward"):
        make_source("cached", env, derivatives=Derivatives(method="analytic"))
