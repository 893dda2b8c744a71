"""Implicit derivatives: what they ask of a model, and how a value gets one.

An implicit derivative is exact at the optimum of the constraint solver; where the solver stops
short of it, the derivative is that of another step than the one that was taken.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sobolax.mjx.degenerate import LEAST_FRICTION, infinitely_stiff, named, slippery
from sobolax.mjx.engine import geom_pairs, mjx, mujoco

_INTEGRATORS = (mjx.IntegratorType.EULER, mjx.IntegratorType.IMPLICITFAST)


@jax.custom_jvp
def with_gradient_of(value: jax.Array, gradient: jax.Array) -> jax.Array:
    """`value`, to the last bit; its derivative is that of `gradient`, in both modes.

    Where nothing is differentiated, `gradient` is not even computed.
    """
    del gradient
    return value


@with_gradient_of.defjvp
def _with_gradient_of(primals, tangents):
    return with_gradient_of(*primals), tangents[1]


def reason_against(model: mjx.Model) -> str | None:
    """Why `sobolax.mjx.step` cannot differentiate this model, or None if it can.

    Raises:
        TypeError: If it is MuJoCo's own model, not MJX's.

    Example:
        >>> model = mujoco.MjModel.from_xml_string("<mujoco/>")
        >>> print(reason_against(mjx.put_model(model, impl="jax")))
        the model has no degrees of freedom: MJX steps only what moves; give a body a <joint> ...
    """
    if isinstance(model, mujoco.MjModel):
        raise TypeError("the model is a mujoco.MjModel: hand over mjx.put_model(model, impl='jax')")
    if model.impl != mjx.Impl.JAX:
        return (
            f"the model is on MJX's {model.impl.name} implementation, which has no derivatives "
            'in JAX: make model and data with impl="jax"'
        )
    return reason_against_steps(model)


def reason_against_jacobian(model: mjx.Model) -> str | None:
    """Why `sobolax.mjx.step_and_jacobian` cannot take this model, or None if it can.

    Raises:
        TypeError: If it is MuJoCo's own model, not MJX's.

    Example:
        >>> body = "<body><joint type='slide'/><geom size='0.1'/></body>"
        >>> xml = f"<mujoco><option integrator='RK4'/><worldbody>{body}</worldbody></mujoco>"
        >>> model = mjx.put_model(mujoco.MjModel.from_xml_string(xml), impl="jax")
        >>> print(reason_against_jacobian(model))
        the integrator RK4 solves for contact forces at four states within a step, ...
    """
    reason = reason_against(model)
    if reason is None and model.opt.integrator == mjx.IntegratorType.RK4:
        return (
            "the integrator RK4 solves for contact forces at four states within a step, and a "
            "step's Jacobian goes through one: use Euler or implicitfast, or sobolax.mjx.step in "
            "forward or reverse mode (the derivatives named 'forward')"
        )
    return reason


def reason_against_steps(model: mjx.Model) -> str | None:
    """Why `mjx.step` itself has no result to differentiate, or None if it has one.

    Args:
        model: From `mjx.put_model(..., impl="jax")`.

    Example:
        >>> model = mujoco.MjModel.from_xml_string("<mujoco/>")
        >>> print(reason_against_steps(mjx.put_model(model, impl="jax")))
        the model has no degrees of freedom: MJX steps only what moves; give a body a <joint> ...
    """
    if model.nv == 0:
        return (
            "the model has no degrees of freedom: MJX steps only what moves; give a body a "
            "<joint> or a <freejoint/>"
        )
    if model.opt.integrator not in (*_INTEGRATORS, mjx.IntegratorType.RK4):
        return (
            f"MJX does not step with the integrator {model.opt.integrator.name}: use Euler or "
            "implicitfast"
        )
    disabled = model.opt.disableflags
    rays = np.any(model.sensor_type == mjx.SensorType.RANGEFINDER)
    if rays and model.nmat == 0 and not disabled & mjx.DisableBit.SENSOR:
        return (
            "its rangefinders' rays ask what they meet for its material, and MJX fails in a model "
            "that has none: add <asset><material name='any'/></asset>, which nothing has to use"
        )
    if disabled & mjx.DisableBit.CONSTRAINT:
        return None
    elliptic = model.opt.cone == mjx.ConeType.ELLIPTIC
    contacts = [] if disabled & mjx.DisableBit.CONTACT else list(geom_pairs(model))
    if elliptic and not contacts and _constrained(model):
        return (
            "nothing can collide, and MJX's solver of elliptic cones fails without a contact: "
            'set cone="pyramidal", which changes nothing without contacts'
        )
    pair = next(slippery(model, contacts), None)
    if pair is not None:
        names = " and ".join(named(model, mujoco.mjtObj.mjOBJ_GEOM, geom) for geom in pair)
        frictionless = 'cone="pyramidal" and condim="1"' if elliptic else 'condim="1"'
        return (
            f"the sliding friction of contacts of {names} is less than {LEAST_FRICTION:g}, for "
            f"which MJX's step is rounding error{' or not a number' if elliptic else ''}: give one "
            "of the two a friction of 0.001 or more, or, for none at all, both of them "
            f"{frictionless}"
        )
    stiff = next(infinitely_stiff(model, contacts), None)
    if stiff is not None:
        return (
            f"{stiff}: a constraint that is infinitely stiff, for which MJX's step is not a "
            "number, or has no bound. Give it a damping ratio above 0 (1 is critical) and a time "
            'constant above 0, or stiffness and damping as negative numbers, as in "-1000 -10"'
        )
    return None


def _constrained(model: mjx.Model) -> bool:
    """Whether there are rows of constraints apart from contacts."""
    disabled, bit = model.opt.disableflags, mjx.DisableBit
    own: Any = model._impl
    return bool(
        (model.neq and not disabled & bit.EQUALITY)
        or (
            not disabled & bit.LIMIT and (np.any(model.jnt_limited) or np.any(model.tendon_limited))
        )
        or (
            not disabled & bit.FRICTIONLOSS
            and (own.dof_hasfrictionloss.any() or own.tendon_hasfrictionloss.any())
        )
    )


def check_step(model: mjx.Model, data: mjx.Data, reason: str | None) -> None:
    """Checks what a step is given, and raises for a reason against its model.

    Raises:
        NotImplementedError: If there is a reason.
        TypeError: If model or data are MuJoCo's own, not MJX's.
        ValueError: If the data is a batch.
    """
    if reason is not None:
        raise NotImplementedError(
            f"sobolax.mjx cannot differentiate a step of this model: {reason}"
        )
    if isinstance(data, mujoco.MjData):
        raise TypeError(
            "the data is a mujoco.MjData: hand over mjx.put_data(model, data, impl='jax') with "
            "the mujoco.MjModel"
        )
    if jnp.ndim(data.qpos) != 1:
        raise ValueError(
            f"the data is a batch: qpos has the shape {jnp.shape(data.qpos)}, and of one state "
            f"({model.nq},): vmap the step, jax.vmap(step, in_axes=(None, 0))(model, data)"
        )
