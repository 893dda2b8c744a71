"""Gradients of a window: closed forms, differentiable rollouts, and what ends a chain."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax.cart import Cart
from sobolax.environment import State
from sobolax.training.backward import differentiate
from sobolax.training.rollouts import Rollout

GAMMA, TRACE = 0.9, 0.8
# Both sides are the same derivative in float64, summed in another order, of numbers up to 100.
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def policy(observation, noise):
    """A closed loop with an entropy-like bonus: smooth, and different for every observation."""
    action = jnp.tanh(-0.5 * jnp.sum(observation) + jnp.cos(observation[0]) + 0.3 * noise)
    return action, 0.1 * jnp.sum(jnp.sin(observation) + noise[0])


def value(observation):
    return jnp.sum(jnp.sin(observation)) - 0.3 * observation[0] ** 2


def roll(env, policy, start, noise, ended=None, resets=None):
    """Steps one after another, as they come: the window of one environment."""
    horizon = len(noise)
    ended = np.zeros(horizon, bool) if ended is None else np.asarray(ended)
    states, after, state = [], [], start
    for index in range(horizon):
        states.append(state)
        following = env.step(state, policy(state.observation, noise[index])[0])
        after.append(following)
        state = resets[index] if ended[index] else following
    stack = partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    states, after = stack(*states), stack(*after)
    ended = jnp.asarray(ended) | (after.discount == 0)
    flags = after.discount, ended, jnp.ones(horizon, bool)
    return Rollout(states, noise, after.observation, *flags)


def at(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def lambda_return(env, rollout, index, displacement, pushes, trace):
    """`G` from a step on, moved and pushed: what the pass back is to differentiate."""
    state = env.perturb(at(rollout.states, index), displacement)
    weight, total, horizon = 1.0, 0.0, len(rollout.noise)
    for now in range(index, horizon):
        action, bonus = policy(state.observation, rollout.noise[now])
        state = env.step(state, action + pushes[now])
        total += weight * (2.0 * state.reward + bonus)
        onward = weight * GAMMA * rollout.discounts[now]
        if rollout.ended[now] or now == horizon - 1:
            return total + onward * value(state.observation)
        total += onward * (1 - trace) * value(state.observation)
        weight = onward * trace
    raise AssertionError


def pendulum(float64):
    env = envs.make("pendulum")

    @jax.jit
    def window():
        noise = jax.random.normal(jax.random.key(1), (4, 1))
        first, other = (env.reset(jax.random.key(seed)) for seed in (2, 3))
        return roll(env, policy, first, noise, [False, True, False, False], [other] * 4)

    return env, window()


def test_gradients_are_those_of_the_rollouts_themselves(float64):
    """Every step's total derivative, and the lambda-return's along the state, beside `jacfwd`."""
    env, rollout = pendulum(float64)
    options = {"discount": GAMMA, "reward_scale": 2.0, "trace": TRACE, "slopes": True}
    found = jax.jit(partial(differentiate, env, policy, value, **options))(rollout)
    still, pushes = jnp.zeros(2), jnp.zeros((4, 1))

    @partial(jax.jit, static_argnums=0)
    def expected(index):
        def objective(displacement, pushes, trace):
            return lambda_return(env, rollout_of, index, displacement, pushes, trace)

        rollout_of = replace(rollout, ended=np.asarray(rollout.ended))
        return (
            objective(still, pushes, TRACE),
            jax.jacfwd(objective)(still, pushes, TRACE),
            objective(still, pushes, 1.0),
            jax.jacfwd(objective, argnums=1)(still, pushes, 1.0)[index],
        )

    for index in range(4):
        returns, along_state, objective, along_action = expected(index)
        np.testing.assert_allclose(found.returns[index], returns, **EXACT)
        np.testing.assert_allclose(found.along_state[index], along_state, **EXACT)
        np.testing.assert_allclose(found.objective[index], objective, **EXACT)
        np.testing.assert_allclose(found.actions[index], along_action, **EXACT)
    np.testing.assert_allclose(found.weights, [1, GAMMA, 1, GAMMA], **EXACT)
    move = jax.jacfwd(lambda along, state: env.perturb(state, along).observation)
    moved = jax.jit(jax.vmap(move, in_axes=(None, 0)))(still, rollout.states)
    np.testing.assert_allclose(found.observations, moved, **EXACT)
    assert bool(found.finite)
    assert int(found.cuts) == 0


def test_around_the_optimal_gain_of_lqr_the_gradient_is_the_advantage_s(float64):
    """`A*(x, -K x + e) = -e'(U + gamma B'PB) e` does not depend on x: so at every horizon."""
    env = envs.make("lqr", dimension=3, actions=2, discount=GAMMA)
    gain = jnp.asarray(env.optimal_gain)
    noise = np.random.default_rng(1).normal(size=(5, 2))

    def optimal(observation, noise):
        return -gain @ observation + noise, 0.0

    @jax.jit
    def differentiated(key):
        rollout = roll(env, optimal, env.reset(key), jnp.asarray(noise))
        return differentiate(env, optimal, env.optimal_value, rollout, discount=GAMMA)

    found = differentiated(jax.random.key(0))
    control, value_matrix = env.control, env.optimal_value_matrix
    curvature = env.action_cost + GAMMA * control.T @ value_matrix @ control
    # The Riccati iteration stops at 4 units in the last place of P.
    np.testing.assert_allclose(found.actions, -2 * noise @ curvature, rtol=1e-8, atol=1e-10)


def test_a_horizon_of_one_is_svg_1(float64):
    env, noise = envs.make("pendulum"), jnp.ones((1, 1)) * 0.3
    state = env.reset(jax.random.key(4))
    rollout = roll(env, policy, state, noise)
    found = jax.jit(partial(differentiate, env, policy, value, discount=GAMMA))(rollout)

    def q(action):
        after = env.step(state, action)
        return after.reward + GAMMA * after.discount * value(after.observation)

    action, _ = policy(state.observation, noise[0])
    np.testing.assert_allclose(found.actions[0], jax.grad(q)(action), **EXACT)


@pytest.fixture(scope="module")
def carts():
    """Cart's `differentiate` without a policy, compiled once for windows of three steps."""

    def still(observation, noise):
        return jnp.zeros(1), 0.0

    run = partial(differentiate, Cart(), still, lambda o: 3.0 * o[0], discount=0.5, slopes=True)
    compiled = jax.jit(
        lambda rollout, *bounds: run(rollout, growth_bound=bounds[0], trace=bounds[1])
    )
    return lambda rollout, bound, trace=0.95: compiled(rollout, bound, trace)


