"""A step of MJX that differentiates: `mjx.step` with implicit derivatives, in both modes.

The solver of MuJoCo's constraints returns the acceleration `w` that minimises a convex cost. Its
gradient is the residual of inverse dynamics

    R(q, v, u; w) = M w - qfrc_smooth - J' f(J w - aref) = 0,

and its Hessian is `H = M + J' K J`. By the implicit function theorem `dw = -H^-1 dR`, with `dR` at
fixed `w`: the solver's loop is not differentiated at all, whatever it did and however long it
took. Second derivatives follow (`sobolax/mjx/implicit.py`).
`docs/concepts/contact_derivatives.md` derives this and says where it ends.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from sobolax.mjx.constraints import make_constraint
from sobolax.mjx.contacts import sound, with_friction_gradients
from sobolax.mjx.engine import mjx
from sobolax.mjx.forces import constraint_force, hessian
from sobolax.mjx.implicit import root_of
from sobolax.mjx.precision import in_full_precision
from sobolax.mjx.quaternions import (
    integrate_position,
    with_servo_gradients,
    with_spring_gradients,
)
from sobolax.mjx.support import check_step, reason_against, with_gradient_of
from sobolax.mjx.tendons import tendon

T = TypeVar("T")


@in_full_precision
def step(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.step`, differentiable by `jax.jvp` and `jax.vjp` at any number of solver iterations.

    The value is that of `mjx.step`: the same public functions of `mujoco.mjx` in the same order
    (with RK4, whose stages are written anew, up to rounding). The derivative is that of the
    solver's exact optimum at the acceleration that it returned, with respect to everything in
    `data` and `model` that is real: positions, velocities, activations, controls, applied forces,
    mocap poses, masses, friction, ... It does not depend on the warm start. It may itself be
    differentiated: `jax.hessian`, or a loss that contains a `jax.jvp`.

    Args:
        model: From `mjx.put_model(..., impl="jax")`; integrator Euler, implicitfast or RK4.
        data: From `mjx.make_data(..., impl="jax")`.

    Returns:
        The data after the step, as `mjx.step` leaves it.

    Raises:
        NotImplementedError: If the model has what cannot be differentiated this way; the message
            says what, and what works instead.
        TypeError: If model or data are MuJoCo's own, not MJX's.
        ValueError: If the data is a batch: `vmap` the step.

    Example:
        >>> import mujoco
        >>> body = "<body><joint type='slide'/><geom size='0.1' contype='0'/></body>"
        >>> xml = f"<mujoco><worldbody>{body}</worldbody></mujoco>"
        >>> model = mjx.put_model(mujoco.MjModel.from_xml_string(xml), impl="jax")
        >>> data = mjx.make_data(model, impl="jax")
        >>> height = lambda qvel: step(model, data.replace(qvel=qvel)).qpos[0]
        >>> jax.eval_shape(jax.grad(height), data.qvel).shape
        (1,)
    """
    check_step(model, data, reason_against(model))
    data = acceleration(model, unconstrained(model, data))
    if model.opt.integrator == mjx.IntegratorType.RK4:
        return _runge_kutta(model, data)
    return integrate(model, data)


