"""What can be differentiated implicitly, and what is refused by name."""

import jax.numpy as jnp

from sobolax.mjx.engine import mjx, mujoco

_INTEGRATORS = (mjx.IntegratorType.EULER, mjx.IntegratorType.IMPLICITFAST)


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
