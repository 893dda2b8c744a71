"""Derivatives through joints, actuators, tendons, equalities and dry friction."""

import jax
import mujoco
import numpy as np
import pytest

from sobolax.mjx import step_and_jacobian
from tests.sobolax.mjx.checks import Checks
from tests.sobolax.mjx.harness import STATES, STEP, Harness, compiled_quickly, smooth
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
]


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def harness(request):
    return harness_of(request.param)


class TestJoints(Checks):
    pass


@pytest.mark.parametrize("name", ["floating", "arm"])
def test_the_whole_jacobian_is_that_of_the_c_engine(name):
    """Of its own step, by differences: one program to compile, for many mechanisms at once."""
    harness = harness_of(name)

    def program(state):
        _, jacobian = step_and_jacobian(harness.model, harness.placed(state))
        return jacobian.state, jacobian.control

    with jax.enable_x64(True):
        found = jax.device_get(compiled_quickly(jax.vmap(program))(harness.states))
    jacobian = np.concatenate(found, axis=2)
    directions = STEP * np.eye(jacobian.shape[2])

    def gradients(times):
        ends = [
            [engine_end(harness, at, sign * times * direction) for direction in directions]
            for at in range(STATES)
            for sign in (1, -1)
        ]
        ahead, behind = np.moveaxis(np.reshape(ends, (STATES, 2, *np.shape(ends)[1:])), 1, 0)
        return np.swapaxes(ahead - behind, 1, 2) / (2 * times * STEP)

    near, far = gradients(1), gradients(2)
    expected = smooth((4 * near - far) / 3, near - far)
    scale = np.maximum(np.abs(expected).max(axis=(1, 2), keepdims=True), 1e-2)
    # As in `Checks`: the solvers' rounding of 1e-9 or so over the step of 3e-5.
    assert np.nanmax(np.abs(jacobian - expected) / scale) < 1e-5


def engine_end(harness: Harness, at: int, direction: np.ndarray) -> np.ndarray:
    """Where the C engine's step ends from a displaced state, beside the end of the state itself."""
    model, ends = harness.plain, []
    for moved in (np.zeros_like(direction), direction):
        data = mujoco.MjData(model)
        for name, value in harness.states.items():
            getattr(data, name)[:] = value[at]
        dq, dv, act, ctrl = np.split(moved, np.cumsum([model.nv, model.nv, model.na]))
        mujoco.mj_integratePos(model, data.qpos, dq, 1)
        data.qvel += dv
        data.act += act
        data.ctrl += ctrl
        mujoco.mj_step(model, data)
        ends.append(data)
    difference = np.zeros(model.nv)
    mujoco.mj_differentiatePos(model, difference, 1, ends[0].qpos, ends[1].qpos)
    return np.concatenate([difference, ends[1].qvel, ends[1].act])
