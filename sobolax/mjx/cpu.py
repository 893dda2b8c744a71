"""Rewrites a program so that XLA's CPU backend runs it fast, and to its end.

Two faults of jax 0.10 on CPU are avoided, without touching MJX or setting flags:

- *Kinematics exponentially slow in the depth of a chain* (jax issue #33761). MJX computes a body's
  pose from its parent's and stacks the poses with `concatenate`. The compiler fuses producers into
  the consumers of such stacks, and each consumer computes them anew: the work doubles with every
  link, and for an arm of 8 links a step takes 14 s instead of 1 ms. An optimisation barrier after
  every `concatenate` stops the fusion.
- *Programs that wait for themselves.* A large batch of LAPACK calls is split among the threads of a
  pool, and the thread that called, itself of that pool, blocks until it is done. On a machine with
  as few cores as a program has independent factorisations and solves, all threads wait and none
  works: tangents of 64 hoppers hang on 2 cores. Factorisations written as loops call no LAPACK.

Neither changes a value or a derivative (other than in rounding), and both pass through `vmap`,
`jvp` and, where the program itself does, `vjp`. Other backends need neither and get neither.

A third needs a flag: `XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=` makes a step on x86-64 1.7
times as fast (docs/results/speed.md).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from sobolax.mjx.rewriting import Rule, as_it_is, rewrite


def for_cpu(function: Callable) -> Callable:
    """The same function, rewritten where the default backend is the CPU.

    It is traced, and evaluated with the changes made. They go into `jit`, `while` and `scan`;
    branches of `cond` and custom derivatives are left as they are.

    Args:
        function: A pure function of pytrees of arrays.

    Returns:
        A function of the same arguments and results.

    Example:
        >>> float(for_cpu(lambda x: jnp.sum(jnp.concatenate([x, x])))(jnp.ones(2)))
        4.0
    """

    def rewritten(*arguments: Any) -> Any:
        if jax.default_backend() != "cpu":
            return function(*arguments)
        return rewrite(function, _RULES)(*arguments)

    return rewritten


def _concatenate(equation: core.JaxprEqn, inputs: list) -> Sequence:
    return jax.lax.optimization_barrier(as_it_is(equation, inputs))


def _cholesky(equation: core.JaxprEqn, inputs: list) -> Sequence:
    if inputs[0].ndim != 2:
        return as_it_is(equation, inputs)  # MuJoCo does not use these
    return [cholesky(*inputs)]


def _triangular_solve(equation: core.JaxprEqn, inputs: list) -> Sequence:
    parameters = equation.params
    usual = parameters["left_side"] and not parameters["unit_diagonal"] and inputs[0].ndim == 2
    if not usual:
        return as_it_is(equation, inputs)  # nor for these
    lower, transposed = parameters["lower"], parameters["transpose_a"]
    return [triangular_solve(*inputs, lower=lower, transposed=transposed)]


def cholesky(matrix: jax.Array) -> jax.Array:
    """The lower Cholesky factor of a symmetric positive definite matrix, `(..., n, n)`."""
    if matrix.ndim > 2:
        return jax.vmap(cholesky)(matrix)
    matrix = jnp.asarray(matrix)
    size = matrix.shape[0]
    rows = jnp.arange(size)

    def column(index: int, factor: jax.Array) -> jax.Array:
        # Columns to the right of `index` are still zero, and so do not count here.
        rest = matrix[:, index] - factor @ factor[index]
        diagonal = jnp.sqrt(rest[index])
        return factor.at[:, index].set(jnp.where(rows >= index, rest / diagonal, 0.0))

    return jax.lax.fori_loop(0, size, column, jnp.zeros_like(matrix))


def triangular_solve(
    matrix: jax.Array, right: jax.Array, *, lower: bool, transposed: bool
) -> jax.Array:
    """Solves `A X = B`, or with the transpose of `A`.

    Args:
        matrix: `A`, `(..., n, n)`; only its triangle is read.
        right: `B`, `(..., n, k)`.
        lower: Which triangle of `A` holds the numbers.
        transposed: Whether `A` is transposed.

    Returns:
        `X`, `(..., n, k)`.
    """
    if matrix.ndim > 2:
        return jax.vmap(lambda a, b: triangular_solve(a, b, lower=lower, transposed=transposed))(
            matrix, right
        )
    right = jnp.asarray(right)
    matrix = jnp.tril(matrix) if lower else jnp.triu(matrix)
    if transposed:
        matrix, lower = matrix.T, not lower
    size = matrix.shape[0]

    def row(count: int, solution: jax.Array) -> jax.Array:
        index = count if lower else size - 1 - count
        # Rows that are not solved yet are still zero, and so do not count here.
        rest = right[index] - matrix[index] @ solution
        return solution.at[index].set(rest / matrix[index, index])

    return jax.lax.fori_loop(0, size, row, jnp.zeros_like(right))


_RULES: dict[str, Rule] = {
    "concatenate": _concatenate,
    "cholesky": _cholesky,
    "triangular_solve": _triangular_solve,
}
