import functools

import mujoco
import numpy as np
import pytest

import envs
from tests.envs.harness import ANALYTIC, Harness, named


@functools.cache
def _harness(name: str) -> Harness:
    return Harness(name)


@pytest.fixture(
    scope="session", params=named(*(name for name in envs.names() if name not in ANALYTIC))
)
def harness(request) -> Harness:
    """Every MuJoCo environment in turn, compiled once for all tests.

    `check_environment` checks the analytic ones as thoroughly (`test_conformance.py`).
    """
    return _harness(request.param)


@pytest.fixture(scope="session")
def harness_of():
    """The same, by name."""
    return _harness


@pytest.fixture(scope="session")
def pushing(harness_of):
    """Pushers that are about to push: the left finger 6 mm from the object's side, and the action.

    The action swings the whole arm, which bends to the table's height.
    """
    harness = harness_of("pusher")
    states = harness.reset()
    qpos, qvel = np.array(states.physics.qpos), np.array(states.physics.qvel)
    qpos[:, :7] = [0, 0.925, 0, -1.034, 0, -0.1, 0]
    qpos[:, 0] = np.linspace(0.3, 0.9, harness.lanes)
    data = mujoco.MjData(harness.env.mujoco_model)
    for position in qpos:
        data.qpos[:] = position
        mujoco.mj_kinematics(harness.env.mujoco_model, data)
        forward = np.array([np.cos(position[0]), np.sin(position[0])])
        leftward = np.array([-forward[1], forward[0]])
        # The finger's axis is 0.1 m to the left of the wrist's; radii of 0.02 and 0.05 m, and 6 mm.
        place = data.body("tips_arm").xpos[:2] + 0.05 * forward + 0.176 * leftward
        position[[8, 7]] = place - harness.env.mujoco_model.body("object").pos[:2]
    actions = np.zeros((harness.lanes, 7))
    actions[:, 0] = 0.9
    return harness.moved(states, qpos=qpos, qvel=np.zeros_like(qvel)), actions