def unconstrained(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """All of `mjx.forward` before the solver."""
    data = with_friction_gradients(model, _positioned(model, data))
    data = with_servo_gradients(model, data)
    data = mjx.sensor_pos(model, data)
    data = with_spring_gradients(model, mjx.fwd_velocity(model, data))
    data = mjx.sensor_vel(model, data)
    data = mjx.fwd_actuation(model, data)
    return mjx.fwd_acceleration(model, data)


def _positioned(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.fwd_position` with `tendon` and `make_constraint` in place of those of `mjx`."""
    data = mjx.camlight(model, mjx.com_pos(model, mjx.kinematics(model, data)))
    data = mjx.tendon_armature(model, mjx.crb(model, tendon(model, data)))
    data = mjx.collision(model, mjx.factor_m(model, data))
    return mjx.transmission(model, make_constraint(model, data))


def acceleration(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """The rest of `mjx.forward`: the solver, and the gradient of its optimum."""
    rows: Any = data._impl
    constrained = rows.efc_J.size > 0
    if constrained:
        solved = mjx.solve(frozen(model), frozen(data))
        value = solved.qacc
    else:
        solved, value = data, frozen(data.qacc_smooth)
    qacc = root_of(
        lambda qacc: residual(model, data, qacc),
        lambda qacc: cost_hessian(model, data, qacc),
        value,
        inverse_of(cost_hessian(frozen(model), frozen(data), value)),
    )
    if not constrained:
        return data.replace(qacc=qacc)
    force = constraint_force(model, data, rows.efc_J @ qacc - rows.efc_aref)
    data = data.replace(qacc=qacc)
    solution: Any = data.tree_replace(
        {
            "qfrc_constraint": with_gradient_of(solved.qfrc_constraint, rows.efc_J.T @ force),
            "_impl.efc_force": with_gradient_of(
                solved._impl.efc_force,  # pyright: ignore[reportAttributeAccessIssue]
                force,
            ),
        }
    )
    return mjx.sensor_acc(model, solution)


def integrate(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """What follows `mjx.forward` in a step, with gradients of its own for speeds and positions.

    MJX's integrators differentiate too, at the cost of a Cholesky factor's derivative, and with
    a gradient of zero at a body's rest: the axis of a rotation by no angle has none.
    """
    still = frozen(data).tree_replace(
        {"act": data.act, "act_dot": data.act_dot, "actuator_length": data.actuator_length}
    )
    euler = model.opt.integrator == mjx.IntegratorType.EULER
    next_data = (mjx.euler if euler else mjx.implicit)(model, still)
    damped = integration_matrix(model, data)
    if damped is None:
        rate = data.qacc
    else:
        force = _whole_force(model, data)
        inverse = inverse_of(frozen(damped))
        value = refined_solution(inverse, frozen(damped), frozen(force))
        rate = root_of(lambda rate: damped @ rate - force, lambda _: damped, value, inverse)
    timestep = model.opt.timestep
    qvel = with_gradient_of(next_data.qvel, data.qvel + timestep * rate)
    moved = integrate_position(model, data.qpos, timestep * qvel, normalise=True)
    return data.replace(
        qvel=qvel,
        qpos=with_gradient_of(next_data.qpos, moved),
        act=next_data.act,
        time=with_gradient_of(next_data.time, data.time + timestep),
        qacc_warmstart=data.qacc,
    )


def _runge_kutta(model: mjx.Model, start: mjx.Data) -> mjx.Data:
    """`mjx.rungekutta4`, with the gradient of the optimum at each of its four accelerations.

    A solver that starts at its optimum stops at once, and differentiated as a loop it has lost the
    stiffness of what is in contact.
    """
    timestep = model.opt.timestep

    def moved(rates: tuple[jax.Array, ...], over: Any) -> dict[str, jax.Array]:
        speed, qacc, act_dot = rates
        return {
            "qpos": integrate_position(model, start.qpos, over * speed, normalise=True),
            "qvel": start.qvel + over * qacc,
            "act": start.act + over * act_dot,
            "time": start.time + over,
        }

    def stage(carry: Any, numbers: jax.Array):
        data, rates, mean = carry
        share, weight = numbers
        data = data.replace(**moved(rates, share * timestep))
        data = acceleration(model, unconstrained(model, data))
        rates = data.qvel, data.qacc, data.act_dot
        mean = jax.tree.map(lambda mean, rate: mean + weight * rate, mean, rates)
        return (data, rates, mean), None

    rates = start.qvel, start.qacc, start.act_dot
    mean = jax.tree.map(lambda rate: rate / 6, rates)
    # How far along the rates of the stage before, and how much those of this one count.
    numbers = jnp.asarray([(0.5, 1 / 3), (0.5, 1 / 3), (1.0, 1 / 6)], start.qpos.dtype)
    (data, _, mean), _ = jax.lax.scan(stage, (start, rates, mean), numbers)
    still: Any = frozen(data).tree_replace(
        {"act": start.act, "act_dot": mean[2], "actuator_length": data.actuator_length}
    )
    last = {"act": next_activation(model, still), "qacc_warmstart": data.qacc}
    return data.replace(**moved(mean, timestep) | last)


def _whole_force(model: mjx.Model, data: mjx.Data) -> jax.Array:
    """Smooth forces and those of constraints, `(nv,)`, with the gradient of `M w`.

    At the optimum they are equal. But how forces of constraints change with the acceleration is
    `J' K J`, as large as contacts are stiff: its product with the rounding of `H^-1` would be most
    of the error in float32.
    """
    force = data.qfrc_smooth + data.qfrc_constraint
    rows: Any = data._impl
    if rows.efc_J.size == 0:
        return force
    return with_gradient_of(force, mjx.mul_m(model, data, data.qacc))


def residual(model: mjx.Model, data: mjx.Data, qacc: jax.Array) -> jax.Array:
    """Inverse dynamics minus what acts, `(nv,)`: zero at the solver's optimum.

    Args:
        model: The model.
        data: After `unconstrained`, without use of its factorisations.
        qacc: The acceleration, `(nv,)`.
    """
    rows: Any = data._impl
    balance = mjx.mul_m(model, data, qacc) - data.qfrc_smooth
    if rows.efc_J.size == 0:
        return balance
    force = constraint_force(model, data, rows.efc_J @ qacc - rows.efc_aref)
    return (balance - rows.efc_J.T @ force) * sound(data)


def cost_hessian(model: mjx.Model, data: mjx.Data, qacc: jax.Array) -> jax.Array:
    """The Hessian of the solver's cost at `qacc`, `(nv, nv)`."""
    rows: Any = data._impl
    if rows.efc_J.size == 0:
        return mjx.full_m(model, data)
    return hessian(model, data, rows.efc_J @ qacc - rows.efc_aref)


def integration_matrix(model: mjx.Model, data: mjx.Data) -> jax.Array | None:
    """What the integrator solves with in place of `M`, `(nv, nv)`; None if it takes `qacc`."""
    if model.opt.integrator == mjx.IntegratorType.EULER:
        traced = isinstance(model.dof_damping, core.Tracer)
        undamped = not traced and not np.asarray(model.dof_damping).any()
        if undamped or model.opt.disableflags & mjx.DisableBit.EULERDAMP:
            return None
        # As MJX writes it: a compiler then factors the two matrices once.
        return mjx.full_m(model, data) + jnp.diag(model.opt.timestep * model.dof_damping)
    gradient = mjx.deriv_smooth_vel(model, data)
    return None if gradient is None else mjx.full_m(model, data) - model.opt.timestep * gradient


def next_activation(model: mjx.Model, data: mjx.Data) -> jax.Array:
    """Activations after the step, `(na,)`: within their limits."""
    if not model.na:
        return jnp.zeros(0, data.qpos.dtype)
    return mjx.euler(model, data).act


def inverse_of(matrix: jax.Array) -> jax.Array:
    """The inverse of a symmetric positive definite matrix.

    As a matrix, for it is frozen: a tangent or a cotangent then costs one product.
    """
    factor = jax.scipy.linalg.cho_factor(matrix)
    return jax.scipy.linalg.cho_solve(factor, jnp.eye(matrix.shape[0], dtype=matrix.dtype))


def refined_solution(inverse: jax.Array, matrix: jax.Array, right: jax.Array) -> jax.Array:
    """`matrix^-1 right`, `(n,)`, by the inverse and one correction of what its rounding leaves."""
    solution = inverse @ right
    return solution + inverse @ (right - matrix @ solution)


def frozen(tree: T) -> T:
    """`stop_gradient` of the arrays; MJX needs its NumPy constants as they are."""
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if isinstance(leaf, jax.Array) else leaf, tree
    )
