"""Derivatives through joints, actuators, tendons, equalities, dry friction; the C engine beside."""

import jax
import mujoco
import numpy as np
import pytest

from sobolax.mjx import step_and_jacobian
from tests.sobolax.mjx.checks import Checks
from tests.sobolax.mjx.harness import (
    STATES,
    STEP,
    Harness,
    compiled_quickly,
    one_by_one,
    smooth,
)
from tests.sobolax.mjx.harness import harness as harness_of

NAMES = [
    "floating",
    "arm",
    "equalities",
    "ball",
    "ball-explicit",
    "ball-implicitfast",
    "arm-euler",
    "friction-loss",
    "wrapping-inside",
]


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def harness(request):
    return harness_of(request.param)


class TestJoints(Checks):
    pass


# Not "arm": of muscles the C engine's implicitfast knows more derivatives than that of MJX.
@pytest.mark.parametrize(
    "name",
    [
        "floating",
        "rod",  # in contact, and in the air
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("arm-euler", "ball-implicitfast")
        ),
    ],
)
def test_the_whole_jacobian_is_that_of_the_c_engine(name):
    """Of its own step, by differences: one program to compile, for many mechanisms at once."""
    harness = harness_of(name)

    def program(state):
        _, jacobian = step_and_jacobian(harness.model, harness.placed(state))
        return jacobian.state, jacobian.control

    with jax.enable_x64(True):
        found = jax.device_get(compiled_quickly(one_by_one(program))(harness.states))
    jacobian = np.concatenate(found, axis=2)
    near, far = (engine_gradients(harness, jacobian.shape[2], times) for times in (1, 2))
    expected = smooth((4 * near - far) / 3, near - far)
    scale = np.maximum(np.abs(expected).max(axis=(1, 2), keepdims=True), 1e-2)
    # As in `Checks`: the solvers' rounding of 1e-9 or so over the step of 3e-5.
    assert np.nanmax(np.abs(jacobian - expected) / scale) < 1e-5


def engine_gradients(harness: Harness, size: int, times: int) -> np.ndarray:
    """Central differences of the C engine's step, of every state, over `times` the usual step."""
    model = harness.plain

    def end(at, direction):
        data = mujoco.MjData(model)
        for name, values in harness.states.items():
            getattr(data, name)[:] = values[at]
        dq, dv, act, ctrl = np.split(direction, np.cumsum([model.nv, model.nv, model.na]))
        mujoco.mj_integratePos(model, data.qpos, dq, 1)
        for field, move in ((data.qvel, dv), (data.act, act), (data.ctrl, ctrl)):
            field += move
        mujoco.mj_step(model, data)
        return data

    def difference(at, direction):
        ahead, behind, moved = end(at, direction), end(at, -direction), np.zeros(model.nv)
        mujoco.mj_differentiatePos(model, moved, 1, behind.qpos, ahead.qpos)
        return np.concatenate([moved, ahead.qvel - behind.qvel, ahead.act - behind.act])

    step = times * STEP
    rows = [[difference(at, step * e) for e in np.eye(size)] for at in range(STATES)]
    return np.swapaxes(rows, 1, 2) / (2 * step)