def cart_window(positions, ended, discounts):
    states = jax.vmap(Cart().at)(jnp.asarray(positions), jnp.zeros(3))
    flags = jnp.asarray(discounts, float), jnp.asarray(ended), jnp.ones(3, bool)
    return Rollout(states, jnp.zeros((3, 1)), states.observation, *flags)


def test_termination_and_truncation_within_a_window(carts):
    """At rest at x a step earns -x^2, and a push moves position by a quarter, speed by a half.

    Along the position the reward has slope -2 x, and V = 3 x.
    """
    ended = [False, True, False]
    end = carts(cart_window([1.0, 1.0, 2.0], ended, [1.0, 0.0, 1.0]), jnp.inf)
    # The last: -4 + 3 * 2 / 2. The terminal step earns nothing after it, and the one before
    # looks ahead to that alone.
    np.testing.assert_allclose(end.objective, [-1.5, -1.0, -1.0])
    np.testing.assert_allclose(end.returns[1], -1.0)
    np.testing.assert_allclose(end.actions[1:, 0], [-2 / 4, (-4 + 1.5) / 4])
    # First: its own step -2/4, then half of the terminal step's slopes -2 and -1.
    np.testing.assert_allclose(end.actions[0, 0], -2 / 4 + 0.5 * (-2 / 4 - 1 / 2))
    limit = carts(cart_window([1.0, 1.0, 2.0], ended, [1.0, 1.0, 1.0]), jnp.inf)
    np.testing.assert_allclose(limit.objective, [-1 + 0.5 * 0.5, -1 + 1.5, -1.0])
    np.testing.assert_allclose(limit.actions[1, 0], (-2 + 1.5) / 4)
    # Nothing of the new episode reaches the steps before it.
    moved = carts(cart_window([1.0, 1.0, -7.0], ended, [1.0, 1.0, 1.0]), jnp.inf)
    for name in ("actions", "objective", "returns", "along_state"):
        np.testing.assert_array_equal(getattr(moved, name)[:2], getattr(limit, name)[:2])
    np.testing.assert_array_equal(limit.weights, [1.0, 0.5, 1.0])


