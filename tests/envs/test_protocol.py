"""What every environment promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from tests.envs.harness import SLOW, named

TWICE = {"hopper", "chain"}


def _avals(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype), leaf.weak_type), tree)


@pytest.mark.parametrize(
    ("name", "double"),
    [
        *(pytest.param(*case.values, False, marks=case.marks) for case in named(*envs.names())),
        # In double precision one of MuJoCo's is enough: what they share makes their numbers.
        *(
            pytest.param(name, True, marks=pytest.mark.slow if name in SLOW | TWICE else ())
            for name in envs.names()
        ),
    ],
)
def test_states_have_one_structure_and_no_weak_types(name, double):
    """Otherwise a loop over steps is refused, or a program compiled twice."""
    with jax.enable_x64(double):
        env = envs.make(name)
        dtype = jnp.result_type(float)
        key = jax.eval_shape(lambda: jax.random.key(0))
        start = jax.eval_shape(env.reset, key)
        end = jax.eval_shape(env.step, start, jax.ShapeDtypeStruct((env.action_size,), dtype))
        moved = jax.eval_shape(env.perturb, start, jax.ShapeDtypeStruct((env.state_size,), dtype))
    assert _avals(start) == _avals(end) == _avals(moved)
    assert start.observation.shape == (env.observation_size,)
    assert start.reward.shape == start.discount.shape == ()
    assert start.discount.dtype == start.observation.dtype
    assert all(metric.shape == () for metric in start.metrics.values())
    floats = [leaf for leaf in jax.tree.leaves(start) if leaf.dtype != bool]
    assert all(leaf.dtype == dtype and not leaf.weak_type for leaf in floats)


def test_reset(harness):
    states, again, others = harness.reset(0), harness.reset(0), harness.reset(1)
    jax.tree.map(np.testing.assert_array_equal, states, again)
    assert not np.array_equal(states.observation, others.observation)
    assert not np.array_equal(states.observation[0], states.observation[1])
    assert np.all(states.reward == 0)
    assert np.all(states.discount == 1)


def test_steps_are_pure_and_finite(harness):
    states = harness.reset()
    actions = harness.actions(0)
    before = jax.tree.map(np.array, states)
    transition, ends = harness.step(states, actions)
    again, _ = harness.step(states, actions)
    jax.tree.map(np.testing.assert_array_equal, states, before)
    jax.tree.map(np.testing.assert_array_equal, transition, again)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(ends))
    assert not np.array_equal(transition.next_observation, transition.observation)
    np.testing.assert_array_equal(transition.observation, states.observation)


def test_perturb_by_zero_keeps_every_bit(harness):
    states = harness.roll(harness.reset(), 3)
    still = harness.perturb(states, np.zeros((harness.lanes, harness.env.state_size)))
    jax.tree.map(np.testing.assert_array_equal, still, states)


def test_perturb_moves_the_observation_and_leaves_the_rest(harness):
    states = harness.roll(harness.reset(), 3)
    displacement = np.full((harness.lanes, harness.env.state_size), 1e-3)
    moved = harness.perturb(states, displacement)
    assert not np.array_equal(moved.observation, states.observation)
    for part in ("reward", "discount", "metrics"):
        jax.tree.map(np.testing.assert_array_equal, getattr(moved, part), getattr(states, part))
    for part in ("qacc_warmstart", "mocap_pos"):
        if hasattr(states.physics, part):
            np.testing.assert_array_equal(
                getattr(moved.physics, part), getattr(states.physics, part)
            )


@pytest.mark.parametrize(
    ("name", "parameters", "reverse"),
    [
        ("lqr", {}, True),
        ("point_mass", {}, True),
        ("pendulum", {}, True),
        # Physics in reverse is fast in `tests/sobolax/training/test_backward_impact.py`.
        pytest.param("cartpole", {}, True, marks=pytest.mark.slow),
        pytest.param("reacher", {}, True, marks=pytest.mark.slow),
        pytest.param("reacher", {"integrator": "implicitfast"}, True, marks=pytest.mark.slow),
        # Four solvers in a step take half a minute to trace.
        pytest.param("reacher", {"integrator": "rk4"}, True, marks=pytest.mark.slow),
        pytest.param("humanoid", {}, True, marks=pytest.mark.slow),
    ],
)
def test_reverse_mode_is_what_it_says(name, parameters, reverse):
    env = envs.make(name, **parameters)
    assert env.reverse_mode is reverse
    state = jax.eval_shape(env.reset, jax.eval_shape(lambda: jax.random.key(0)))
    action = jnp.zeros(env.action_size)

    def gradient(state):
        return jax.grad(lambda a: env.step(state, a).reward)(action)

    if reverse:
        assert jax.eval_shape(gradient, state).shape == action.shape
    else:
        with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
            jax.eval_shape(gradient, state)
