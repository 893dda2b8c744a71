"""Tendons that wrap around spheres and cylinders: derivatives where MJX's own are not numbers.

MJX computes the wrapped path and the straight one, inside paths and outside ones, and chooses.
What is not chosen may be the square root of zero, an arc cosine of one or a division by zero, whose
derivative is not finite; zero times it is NaN, and that reaches the chosen path. A path inside a
cylinder rises by nothing between its two points of contact, and its derivative is always NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from sobolax.mjx.engine import mjx
from sobolax.mjx.rewriting import Rule, as_it_is, rewrite
from sobolax.mjx.support import with_gradient_of

_WRAPPED = (mjx.WrapType.SPHERE, mjx.WrapType.CYLINDER)


def tendon(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.tendon`, whose lengths and moments have finite derivatives in both modes."""
    wrapped = mjx.tendon(model, data)
    if not _wraps(model):
        return wrapped

    def moving(data: mjx.Data) -> dict[str, jax.Array]:
        return _moving(mjx.tendon(model, data))

    finite = rewrite(moving, _RULES)(data)
    return wrapped.tree_replace(  # pyright: ignore[reportReturnType]
        {name: with_gradient_of(value, finite[name]) for name, value in _moving(wrapped).items()}
    )


def _moving(data: mjx.Data) -> dict[str, jax.Array]:
    rows = data._impl
    return {
        "ten_length": data.ten_length,
        "_impl.ten_J": rows.ten_J,  # pyright: ignore[reportAttributeAccessIssue]
        "_impl.wrap_xpos": rows.wrap_xpos,  # pyright: ignore[reportAttributeAccessIssue]
    }


def _wraps(model: mjx.Model) -> bool:
    return bool(np.isin(np.asarray(model.wrap_type), _WRAPPED).any())


def _square_root(equation: core.JaxprEqn, inputs: list) -> list:
    del equation
    (x,) = inputs
    positive = x > 0
    return [jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)]


def _arc_sine(equation: core.JaxprEqn, inputs: list) -> list:
    del equation
    (x,) = inputs
    within = jnp.abs(x) < 1
    return [jnp.where(within, jnp.arcsin(jnp.where(within, x, 0.0)), jnp.sign(x) * np.pi / 2)]


def _arc_cosine(equation: core.JaxprEqn, inputs: list) -> list:
    del equation
    (x,) = inputs
    within = jnp.abs(x) < 1
    edge = jnp.where(x > 0, 0.0, np.pi)
    return [jnp.where(within, jnp.arccos(jnp.where(within, x, 0.0)), edge)]


def _quotient(equation: core.JaxprEqn, inputs: list) -> list:
    x, y = inputs
    if not jnp.issubdtype(y.dtype, jnp.floating):
        return list(as_it_is(equation, inputs))
    return [jnp.where(y == 0, 0.0, x / jnp.where(y == 0, 1.0, y))]


# Flat where the derivative would be infinite.
_RULES: dict[str, Rule] = {
    "sqrt": _square_root,
    "asin": _arc_sine,
    "acos": _arc_cosine,
    "div": _quotient,
}
