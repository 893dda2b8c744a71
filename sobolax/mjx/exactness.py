"""Whether derivatives will be those of the step that is taken: options, and condition numbers."""

import jax.numpy as jnp
import numpy as np

from sobolax.mjx.engine import MjModel, mujoco

# With 8 and 8 no step of random motion of any shipped environment was off by more than rounding;
# with 4 iterations 2 % of an ant's hard impacts were, by up to 0.3 of the largest number.
_NEWTON, _LINE_SEARCH, _CONJUGATE_GRADIENT, _TOLERANCE = 8, 8, 100, 1e-6
_ROUNDING = 1e-3


class InexactDerivatives(UserWarning):
    """Derivatives will be those of another step than the one that is taken.

    Example:
        >>> issubclass(InexactDerivatives, UserWarning)
        True
    """


def advice(model: MjModel) -> str | None:
    """What to change so that derivatives are exact, or None if nothing.

    Looks at the solver's options, and measures how ill-conditioned the equations of motion are
    where the model starts, at `qpos0` and at its keyframes: rounding grows by that factor.

    Args:
        model: The `mujoco.MjModel`.

    Example:
        >>> ball = "<body><freejoint/><geom size='0.1'/></body>"
        >>> option = "<option iterations='1'/>"
        >>> model = f"<mujoco>{option}<worldbody>{ball}</worldbody></mujoco>"
        >>> advice(mujoco.MjModel.from_xml_string(model))
        'the solver may stop short of its optimum, ...: set iterations=8 (it is 1); ...'
    """
    found = [part for part in (_of_solver(model), _of_precision(model)) if part is not None]
    return "; and ".join(found) or None


def _of_solver(model: MjModel) -> str | None:
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
    disabled, bit = model.opt.disableflags, mujoco.mjtDisableBit
    collides = np.any((model.geom_contype != 0) | (model.geom_conaffinity != 0)) or model.npair
    limited = model.jnt_limited.any() or model.tendon_limited.any()
    rubbing = (model.dof_frictionloss > 0).any() or (model.tendon_frictionloss > 0).any()
    return not disabled & bit.mjDSBL_CONSTRAINT and bool(
        (collides and not disabled & bit.mjDSBL_CONTACT)
        or (limited and not disabled & bit.mjDSBL_LIMIT)
        or (rubbing and not disabled & bit.mjDSBL_FRICTIONLOSS)
        or (model.neq and not disabled & bit.mjDSBL_EQUALITY)
    )


def _of_precision(model: MjModel) -> str | None:
    """Of masses and stiffnesses so far apart that rounding is seen in derivatives."""
    number = condition_number(model)
    if number * jnp.finfo(jnp.result_type(float)).eps < _ROUNDING:
        return None
    return (
        f"masses or stiffnesses that act on one another are {number:.0e} apart, and rounding in "
        f"{jnp.result_type(float)} grows by that factor in steps and in derivatives: bring them "
        'nearer, or compute in float64 (jax.config.update("jax_enable_x64", True))'
    )


def condition_number(model: MjModel) -> float:
    """How much rounding may grow in a step: of the scaled Hessian of the solver's cost.

    The largest at `qpos0` and at the keyframes, with and without the constraints that act there;
    rows and columns are scaled to a diagonal of ones, since units alone cost no digits.

    Args:
        model: The `mujoco.MjModel`.

    Example:
        >>> bodies = "<body><joint/><geom size='0.1'/></body>"
        >>> xml = f"<mujoco><worldbody>{bodies}</worldbody></mujoco>"
        >>> condition_number(mujoco.MjModel.from_xml_string(xml))
        1.0
    """
    worst = 1.0
    for key in range(-1, model.nkey if model.nv else -1):
        data = mujoco.MjData(model)
        if key >= 0:
            mujoco.mj_resetDataKeyframe(model, data, key)
        mujoco.mj_forward(model, data)
        basis = np.eye(model.nv)
        inertia, rows = np.zeros((model.nv, model.nv)), np.zeros((model.nv, data.nefc))
        for at, along in enumerate(basis):
            mujoco.mj_mulM(model, data, inertia[at], along)
            mujoco.mj_mulJacVec(model, data, rows[at], along)
        for matrix in (inertia, inertia + rows * data.efc_D @ rows.T):
            scale = 1 / np.sqrt(np.diag(matrix))
            worst = max(worst, float(np.linalg.cond(scale[:, None] * matrix * scale)))
    return worst