def test_a_chain_that_grows_is_cut_there(carts):
    """As if the horizon ended: the bound is crossed once, after the second step."""
    # Slopes along (x, v): the last step has (-2 x + 1.5) (1, 1/2).
    free = cart_window([1.0, 9.0, 1.0], [False] * 3, [1.0] * 3)
    cut = carts(free, jnp.asarray(10.0))
    assert int(cut.cuts) == 1
    as_if = carts(cart_window([1.0, 9.0, 1.0], [True, False, False], [1.0] * 3), jnp.inf)
    for name in ("objective", "actions", "weights"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(as_if, name))
    # The lambda-return and its gradient stay whole.
    np.testing.assert_array_equal(cut.along_state, carts(free, jnp.inf).along_state)


def test_a_chain_whose_last_step_has_no_gradient_is_cut_all_the_same(carts):
    """Of a constant reward at the end: growth counts from the first step that has a gradient."""
    # At 0 the terminal step has slope 0; the steps before have -2 x, and 9 is not 10 times 1.
    free = cart_window([19.0, 1.0, 0.0], [False, False, True], [1.0, 1.0, 0.0])
    assert int(carts(free, jnp.asarray(20.0)).cuts) == 0
    assert int(carts(free, jnp.asarray(0.5)).cuts) == 1  # the first two are of one length and more
    none = cart_window([1.0, 0.0, 0.0], [False, False, True], [1.0, 1.0, 0.0])
    assert int(carts(none, jnp.asarray(0.5)).cuts) == 0


def test_what_is_not_finite_is_named_and_stays_where_it_is(carts):
    window = cart_window([1.0, float("nan"), 2.0], [False, True, False], [1.0] * 3)
    found = carts(window, jnp.inf)
    assert not bool(found.finite)
    np.testing.assert_array_equal(np.isfinite(found.returns), [False, False, True])
    huge = carts(cart_window([1.0, 1e25, 2.0], [False, True, False], [1.0] * 3), jnp.inf)
    assert not bool(huge.finite)  # finite, but its square is not


def test_no_return_builds_on_a_step_that_was_not_finite(carts):
    """Its numbers may be finite and absurd: a reward of -1e24 is, and no critic should learn it."""
    sound = carts(cart_window([1.0, 1.0, 2.0], [False, True, False], [1.0] * 3), jnp.inf)
    absurd = cart_window([1.0, 1e12, 2.0], [False, True, False], [1.0] * 3)
    absurd = replace(absurd, finite=jnp.array([True, False, True]))
    found = carts(absurd, jnp.inf)
    assert not bool(found.finite)
    np.testing.assert_array_equal(np.isnan(found.returns), [True, True, False])
    assert found.returns[2] == sound.returns[2]
    # One step ahead nothing builds on another: the first ends in V(o_1), which is 3.
    alone = carts(absurd, jnp.inf, 0.0)
    np.testing.assert_allclose(alone.returns, [-1.0 + 1.5, np.nan, sound.returns[2]])
    np.testing.assert_allclose(alone.along_state[0], [-0.5, -0.25])  # (-2 + 3/2) (1, 1/2)


