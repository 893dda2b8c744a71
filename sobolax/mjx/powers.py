"""Powers whose derivatives are right, or zero where there is none, to every order."""

import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


@jax.custom_jvp
def power(base: jax.Array, exponent: jax.Array) -> jax.Array:
    """`base ** exponent`, to the last bit.

    JAX differentiates `x^n` as `n x^(n - 1)` however often: the second derivative of `x^1` is
    `0 x^-1`, not a number at zero. A polynomial written as powers by an array of exponents has such
    terms, and so has an impedance of power 1. Here a factor of zero ends the term, and where a
    power has no derivative (`|x|^1.5` has no second one at zero, a fractional power of a negative
    number has none at all) it is zero: MJX computes such powers and does not choose them.

    Args:
        base: `(...)`.
        exponent: Real numbers of the same shape and type.

    Returns:
        `(...)`.

    Example:
        >>> line = lambda x: power(x, 1.0)
        >>> [float(f(0.0)) for f in (line, jax.grad(line), jax.grad(jax.grad(line)))]
        [0.0, 1.0, 0.0]
    """
    return jnp.power(base, exponent)


@jax.custom_jvp
def _finite_power(base: jax.Array, exponent: jax.Array) -> jax.Array:
    """The power where it is a number, else zero."""
    whole = exponent == jnp.round(exponent)
    exists = (base > 0) | ((base < 0) & whole) | ((base == 0) & (exponent >= 0))
    return jnp.where(exists, jnp.power(jnp.where(exists, base, 1.0), exponent), 0.0)


def _power_jvp(function, primals, tangents):
    base, exponent = primals
    along_base, along_exponent = tangents
    value = function(base, exponent)
    # Where the exponent is zero, so is the slope, whatever the power is.
    lower = jnp.where(exponent == 0, 0.0, exponent - 1)
    tangent = jnp.zeros_like(value)
    if not isinstance(along_base, SymbolicZero):
        tangent = along_base * (exponent * _finite_power(base, lower))
    if not isinstance(along_exponent, SymbolicZero):
        positive = base > 0
        logarithm = jnp.where(positive, jnp.log(jnp.where(positive, base, 1.0)), 0.0)
        tangent += along_exponent * (logarithm * _finite_power(base, exponent))
    return value, tangent


power.defjvp(functools.partial(_power_jvp, power), symbolic_zeros=True)
_finite_power.defjvp(functools.partial(_power_jvp, _finite_power), symbolic_zeros=True)
