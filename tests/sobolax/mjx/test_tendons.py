"""Tendons around and inside spheres and cylinders: right derivatives at every smooth pose."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from sobolax.mjx.engine import mjx
from sobolax.mjx.tendons import tendon
from tests.sobolax.mjx.harness import compiled_quickly, one_by_one
from tests.sobolax.mjx.models import MODELS

POSES = 200


def path_of_poses() -> np.ndarray:
    """`(POSES, nq)`: a closed path along which every tendon wraps and does not."""
    turn = np.linspace(0, 2 * np.pi, POSES)
    joints = [0.9 * np.sin(turn), np.cos(2 * turn), 0.5 * np.sin(3 * turn), 0.1 * np.cos(turn)]
    return np.stack(joints, axis=1)


@pytest.fixture(
    scope="module", params=["wrapping-inside", pytest.param("wrapping", marks=pytest.mark.slow)]
)
def plain_model(request):
    return mujoco.MjModel.from_xml_string(MODELS[request.param])


def test_both_modes_have_a_derivative_for_every_joint(plain_model):
    """Of lengths and moments; their values are for the slow tests."""
    with jax.enable_x64(True):
        _, both_modes = programs(plain_model)
        modes = jax.eval_shape(both_modes, path_of_poses())
    shape = (POSES, plain_model.ntendon, 1 + plain_model.nv, plain_model.nv)
    assert [mode.shape for mode in modes] == [shape, shape]


@pytest.mark.slow
def test_both_modes_are_right_wherever_the_path_is_smooth(plain_model):
    """Of lengths and moments, against differences of `mjx.tendon`, along a path of poses."""
    forward, reverse, expected, disagreement = derivatives_along_the_path(plain_model)
    for at in range(plain_model.ntendon):
        name = plain_model.tendon(at).name
        assert np.all(np.isfinite(forward[:, at])), name
        assert np.all(np.isfinite(reverse[:, at])), name
        np.testing.assert_allclose(reverse[:, at], forward[:, at], rtol=1e-9, atol=1e-9)
        scale = np.maximum(np.abs(expected[:, at]).max(axis=(1, 2)), 1e-2)
        smooth = disagreement[:, at].max(axis=(1, 2)) < 1e-4 * scale
        assert smooth.mean() > 0.9, name
        error = np.abs(forward - expected)[:, at].max(axis=(1, 2)) / scale
        # Rounding of 1e-16 over 1e-5, and of the arc cosine of a short arc.
        assert error[smooth].max() < 1e-6, (name, np.flatnonzero(smooth & (error > 1e-6)))


def programs(plain_model):
    """`mjx.tendon` along a path, and both modes of ours: compiled functions of `(poses, nq)`."""
    model = mjx.put_model(plain_model, impl="jax")
    data = mjx.make_data(model, impl="jax")

    def results(tendon, qpos):
        placed = mjx.com_pos(model, mjx.kinematics(model, data.replace(qpos=qpos)))
        moved = tendon(model, placed)
        return jnp.concatenate([moved.ten_length[:, None], moved._impl.ten_J], axis=1)

    @compiled_quickly
    @one_by_one
    def both_modes(qpos):
        # `jvp` and `vjp` with the shared part compiled once.
        value, linear = jax.linearize(functools.partial(results, tendon), qpos)
        forward = jax.vmap(linear, out_axes=-1)(jnp.eye(plain_model.nv))
        basis = jnp.eye(value.size).reshape(-1, *value.shape)
        (reverse,) = jax.vmap(jax.linear_transpose(linear, qpos))(basis)
        return forward, reverse.reshape(forward.shape)

    return compiled_quickly(one_by_one(functools.partial(results, mjx.tendon))), both_modes


def derivatives_along_the_path(plain_model):
    """Forward mode, reverse mode, differences of `mjx.tendon`, and how far two of these disagree.

    Each of lengths and moments, by joints: `(POSES, tendons, 1 + nv, nv)`.
    """
    path = path_of_poses()
    with jax.enable_x64(True):
        plain, both_modes = programs(plain_model)
        forward, reverse = jax.device_get(both_modes(path))
        near, far = (
            np.stack(
                [
                    (plain(path + move) - plain(path - move)) / (2 * size)
                    for move in size * np.eye(plain_model.nv)
                ],
                axis=-1,
            )
            for size in (1e-5, 2e-5)
        )
    return forward, reverse, (4 * near - far) / 3, np.abs(near - far)


def test_the_path_goes_through_every_case(plain_model):
    """Every tendon wraps at some poses, and some at a few only."""
    data, wrapped = mujoco.MjData(plain_model), []
    for qpos in path_of_poses():
        data.qpos[:] = qpos
        mujoco.mj_fwdPosition(plain_model, data)
        wrapped.append(data.ten_wrapnum > 2)
    assert np.any(wrapped, axis=0).all()
    assert not np.all(wrapped)