class Counted:
    """A cart whose physics holds a count and a key, which have no derivatives."""

    name, observation_size, action_size, state_size = "counted", 2, 1, 2
    episode_length, reverse_mode = 40, True

    def reset(self, key):
        return self._wrap(Cart().reset(key), jnp.zeros((), jnp.int32), key)

    def step(self, state, action):
        cart, count, key = state.physics
        inner = replace(Cart().at(0.0, 0.0), physics=cart, observation=cart)
        return self._wrap(Cart().step(inner, action), count + 1, key)

    def perturb(self, state, displacement):
        cart, count, key = state.physics
        moved = cart + displacement
        return replace(state, physics=(moved, count, key), observation=moved)

    def _wrap(self, inner, count, key):
        physics = (inner.physics, count, key)
        return State(physics, inner.observation, inner.reward, inner.discount, {})


def test_counts_and_keys_in_physics_have_no_gradient():
    def brake(observation, noise):
        return -observation[1:], 0.0

    noise, results = jnp.zeros((3, 1)), []
    for env in (Cart(), Counted()):
        rollout = roll(env, brake, env.reset(jax.random.key(0)), noise)
        run = partial(differentiate, env, brake, lambda o: o[0], discount=0.5)
        results.append(run(rollout).actions)
    np.testing.assert_array_equal(*results)


class Single(Cart):
    """A cart in float32, whatever JAX computes in."""

    def at(self, position, speed):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), super().at(position, speed))


def test_an_environment_in_single_has_networks_in_double(float64):
    cart = Single()
    noise, weight = jnp.zeros((3, 1), jnp.float32), jnp.ones((), jnp.float64)
    rollout = roll(cart, lambda observation, noise: (noise, 0.0), cart.at(1.0, 0.0), noise)

    def policy(observation, noise):
        return weight * noise, weight * observation[0]

    found = differentiate(cart, policy, lambda o: weight * o[0], rollout, discount=0.5, slopes=True)
    assert {leaf.dtype for leaf in (found.objective, found.actions, found.returns)} == {
        jnp.dtype("float32")
    }
    # 1 - 1 at every step, and half of half of half of V in the end.
    np.testing.assert_allclose(found.objective, [0.125, 0.25, 0.5], rtol=1e-6)


class Spiral:
    """A point in the plane that turns, is pushed and is drawn in: as two numbers, or as one."""

    name, observation_size, action_size, state_size = "spiral", 2, 1, 2
    episode_length, reverse_mode = 40, True

    def __init__(self, kind):
        self.kind = kind  # real or complex

    def at(self, point, reward):
        observation = jnp.stack([jnp.sin(point.real) * point.imag, point.real])
        physics = point if self.kind is complex else jnp.stack([point.real, point.imag])
        return State(physics, observation, reward, jnp.ones_like(reward), {})

    def _point(self, state):
        return state.physics if self.kind is complex else jax.lax.complex(*state.physics)

    def reset(self, key):
        return self.at(jax.lax.complex(*jax.random.normal(key, (2,))), jnp.zeros(()))

    def step(self, state, action):
        z = self._point(state)
        # Neither holomorphic nor antiholomorphic.
        after = z * jnp.exp(0.5j) + action[0] * jnp.conj(z) * 0.3j - 0.1 * z * jnp.abs(z)
        return self.at(after, -jnp.square(after.real) - 0.5 * after.imag)

    def perturb(self, state, displacement):
        moved = self.at(self._point(state) + jax.lax.complex(*displacement), state.reward)
        return replace(moved, discount=state.discount, metrics=state.metrics)


def test_complex_physics_has_the_gradients_of_its_two_real_numbers(float64):
    noise = jnp.array([[0.1], [-0.4]])

    def differentiated(env):
        rollout = roll(env, policy, env.reset(jax.random.key(1)), noise)
        return differentiate(env, policy, value, rollout, discount=GAMMA, slopes=True)

    two, one = jax.jit(lambda: [differentiated(Spiral(kind)) for kind in (float, complex)])()
    for name in ("objective", "actions", "returns", "along_state", "observations"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), **EXACT)
