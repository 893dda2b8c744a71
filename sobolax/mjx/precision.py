"""Products of physics in full precision, whatever a program's default is.

On GPUs and TPUs JAX rounds the factors of float32 matrix products to 10 or 8 bits by default.
Networks bear that; Jacobians that are inverted and multiplied over steps do not. The scope is a
function, not the program: what the caller set for networks stays.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def in_full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """The same function; what it multiplies, and the derivatives of that, in full precision.

    A derivative rule of its own (`jax.custom_jvp`) is traced later, and needs this for itself.

    Example:
        >>> import jax.numpy as jnp
        >>> matrix = jnp.eye(2)
        >>> text = str(jax.make_jaxpr(in_full_precision(lambda x: matrix @ x))(jnp.ones(2)))
        >>> "Precision.HIGHEST" in text or "precision=HIGHEST" in text
        True
    """

    @functools.wraps(function)
    def precise(*arguments: P.args, **named: P.kwargs) -> R:
        with jax.default_matmul_precision("highest"):
            return function(*arguments, **named)

    return precise
