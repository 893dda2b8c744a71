"""Roots of equations with the derivatives of the implicit function theorem, of every order.

Where `R(w, p) = 0`, the root moves by `dw = -H^-1 dR` with `H = dR/dw`, and `dR` at fixed `w`. For
a second derivative `H` and `w` move too. So the rule below is a function of `p` that is itself
differentiated, and calls itself for `w`; a first derivative computes no more than it needs.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import core

from sobolax.mjx.precision import in_full_precision


def root_of(
    residual: Callable[[jax.Array], jax.Array],
    jacobian: Callable[[jax.Array], jax.Array],
    value: jax.Array,
    inverse: jax.Array,
) -> jax.Array:
    """`value`, to the last bit; its derivatives are those of the root of `residual` there.

    Of every order and in both modes, with respect to all that `residual` closes over.

    Args:
        residual: From `(n,)` to `(n,)`; zero at the root.
        jacobian: The derivative of `residual`, `(n, n)`, symmetric.
        value: The root, `(n,)`. Its own derivative does not count.
        inverse: The inverse of `jacobian(value)`. Its own derivative does not count.

    Returns:
        `(n,)`. Where nothing is differentiated, only `value` is computed.

    Example:
        >>> import jax.numpy as jnp
        >>> def square_root(p):  # the root of w^2 - p
        ...     w = jnp.sqrt(p)[None]
        ...     return root_of(lambda w: w**2 - p, lambda w: 2 * w[None], w, 0.5 / w[None])[0]
        >>> float(jax.grad(square_root)(4.0)), float(jax.grad(jax.grad(square_root))(4.0))
        (0.25, -0.03125)
    """
    value, inverse = jax.lax.stop_gradient((value, inverse))
    residual, of_residual = _with_arguments(residual, value)
    jacobian, of_jacobian = _with_arguments(jacobian, value)
    return _root(residual, jacobian, value, inverse, of_residual, of_jacobian)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _root(
    residual: Callable,
    jacobian: Callable,
    value: jax.Array,
    inverse: jax.Array,
    of_residual: Sequence,
    of_jacobian: Sequence,
) -> jax.Array:
    del residual, jacobian, inverse, of_residual, of_jacobian
    return value


@_root.defjvp
@in_full_precision
def _root_jvp(residual: Callable, jacobian: Callable, primals: Any, tangents: Any):
    _, inverse, of_residual, of_jacobian = primals
    at = _root(residual, jacobian, *primals)
    inverse = _inverse(inverse, jacobian(at, *of_jacobian))
    _, moved = jax.jvp(lambda *captured: residual(at, *captured), of_residual, tangents[2])
    return at, -inverse @ moved


@jax.custom_jvp
def _inverse(inverse: jax.Array, matrix: jax.Array) -> jax.Array:
    """`inverse`, with the derivatives of the inverse of `matrix`."""
    del matrix
    return inverse


@_inverse.defjvp
@in_full_precision
def _inverse_jvp(primals: Any, tangents: Any):
    inverse = _inverse(*primals)
    return inverse, -inverse @ tangents[1] @ inverse


def with_jacobian(
    function: Callable[[jax.Array], jax.Array],
    jacobian: Callable[[jax.Array], jax.Array],
    at: jax.Array,
) -> jax.Array:
    """`function(at)` of columns; its tangents are products of one Jacobian, computed once.

    The Jacobian is itself differentiated, by `at` and by all that it closes over.

    Args:
        function: From `(n, columns)` to `(m, columns)`, every column by itself. What it closes
            over has no tangent in a first derivative.
        jacobian: Its derivative, `(m, n, columns)`.
        at: `(n, columns)`.

    Returns:
        `(m, columns)`.

    Example:
        >>> import jax.numpy as jnp
        >>> cube = lambda x: with_jacobian(lambda x: x**3, lambda x: 3 * x[None] ** 2, x)
        >>> jax.jvp(cube, (jnp.full((1, 2), 2.0),), (jnp.ones((1, 2)),))[1].tolist()
        [[12.0, 12.0]]
    """
    function, of_function = _with_arguments(function, at)
    jacobian, of_jacobian = _with_arguments(jacobian, at)
    return _with_jacobian(function, jacobian, at, of_function, of_jacobian)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _with_jacobian(
    function: Callable,
    jacobian: Callable,
    at: jax.Array,
    of_function: Sequence,
    of_jacobian: Sequence,
) -> jax.Array:
    del jacobian, of_jacobian
    return function(at, *of_function)


@_with_jacobian.defjvp
@in_full_precision
def _with_jacobian_jvp(function: Callable, jacobian: Callable, primals: Any, tangents: Any):
    at, _, of_jacobian = primals
    gradient = jacobian(at, *of_jacobian)
    moved = sum(gradient[:, row] * tangents[0][row] for row in range(at.shape[0]))
    return _with_jacobian(function, jacobian, *primals), moved


def _with_arguments(function: Callable, at: jax.Array) -> tuple[Callable, list]:
    """The same function with the tracers it closes over as further arguments, and these.

    A custom derivative may close over no tracer: it is differentiated when theirs are gone.
    """
    closed = jax.make_jaxpr(function)(at)
    places = [at for at, value in enumerate(closed.consts) if isinstance(value, core.Tracer)]
    known = [None if at in places else value for at, value in enumerate(closed.consts)]

    def explicit(at: jax.Array, *arguments: jax.Array) -> jax.Array:
        values = list(known)
        for place, value in zip(places, arguments, strict=True):
            values[place] = value
        return core.eval_jaxpr(closed.jaxpr, values, at)[0]

    return explicit, [closed.consts[place] for place in places]
