"""Quaternions: moves of positions along their tangent space, and gradients at rest.

MuJoCo's generalised positions move along as many directions as they have freedom. And MJX measures
a rotation by its axis and angle: a rotation by no angle has no axis, and there, where every ball
joint starts, its gradient is zero: a spring without stiffness. The gradient very near is right, so
it is taken there; values stay those of MJX.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from sobolax.mjx.engine import MjModel, mjx
from sobolax.mjx.support import with_gradient_of

# An axis like no other: no joint turns about it.
_AXIS = np.array([0.8, 0.5, 0.3])
# Joints with a quaternion, and how many numbers stand before it.
_BEFORE = {int(mjx.JointType.FREE): 3, int(mjx.JointType.BALL): 0}


def integrate_position(
    model: MjModel, qpos: jax.Array, dq: jax.Array, normalise: bool = False
) -> jax.Array:
    """Moves `qpos` by `dq`, as `mujoco.mj_integratePos` does in unit time.

    Hinges and slides add. A free or ball joint's quaternion `q` becomes `q * exp(dq)`, where `dq`
    is a rotation vector in the body's own frame. `integrate_position(qpos, 0)` has the bits of
    `qpos`.

    Args:
        model: Whose joints say what is what; of `mujoco` or of `mjx`.
        qpos: `(nq,)`.
        dq: `(nv,)`: metres and radians.
        normalise: Whether quaternions are brought to length 1, as MuJoCo does in a step.

    Returns:
        `(nq,)`.

    Example:
        >>> import mujoco
        >>> body = "<body><freejoint/><geom size='0.1'/></body>"
        >>> xml = f"<mujoco><worldbody>{body}</worldbody></mujoco>"
        >>> model = mujoco.MjModel.from_xml_string(xml)
        >>> still, turned = jnp.array([0.0, 0, 0, 1, 0, 0, 0]), jnp.array([0.0, 0, 0, 0, 0, jnp.pi])
        >>> end = integrate_position(model, still, turned)  # half a turn about the vertical
        >>> bool(jnp.allclose(end, jnp.array([0, 0, 0, 0, 0, 0, 1.0]), atol=1e-6))
        True
    """
    quaternions = _quaternions(model)
    if not quaternions:
        return qpos + dq
    parts, position, velocity = [], 0, 0
    for at, along in quaternions:
        parts.append(qpos[position:at] + dq[velocity:along])
        quaternion = _product(qpos[at : at + 4], _exponential(dq[along : along + 3]))
        parts.append(quaternion / jnp.sqrt(jnp.sum(quaternion**2)) if normalise else quaternion)
        position, velocity = at + 4, along + 3
    parts.append(qpos[position:] + dq[velocity:])
    return jnp.concatenate(parts)


def subtract_positions(model: MjModel, end: jax.Array, start: jax.Array) -> jax.Array:
    """The move from `start` to `end`, the inverse of `integrate_position`; shorter than a turn.

    It differentiates in both modes, but at half a turn, where it jumps.

    Args:
        model: As there.
        end: `(nq,)`.
        start: `(nq,)`.

    Returns:
        `(nv,)`: metres and radians, for a quaternion a rotation vector in the frame of `start`.

    Example:
        >>> import mujoco
        >>> body = "<body><freejoint/><geom size='0.1'/></body>"
        >>> xml = f"<mujoco><worldbody>{body}</worldbody></mujoco>"
        >>> model = mujoco.MjModel.from_xml_string(xml)
        >>> still, move = jnp.array([0.0, 0, 0, 1, 0, 0, 0]), jnp.array([1.0, 2, 3, 0, 0, 0.5])
        >>> end = integrate_position(model, still, move)
        >>> [round(x, 3) for x in subtract_positions(model, end, still).tolist()]
        [1.0, 2.0, 3.0, 0.0, 0.0, 0.5]
    """
    parts, position = [], 0
    for at, _ in _quaternions(model):
        parts.append(end[position:at] - start[position:at])
        turn = _product(_conjugate(start[at : at + 4]), end[at : at + 4])
        # A quaternion and its negative are one rotation: the shorter way.
        turn = jnp.where(turn[0] < 0, -turn, turn)
        # No square root of zero, whose derivative would be none.
        squared = jnp.sum(turn[1:] ** 2)
        sine = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
        ratio = jnp.where(squared > 0, jnp.arctan2(sine, turn[0]) / sine, 1.0)
        parts.append(2.0 * ratio * turn[1:])
        position = at + 4
    parts.append(end[position:] - start[position:])
    return jnp.concatenate(parts)


def rotated(model: MjModel, dq: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How the end of a move depends on its start and on the move, in local coordinates.

    Moving `qpos` by `dq` ends somewhere; the end is moved by `carried @ start + driven @ move`
    when the start is moved by `start` and `dq` by `move`, each in the tangent space where it is.

    Args:
        model: Whose joints say what is what.
        dq: `(nv,)`: metres and radians.

    Returns:
        `carried` and `driven`, `(nv, nv)` each: unit matrices but for quaternions' blocks.
    """
    carried = driven = jnp.eye(dq.shape[0], dtype=dq.dtype)

    def end(start: jax.Array, move: jax.Array, turned: jax.Array) -> jax.Array:
        ended = _product(_exponential(start), _exponential(move))
        return 2 * _product(_conjugate(_exponential(turned)), ended)[1:]

    for _, along in _quaternions(model):
        block = slice(along, along + 3)
        by_start, by_move = jax.jacfwd(end, (0, 1))(jnp.zeros_like(dq[block]), dq[block], dq[block])
        carried = carried.at[block, block].set(by_start)
        driven = driven.at[block, block].set(by_move)
    return carried, driven


