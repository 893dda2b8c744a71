"""The law of MuJoCo's constraint forces, and its gradient: what the solver's optimum obeys.

With `x = J qacc - aref`, the acceleration of every constraint row against its reference, the force
of a row is minus the gradient of a convex cost of `x` (MuJoCo documentation, 'Computation: the
primal problem'). Equalities pull both ways, friction loss saturates, limits and the edges of a
friction pyramid only push, and the rows of an elliptic contact make up a cone.

A wrench (torque and force) on a body needs no Jacobian of any point: a degree of freedom moves all
bodies below it as one; it turns them about, and shifts them along, an axis in space (a screw). All
screws are taken at one point, the centre of mass of everything. Vectors are three arrays, one per
component, so that a compiler fuses their algebra: stacked, every cross product ends in a
`concatenate`, at which fusion stops.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sobolax.mjx.engine import mjx

Vector = tuple[jax.Array, jax.Array, jax.Array]


def constraint_force(model: mjx.Model, data: mjx.Data, x: jax.Array) -> jax.Array:
    """Forces of all rows, `(nefc,)`, in N or N m; what `mjx.solve` leaves in `efc_force`.

    Args:
        model: The model.
        data: After `mjx.make_constraint`.
        x: `J qacc - aref`, `(nefc,)`.
    """
    rows: Any = data._impl
    force = -_stiffness(data, x) * x
    if rows.nf:
        friction = slice(rows.ne, rows.ne + rows.nf)
        loss = -jnp.sign(x[friction]) * rows.efc_frictionloss[friction]
        force = force.at[friction].set(jnp.where(_saturated(data, x), loss, force[friction]))
    for at, friction in _cones(model, data):
        force = force.at[at].set(
            jax.vmap(cone_force)(x[at], rows.efc_D[at], friction[0], friction[1])
        )
    return force


def hessian(model: mjx.Model, data: mjx.Data, x: jax.Array) -> jax.Array:
    """`M + J' K J`, `(nv, nv)`, with `K = -d force / d x`: the Hessian of the solver's cost.

    Args:
        model: The model.
        data: After `mjx.make_constraint`.
        x: `J qacc - aref`, `(nefc,)`.
    """
    rows: Any = data._impl
    inertia = mjx.full_m(model, data)
    stiff_jacobian = rows.efc_J * _stiffness(data, x)[:, None]
    for at, friction in _cones(model, data):
        gradient = jax.vmap(jax.jacfwd(cone_force))(x[at], rows.efc_D[at], friction[0], friction[1])
        stiff_jacobian = stiff_jacobian.at[at].set(-gradient @ rows.efc_J[at])
    whole = inertia + rows.efc_J.T @ stiff_jacobian
    return (whole + whole.T) / 2


def _stiffness(data: mjx.Data, x: jax.Array) -> jax.Array:
    """`-d force / d x` of every row by itself, `(nefc,)`; cones apart.

    Equalities and friction loss pull both ways, other rows only push, and a row of friction loss
    that slides has a constant force.
    """
    rows: Any = data._impl
    both_ways = np.arange(x.shape[0]) < rows.ne + rows.nf
    stiffness = rows.efc_D * ((x < 0) | both_ways)
    if rows.nf:
        friction = slice(rows.ne, rows.ne + rows.nf)
        stiffness = stiffness.at[friction].set(
            jnp.where(_saturated(data, x), 0.0, stiffness[friction])
        )
    return stiffness


def _saturated(data: mjx.Data, x: jax.Array) -> jax.Array:
    """Which rows of friction loss slide: their force is constant."""
    rows: Any = data._impl
    friction = slice(rows.ne, rows.ne + rows.nf)
    stiffness, loss = rows.efc_D[friction], rows.efc_frictionloss[friction]
    return (jnp.abs(x[friction]) * stiffness >= loss) & (loss > 0)


def _cones(model: mjx.Model, data: mjx.Data):
    """Of every size of elliptic contact: its rows `(contacts, size)`, and friction of each.

    Friction comes as the normal's, `(contacts,)`, regularised by `impratio`, and the tangents',
    `(contacts, size - 1)`.
    """
    if model.opt.cone != mjx.ConeType.ELLIPTIC:
        return
    contact = data._impl.contact  # pyright: ignore[reportAttributeAccessIssue]
    for size in (3, 4, 6):
        chosen = np.nonzero(contact.dim == size)[0]
        if chosen.size:
            at = contact.efc_address[chosen][:, None] + np.arange(size)
            tangents = contact.friction[chosen, : size - 1]
            yield at, (tangents[:, 0] / jnp.sqrt(model.opt.impratio), tangents)


def cone_force(
    x: jax.Array, stiffness: jax.Array, normal_friction: jax.Array, friction: jax.Array
) -> jax.Array:
    """Force of one elliptic contact, `(size,)`: sticking, sliding or apart."""
    mu = normal_friction
    normal, tangents = mu * x[0], friction * x[1:]
    square = jnp.sum(tangents**2)
    moving = square > 0
    # A square root has no gradient at zero; there the contact sticks or is apart.
    slip = jnp.where(moving, jnp.sqrt(jnp.where(moving, square, 1.0)), 0.0)
    sticks = jnp.where(moving, mu * normal + slip <= 0, normal < 0)
    slides = moving & ~sticks & (normal < mu * slip)
    weight = stiffness[0] / jnp.maximum(mu**2 * (1 + mu**2), 1e-15)
    push = -weight * (normal - mu * slip) * mu
    along = -push / jnp.where(moving, slip, 1.0) * tangents * friction
    sliding = jnp.concatenate([push[None], along])
    return jnp.where(sticks, -stiffness * x, jnp.where(slides, sliding, 0.0))


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


def components(array: jax.Array) -> Vector:
    """Of an array whose last axis is space."""
    return array[..., 0], array[..., 1], array[..., 2]


def add(left: Vector, right: Vector) -> Vector:
    """The sum."""
    return left[0] + right[0], left[1] + right[1], left[2] + right[2]


def scale(factor: jax.Array, vector: Vector) -> Vector:
    """A multiple."""
    return factor * vector[0], factor * vector[1], factor * vector[2]


def dot(left: Vector, right: Vector) -> jax.Array:
    """The inner product."""
    return left[0] * right[0] + left[1] * right[1] + left[2] * right[2]


def cross(left: Vector, right: Vector) -> Vector:
    """The cross product."""
    return (
        left[1] * right[2] - left[2] * right[1],
        left[2] * right[0] - left[0] * right[2],
        left[0] * right[1] - left[1] * right[0],
    )
