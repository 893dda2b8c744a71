"""Implicit derivatives: what they ask of a model, and how a value gets one.

An implicit derivative is exact at the optimum of the constraint solver; where the solver stops
short of it, the derivative is that of another step than the one that was taken.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sobolax.mjx.engine import MjModel, mjx, mujoco

_INTEGRATORS = (mjx.IntegratorType.EULER, mjx.IntegratorType.IMPLICITFAST)
# With 8 and 8 no step of random motion of any shipped environment was off by more than rounding;
# with 4 iterations 2 % of an ant's hard impacts were, by up to 0.3 of the largest number.
_NEWTON, _LINE_SEARCH, _CONJUGATE_GRADIENT, _TOLERANCE = 8, 8, 100, 1e-6


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
        >>> body = "<body><joint type='slide'/><geom size='0.1'/></body>"
        >>> xml = f"<mujoco><option integrator='RK4'/><worldbody>{body}</worldbody></mujoco>"
        >>> print(reason_against(mjx.put_model(mujoco.MjModel.from_xml_string(xml), impl="jax")))
        the integrator RK4 solves for contact forces at several states within a step, ...
    """
    if isinstance(model, mujoco.MjModel):
        raise TypeError("the model is a mujoco.MjModel: hand over mjx.put_model(model, impl='jax')")
    if model.impl != mjx.Impl.JAX:
        return (
            f"the model is on MJX's {model.impl.name} implementation, which has no derivatives "
            'in JAX: make model and data with impl="jax"'
        )
    if model.opt.integrator not in _INTEGRATORS:
        return (
            f"the integrator {model.opt.integrator.name} solves for contact forces at several "
            "states within a step, and only one has implicit derivatives: use Euler or "
            "implicitfast, or differentiate mjx.step itself in forward mode (the derivatives "
            "named 'forward')"
        )
    return None


def check_step(model: mjx.Model, data: mjx.Data) -> None:
    """Checks what a step is given.

    Raises:
        NotImplementedError: Where `reason_against` has something to say.
        TypeError: If model or data are MuJoCo's own, not MJX's.
        ValueError: If the data is a batch.
    """
    reason = reason_against(model)
    if reason is not None:
        raise NotImplementedError(f"sobolax.mjx.step cannot differentiate this model: {reason}")
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


class InexactDerivatives(UserWarning):
    """Derivatives will be those of another step than the one that is taken.

    Example:
        >>> issubclass(InexactDerivatives, UserWarning)
        True
    """


def advice(model: MjModel) -> str | None:
    """What to change in `model.opt` so that derivatives are exact, or None if nothing.

    Args:
        model: The `mujoco.MjModel`.

    Example:
        >>> ball = "<body><freejoint/><geom size='0.1'/></body>"
        >>> option = "<option iterations='1'/>"
        >>> model = f"<mujoco>{option}<worldbody>{ball}</worldbody></mujoco>"
        >>> advice(mujoco.MjModel.from_xml_string(model))
        'the solver may stop short of its optimum, ...: set iterations=8 (it is 1); ...'
    """
    if not _may_be_constrained(model):
        return None
    options = model.opt
    newton = options.solver == mujoco.mjtSolver.mjSOL_NEWTON
    least = {
        "iterations": _NEWTON if newton else _CONJUGATE_GRADIENT,
        "ls_iterations": _LINE_SEARCH,
    }
    changes = [
        f"{name}={count} (it is {getattr(options, name)})"
        for name, count in least.items()
        if getattr(options, name) < count
    ]
    if options.tolerance > _TOLERANCE:
        changes.append(f"tolerance={_TOLERANCE:g} or less (it is {options.tolerance:g})")
    if not changes:
        return None
    return (
        "the solver may stop short of its optimum, and derivatives are then not those of the step "
        f"that is taken: set {', '.join(changes)}; the loop ends when it has converged, so that a "
        "high limit costs next to nothing"
    )


def _may_be_constrained(model: MjModel) -> bool:
    collides = np.any((model.geom_contype != 0) | (model.geom_conaffinity != 0))
    limited = model.jnt_limited.any() or model.tendon_limited.any()
    rubbing = (model.dof_frictionloss > 0).any() or (model.tendon_frictionloss > 0).any()
    return bool(collides or limited or rubbing or model.neq or model.npair)
