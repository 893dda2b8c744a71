"""Ways to compute tangents, and what makes them reliable, on systems with known gradients."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax.cart import Cart
from sobolax.environment import State
from sobolax.losses import sobolev_terms
from sobolax.tangents import filters
from sobolax.tangents.forward import (
    TransitionMap,
    forward_tangents,
    plain_transition,
    random_directions,
)
from sobolax.tangents.methods import Derivatives, make_tangent_function, reason_against
from sobolax.transition import Tangents, Transition

KEY = jax.random.key(3)


class Line:
    """One number, moved on by a function of it and of the action; the reward is constant."""

    name, episode_length, reverse_mode = "line", 10, True
    observation_size = action_size = state_size = 1

    def __init__(self, dynamics=lambda x: x**2):
        self.dynamics = dynamics

    def reset(self, key):
        return self.at(0.0)

    def at(self, x):
        x = jnp.asarray(x, jnp.result_type(float))[None]
        return State(x, x, jnp.zeros((), x.dtype), jnp.ones((), x.dtype), {})

    def step(self, state, action):
        x = self.dynamics(state.physics + action)
        return replace(state, physics=x, observation=x)

    def perturb(self, state, displacement):
        x = state.physics + displacement
        return replace(state, physics=x, observation=x)


def at(environment, compute, x: float, key=KEY, wrap=jax.jit):
    """Tangents of a `Line` at `x` and no action, along its state and its action."""
    one = jnp.ones((1, 1), jnp.result_type(float))
    return wrap(compute)(key, environment.at(x), jnp.zeros(1, one.dtype), one, one)[2]


def exact(environment):
    return lambda key, *arguments: forward_tangents(environment, *arguments)


def scaled(compute, factor: float):
    """Lies: every tangent is longer by a factor."""

    def lie(*arguments):
        *rest, tangents = compute(*arguments)
        return *rest, jax.tree.map(lambda leaf: factor * leaf, tangents)

    return lie


# ---- ways to compute


@pytest.mark.parametrize(("name", "parameters"), [("lqr", {"dimension": 3}), ("pendulum", {})])
def test_differences_equal_forward_mode(float64, name, parameters):
    environment = envs.make(name, **parameters)
    state = environment.reset(jax.random.key(0))
    action = jnp.full(environment.action_size, 0.3)
    basis = (jnp.eye(environment.state_size), jnp.eye(environment.action_size))
    # Directions of any length: these are longer than one, as one of several dimensions is, and
    # then 100 times as long.
    drawn = tuple(
        random_directions(jax.random.key(i), 1, len(part)) * 100.0**i
        for i, part in enumerate(basis)
    )
    for directions in (basis, drawn):
        results = [
            jax.jit(make_tangent_function(environment, Derivatives(method=method)))(
                KEY, state, action, *directions
            )
            for method in ("differences", "forward")
        ]
        # The default step, 6e-6, balances both errors near its square: 4e-11 of values near 1,
        # times the length of the direction.
        for found, expected in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-8)
        structures = [jax.tree.structure(result) for result in results]
        assert structures[0] == structures[1]


def test_tangents_are_the_jacobian_times_the_directions(float64):
    environment = envs.make("lqr", dimension=3, actions=2)
    along = random_directions(KEY, 2, 3), random_directions(KEY, 1, 2)
    _, _, tangents = forward_tangents(environment, environment.reset(KEY), jnp.ones(2), *along)
    # A linear system, to the rounding of float64.
    for side, jacobian, directions in (
        (tangents.state, environment.dynamics, along[0]),
        (tangents.action, environment.control, along[1]),
    ):
        np.testing.assert_allclose(side.next_observation, jacobian @ directions, rtol=1e-12)
        assert side.reward.shape == directions.shape[1:]


def cart_arguments(**changes):
    """A state of the cart, an action, and directions, some of them of another shape."""
    plain = {"state": 1.0, "action": (1,), "along_state": (2, 2), "along_action": (1, 1)}
    position, *shapes = (plain | changes).values()
    at = Cart().at if jnp.ndim(position) == 0 else jax.vmap(Cart().at)
    return at(position, jnp.zeros_like(position)), *map(jnp.zeros, shapes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": jnp.ones(2)}, r"state\.observation has shape \(2, 2\), but .* takes \(2,\)"),
        ({"action": (2, 1)}, r"action has shape \(2, 1\), but .* takes \(1,\)"),
        ({"action": (3,)}, r"action has shape \(3,\)"),
        ({"action": ()}, r"action has shape \(\)"),
        ({"along_state": (3, 2)}, r"state_directions has .* takes \(2, directions\)"),
        ({"along_action": (1,)}, r"action_directions has .* takes \(1, directions\)"),
    ],
    ids=str,
)
def test_what_is_not_one_step_is_refused_by_name(changes, message):
    state, action, *directions = cart_arguments(**changes)
    with pytest.raises(ValueError, match=f"{message}.*, unbatched: jax.vmap over a batch"):
        forward_tangents(Cart(), state, action, *directions)
    if "along_state" not in changes and "along_action" not in changes:
        for compute in (
            lambda: plain_transition(Cart(), state, action),
            lambda: TransitionMap(Cart(), state)(jnp.zeros(2), action),
        ):
            with pytest.raises(ValueError, match=f"{message}.*, unbatched: jax.vmap"):
                compute()


def test_an_action_without_gradients_is_refused():
    state, _, *directions = cart_arguments()
    with pytest.raises(ValueError, match=r"action is int32, which has no gradients: give float"):
        forward_tangents(Cart(), state, jnp.zeros(1, int), *directions)


def test_a_displacement_is_one_of_the_state():
    with pytest.raises(
        ValueError, match=r"displacement has shape \(1, 2\), but .* \(2,\), unbatched"
    ):
        TransitionMap(Cart(), Cart().at(1.0, 0.0))(jnp.zeros((1, 2)), jnp.zeros(1))


def test_differences_take_the_step_asked_for():
    """Of |x|, from -1/4: halfway to the other side of the kink the gradient is still -1."""
    line = Line(jnp.abs)
    for step, gradient in ((0.1, -1.0), (0.5, -0.5), (1.0, -0.25)):
        options = Derivatives(method="differences", difference_step=step)
        found = at(line, make_tangent_function(line, options), -0.25)
        np.testing.assert_allclose(found.state.next_observation, [[gradient]], rtol=1e-5)


def test_auto_takes_structured_derivatives_for_more_than_eight_directions():
    """By a analytic method that lies, which shows where it is taken."""
    environment = envs.make("lqr", dimension=5)  # five directions of either kind
    expected = exact(environment)
    state, action = jax.jit(environment.reset)(KEY), np.zeros(5, np.float32)

    def is_structured(offered: dict, counts: tuple[int, int]) -> bool:
        environment.own_derivatives = offered
        compute = make_tangent_function(environment, Derivatives())
        along = [np.eye(5, dtype=np.float32)[:, :count] for count in counts]

        @jax.jit
        def both(state):
            return [
                f(KEY, state, action, *along)[2].state.next_observation for f in (compute, expected)
            ]

        return not np.allclose(*both(state))

    offered = {"analytic": scaled(expected, 2.0)}
    assert is_structured(offered, (5, 5))
    assert is_structured(offered, (5, 4))
    assert not is_structured(offered, (5, 3))
    assert not is_structured(offered, (1, 1))
    assert not is_structured({"analytic": "it has none"}, (5, 5))
    assert not is_structured({}, (5, 5))


def test_an_environment_says_why_it_has_no_derivatives_of_a_kind():
    line = Line()
    assert reason_against("mujoco_fd", line) == "the environment offers none"
    line.own_derivatives = {"analytic": "its integrator is odd"}
    assert reason_against("analytic", line) == "its integrator is odd"
    with pytest.raises(ValueError, match=r"is odd. These work: auto, forward, differences"):
        make_tangent_function(line, Derivatives(method="analytic"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "backward"}, "choose one of auto, analytic, forward, differences, mujoco_fd"),
        ({"method": "analytic"}, "does not work for environment 'pendulum'.*These work: auto"),
        ({"method": "mujoco_fd"}, "the environment offers none. These work: auto, forward"),
        ({"difference_step": 0.0}, "difference_step=0.0 must be finite and above 0"),
        ({"max_norm": -1.0}, "max_norm=-1.0 must be finite and above 0"),
        ({"max_norm": float("inf")}, "max_norm=inf must be finite"),
        ({"max_disagreement": float("nan")}, "max_disagreement=nan must be finite"),
        ({"smoothing_scale": 0.0}, "smoothing_scale=0.0 must be finite and above 0"),
        ({"smoothing_samples": 0}, "smoothing_samples=0 must be a whole number of at least 1"),
        ({"smoothing_samples": 2.5}, "smoothing_samples=2.5 must be a whole number"),
    ],
)
def test_bad_input(options, message):
    environment = envs.make("pendulum")
    with pytest.raises(ValueError, match=message):
        make_tangent_function(environment, Derivatives(**options))


# ---- reliability


def test_clipping_shortens_and_keeps_directions():
    given = np.float32([[3.0, 0.3, 0.0, 3e30, np.nan], [4.0, 0.4, 0.0, 4e30, 1.0]])
    tangent = Transition(None, None, given[0], None, given[1:])
    tangents = Tangents(tangent, tangent)

    @jax.jit
    def clipped(tangents):
        compute = filters.clip_norm(lambda *arguments: (None, None, tangents), 1.0)
        return compute(None, None, None, None, None)[2]

    found = clipped(tangents)
    for side in (found.state, found.action):
        shortened = np.vstack([side.reward, side.next_observation])
        np.testing.assert_allclose(shortened[:, 0], [0.6, 0.8], rtol=1e-6)
        np.testing.assert_array_equal(shortened[:, 1:3], given[:, 1:3])
        # Its square is infinite in float32: still no zero.
        np.testing.assert_allclose(shortened[:, 3], [0.6, 0.8], rtol=1e-6)
        assert np.isnan(shortened[0, 4])


def test_lying_tangents_are_taken_out_of_the_loss_and_true_ones_are_kept():
    line = Line()
    state, action, one = line.at(1.0), jnp.asarray([0.5]), jnp.ones((1, 1))

    def terms(factor):
        return program(jnp.float32(factor))

    @jax.jit
    def program(factor):
        compute = filters.reject_disagreeing(scaled(exact(line), factor), line, 0.1, 5e-3)
        transition, _, tangents = compute(KEY, state, action, one, one)
        return sobolev_terms(lambda t: jnp.sum(t.next_observation), transition, tangents)

    # 2 (x + a) is 3; and 5% off is within the tolerance.
    for factor in (1.0, 1.05):
        kept = terms(factor)
        np.testing.assert_allclose(kept.state, [(3.0 * factor) ** 2], rtol=1e-5)
        assert kept.state_valid.all()
        assert kept.action_valid.all()
    for factor in (0.0, 0.5, -1.0, 1.2):
        dropped = terms(factor)
        assert not dropped.state_valid.any()
        assert not dropped.action_valid.any()
        assert dropped.value_valid
        np.testing.assert_array_equal(dropped.state, [0.0])


def test_at_a_kink_no_tangent_agrees():
    """Within the step of a corner a tangent is right on one side only; far from it on both."""
    line = Line(jax.nn.relu)
    compute = filters.reject_disagreeing(exact(line), line, 0.1, 5e-3)
    keys = jax.random.split(KEY, 20)

    @jax.jit
    def tangents_at(x):
        return jax.vmap(lambda key: at(line, compute, x, key).state.next_observation)(keys)

    def kept(x):
        return np.isfinite(tangents_at(np.float32(x))).mean()

    assert kept(0.1) == 1
    # A gradient of zero where nothing changes is right, too.
    assert kept(-0.1) == 1
    # But for draws that move state and action against each other, and x + a hardly.
    assert kept(1e-5) < 0.2
    assert kept(-1e-5) < 0.2


class Single(Cart):
    """A cart in float32, whatever JAX computes in."""

    def at(self, position, speed):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), super().at(position, speed))


def test_disagreement_goes_by_the_precision_of_the_state(float64):
    """Exact tangents of a float32 step: by float64's step the differences are rounding alone."""
    compute = make_tangent_function(Single(), Derivatives(max_disagreement=0.01))

    @jax.jit
    @jax.vmap
    def rewards(key):
        position, speed = jax.random.uniform(key, (2,), minval=-2.0, maxval=2.0)
        where = Single().at(position, speed), jnp.zeros(1, jnp.float32), jnp.eye(2), jnp.eye(1)
        return compute(key, *where)[2].state.reward

    assert np.isfinite(rewards(jax.random.split(KEY, 50))).mean() > 0.9


