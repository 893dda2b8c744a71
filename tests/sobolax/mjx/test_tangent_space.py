"""Positions move along their tangent space as MuJoCo moves them."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from sobolax.mjx import integrate_position, subtract_positions
from sobolax.mjx.quaternions import rotated
from tests.sobolax.mjx.harness import draw_states, local
from tests.sobolax.mjx.models import MODELS


@pytest.fixture(scope="module", params=["floating", "ball"])
def model(request):
    return mujoco.MjModel.from_xml_string(MODELS[request.param])


@pytest.fixture(scope="module")
def integrate(model):
    """`integrate_position` as one program: op by op it would be dozens."""
    return jax.jit(functools.partial(integrate_position, model), static_argnames="normalise")


@pytest.fixture(scope="module")
def subtract(model):
    return jax.jit(functools.partial(subtract_positions, model))


def _start(model) -> np.ndarray:
    return draw_states(model, model.nkey + 1, seed=3)["qpos"][-1]


# The smallest are on the series' side of the switch, the largest turns more than once.
@pytest.mark.parametrize("size", [1e-12, 1e-7, 1e-4, 3e-4, 1.0, 20.0])
def test_a_move_is_that_of_mujoco(float64, model, integrate, size):
    start, move = _start(model), size * np.random.default_rng(4).normal(size=model.nv)
    expected = start.copy()
    mujoco.mj_integratePos(model, expected, move, 1)
    np.testing.assert_allclose(integrate(start, move, normalise=True), expected, atol=1e-14)
    # `start` is normal to rounding, and so is the product of two unit quaternions.
    np.testing.assert_allclose(integrate(start, move), expected, atol=1e-14)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-3, 0.8])
def test_the_difference_of_positions_is_the_move(float64, model, integrate, subtract, size):
    start, move = _start(model), size * np.random.default_rng(6).normal(size=model.nv)
    end = integrate(start, move)
    # Rotations of less than half a turn; a rounding of the quaternions' length counts twice.
    np.testing.assert_allclose(subtract(end, start), move, atol=1e-14)
    expected = np.zeros(model.nv)
    mujoco.mj_differentiatePos(model, expected, 1.0, start, np.asarray(end))
    np.testing.assert_allclose(subtract(end, start), expected, atol=1e-14)


def test_no_move_keeps_every_bit(model, integrate):
    start = _start(model).astype(np.float32)
    moved = integrate(start, np.zeros(model.nv, np.float32))
    np.testing.assert_array_equal(moved, start)


def test_the_end_turns_with_the_start_and_with_the_move(float64, model):
    start, draw = _start(model), np.random.default_rng(5)
    zero, basis = jnp.zeros(model.nv), 1e-5 * jnp.eye(model.nv)

    @jax.jit
    def everything(move):
        end = integrate_position(model, start, move)

        def by_start(dq):
            return local(
                model, end, integrate_position(model, integrate_position(model, start, dq), move)
            )

        def by_move(dq):
            return local(model, end, integrate_position(model, start, move + dq))

        def both(dq):
            return by_start(dq), by_move(dq)

        def difference(direction):
            ahead, behind = both(direction), both(-direction)
            return jax.tree.map(lambda a, b: (a - b) / 2e-5, ahead, behind)

        differences = jax.vmap(difference, out_axes=-1)(basis)
        return rotated(model, move), jax.jacfwd(both)(zero), differences

    for size in (0.0, 1e-9, 1e-4, 1.0, 20.0):
        found, derivatives, differences = everything(size * draw.normal(size=model.nv))
        for value, derivative, gradient in zip(found, derivatives, differences, strict=True):
            np.testing.assert_allclose(value, derivative, atol=1e-14)
            # Central differences: h^2 of curvature up to 1 and rounding 1e-16 / h at angles up to
            # 20.
            np.testing.assert_allclose(value, gradient, atol=2e-9)


def test_at_rest_the_end_moves_as_much_as_the_move(float64, model):
    """Not zero, as the axis of a rotation by no angle would have it."""
    carried, driven = jax.jit(functools.partial(rotated, model))(np.zeros(model.nv))
    np.testing.assert_array_equal(carried, np.eye(model.nv))
    np.testing.assert_array_equal(driven, np.eye(model.nv))


def test_a_difference_differentiates_where_it_is_zero(float64, model, integrate):
    """The difference to where one is moves as the move does: the identity, in both modes."""
    start = jnp.asarray(integrate(model.qpos0, np.linspace(-1, 1, model.nv)))

    def difference(move):
        return subtract_positions(model, integrate_position(model, start, move), start)

    still = jnp.zeros(model.nv)
    for jacobian in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jacobian(difference)(still), np.eye(model.nv), atol=1e-12)
    # Positions that are equal to the last bit, too: what any of their numbers moves.
    exact = jax.jacrev(lambda end: subtract_positions(model, end, start))(start)
    np.testing.assert_allclose(
        exact, jax.jacfwd(lambda end: subtract_positions(model, end, start))(start), atol=1e-12
    )
