"""Every agent on one tiny system whose action values are known: the probes."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax import make_training
from sobolax.agents import td3
from sobolax.agents.critics import CriticOptions
from sobolax.cart import example_transition
from sobolax.tangents.sources import Experience
from sobolax.training import normalization
from tests.sobolax.agents.probe import DELAYED, ENDLESS, IMMEDIATE, Probe

AGENTS = ("q_learning", "ddpg", "td3", "sac")
# One training is enough for the fast tests: what others share with SAC is most of it.
TRAINED = [pytest.param(name, marks=() if name == "sac" else pytest.mark.slow) for name in AGENTS]
GAMMA = 0.8


@functools.cache
def trained(name):
    """The agent after training, as `value`, its gradients, and `act`."""
    module = importlib.import_module(f"sobolax.agents.{name}")
    config = module.Config(
        total_timesteps=8_192,
        num_envs=8,
        epochs=1,
        gradient_steps=4,
        learning_starts=1_024,
        batch_size=64,
        replay_capacity=8_192,
        hidden_sizes=(32, 32),
        activation="tanh",
        evaluation_episodes=1,
        report_states=0,
        normalize_observations=False,
        first_order="cached",
    )
    options = {
        "critic_learning_rate": 3e-3,
        "actor_learning_rate": 1e-3,
        "discount": GAMMA,
        "tau": 0.02,
        "state_weight": 1.0,
        "action_weight": 1.0,
        # No entropy bonus to speak of, no smoothing: what is learned is the plain Q.
        "initial_temperature": 1e-4,
        "temperature_learning_rate": 0.0,
        "target_action_noise": 0.0,
    }
    known = module.Hyperparameters.__dataclass_fields__
    hyper = module.Hyperparameters(**{k: v for k, v in options.items() if k in known})
    env = Probe()
    agent = config.make_agent(env)
    state, _ = jax.jit(make_training(env, config).run)(jax.random.key(0), hyper)

    def q(kind, x, step, action):
        observation = jnp.concatenate([jax.nn.one_hot(kind, 3), jnp.stack([x, step])])
        return agent.value(state.agent, state.normalizer, observation, action[None])

    def act(kind, x):
        observation = jnp.concatenate([jax.nn.one_hot(kind, 3), jnp.stack([x, 0.0])])
        return agent.act(state.agent, state.normalizer, observation)[0]

    return jax.jit(jax.vmap(jax.value_and_grad(q, argnums=(1, 3)))), jax.jit(jax.vmap(act))


def points(kind, step=0.0):
    """States and actions all over the system, `(25,)` each."""
    x, a = (
        grid.ravel() for grid in np.meshgrid(np.linspace(-0.8, 0.8, 5), [-0.9, -0.4, 0, 0.5, 1])
    )
    return np.full(25, kind), jnp.asarray(x, jnp.float32), jnp.full(25, step), jnp.asarray(a)


@pytest.mark.parametrize("name", AGENTS)
def test_every_hyperparameter_is_traced(name):
    """A sweep over all of them, and over seeds, is one program: nothing compiles here."""
    module = importlib.import_module(f"sobolax.agents.{name}")
    config = module.Config(
        total_timesteps=16,
        num_envs=2,
        epochs=1,
        learning_starts=4,
        n_step=2,
        weighting="scale_free",
        report_states=0,
        evaluation_episodes=1,
    )
    hyper = jax.tree.map(lambda value: jnp.full(3, value), module.Hyperparameters())
    train = jax.vmap(make_training(Probe(), config).run)
    _, metrics = jax.eval_shape(train, jax.random.split(jax.random.key(0), 3), hyper)
    assert metrics["evaluation_return"].shape == (3, 1)


# A small network after some thousand updates, at points within the data: seen are 0.005 to 0.05 for
# values and up to 0.15 for gradients, of numbers of order 1 to 5.
VALUE, GRADIENT = 0.15, 0.35


@pytest.mark.parametrize("name", TRAINED)
def test_value_gradients_and_termination(name):
    evaluate, _ = trained(name)
    kind, x, step, a = points(IMMEDIATE)
    value, (along_x, along_a) = evaluate(kind, x, step, a.astype(jnp.float32))
    np.testing.assert_allclose(value, x - (a - x / 2) ** 2, atol=VALUE)
    np.testing.assert_allclose(along_x, 1 + (a - x / 2), atol=GRADIENT)
    np.testing.assert_allclose(along_a, -2 * (a - x / 2), atol=GRADIENT)


@pytest.mark.parametrize("name", TRAINED)
def test_bootstrapping_and_discount_of_values_and_gradients(name):
    evaluate, _ = trained(name)
    for step, share in ((0.0, GAMMA), (1.0, 1.0)):
        kind, x, step, a = points(DELAYED, step)
        value, (along_x, along_a) = evaluate(kind, x, step, a.astype(jnp.float32))
        np.testing.assert_allclose(value, share * 2 * x, atol=VALUE)
        np.testing.assert_allclose(along_x, np.full(25, share * 2), atol=GRADIENT)
        np.testing.assert_allclose(along_a, np.zeros(25), atol=GRADIENT)


@pytest.mark.parametrize("name", TRAINED)
def test_a_time_limit_is_no_end(name):
    evaluate, _ = trained(name)
    value, _ = evaluate(*points(ENDLESS)[:3], points(ENDLESS)[3].astype(jnp.float32))
    # Were it one, three steps of reward 1 would be worth 1 + 0.8 + 0.64 at most.
    np.testing.assert_allclose(value, np.full(25, 1 / (1 - GAMMA)), atol=2 * VALUE)


@pytest.mark.parametrize("name", TRAINED)
def test_the_policy_improves_to_the_best_action(name):
    _, act = trained(name)
    x = jnp.linspace(-0.8, 0.8, 9)
    # Q-learning acts on a grid of nine actions, 0.25 apart; the others' actors are exact to 0.1.
    tolerance = 0.2 if name == "q_learning" else 0.12
    np.testing.assert_allclose(act(np.full(9, IMMEDIATE), x), x / 2, atol=tolerance)


def test_td3_moves_its_targets_with_the_actor():
    """All of them, every `actor_delay` updates (arXiv 1802.09477, algorithm 1)."""
    agent = td3.make_agent(2, 1, CriticOptions(hidden_sizes=(4,)), actor_delay=2)
    hyper = td3.Hyperparameters(tau=0.25)
    transition, tangents = example_transition()
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), Experience(transition, tangents, None))

    @jax.jit
    def update(state, key):
        return agent.update(
            state, normalization.init(2), batch, lambda e, k, bound: (e.tangents, bound), key, hyper
        )[0]

    first = agent.init(jax.random.key(0), hyper)
    second = update(first, jax.random.key(1))
    third = update(second, jax.random.key(2))
    for name in ("actor", "target_actor"):
        jax.tree.map(np.testing.assert_array_equal, getattr(second, name), getattr(first, name))
    jax.tree.map(np.testing.assert_array_equal, second.critics.target, first.critics.target)
    assert not np.array_equal(*(jax.tree.leaves(s.critics.parameters)[0] for s in (first, second)))
    moved = jax.tree.map(
        lambda new, old: 0.25 * new + 0.75 * old, third.critics.parameters, first.critics.target
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),  # of float32
        third.critics.target,
        moved,
    )
