"""Factorisations of small matrices as plain loops, without LAPACK.

They are for `sobolax.mjx.cpu`; any size works, but their cost is a loop over rows.
"""

import jax
import jax.numpy as jnp


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
