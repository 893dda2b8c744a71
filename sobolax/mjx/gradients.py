"""A value from one computation with the derivative of another."""

import jax


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
