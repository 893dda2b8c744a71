"""The scalar systems: what their optimal values are, and how right."""

import jax
import numpy as np
import pytest

import envs
from envs.analytic.scalar import KINDS, move
from envs.analytic.value_iteration import iterate_values
from sobolax.tangents import basis_directions, forward_tangents

STATES = np.linspace(-1.0, 1.0, 401)
ACTIONS = np.linspace(-1.0, 1.0, 1001)


@pytest.fixture(scope="module")
def systems():
    """Every kind with its optimal action values on a grid, their gradients and V*, in float64."""
    with jax.enable_x64(True):
        found = {}
        for kind in KINDS:
            env = envs.make("scalar", kind=kind)
            q = jax.jit(
                jax.vmap(
                    jax.vmap(lambda s, a, env=env: env.optimal_q(s[None], a[None]), (None, 0)),
                    (0, None),
                )
            )
            value = jax.jit(jax.vmap(jax.value_and_grad(lambda s, e=env: e.optimal_value(s[None]))))
            found[kind] = env, np.asarray(q(STATES, ACTIONS)), *map(np.asarray, value(STATES))
        return found


def evaluated(optimum):
    """Values and gradients of all states, in float64."""
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(jax.value_and_grad(optimum.evaluate)))(STATES)
        return [np.asarray(part) for part in found]


@pytest.mark.parametrize("kind", KINDS)
def test_the_domain_is_left_by_no_action(kind):
    states, actions = np.meshgrid(STATES, ACTIONS)
    next_state, rewards = move(kind, states, actions, np)
    assert np.max(np.abs(next_state)) <= 1.0 + 1e-15
    assert np.all(np.isfinite(rewards))


def test_the_best_action_of_the_linear_system_is_within_the_limits_wherever_it_can_get():
    """Then the Riccati equation, which knows no limits, is right with them too."""
    env = envs.make("scalar")
    states, actions = np.meshgrid(STATES, ACTIONS)
    next_state, _ = move("linear", states, actions, np)
    assert np.max(np.abs(env.optimal_gain * next_state)) < 0.95
    # K by hand: P = W + K² U + γ (A - B K)² P, at K = γ A B P / (U + γ B² P).
    cost, gain = env.optimal_cost, env.optimal_gain
    assert cost == pytest.approx(1 + 0.1 * gain**2 + 0.9 * (0.6 - 0.4 * gain) ** 2 * cost)
    assert gain == pytest.approx(0.9 * 0.24 * cost / (0.1 + 0.9 * 0.16 * cost))


def test_value_iteration_finds_the_solution_of_the_riccati_equation():
    optimum = iterate_values(lambda s, a: move("linear", s, a, np), 0.9, points=1001)
    values, _ = evaluated(optimum)
    error = np.max(np.abs(values + envs.make("scalar").optimal_cost * STATES**2))
    assert error <= optimum.error < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimal_value_is_the_maximum_over_actions_within_the_limits(systems, kind):
    env, q, values, _ = systems[kind]
    bound = env.optimal_value_error
    # Between the actions of this grid a concave maximum is missed by less than 1e-5.
    np.testing.assert_allclose(q.max(axis=1), values, atol=2 * bound + 1e-5)
    assert bound < {"linear": 1e-12, "smooth": 5e-6, "steep": 5e-6, "contact": 5e-3}[kind]


@pytest.mark.parametrize("kind", ["smooth", "steep", "contact"])
def test_two_resolutions_agree_within_their_errors(systems, kind):
    env, _, values, _ = systems[kind]
    coarse = iterate_values(lambda s, a: move(kind, s, a, np), env.discount, points=801)
    again, _ = evaluated(coarse)
    assert np.max(np.abs(again - values)) <= coarse.error + env.optimal_value_error
    assert coarse.error > env.optimal_value_error


