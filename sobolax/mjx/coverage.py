"""What can be differentiated implicitly, and what is refused by name."""

from sobolax.mjx.engine import mjx

_INTEGRATORS = (mjx.IntegratorType.EULER, mjx.IntegratorType.IMPLICITFAST)


def reason_against(model: mjx.Model) -> str | None:
    """Why `sobolax.mjx.step` cannot differentiate this model, or None if it can."""
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


def check_step(model: mjx.Model) -> None:
    """Raises NotImplementedError where `reason_against` has something to say."""
    reason = reason_against(model)
    if reason is not None:
        raise NotImplementedError(f"sobolax.mjx.step cannot differentiate this model: {reason}")
