"""Rounds tangents to 8 or 4 bits a number, at random, so that the mean is right.

Number `j` of a tangent along direction `i` is kept as `s_i c_j q |q|`, with a small whole number
`q`: small numbers keep their digits beside large ones, whether the direction or the place
(positions beside velocities) makes them small. It is rounded up or down at random (stochastic
rounding, arXiv 1502.02551).
"""

import jax
import jax.numpy as jnp


def round_columns(
    key: jax.Array, matrix: jax.Array, lengths: jax.Array, bits: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rounds a matrix at random, with its own value as the mean.

    Args:
        key: A random key.
        matrix: Columns along directions, `(m, n)`.
        lengths: What the scales of columns are relative to, `(n,)`.
        bits: 8 or 4.

    Returns:
        Codes of the `m n` numbers, scales of the `n` columns and of the `m` rows, as bytes; with 4
        bits two to a byte.

    Example:
        >>> matrix, lengths = jnp.array([[1.0, -8.0], [0.0, 0.25]]), jnp.array([1.0, 8.0])
        >>> rounded = round_columns(jax.random.key(0), matrix, lengths, bits=8)
        >>> restore_columns(rounded, lengths, rows=2, bits=8).round(2).tolist()
        [[1.0, -8.0], [0.0, 0.25]]
    """
    directions = _encode(jnp.max(jnp.abs(matrix), axis=0, initial=0.0), lengths, bits)
    sizes = jnp.where(jnp.isfinite(lengths), lengths, 0.0) * _decode(directions, bits)
    relative = matrix / jnp.where(sizes > 0, sizes, 1.0)
    largest = jnp.max(jnp.abs(relative), axis=1, initial=0.0)
    numbers = _encode(largest, jnp.ones_like(largest), bits)
    share = jnp.clip(jnp.abs(relative) / _decode(numbers, bits)[:, None], 0.0, 1.0)
    levels = _levels(bits)
    below = jnp.minimum(jnp.floor(jnp.sqrt(share) * levels), levels - 1)
    low, high = (jnp.square(level / levels) for level in (below, below + 1))
    noise = jax.random.uniform(key, share.shape, share.dtype)
    codes = jnp.sign(matrix) * (below + (noise * (high - low) < share - low))
    return (
        _narrow(codes.astype("int8"), bits),
        _narrow(directions, bits),
        _narrow(numbers, bits),
    )


def restore_columns(
    rounded: tuple[jax.Array, jax.Array, jax.Array], lengths: jax.Array, rows: int, bits: int
) -> jax.Array:
    """The matrix `(m, n)` that `round_columns` rounded, with codes for numbers.

    Args:
        rounded: What it returned.
        lengths: `(n,)`; columns with a NaN here are NaN.
        rows: `m`.
        bits: 8 or 4.

    Example:
        >>> rounded = round_columns(jax.random.key(0), jnp.ones((3, 2)), jnp.ones(2), bits=4)
        >>> restore_columns(rounded, jnp.ones(2), rows=3, bits=4).shape
        (3, 2)
    """
    stored, of_columns, of_rows = rounded
    columns = lengths.shape[0]
    codes = _widen(stored, rows * columns, bits).reshape(rows, columns)
    codes = _signed(codes, bits).astype("float32") / _levels(bits)
    scales = lengths * _decode(_widen(of_columns, columns, bits), bits)
    scales = scales * _decode(_widen(of_rows, rows, bits), bits)[:, None]
    return scales * codes * jnp.abs(codes)


def _levels(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def _encode(part: jax.Array, whole: jax.Array, bits: int) -> jax.Array:
    """The smallest scale that `part / whole` fits into; the largest one where that is unknown.

    Scales are powers of 2: with 8 bits in steps of an eighth down to 2^-32, with 4 in steps of a
    half down to 2^-7.5.
    """
    known = (part > 0) & jnp.isfinite(whole)
    ratio = jnp.where(known, part / jnp.where(known, whole, 1.0), 1.0)
    return jnp.clip(jnp.floor(-(bits**2) / 8 * jnp.log2(ratio)), 0, 2**bits - 1).astype("uint8")


def _decode(scale: jax.Array, bits: int) -> jax.Array:
    return jnp.exp2(scale.astype("float32") / -(bits**2 / 8))


def _narrow(numbers: jax.Array, bits: int) -> jax.Array:
    """With 4 bits two numbers to a byte: the first half of them in its low bits."""
    if bits == 8:
        return numbers
    flat = numbers.ravel().astype("uint8") & 15
    low, high = jnp.split(jnp.pad(flat, (0, flat.size % 2)), 2)
    return low | (high << 4)


def _widen(stored: jax.Array, count: int, bits: int) -> jax.Array:
    if bits == 8:
        return stored
    return jnp.concatenate([stored & 15, stored >> 4])[:count]


def _signed(codes: jax.Array, bits: int) -> jax.Array:
    """Codes as the numbers they were before they were narrowed."""
    return codes if bits == 8 else (codes ^ 8).astype("int8") - 8