@pytest.mark.parametrize("kind", KINDS)
def test_acting_by_the_optimal_values_earns_them(systems, kind):
    """The return of a policy is at most V*; that of the greedy one is V*, if this is V*."""
    env, q, values, _ = systems[kind]
    greedy = ACTIONS[q.argmax(axis=1)]
    state, earned = STATES.copy(), np.zeros(STATES.size)
    for step in range(250):  # 0.9^250 = 4e-12
        state, reward = move(kind, state, np.interp(state, STATES, greedy), np)
        earned += env.discount**step * reward
    # Interpolated between two branches the action is no good, and loses a little.
    assert np.all(earned <= values + env.optimal_value_error + 1e-12)
    assert np.median(values - earned) < (1e-3 if kind == "contact" else 1e-5)


def test_the_envelope_theorem_holds_within_the_limits_and_at_them(systems):
    """Where the maximiser is unique, V*' is the gradient of Q* at the maximiser held fixed."""
    env, q, _, gradients = systems["smooth"]
    best = ACTIONS[q.argmax(axis=1)]
    with jax.enable_x64(True):
        fixed = jax.vmap(jax.grad(lambda s, a: env.optimal_q(s[None], a[None])))(STATES, best)
    # What is left is the grid of actions (0.002), times how the gradient changes with the action.
    np.testing.assert_allclose(fixed, gradients, atol=4e-3)
    limited = np.abs(best) == 1.0
    assert 0.1 < limited.mean() < 0.9
    # V* is C1 where the limit is met, but bends: its curvature jumps there.
    curvature = np.gradient(gradients, STATES)
    ends = np.flatnonzero(np.diff(limited.astype(int)))
    jumps = [abs(curvature[end + 6] - curvature[end - 5]) for end in ends]
    elsewhere = np.median(np.abs(curvature[11:] - curvature[:-11]))
    assert max(jumps) > 5 * elsewhere


def test_a_tie_of_two_actions_is_a_kink_of_the_value():
    """With a goal on either side the best action in the middle jumps, the value's gradient too."""

    def two_goals(state, action):
        next_state, _ = move("linear", state, action, np)
        return next_state, -((state**2 - 0.25) ** 2) - 0.1 * action**2

    values, gradients = evaluated(iterate_values(two_goals, 0.9, points=1001))
    np.testing.assert_allclose(values, values[::-1], atol=1e-9)
    middle = STATES.size // 2
    left, right = gradients[middle - 1], gradients[middle + 1]
    assert right > 0.01
    assert left == pytest.approx(-right, rel=1e-6)
    assert right - left > 10 * abs(gradients[middle + 3] - right)


@pytest.mark.parametrize("kind", KINDS)
def test_tangents_are_the_derivatives_of_a_step(float64, kind):
    env = envs.make("scalar", kind=kind)
    one = basis_directions(1)

    @jax.jit
    @jax.vmap
    def derive(key, action):
        transition, _, tangents = forward_tangents(env, env.reset(key), action, one, one)
        return transition, tangents

    actions = np.linspace(-0.97, 0.98, 64)[:, None]
    transition, tangents = derive(jax.random.split(jax.random.key(0), 64), actions)
    states, step = np.asarray(transition.observation), 1e-6
    free = np.abs(0.6 * states + 0.2 * actions)[:, 0]
    smooth = (kind != "contact") | (np.abs(free - 0.05) > 1e-5)
    assert smooth.mean() > 0.9
    for along, ds, da in ((tangents.state, step, 0.0), (tangents.action, 0.0, step)):
        ahead, behind = (move(kind, states + x * ds, actions + x * da, np) for x in (1, -1))
        next_state, reward = (
            (a - b)[:, 0] / (2 * step) for a, b in zip(ahead, behind, strict=True)
        )
        computed = along.next_observation[:, 0, 0], along.reward[:, 0]
        # Numbers of order 1 to 5, rounding 1e-16 / 1e-6.
        np.testing.assert_allclose(computed[0][smooth], next_state[smooth], atol=2e-9)
        np.testing.assert_allclose(computed[1], reward, atol=2e-9)


def test_only_the_linear_system_has_a_quadratic_value():
    with pytest.raises(ValueError, match="kind='smooth' is not quadratic"):
        _ = envs.make("scalar", kind="smooth").optimal_cost
