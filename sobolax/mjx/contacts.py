"""Forces of contacts at a frozen acceleration, without a Jacobian of any contact.

MJX writes a contact as rows of `efc_J`, `(nefc, nv)`; the derivative of those along every position
is most of what a Jacobian of inverse dynamics costs. But inverse dynamics needs only `J w`, which
is how fast two points part, and `J' f`, which is a wrench on two bodies: a few numbers per body.
The rows that result are those of MuJoCo's documentation ('Computation: constraint model' and
'Modeling: solver parameters'); tests hold them to MJX's own.

Vectors are handled by components, each an array over contacts: the compiler then makes one loop of
all of this, instead of many small arrays.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from sobolax.mjx.constraints import make_constraint
from sobolax.mjx.degenerate import LEAST_FRICTION
from sobolax.mjx.engine import mjx, mujoco
from sobolax.mjx.forces import (
    Vector,
    add,
    components,
    cone_force,
    cross,
    dot,
    generalised_force,
    moving_freedoms,
    scale,
    screw_axes,
)
from sobolax.mjx.implicit import with_jacobian
from sobolax.mjx.powers import power
from sobolax.mjx.support import with_gradient_of


def contact_force(model: mjx.Model, data: mjx.Data, qacc: jax.Array) -> jax.Array:
    """Generalised forces of all contacts, `(nv,)`, were the acceleration `qacc`.

    Args:
        model: The model.
        data: After `mjx.com_pos` and `mjx.collision`; its rows of constraints are not used.
        qacc: The acceleration, `(nv,)`.
    """
    total = jnp.zeros(model.nv, qacc.dtype)
    if model.opt.disableflags & mjx.DisableBit.CONSTRAINT:
        return total  # `mjx.collision` finds contacts all the same
    contacts: Any = data._impl.contact  # pyright: ignore[reportAttributeAccessIssue]
    moves = jnp.asarray(moving_freedoms(model)[model.geom_bodyid])
    axes, centre = screw_axes(model, data)
    for size in (1, 3, 4, 6):
        chosen = np.nonzero(contacts.dim == size)[0]
        if not chosen.size:
            continue
        contact = jax.tree.map(lambda leaf, chosen=chosen: leaf[chosen], contacts)
        # 1 where a freedom moves the second body only, -1 for the first, (contacts, nv).
        parting = moves[contact.geom[:, 1]] - moves[contact.geom[:, 0]]
        by_acceleration = jnp.einsum("ki,ci->kc", axes * qacc, parting)
        by_velocity = jnp.einsum("ki,ci->kc", axes * data.qvel, parting)
        wrench = _wrench(model, size, contact, by_acceleration, by_velocity, centre)
        total = total + generalised_force(axes, wrench, parting)
    return total * sound(data)


def _wrench(
    model: mjx.Model,
    size: int,
    contact: Any,
    by_acceleration: jax.Array,
    by_velocity: jax.Array,
    centre: jax.Array,
) -> jax.Array:
    """Torque and force of contacts on their second bodies at `centre`, `(6, contacts)`.

    Args:
        model: The model.
        size: Rows of a contact, 1, 3, 4 or 6.
        contact: Contacts of that size.
        by_acceleration: How the bodies part (turn, shift at `centre`), were the speeds `qacc`,
            `(6, contacts)`.
        by_velocity: The same, as the speeds are.
        centre: A point (m), `(3,)`.
    """
    axes = [components(contact.frame[:, row]) for row in range(3)]
    lever = components(contact.pos - centre)

    def in_frame(parting: jax.Array) -> list[jax.Array]:
        turn: Vector = (parting[0], parting[1], parting[2])
        shift = add((parting[3], parting[4], parting[5]), cross(turn, lever))
        along = [dot(axis, shift) for axis in axes] + [dot(axis, turn) for axis in axes]
        return along[:size]

    damping = jax.vmap(lambda contact: _dampings(model, contact, size), out_axes=1)(contact)
    parting = zip(in_frame(by_acceleration), in_frame(by_velocity), damping, strict=True)
    # Accelerations against their reference, but for the spring; and how deep the contact is.
    motion = jnp.stack([a + b * v for a, v, b in parting] + [contact.dist - contact.includemargin])
    weight = jnp.asarray(model.body_invweight0)[jnp.asarray(model.geom_bodyid)[contact.geom], 0]
    resist = jax.vmap(lambda *inputs: _resistance(model, *inputs), (1, 0, 0), 1)
    gradients = jax.vmap(jax.jacfwd(lambda *inputs: _resistance(model, *inputs)), (1, 0, 0), 2)
    weight = jnp.sum(weight, axis=1)
    # A contact's own Jacobian, once, so that a tangent is a few products: a derivative of the law
    # itself would be computed anew for every direction.
    resistance = with_jacobian(
        lambda motion: resist(motion, contact, weight),
        lambda motion: jax.lax.optimization_barrier(gradients(motion, contact, weight)),
        motion,
    )
    force = scale(resistance[0], axes[0])
    for part, axis in zip(resistance[1:3], axes[1:], strict=False):
        force = add(force, scale(part, axis))
    torque = cross(lever, force)
    for part, axis in zip(resistance[3:], axes, strict=False):
        torque = add(torque, scale(part, axis))
    return jnp.stack([*torque, *force])


def _resistance(model: mjx.Model, motion: jax.Array, contact: Any, weight: jax.Array) -> jax.Array:
    """Forces along, then torques about, the axes of one contact, `(size,)`."""
    x, distance = motion[:-1], motion[-1]
    size = x.shape[0]
    stiffness, impedance = _spring(model, contact, distance)
    # Friction's rows of a cone have no position to return to.
    pull = stiffness * impedance * distance
    friction = floored(contact.friction)[: size - 1]
    if size > 1 and model.opt.cone == mjx.ConeType.ELLIPTIC:
        ratio = (friction[0] / friction) ** 2 / model.opt.impratio
        weights = weight * jnp.concatenate([jnp.ones(1, ratio.dtype), ratio])
        normal_friction = friction[0] / jnp.sqrt(model.opt.impratio)
        conductance = _conductance(weights, impedance)
        force = cone_force(x.at[0].add(pull), conductance, normal_friction, friction)
    elif size > 1:
        # Two edges of the pyramid for every tangent; all share the inverse weight of the first.
        weight = weight * (1 + friction[0] ** 2) * 2 * friction[0] ** 2 / model.opt.impratio
        rising, falling = (
            jnp.maximum(-x[0] - pull - sign * friction * x[1:], 0.0) for sign in (1, -1)
        )
        edges = jnp.concatenate([jnp.sum(rising + falling)[None], friction * (rising - falling)])
        force = _conductance(weight, impedance) * edges
    else:
        force = -_conductance(weight, impedance) * jnp.minimum(x + pull, 0.0)
    return jnp.where(distance < 0, force, 0.0)


def _dampings(model: mjx.Model, contact: Any, size: int) -> jax.Array:
    """Damping (1/s) of the rows of one contact, `(size,)`."""
    most = jnp.clip(contact.solimp[1], mujoco.mjMINIMP, mujoco.mjMAXIMP)

    def damping(solref: jax.Array) -> jax.Array:
        time_constant = _time_constant(model, solref)
        return jnp.where(solref[1] > 0, 2 / (most * time_constant), -solref[1] / most)

    normal = damping(contact.solref)
    if size == 1 or model.opt.cone != mjx.ConeType.ELLIPTIC:
        return jnp.full(size, normal)
    # Friction's rows of a cone may have a damping of their own.
    own = jnp.where(contact.solreffriction.any(), contact.solreffriction, contact.solref)
    return jnp.where(np.arange(size) == 0, normal, damping(own))


def _spring(model: mjx.Model, contact: Any, distance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Stiffness (1/s²) and impedance of one contact at that distance, `()` each."""
    solref = contact.solref
    least, most, width, middle, exponent = contact.solimp
    low, high = mujoco.mjMINIMP, mujoco.mjMAXIMP
    least, most, middle = (jnp.clip(value, low, high) for value in (least, most, middle))
    width, exponent = jnp.maximum(width, mujoco.mjMINVAL), jnp.maximum(exponent, 1.0)
    stiffness = 1 / (most * _time_constant(model, solref) * solref[1]) ** 2
    stiffness = jnp.where(solref[0] > 0, stiffness, -solref[0] / most**2)
    # Beyond the width the sigmoid is flat, and a power of a negative number is none.
    depth = jnp.minimum(jnp.abs(distance) / width, 1.0)
    below = power(depth, exponent) / middle ** (exponent - 1)
    above = 1 - power(1 - depth, exponent) / (1 - middle) ** (exponent - 1)
    impedance = least + jnp.where(depth < middle, below, above) * (most - least)
    # MJX clips so: where the least exceeds the most, it is the most at any depth.
    return stiffness, jnp.clip(impedance, least, most)


