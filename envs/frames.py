"""Where the bodies of a MuJoCo model are, for pictures; computed on the host."""

from typing import Any

import numpy as np

from sobolax.mjx.engine import MjModel, mujoco


def frames(model: MjModel, qpos: Any, mocap_pos: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Where every geom of a model is.

    Args:
        model: The model.
        qpos: Positions, `(..., nq)`.
        mocap_pos: Of bodies that are placed, not moved, `(..., nmocap, 3)`; None for the model's.

    Returns:
        Positions in metres, `(..., ngeom, 3)`, and rotation matrices, `(..., ngeom, 3, 3)`.
    """
    qpos = np.asarray(qpos, np.float64)
    leading = qpos.shape[:-1]
    data = mujoco.MjData(model)
    positions = np.empty((*leading, model.ngeom, 3))
    rotations = np.empty((*leading, model.ngeom, 3, 3))
    for index in np.ndindex(leading):
        data.qpos[:] = qpos[index]
        if mocap_pos is not None:
            data.mocap_pos[:] = np.asarray(mocap_pos)[index]
        mujoco.mj_kinematics(model, data)
        positions[index] = data.geom_xpos
        rotations[index] = data.geom_xmat.reshape(-1, 3, 3)
    return positions, rotations
