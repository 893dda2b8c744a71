"""Scans keep their constants, carries and slices apart, in whatever version of JAX."""

import jax
import jax.numpy as jnp
import numpy as np

from sobolax.mjx.rewriting import rewrite


def test_a_scan_with_constants_carries_and_slices_of_all_ranks():
    matrix, rows = jnp.arange(9.0).reshape(3, 3) / 9, jnp.arange(12.0).reshape(4, 3)

    def function(start, factor):
        def body(carry, slices):
            vector, count = carry
            row, number = slices
            vector = jnp.sin(matrix @ vector) * factor + row * number
            return (vector, count + 1), (vector, count * 2)

        return jax.lax.scan(body, (start, 0), (rows, jnp.arange(4.0)), reverse=True)

    start = jnp.ones(3)
    same = rewrite(function, {"sin": lambda equation, inputs: [jnp.sin(inputs[0])]})
    # The same operations, compiled in the same order: equal but for what fusion rounds.
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6),
        same(start, 0.5),
        function(start, 0.5),
    )
    doubled = rewrite(function, {"sin": lambda equation, inputs: [2 * jnp.sin(inputs[0])]})
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6),
        doubled(start, 0.5),
        function(start, 1.0),
    )