def floored(friction: jax.Array) -> jax.Array:
    """Coefficients of friction without zeros, `(..., 5)`: a row of none is infinitely soft.

    The inverse of its weight has the right value, zero, but the gradient of the inverse of
    infinity is not a number. At 1e-10 of the first coefficient it is soft to rounding.
    """
    return jnp.maximum(friction, 1e-10 * friction[..., :1])


def with_friction_gradients(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """After `mjx.make_constraint`: gradients of cones with coefficients of friction of zero."""
    rows: Any = data._impl
    if model.opt.cone != mjx.ConeType.ELLIPTIC or not _may_lack_friction(model, rows.contact.dim):
        return data
    contact = rows.contact.replace(friction=floored(rows.contact.friction))
    near: Any = data.tree_replace({"_impl.contact": contact})
    near = make_constraint(model, near)
    weights = with_gradient_of(rows.efc_D, near._impl.efc_D)
    result: Any = data.tree_replace({"_impl.efc_D": weights})
    return result


def _may_lack_friction(model: mjx.Model, sizes: np.ndarray) -> bool:
    """Whether a contact, of those sizes, may have a coefficient of zero."""
    size = int(sizes.max(initial=0))
    coefficients = (model.geom_friction, model.pair_friction)
    if any(isinstance(values, core.Tracer) for values in coefficients):
        return size > 1
    # A geom's coefficients slide, twist and roll; those of a pair are one for every tangent.
    counts = ({3: 1, 4: 2, 6: 3}.get(size, 0), max(size - 1, 0))
    return any(
        (np.asarray(values)[:, :count] <= mujoco.mjMINVAL).any()
        for values, count in zip(coefficients, counts, strict=True)
    )


def sound(data: mjx.Data) -> jax.Array:
    """1, or NaN where MJX's step is none: a contact that should slide without sliding friction.

    A factor of what is differentiated. Models are refused for it, but friction that is traced is
    known only when the program runs.
    """
    contact: Any = data._impl.contact  # pyright: ignore[reportAttributeAccessIssue]
    slippery = (contact.dim > 1) & (contact.friction[:, 0] < LEAST_FRICTION)
    acts = contact.dist < contact.includemargin
    return jnp.where(jnp.any(slippery & acts), jnp.nan, 1.0)


def _time_constant(model: mjx.Model, solref: jax.Array) -> jax.Array:
    safe = not model.opt.disableflags & mjx.DisableBit.REFSAFE
    return jnp.maximum(solref[0], 2 * model.opt.timestep) if safe else solref[0]


def _conductance(weight: jax.Array, impedance: jax.Array) -> jax.Array:
    """`efc_D`: the inverse of a row's regularisation."""
    return 1 / jnp.maximum(weight * (1 - impedance) / impedance, mujoco.mjMINVAL)
