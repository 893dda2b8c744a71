"""SAC: its TD error, and that the first-order part switches off without a trace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import envs
from sobolax import make_training
from sobolax.agents import sac
from sobolax.agents import sac as agent_module
from sobolax.agents.distributions import sample_tanh_gaussian
from sobolax.agents.networks import Critic, GaussianActor
from sobolax.agents.sac import make_td_error
from sobolax.losses import sobolev_terms
from sobolax.tangents.sources import Experience, make_source
from sobolax.training import normalization, replay
from sobolax.training.normalization import normalize
from sobolax.transition import Tangents, Transition

BATCH = 8


ENV = envs.make("pendulum")


@functools.cache
def make_batch(source_name):
    source = make_source(source_name, ENV)

    def one(key):
        state = ENV.reset(key)
        action = jax.random.uniform(key, (ENV.action_size,), minval=-1.0, maxval=1.0)
        return source.collect(key, state, action)[0]

    return source, jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), BATCH))


@functools.cache
def make_program(source_name):
    """`init` of the agent, and three updates on one batch."""
    agent = sac.Config(hidden_sizes=(16, 16), first_order=source_name).make_agent(ENV)
    source, _ = make_batch(source_name)
    normalizer = normalization.init(ENV.observation_size)

    def run(state, batch, hyper):
        return jax.lax.scan(
            lambda state, key: agent.update(state, normalizer, batch, source.tangents, key, hyper),
            state,
            jax.random.split(jax.random.key(2), 3),
        )

    return jax.jit(agent.init), jax.jit(run)


def updated(source_name, hyper, batch=None):
    """Parameters and last metrics after some updates on one batch."""
    init, run = make_program(source_name)
    batch = make_batch(source_name)[1] if batch is None else batch
    return run(init(jax.random.key(1), hyper), batch, hyper)


def textbook_sac(hyper):
    """SAC as in its paper, written down once more without anything of first order."""
    _, batch = make_batch("off")
    t = batch.transition
    actor, critic = GaussianActor((16, 16), ENV.action_size), Critic((16, 16))
    adam = optax.adam(hyper.critic_learning_rate)
    rest = normalization.init(ENV.observation_size)

    def twin(parameters, o, a):
        each = [jax.tree.map(lambda leaf, at=at: leaf[at], parameters) for at in range(2)]
        return jnp.stack([critic.apply(p, normalize(rest, o), a) for p in each])

    def policy(parameters, o, noise):
        return sample_tanh_gaussian(*actor.apply(parameters, normalize(rest, o)), noise)

    def update(carry, key):
        policy_p, critic_p, target_p, log_alpha, policy_o, critic_o, alpha_o = carry
        target_key, actor_key, _ = jax.random.split(key, 3)
        alpha = jnp.exp(log_alpha)
        noise = jax.random.normal(target_key, (BATCH, ENV.action_size))

        def critic_loss(parameters):
            def target(t, noise):
                action, log_probability = policy(policy_p, t.next_observation, noise)
                next_q = jnp.min(twin(target_p, t.next_observation, action))
                return hyper.reward_scale * t.reward + hyper.discount * t.discount * (
                    next_q - alpha * log_probability
                )

            def squares(p, t, y):
                value = critic.apply(p, normalize(rest, t.observation), t.action)
                return jnp.square(value - y)

            # One critic after the other, each on the whole batch: bits depend on the order.
            batched = jax.vmap(jax.vmap(squares, (None, 0, 0)), (0, None, None), out_axes=1)
            found = batched(parameters, t, jax.vmap(target)(t, noise))
            return jnp.mean(jnp.sum(found, axis=1))

        change, critic_o = adam.update(jax.grad(critic_loss)(critic_p), critic_o)
        critic_p = optax.apply_updates(critic_p, change)
        noise = jax.random.normal(actor_key, (BATCH, ENV.action_size))

        def actor_loss(parameters):
            def one(o, noise):
                action, log_probability = policy(parameters, o, noise)
                return alpha * log_probability - jnp.min(twin(critic_p, o, action)), log_probability

            losses, log_probabilities = jax.vmap(one)(t.observation, noise)
            return jnp.mean(losses), jnp.mean(log_probabilities)

        gradient, log_probability = jax.grad(actor_loss, has_aux=True)(policy_p)
        change, policy_o = adam.update(gradient, policy_o)
        policy_p = optax.apply_updates(policy_p, change)
        surplus = -log_probability - ENV.action_size * hyper.target_entropy
        change, alpha_o = adam.update(jnp.exp(log_alpha) * surplus, alpha_o)
        log_alpha = optax.apply_updates(log_alpha, change)
        target_p = optax.incremental_update(critic_p, target_p, hyper.tau)
        return (policy_p, critic_p, target_p, log_alpha, policy_o, critic_o, alpha_o), None

    start = make_program("off")[0](jax.random.key(1), hyper)
    carry = (
        start.actor,
        start.critics.parameters,
        start.critics.target,
        start.log_temperature,
        adam.init(start.actor),
        adam.init(start.critics.parameters),
        adam.init(start.log_temperature),
    )
    keys = jax.random.split(jax.random.key(2), 3)
    return jax.jit(lambda c: jax.lax.scan(update, c, keys)[0])(carry)


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_switched_off_it_is_plain_sac_to_the_last_bit():
    hyper = sac.Hyperparameters(state_weight=5.0, action_weight=5.0)
    state, _ = updated("off", hyper)
    actor, critic, target, log_temperature, *_ = textbook_sac(hyper)
    assert_same(state.actor, actor)
    assert_same(state.critics.parameters, critic)
    assert_same(state.critics.target, target)
    assert_same(state.log_temperature, log_temperature)


def test_zero_weights_give_the_plain_update_also_with_a_tangent_that_is_not_finite():
    hyper = sac.Hyperparameters(state_weight=0.0, action_weight=0.0)
    plain, _ = updated("off", hyper)
    first_order, _ = updated("cached", hyper)
    _, batch = make_batch("cached")
    poisoned = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), batch.tangents)
    batch = Experience(batch.transition, poisoned, None)
    with_nan, metrics = updated("cached", hyper, batch)
    for other in (first_order, with_nan):
        jax.tree.map(
            # Two programs, the sums of which are ordered differently; Adam's first steps turn
            # rounding in a gradient near zero into a change of up to the learning rate, 3e-4.
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=3e-6),
            (plain.actor, plain.critics.parameters, plain.critics.target),
            (other.actor, other.critics.parameters, other.critics.target),
        )
    np.testing.assert_allclose(metrics["gradients_dropped"], 1 / BATCH, rtol=1e-6)


def test_a_planted_nan_changes_nothing_but_its_own_term_and_is_counted():
    hyper = sac.Hyperparameters(state_weight=0.5, action_weight=0.5)
    _, batch = make_batch("cached")
    nan = jax.tree.map(lambda leaf: leaf.at[3].set(jnp.nan), batch.tangents)
    huge = jax.tree.map(lambda leaf: leaf.at[3].set(1e9), batch.tangents)
    results = [
        updated("cached", hyper, Experience(batch.transition, tangents, None))
        for tangents in (nan, huge)
    ]
    assert_same(results[0][0], results[1][0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results[0][0]))
    for _, metrics in results:
        np.testing.assert_allclose(metrics["gradients_dropped"], 1 / BATCH, rtol=1e-6)


class Spy:
    """An environment that remembers whether its step was ever differentiated."""

    def __init__(self, env):
        self._env, self.differentiated = env, 0

        @jax.custom_jvp
        def step(state, action):
            return env.step(state, action)

        @step.defjvp
        def _(primals, tangents):
            self.differentiated += 1
            return jax.jvp(env.step, primals, tangents)

        self.step = step

    def __getattr__(self, name):
        return getattr(self._env, name)


@pytest.mark.parametrize(("first_order", "expected"), [("off", False), ("cached", True)])
def test_the_program_differentiates_the_simulator_only_where_asked(first_order, expected):
    env = Spy(envs.make("pendulum"))
    config = sac.Config(
        first_order=first_order,
        total_timesteps=32,
        num_envs=4,
        epochs=1,
        learning_starts=8,
        batch_size=4,
        replay_capacity=32,
        hidden_sizes=(8,),
        report_states=0,  # the report differentiates rollouts whatever the agent does
    )
    training = make_training(env, config)
    hyper = sac.Hyperparameters()
    state = jax.eval_shape(training.init, jax.random.key(0), hyper)
    text = str(jax.make_jaxpr(training.epoch)(state, hyper, jnp.int32(0)))
    assert bool(env.differentiated) == expected
    stored = jax.tree_util.tree_leaves(jax.eval_shape(replay.read_all, state.replay).tangents)
    assert bool(stored) == expected
    # As they go into the buffer: environments, numbers of the observation, state directions.
    assert ("f32[4,3,2]" in text) == expected


def test_off_is_less_work_than_cached():
    def operations(first_order):
        init, run = make_program(first_order)
        hyper = sac.Hyperparameters()
        state = jax.eval_shape(init, jax.random.key(0), hyper)
        return run.lower(state, make_batch(first_order)[1], hyper).cost_analysis()["flops"]

    assert operations("off") < 0.8 * operations("cached")


def linear_problem():
    """A TD error in one dimension whose gradients can be written down."""

    def critic(o, a):
        return 2.0 * o[0] + 3.0 * a[0]

    def target_critic(o, a):
        return 5.0 * o[0] + 7.0 * a[0]

    def policy(o):
        return 0.5 * o, 0.25 * o[0]  # an action and a log-probability that follow the observation

    transition = Transition(
        jnp.asarray([1.0]), jnp.asarray([0.5]), jnp.asarray(2.0), jnp.ones(()), jnp.asarray([3.0])
    )
    tangents = Tangents(
        state=Transition(jnp.ones((1, 1)), None, jnp.full(1, 0.1), None, jnp.full((1, 1), 0.8)),
        action=Transition(None, jnp.ones((1, 1)), jnp.full(1, 0.2), None, jnp.full((1, 1), 0.6)),
    )
    return critic, target_critic, policy, transition, tangents


@pytest.mark.parametrize(
    ("policy_response", "following_gradient"), [(1.0, 5 + 3.5 - 0.1), (0.0, 5)]
)
def test_the_gradient_of_the_target_goes_through_everything(policy_response, following_gradient):
    critic, target_critic, policy, transition, tangents = linear_problem()
    td_error = make_td_error(
        critic,
        target_critic,
        policy,
        temperature=0.4,
        discount=0.9,
        reward_scale=10.0,
        policy_response=policy_response,
    )
    terms = sobolev_terms(td_error, transition, tangents)
    # y = 10 r + 0.9 (5 o' + 7 * 0.5 o' - 0.4 * 0.25 o')
    value = 2 * 1 + 3 * 0.5 - (10 * 2 + 0.9 * (5 + 3.5 - 0.1) * 3)
    np.testing.assert_allclose(terms.value, value**2, rtol=1e-6)
    state = 2 - (10 * 0.1 + 0.9 * following_gradient * 0.8)
    action = 3 - (10 * 0.2 + 0.9 * following_gradient * 0.6)
    np.testing.assert_allclose(terms.state, [state**2], rtol=1e-5)
    np.testing.assert_allclose(terms.action, [action**2], rtol=1e-5)


def test_no_gradient_reaches_the_target():
    critic, target_critic, policy, transition, tangents = linear_problem()

    def loss(scale):
        td_error = make_td_error(
            lambda o, a: scale * critic(o, a), target_critic, policy, temperature=0.4, discount=0.9
        )
        terms = sobolev_terms(td_error, transition, tangents)
        return terms.value + terms.state[0] + terms.action[0]

    # With y and its gradients held fixed: sum of 2 (Q - y) Q and of 2 (q' - y') q'.
    terms = [
        (2 * 1 + 3 * 0.5, 2 + 0.9 * 8.4 * 3),
        (2.0, 0.1 + 0.9 * 8.4 * 0.8),
        (3.0, 0.2 + 0.9 * 8.4 * 0.6),
    ]
    expected = sum(2 * (q - y) * q for q, y in terms)
    np.testing.assert_allclose(jax.grad(loss)(1.0), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state_weight": -0.1}, r"state_weight=-0\.1 must be finite and at least 0"),
        ({"action_weight": float("nan")}, "action_weight=nan must be finite"),
        ({"discount": 1.5}, "discount=1.5 must be at most 1"),
        ({"tau": -1}, "tau=-1 must be finite and at least 0"),
        ({"initial_temperature": 0.0}, "initial_temperature=0.0 must be above 0"),
        ({"critic_learning_rate": np.asarray([1e-3, -1e-3])}, "critic_learning_rate"),
        ({"tangent_bound": 0.0}, "tangent_bound=0.0 must be above 0"),
    ],
)
def test_hyperparameters_that_cannot_work(changes, message):
    with pytest.raises(ValueError, match=message):
        agent_module.Hyperparameters(**changes)
