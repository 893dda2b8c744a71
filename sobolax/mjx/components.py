"""Vectors in space as three arrays, one per component, so that a compiler fuses their algebra.

Stacked into arrays, every cross product ends in a `concatenate`, at which fusion stops.
"""

import jax

Vector = tuple[jax.Array, jax.Array, jax.Array]


def components(array: jax.Array) -> Vector:
    """Of an array whose last axis is space."""
    return array[..., 0], array[..., 1], array[..., 2]


def add(left: Vector, right: Vector) -> Vector:
    """The sum."""
    return left[0] + right[0], left[1] + right[1], left[2] + right[2]


def scale(factor: jax.Array, vector: Vector) -> Vector:
    """A multiple."""
    return factor * vector[0], factor * vector[1], factor * vector[2]


def dot(left: Vector, right: Vector) -> jax.Array:
    """The inner product."""
    return left[0] * right[0] + left[1] * right[1] + left[2] * right[2]


def cross(left: Vector, right: Vector) -> Vector:
    """The cross product."""
    return (
        left[1] * right[2] - left[2] * right[1],
        left[2] * right[0] - left[0] * right[2],
        left[0] * right[1] - left[1] * right[0],
    )
