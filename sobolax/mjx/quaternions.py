"""Gradients of springs and servos of ball joints at the very rotation where they are at ease.

MJX measures a rotation by its axis and angle. A rotation by no angle has no axis, and there, where
every such joint starts, MJX's gradient of the rotation is zero: a spring without stiffness. The
gradient a hair's breadth away is right, so it is taken there; values stay those of MJX.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from sobolax.mjx.engine import mjx
from sobolax.mjx.gradients import with_gradient_of
from sobolax.mjx.tangent_space import integrate_position

_TURNING = (mjx.JointType.FREE, mjx.JointType.BALL)


def with_servo_gradients(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """After `mjx.transmission`: gradients of the lengths of actuators that turn a ball."""
    if not _turned_by_actuators(model):
        return data
    rows: Any = data._impl
    near: Any = mjx.transmission(model, data.replace(qpos=_nearby(model, data.qpos)))
    length = with_gradient_of(data.actuator_length, near.actuator_length)
    moment = with_gradient_of(rows.actuator_moment, near._impl.actuator_moment)
    result: Any = data.tree_replace({"actuator_length": length, "_impl.actuator_moment": moment})
    return result


def with_spring_gradients(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """After `mjx.fwd_velocity`: gradients of the springs of ball and free joints."""
    if not _sprung(model):
        return data
    near = mjx.passive(model, data.replace(qpos=_nearby(model, data.qpos)))
    return data.replace(qfrc_passive=with_gradient_of(data.qfrc_passive, near.qfrc_passive))


def _nearby(model: mjx.Model, qpos: jax.Array) -> jax.Array:
    """All quaternions turned by so little that only MJX's test for zero sees it."""
    angle = max(1e-7, 10 * float(jnp.finfo(qpos.dtype).eps))
    turn = np.zeros(model.nv)
    for kind, first in zip(model.jnt_type, model.jnt_dofadr, strict=True):
        if kind in _TURNING:
            first = first + (3 if kind == mjx.JointType.FREE else 0)
            turn[first : first + 3] = angle * np.array([0.8, 0.5, 0.3])
    return integrate_position(model, qpos, jnp.asarray(turn, qpos.dtype))


def _turned_by_actuators(model: mjx.Model) -> bool:
    of_joint = np.isin(model.actuator_trntype, (mjx.TrnType.JOINT, mjx.TrnType.JOINTINPARENT))
    joints = np.asarray(model.actuator_trnid)[of_joint, 0]
    return bool(np.isin(np.asarray(model.jnt_type)[joints], _TURNING).any())


def _sprung(model: mjx.Model) -> bool:
    turning = np.isin(np.asarray(model.jnt_type), _TURNING)
    if isinstance(model.jnt_stiffness, core.Tracer):
        return bool(turning.any())
    return bool((np.asarray(model.jnt_stiffness)[turning] != 0).any())
