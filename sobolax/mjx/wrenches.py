"""Motions of bodies and wrenches on them, without the Jacobian of any point.

A degree of freedom moves all bodies below it as one: it turns them about, and shifts them along, an
axis in space (a screw). All screws are taken at one point, the centre of mass of everything.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sobolax.mjx.components import add, components, cross
from sobolax.mjx.engine import mjx


def screw_axes(model: mjx.Model, data: mjx.Data) -> tuple[jax.Array, jax.Array]:
    """The turn and the shift of every degree of freedom, `(6, nv)`, and where, `(3,)`.

    Args:
        model: The model.
        data: After `mjx.com_pos`, whose `cdof` are at the centres of mass of the trees.
    """
    root = jnp.asarray(model.body_rootid)[jnp.asarray(model.dof_bodyid)]
    centre = data.subtree_com[0]
    turns = components(data.cdof[:, :3])
    lever = components(centre - data.subtree_com[root])
    shifts = add(components(data.cdof[:, 3:]), cross(turns, lever))
    return jnp.stack([*turns, *shifts]), centre


def generalised_force(axes: jax.Array, wrench: jax.Array, moves: jax.Array) -> jax.Array:
    """What wrenches do along the degrees of freedom, `(nv,)`.

    Args:
        axes: See `screw_axes`, `(6, nv)`.
        wrench: Torque and force at the same point, `(6, n)`.
        moves: How far each degree of freedom moves what each wrench acts on, `(n, nv)`.
    """
    return jnp.sum(axes * jnp.einsum("kn,ni->ki", wrench, moves), axis=0)


def applied_force(model: mjx.Model, data: mjx.Data) -> jax.Array:
    """Generalised forces of `xfrc_applied`, `(nv,)`, as `mjx.xfrc_accumulate`.

    Args:
        model: The model.
        data: After `mjx.com_pos`.
    """
    axes, centre = screw_axes(model, data)
    force, torque = components(data.xfrc_applied[:, :3]), components(data.xfrc_applied[:, 3:])
    torque = add(torque, cross(components(data.xipos - centre), force))
    moves = jnp.asarray(moving_freedoms(model))
    return generalised_force(axes, jnp.stack([*torque, *force]), moves)


def moving_freedoms(model: mjx.Model) -> np.ndarray:
    """Which degrees of freedom move which body, `(nbody, nv)`, ones and zeros."""
    moves = np.zeros((model.nbody, model.nv), np.float32)
    for body in range(1, model.nbody):
        moves[body] = moves[model.body_parentid[body]]
        first = model.body_dofadr[body]
        moves[body, first : first + model.body_dofnum[body]] = 1
    return moves