def _quaternions(model: MjModel) -> list[tuple[int, int]]:
    """Of every quaternion, where it begins in `qpos` and where its speeds begin in `qvel`."""
    places = []
    for kind, at, along in zip(model.jnt_type, model.jnt_qposadr, model.jnt_dofadr, strict=True):
        offset = _BEFORE.get(int(kind))
        if offset is not None:
            places.append((int(at) + offset, int(along) + offset))
    return places


def _conjugate(quaternion: jax.Array) -> jax.Array:
    return jnp.concatenate([quaternion[:1], -quaternion[1:]])


def _exponential(rotation: jax.Array) -> jax.Array:
    """The unit quaternion of a rotation vector; smooth at zero, where it is (1, 0, 0, 0)."""
    square = jnp.sum(rotation**2) / 4
    # Near zero the series, exact to rounding: the norm has no derivative there. The other branch
    # gets a harmless argument, for its derivative is computed too.
    small = square < 1e-8
    half = jnp.sqrt(jnp.where(small, 1.0, square))
    cosine = jnp.where(small, 1.0 - square / 2, jnp.cos(half))
    ratio = jnp.where(small, 1.0 - square / 6, jnp.sin(half) / half)
    return jnp.concatenate([cosine[None], ratio / 2 * rotation])


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """The Hamilton product of two quaternions `(w, x, y, z)`."""
    a, b, c, d = left
    e, f, g, h = right
    return jnp.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ]
    )


def with_servo_gradients(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """After `mjx.transmission`: gradients of lengths of actuators that turn a ball or a site."""
    if not _turned_by_actuators(model):
        return data
    rows: Any = data._impl
    close = data.replace(qpos=_nearby(model, data.qpos), xquat=_turned_bodies(data.xquat))
    near: Any = mjx.transmission(model, close)
    length = with_gradient_of(data.actuator_length, near.actuator_length)
    moment = with_gradient_of(rows.actuator_moment, near._impl.actuator_moment)
    result: Any = data.tree_replace({"actuator_length": length, "_impl.actuator_moment": moment})
    return result


def with_spring_gradients(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """After `mjx.fwd_velocity`: gradients of springs at ease, of quaternions and of tendons."""
    if not _sprung(model):
        return data
    near = data.replace(qpos=_nearby(model, data.qpos), ten_length=_stretched(model, data))
    near = mjx.passive(model, near)
    return data.replace(qfrc_passive=with_gradient_of(data.qfrc_passive, near.qfrc_passive))


def _nearby(model: mjx.Model, qpos: jax.Array) -> jax.Array:
    """All quaternions turned by so little that only MJX's test for zero sees it."""
    angle = max(1e-7, 10 * float(jnp.finfo(qpos.dtype).eps))
    turn = np.zeros(model.nv)
    for _, along in _quaternions(model):
        turn[along : along + 3] = angle * _AXIS
    return integrate_position(model, qpos, jnp.asarray(turn, qpos.dtype))


def _turned_bodies(xquat: jax.Array) -> jax.Array:
    """The same of all bodies, `(nbody, 4)`, no two alike: one turns against the other."""
    angle = max(1e-7, 10 * float(jnp.finfo(xquat.dtype).eps))
    turns = angle * np.arange(1, len(xquat) + 1)[:, None] * _AXIS
    half = jnp.asarray(np.pad(turns / 2, ((0, 0), (1, 0)), constant_values=1.0), xquat.dtype)
    return jax.vmap(_product)(xquat, half)


def _stretched(model: mjx.Model, data: mjx.Data) -> jax.Array:
    """Lengths of tendons, `(ntendon,)`, with none exactly at ease.

    There MJX's springs are in neither of their branches, and have no gradient. The two branches
    have the same, but for a spring with a range in which it is slack.
    """
    shortest, longest = model.tendon_lengthspring.T
    length = data.ten_length
    more = 10 * jnp.finfo(length.dtype).eps * jnp.maximum(jnp.abs(length), 1.0)
    return length + jnp.where(shortest == longest, more, 0.0)


def _turned_by_actuators(model: mjx.Model) -> bool:
    of_joint = np.isin(model.actuator_trntype, (mjx.TrnType.JOINT, mjx.TrnType.JOINTINPARENT))
    joints = np.asarray(model.actuator_trnid)[of_joint, 0]
    of_site = np.asarray(model.actuator_trntype) == mjx.TrnType.SITE
    between = of_site & (np.asarray(model.actuator_trnid)[:, 1] >= 0)
    balls = np.isin(np.asarray(model.jnt_type)[joints], list(_BEFORE))
    return bool(balls.any() or between.any())


def _sprung(model: mjx.Model) -> bool:
    turning = np.isin(np.asarray(model.jnt_type), list(_BEFORE))
    return _any(model.jnt_stiffness, turning) or _any(model.tendon_stiffness)


def _any(stiffness: jax.Array, which: Any = slice(None)) -> bool:
    """Whether one is not zero, or may be: values that are traced are not known."""
    if isinstance(stiffness, core.Tracer):
        return bool(np.zeros(stiffness.shape)[which].size)
    return bool((np.asarray(stiffness)[which] != 0).any())
