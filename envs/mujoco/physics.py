"""The physics state of a MuJoCo environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax

from sobolax.mjx.engine import mjx


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Physics:
    """What MuJoCo needs to go on, and no more: a state is cheap to store, select and copy.

    Attributes:
        qpos: Generalised positions, `(nq,)`, in the units of the model (m, rad, quaternions).
        qvel: Generalised velocities, `(nv,)`.
        act: Activations of the actuators, `(na,)`.
        qacc_warmstart: The last acceleration, from which the solver starts, `(nv,)`. Hidden
            state: `perturb` leaves it alone.
        mocap_pos: Positions of bodies that the physics does not move, such as a target (m),
            `(nmocap, 3)`. `perturb` leaves it alone.
        factors: By what parameters of the model are multiplied in this episode, by name
            (`envs.randomize`); empty where nothing is randomized. `perturb` leaves them alone.
    """

    qpos: jax.Array
    qvel: jax.Array
    act: jax.Array
    qacc_warmstart: jax.Array
    mocap_pos: jax.Array
    factors: Mapping[str, jax.Array] = field(default_factory=dict)


def physics_of(data: mjx.Data, factors: Mapping[str, jax.Array]) -> Physics:
    """What is kept of MJX's data after a step, and the factors of the episode."""
    return Physics(data.qpos, data.qvel, data.act, data.qacc_warmstart, data.mocap_pos, factors)
