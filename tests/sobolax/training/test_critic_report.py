"""The critic report against critics whose errors are known."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import sobolax
from sobolax.agents import sac
from sobolax.cart import Cart
from sobolax.training import loop
from sobolax.training.critic_report import discounted_return, report_on_critic
from sobolax.training.evaluation import evaluate
from sobolax.transition import Transition

HORIZON = 200  # 0.95^200 = 4e-5


@pytest.fixture(scope="module")
def env():
    return envs.make("lqr", dimension=3, actions=2)


@pytest.fixture(scope="module")
def true_q(env):
    """The value of acting by half the optimal gain: unlike Q*, its gradient there is not 0."""
    gain = 0.5 * env.optimal_gain
    closed_loop = env.dynamics - env.control @ gain
    cost = env.state_cost + gain.T @ env.action_cost @ gain
    matrix = cost
    for _ in range(1000):
        matrix = cost + env.discount * closed_loop.T @ matrix @ closed_loop

    def q(observation, action):
        next_state = env.dynamics @ observation + env.control @ action
        reward = -observation @ env.state_cost @ observation - action @ env.action_cost @ action
        return reward - env.discount * next_state @ matrix @ next_state

    return q


def half_gain(env):
    return lambda observation, noise: (0.5 * env.optimal_action(observation), jnp.zeros(()))


def report(env, critic, **changes):
    options = {
        "horizon": HORIZON,
        "draws": 1,
        "discount": env.discount,
        **changes,
    }
    policy = half_gain(env)

    @jax.jit
    def run(key):
        visited = evaluate(env, lambda o: policy(o, None)[0], key, 16).visited
        return report_on_critic(env, policy, critic, visited, key, **options)

    return run(jax.random.key(0))


def test_the_true_critic_has_no_error(env, true_q):
    found = report(env, true_q)
    # What the reference misses beyond the horizon (4e-5), and float32 sums over 200 steps.
    assert found.value_error < 1e-3
    assert found.state_gradient_error < 1e-3
    assert found.action_gradient_error < 1e-3
    assert found.state_gradient_cosine > 1 - 1e-5
    assert found.action_gradient_cosine > 1 - 1e-5
    assert found.references_dropped == 0
    np.testing.assert_allclose(found.tail, env.discount**HORIZON, rtol=1e-4)


def test_the_true_values_of_states_have_no_error(env, true_q):
    """Of a critic without an action, the reference is what the policy alone earns."""
    policy = half_gain(env)
    found = report(env, lambda o, _: true_q(o, policy(o, None)[0]), of_action=False)
    assert found.value_error < 1e-3
    assert found.state_gradient_error < 1e-3
    assert (found.action_gradient_error, found.action_gradient_cosine) == (None, None)
    half = report(env, lambda o, _: true_q(o, policy(o, None)[0]) / 2, of_action=False)
    np.testing.assert_allclose(half.state_gradient_error, 0.5, rtol=1e-3)


def test_forward_and_reverse_mode_agree_on_the_reference(float64):
    env = envs.make("lqr", dimension=3, actions=2)
    state, noise = env.reset(jax.random.key(0)), jnp.zeros((20, 2))

    def total(where):
        return discounted_return(env, half_gain(env), state, *where, noise, 0.9)

    where = (jnp.zeros(3), jnp.asarray([0.3, -0.2]))
    forward, reverse = jax.jit(jax.jacfwd(total))(where), jax.jit(jax.grad(total))(where)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), forward, reverse)


def test_visited_states_are_those_of_the_episodes(env):
    visited = evaluate(env, lambda o: env.optimal_action(o), jax.random.key(0), 64).visited
    distance = np.linalg.norm(visited.observation, axis=1)
    # The optimal gain halves the state at every step: most times of an episode are near zero,
    # and a few of 64 uniformly random times out of 50 are not.
    assert distance.min() < 1e-3
    assert distance.max() > 1e-2


def test_known_errors_are_reported_as_such(env, true_q):
    def scaled(o, a):
        return 3.0 * true_q(o, a)

    found = report(env, scaled)
    np.testing.assert_allclose(found.state_gradient_error, 2.0, rtol=1e-3)
    np.testing.assert_allclose(found.state_gradient_cosine, 1.0, rtol=1e-4)
    opposite = report(env, lambda o, a: -true_q(o, a))
    np.testing.assert_allclose(opposite.action_gradient_cosine, -1.0, rtol=1e-4)
    np.testing.assert_allclose(opposite.action_gradient_error, 2.0, rtol=1e-3)
    flat = report(env, lambda o, a: jnp.zeros(()) * o.sum() * a.sum() - 100.0)
    np.testing.assert_allclose(flat.state_gradient_error, 1.0, rtol=1e-4)
    assert not np.isfinite(flat.state_gradient_cosine)  # a flat critic points nowhere


class Constant(Cart):
    """A cart that earns a tenth at every step, wherever it is."""

    def step(self, state, action):
        after = super().step(state, action)
        return replace(after, reward=jnp.full_like(after.reward, 0.1))


def test_an_error_relative_to_nothing_is_not_a_number():
    """Not infinite, and not what the rounding of a mean of equal numbers makes of it."""

    @jax.jit
    def run(key):
        states = jax.vmap(Cart().at)(jnp.linspace(-1.0, 1.0, 7), jnp.zeros(7))
        still = lambda observation, noise: (jnp.zeros(1), 0.0)  # noqa: E731
        options = {"horizon": 3, "draws": 1, "discount": 0.9}
        return report_on_critic(Constant(), still, lambda o, a: o[0], states, key, **options)

    found = run(jax.random.key(0))
    assert found.references_dropped == 0
    for name in ("value_error", "state_gradient_error", "std_gradient_error"):
        assert np.isnan(getattr(found, name)), name


def test_steep_references_are_dropped_and_counted(env, true_q):
    found = report(env, true_q, gradient_bound=0.0)
    assert found.references_dropped == 1.0
    some = report(env, true_q, gradient_bound=0.1)
    assert 0.0 < some.references_dropped < 1.0
    assert some.state_gradient_error < 1e-2


def test_errors_per_standard_deviation_are_those_of_scaled_gradients(env, true_q):
    deviation = jnp.array([0.1, 1.0, 10.0])

    def wrong(o, a):  # in the coordinate that counts most when it is measured in its own spread
        return true_q(o.at[2].set(0.0), a)

    plain = report(env, wrong)
    found = report(env, wrong, deviation=deviation)
    np.testing.assert_allclose(plain.std_gradient_error, plain.state_gradient_error, rtol=1e-6)
    np.testing.assert_allclose(plain.std_gradient_cosine, plain.state_gradient_cosine, rtol=1e-6)
    assert found.state_gradient_error == plain.state_gradient_error
    # Two coordinates of three count 10 and 100 times less beside the one that is all wrong.
    assert found.std_gradient_error > 0.9 > found.state_gradient_error
    assert found.std_gradient_cosine < found.state_gradient_cosine


def test_the_reward_scale_changes_no_error(env, true_q):
    found = report(env, lambda o, a: 10.0 * true_q(o, a), reward_scale=10.0)
    assert found.value_error < 1e-3
    assert found.state_gradient_error < 1e-3


def test_the_bonus_counts_from_the_second_step_on(env):
    state = env.reset(jax.random.key(1))
    action = jnp.zeros(2)

    def total(bonus):
        def policy(observation, noise):
            return env.optimal_action(observation), jnp.asarray(bonus)

        noise = jnp.zeros((10, 2))
        return discounted_return(env, policy, state, jnp.zeros(3), action, noise, 0.9)

    expected = sum(0.9**t for t in range(1, 10))
    np.testing.assert_allclose(total(1.0) - total(0.0), expected, rtol=1e-4)


class Nothing(Cart):
    """A cart that earns nothing: what is left of a return are bonuses."""

    def step(self, state, action):
        return replace(super().step(state, action), reward=jnp.zeros_like(state.reward))


@pytest.mark.parametrize("steps", [1, 3])
def test_the_reference_of_sac_is_what_its_targets_of_n_steps_add_up_to(float64, steps):
    start, noise, temperature, entropy = Nothing().at(0.0, 0.0), jnp.zeros((400, 1)), 0.1, 2.0

    def policy(observation, noise):
        return jnp.zeros(1), temperature * entropy

    where = Nothing(), policy, start, jnp.zeros(2), jnp.zeros(1), noise
    reference = jax.jit(lambda: discounted_return(*where, 0.9, bonus_interval=steps))()
    constant = lambda observation, action: reference  # noqa: E731
    transition = Transition(
        jnp.zeros(2), jnp.zeros(1), jnp.zeros(()), jnp.asarray(0.9 ** (steps - 1)), jnp.zeros(2)
    )
    td_error = sac.make_td_error(
        constant,
        constant,
        lambda observation: (jnp.zeros(1), jnp.asarray(-entropy)),
        temperature=temperature,
        discount=0.9,
    )
    # 0.9^400 of the return is beyond the horizon.
    np.testing.assert_allclose(td_error(transition), 0.0, atol=1e-12)


@pytest.mark.parametrize("n_step", [1, 3])
def test_the_report_of_a_training_goes_by_its_targets(monkeypatch, n_step):
    found = {}

    def record(*arguments, **options):
        found.update(options)
        return report_on_critic(*arguments, **options)

    monkeypatch.setattr(loop, "report_on_critic", record)
    training = sobolax.make_training(Cart(), sac.Config(n_step=n_step))
    hyper = sac.Hyperparameters()
    state = jax.eval_shape(training.init, jax.random.key(0), hyper)
    jax.eval_shape(training.look, state, hyper, jnp.int32(0))
    assert found["bonus_interval"] == n_step
