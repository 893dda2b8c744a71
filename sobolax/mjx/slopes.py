"""A value from one computation with the derivative of another."""

import jax


@jax.custom_jvp
def with_slope_of(value: jax.Array, slope: jax.Array) -> jax.Array:
    """`value`, to the last bit; its derivative is that of `slope`, in both modes.

    Where nothing is differentiated, `slope` is not even computed.
    """
    del slope
    return value


@with_slope_of.defjvp
def _with_slope_of(primals, tangents):
    return with_slope_of(*primals), tangents[1]
