"""Rows of constraints: `mjx.make_constraint`, with derivatives of every order.

MJX raises deviations to powers, whose higher derivatives JAX does not know at zero
(`sobolax/mjx/powers.py`). And it measures a deviation by a norm or a magnitude, which has no
derivative at zero, where its power has: the impedance of an equality that is satisfied exactly, as
at every model's reference, would have no curvature.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from sobolax.mjx.engine import mjx, mujoco
from sobolax.mjx.powers import power
from sobolax.mjx.rewriting import Rule, rewrite
from sobolax.mjx.support import with_gradient_of

_ROWS = ("J", "D", "aref", "pos", "margin", "frictionloss")
# In the order in which MJX stacks them.
_ROWS_OF_EQUALITIES = {
    mjx.EqType.CONNECT: 3,
    mjx.EqType.WELD: 6,
    mjx.EqType.JOINT: 1,
    mjx.EqType.TENDON: 1,
}


def make_constraint(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.make_constraint`, differentiable any number of times.

    Args:
        model: The model.
        data: After `mjx.collision`.

    Returns:
        The same with rows of constraints, as `mjx.make_constraint` leaves them.
    """

    def rows(data: mjx.Data) -> dict[str, jax.Array]:
        made: Any = mjx.make_constraint(model, data)._impl
        return {f"_impl.efc_{name}": getattr(made, f"efc_{name}") for name in _ROWS}

    # Values are those of MJX's own program: compiled from another one, even of the same operations,
    # they could be rounded differently.
    values, gradients = rows(jax.lax.stop_gradient(data)), rewrite(rows, _RULES)(data)
    made: Any = data.tree_replace(jax.tree.map(with_gradient_of, values, gradients))
    return _with_curvature(model, made)


def _power(equation: core.JaxprEqn, inputs: list) -> list:
    del equation
    base, exponent = inputs
    return [power(base, jnp.asarray(exponent, base.dtype))]


def _magnitude(equation: core.JaxprEqn, inputs: list) -> list:
    """Flat at zero, as MJX's norms are."""
    del equation
    (x,) = inputs
    return [jnp.where(x == 0, 0.0, jnp.abs(jnp.where(x == 0, 1.0, x)))]


_RULES: dict[str, Rule] = {"pow": _power, "abs": _magnitude}


def _with_curvature(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """The same with a curvature of the stiffness of equalities that are satisfied exactly."""
    disabled = model.opt.disableflags
    if not model.neq or disabled & (mjx.DisableBit.EQUALITY | mjx.DisableBit.CONSTRAINT):
        return data
    rows: Any = data._impl
    stiffness, first = rows.efc_D, 0
    for kind, count in _ROWS_OF_EQUALITIES.items():
        chosen = np.flatnonzero(np.asarray(model.eq_type) == kind)
        at = first + np.arange(chosen.size * count).reshape(-1, count)
        first += at.size
        if chosen.size:
            # What MJX takes for zero: there its norm, or the magnitude, is constant.
            deviation = rows.efc_pos[at]
            zero = jnp.all(jnp.abs(deviation) <= (1e-8 if count > 1 else 0), axis=1, keepdims=True)
            factor = jax.vmap(_relative)(
                jnp.where(zero, deviation, 0.0), jnp.asarray(model.eq_solimp)[chosen]
            )
            curved = factor[:, None] * stiffness[at]
            stiffness = stiffness.at[at].set(curved)
    result: Any = data.tree_replace({"_impl.efc_D": with_gradient_of(rows.efc_D, stiffness)})
    return result


def _relative(deviation: jax.Array, solimp: jax.Array) -> jax.Array:
    """One, with the relative derivatives of an equality's stiffness by its deviation, `()`.

    Args:
        deviation: Zero, or near it: the law below the midpoint of the impedance, `(rows,)`.
        solimp: MuJoCo's parameters of the impedance, `(5,)`.
    """
    low, high = mujoco.mjMINIMP, mujoco.mjMAXIMP
    least, most, middle = (jnp.clip(solimp[at], low, high) for at in (0, 1, 3))
    width, exponent = jnp.maximum(solimp[2], mujoco.mjMINVAL), jnp.maximum(solimp[4], 1.0)

    def stiffness(square: jax.Array) -> jax.Array:
        # A power of the square is as smooth as the law.
        rise = power(square, exponent / 2) / middle ** (exponent - 1)
        # MJX clips so: where the least exceeds the most, it is the most at any depth.
        impedance = jnp.minimum(least, most) + rise * jnp.maximum(most - least, 0.0)
        return impedance / (1 - impedance)

    square = jnp.sum((deviation / width) ** 2)
    return stiffness(square) / stiffness(jax.lax.stop_gradient(square))
