"""The Jacobian of a step of MJX in local coordinates, from inverse dynamics, in one go.

At a frozen acceleration inverse dynamics needs no solver, no factorisation and no line search: its
Jacobian is cheap forward mode, split by what moves. Positions go through everything, speeds
through velocities and forces alone, activations and controls through actuators alone. One inverse
of the solver's Hessian then serves all columns. `docs/concepts/contact_derivatives.md` has the
formulas.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.mjx.constraints import make_constraint
from sobolax.mjx.contacts import contact_force
from sobolax.mjx.engine import mjx
from sobolax.mjx.forces import applied_force
from sobolax.mjx.precision import in_full_precision
from sobolax.mjx.quaternions import (
    integrate_position,
    rotated,
    with_servo_gradients,
    with_spring_gradients,
)
from sobolax.mjx.step import (
    acceleration,
    cost_hessian,
    integrate,
    integration_matrix,
    inverse_of,
    next_activation,
    refined_solution,
    residual,
    unconstrained,
)
from sobolax.mjx.support import check_step, reason_against_jacobian
from sobolax.mjx.tendons import tendon


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepJacobian:
    """The derivative of a step in local coordinates `x = (dq, dv, d activation)`.

    Attributes:
        state: `A = d x' / d x`, `(state size, state size)`, state size `2 nv + na`.
        control: `B = d x' / d control`, `(state size, nu)`.

    Example:
        >>> jacobian = StepJacobian(state=jnp.eye(2), control=jnp.ones((2, 1)))
        >>> (jacobian.state @ jnp.ones(2) + jacobian.control @ jnp.ones(1)).tolist()
        [2.0, 2.0]
    """

    state: jax.Array
    control: jax.Array


@in_full_precision
def step_and_jacobian(model: mjx.Model, data: mjx.Data) -> tuple[mjx.Data, StepJacobian]:
    """`mjx.step` and its Jacobian with respect to positions, speeds, activations and controls.

    Args:
        model: From `mjx.put_model(..., impl="jax")`; integrator Euler or implicitfast.
        data: From `mjx.make_data(..., impl="jax")`.

    Returns:
        The data after the step, and the Jacobian; `dq` of both ends is in the tangent space of
        `qpos` there, of size `nv`, as `mujoco.mj_differentiatePos` measures it.

    Raises:
        NotImplementedError, TypeError, ValueError: As `sobolax.mjx.step`.

    Example:
        >>> import mujoco
        >>> body = "<body><joint type='slide'/><geom size='0.1' contype='0'/></body>"
        >>> xml = f"<mujoco><worldbody>{body}</worldbody></mujoco>"
        >>> model = mjx.put_model(mujoco.MjModel.from_xml_string(xml), impl="jax")
        >>> data = mjx.make_data(model, impl="jax")
        >>> next_data, jacobian = jax.eval_shape(step_and_jacobian, model, data)
        >>> jacobian.state.shape, jacobian.control.shape
        ((2, 2), (2, 0))
    """
    check_step(model, data, reason_against_jacobian(model))
    solved = acceleration(model, unconstrained(model, data))
    next_data = integrate(model, solved)
    qacc = solved.qacc
    inverse = inverse_of(cost_hessian(model, solved, qacc))
    damped = integration_matrix(model, solved)
    if damped is None:
        rate, damped_inverse = qacc, jnp.zeros((model.nv, model.nv), qacc.dtype)
    else:
        damped_inverse = inverse_of(damped)
        force = solved.qfrc_smooth + solved.qfrc_constraint
        rate = refined_solution(damped_inverse, damped, force)

    def balances(data: mjx.Data) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What must stay zero at frozen accelerations, and what becomes of activations."""
        contacts = contact_force(model, data, qacc)
        data = _with_smooth_force(model, make_constraint(model, _without_contacts(data)))
        balance = residual(model, data, qacc) - contacts
        integration = integration_matrix(model, data)
        if integration is None:
            integrator = jnp.zeros_like(qacc)
        else:
            integrator = integration @ rate - mjx.mul_m(model, data, qacc)
        return balance, integrator, next_activation(model, data)

    def along_position(dq: jax.Array):
        moved = _positioned(model, data.replace(qpos=integrate_position(model, data.qpos, dq)))
        moved = with_spring_gradients(model, mjx.fwd_velocity(model, moved))
        return balances(mjx.fwd_actuation(model, moved))

    def along_velocity(qvel: jax.Array):
        moved = mjx.fwd_velocity(model, solved.replace(qvel=qvel))
        return balances(mjx.fwd_actuation(model, moved))

    def along_actuation(act: jax.Array, ctrl: jax.Array):
        return balances(mjx.fwd_actuation(model, solved.replace(act=act, ctrl=ctrl)))

    zero = jnp.zeros(model.nv, qacc.dtype)
    by_position = _columns(along_position, zero)
    by_velocity = _columns(along_velocity, data.qvel)
    by_activation = _columns(lambda act: along_actuation(act, data.ctrl), data.act)
    by_control = _columns(lambda ctrl: along_actuation(data.act, ctrl), data.ctrl)
    residuals, integrators, activations = (
        jnp.concatenate(parts, axis=1)
        for parts in zip(by_position, by_velocity, by_activation, by_control, strict=True)
    )
    # dw = -H^-1 dR; then, where the integrator has a matrix K of its own, K da = M dw - dS.
    gradient = -inverse @ residuals
    if damped is not None:
        gradient = damped_inverse @ (mjx.full_m(model, solved) @ gradient - integrators)
    velocities, activation_count = model.nv, model.na
    qvel = model.opt.timestep * gradient
    qvel = qvel.at[:, velocities : 2 * velocities].add(jnp.eye(velocities, dtype=qvel.dtype))
    carried, driven = rotated(model, model.opt.timestep * next_data.qvel)
    qpos = model.opt.timestep * driven @ qvel
    qpos = qpos.at[:, :velocities].add(carried)
    whole = jnp.concatenate([qpos, qvel, activations])
    size = 2 * velocities + activation_count
    return next_data, StepJacobian(whole[:, :size], whole[:, size:])


def _columns(function: Any, at: jax.Array) -> tuple[jax.Array, ...]:
    """Jacobians of a function of one vector, columns last."""
    basis = jnp.eye(at.shape[0], dtype=at.dtype)
    return jax.vmap(lambda along: jax.jvp(function, (at,), (along,))[1], -1, -1)(basis)


def _positioned(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.fwd_position` without cameras, the inertia's factor and the constraints."""
    data = mjx.com_pos(model, mjx.kinematics(model, data))
    data = tendon(model, data)
    data = mjx.tendon_armature(model, mjx.crb(model, data))
    return with_servo_gradients(model, mjx.transmission(model, mjx.collision(model, data)))


def _without_contacts(data: mjx.Data) -> mjx.Data:
    """The same with no contact, so that `mjx.make_constraint` makes all other rows."""
    contacts: Any = data._impl.contact  # pyright: ignore[reportAttributeAccessIssue]
    none = jax.tree.map(lambda leaf: leaf[:0], contacts)
    none = none.replace(dim=contacts.dim[:0], efc_address=contacts.efc_address[:0])
    return data.tree_replace({"_impl.contact": none})  # pyright: ignore[reportReturnType]


def _with_smooth_force(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.fwd_acceleration` without the solve."""
    applied = data.qfrc_applied + applied_force(model, data)
    return data.replace(
        qfrc_smooth=data.qfrc_passive - data.qfrc_bias + data.qfrc_actuator + applied
    )
