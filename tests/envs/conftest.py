import functools

import mujoco
import numpy as np
import pytest

import envs
from tests.envs.harness import Laboratory

# Its programs take the compiler a minute, those of any other environment half of that at most.
_SLOW = {"humanoid"}


@functools.cache
def _laboratory(name: str) -> Laboratory:
    return Laboratory(name)


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in _SLOW else ()) for name in envs.names()
    ],
)
def laboratory(request) -> Laboratory:
    """Every environment in turn, compiled once for all tests."""
    return _laboratory(request.param)


@pytest.fixture(scope="session")
def laboratory_of():
    """The same, by name."""
    return _laboratory


@pytest.fixture(scope="session")
def pushing(laboratory_of):
    """Pushers that are about to push: the left finger 6 mm from the object's side, and the action.

    The action swings the whole arm, which bends to the table's height.
    """
    laboratory = laboratory_of("pusher")
    states = laboratory.reset()
    qpos, qvel = np.array(states.physics.qpos), np.array(states.physics.qvel)
    qpos[:, :7] = [0, 0.925, 0, -1.034, 0, -0.1, 0]
    qpos[:, 0] = np.linspace(0.3, 0.9, laboratory.lanes)
    data = mujoco.MjData(laboratory.env.mujoco_model)
    for position in qpos:
        data.qpos[:] = position
        mujoco.mj_kinematics(laboratory.env.mujoco_model, data)
        forward = np.array([np.cos(position[0]), np.sin(position[0])])
        leftward = np.array([-forward[1], forward[0]])
        # The finger's axis is 0.1 m to the left of the wrist's; radii of 0.02 and 0.05 m, and 6 mm.
        place = data.body("tips_arm").xpos[:2] + 0.05 * forward + 0.176 * leftward
        position[[8, 7]] = place - laboratory.env.mujoco_model.body("object").pos[:2]
    actions = np.zeros((laboratory.lanes, 7))
    actions[:, 0] = 0.9
    return laboratory.moved(states, qpos=qpos, qvel=np.zeros_like(qvel)), actions