def test_a_bundle_of_a_square_is_its_gradient_in_the_mean(float64):
    line, samples, spread = Line(), 4000, 0.1
    compute = filters.smooth(exact(line), line, samples, spread)
    transition, _, tangents = jax.jit(compute)(
        KEY, line.at(0.7), jnp.asarray([0.2]), jnp.ones((1, 1)), jnp.ones((1, 1))
    )
    # The mean of 2 (x + a + both displacements), whose deviation is 2 sqrt(2) spread; five of the
    # mean's.
    bound = 5 * 2 * math.sqrt(2) * spread / math.sqrt(samples)
    found = tangents.state.next_observation[0, 0]
    assert abs(found - 1.8) < bound
    assert found != pytest.approx(1.8, abs=1e-6), "nothing has been averaged over"
    np.testing.assert_allclose(tangents.action.next_observation[0, 0], found)
    # The transition is that of the state itself.
    np.testing.assert_allclose(transition.observation, [0.7])
    np.testing.assert_allclose(transition.next_observation, [0.9**2])


@pytest.mark.parametrize("x", [-0.1, 0.0, 0.05])
def test_a_bundle_at_a_corner_is_the_smoothed_gradient(float64, x):
    line, samples, spread = Line(jax.nn.relu), 4000, 0.1
    tangents = at(line, filters.smooth(exact(line), line, samples, spread), x)
    # The share of the displacements that end above zero, and five deviations of it.
    share = 0.5 * (1 + math.erf(x / (math.sqrt(2) * spread) / math.sqrt(2)))
    bound = 5 * math.sqrt(share * (1 - share) / samples)
    assert abs(tangents.state.next_observation[0, 0] - share) < bound


def test_all_of_it_together_has_the_shapes_of_the_plain_tangents():
    environment = envs.make("lqr", dimension=3, actions=2)
    keys = jax.random.split(KEY, 4)
    states = jax.vmap(environment.reset)(keys)
    arguments = (keys, states, jnp.zeros((4, 2)), jnp.eye(3)[:, :2], jnp.eye(2))

    def shapes(options):
        compute = make_tangent_function(environment, options)
        result = jax.jit(jax.vmap(compute, in_axes=(0, 0, 0, None, None)))(*arguments)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result[2]))
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), result)

    # A linear system: the agreement is that of rounding and of the reward's curvature.
    everything = Derivatives(
        max_norm=1e3, max_disagreement=0.5, smoothing_samples=3, smoothing_scale=1e-3
    )
    plain = shapes(Derivatives(method="forward"))
    assert shapes(everything) == plain
    assert shapes(replace(everything, method="differences")) == plain
