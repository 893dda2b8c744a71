"""How far to trust the gradient of a bootstrapped target.

The target's gradient along `v` is `dr.v + gamma <grad V(ô'), dô'.v>`, and the critic that `V` comes
from knows nothing yet when it is most needed. If the error of `grad V` is the same in every
normalised coordinate, `gamma rho_v` of it arrives along `v`: `rho_v = |dô'.v| / |dô.v|` says how
much the step stretches that direction. (`ô` is the observation as the critic sees it.)

- `full`: all gradients count alike, as in the paper.
- `soft`: `w_v = 1 / (1 + (gamma rho_v)^2)`, the weights of least squares where the variances of
  errors are `1 + (gamma rho_v)^2`. No threshold and no cap: where an impact multiplies by 100, the
  square counts a ten-thousandth. The minimum stays where it is: the true `Q` has no loss.
- `hard`: the Jacobian of the normalised observations, in steps of one standard deviation, has its
  singular values clipped to `1 / gamma` (see `clip_singular_values`), so that no error comes back
  larger than it was. This changes the target: where something was clipped, the true `Q` has a loss
  too.

Where the transition ended the episode nothing is bootstrapped, and all of it is trusted. For an
action `rho = |dô'.a|`, over one unit of the action.

`max_norm` shortens long tangents, in raw units; `tangent_bound` drops them, in raw units or those
of `state_std`, after `hard`; `huber_delta` bounds what one transition can do, after units and
`soft`. These three look at sizes, and not at what the step stretches.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.transition import Tangents, Transition

#: Their names.
TRUSTS = ("full", "soft", "hard")

# Singular values that are clipped one by one; what is still too large is then shrunk as a whole.
_CLIPPED = 4
# Each costs this many products with the matrix and its transpose: of a power iteration, and of a
# Chebyshev iteration that begins where the former ends.
_POWERS, _DEGREE = 2, 8
# The size of what is left is known from this many squares of its Gram matrix.
_SQUARES = 7


def soft_trust(growth: jax.Array, discount: Any) -> jax.Array:
    """The weight of a squared gradient, `1 / (1 + (discount * growth)^2)`.

    Example:
        >>> soft_trust(jnp.array([0.0, 2.0, jnp.inf]), 0.5).tolist()
        [1.0, 0.5, 0.0]
    """
    return 1.0 / (1.0 + jnp.square(discount * growth))


def clip_growth(
    tangents: Tangents, motion: jax.Array, deviation: jax.Array, discount: Any
) -> Tangents:
    """Tangents of one transition whose next observation grows by no more than `1 / discount`.

    State and action apart. Tangents that are not finite stay so, and those of directions that
    nothing observes stay as they are.

    Args:
        tangents: Along the full basis.
        motion: `|dô.v|`, `(state directions,)` (`sobolax.tangents.units.observed_motion`).
        deviation: What the normaliser divides observations by, `(observation_size,)`.
        discount: Of the bootstrapped value, `()`; at 0 nothing is clipped.

    Example:
        >>> from sobolax.cart import example_transition
        >>> _, tangents = example_transition()
        >>> clipped = clip_growth(tangents, jnp.ones(2), jnp.ones(2), discount=1.0)
        >>> values = jnp.linalg.svd(clipped.state.next_observation, compute_uv=False)
        >>> [round(float(value), 3) for value in values]  # 1.281 and 0.781 before
        [1.0, 0.781]
    """
    bound = 1.0 / jnp.maximum(jnp.asarray(discount, deviation.dtype), 1e-30)

    def clip(kind: Transition, unit: jax.Array) -> Transition:
        after = kind.next_observation
        if after is None:
            return kind
        columns = after.astype(deviation.dtype)
        seen = (unit > 0) & jnp.all(jnp.isfinite(columns), axis=0)
        per_unit = jnp.where(seen, unit, 1.0)
        whitened = jnp.where(seen, columns / deviation[:, None] / per_unit, 0.0)
        clipped = clip_singular_values(whitened, bound) * deviation[:, None] * per_unit
        return replace(kind, next_observation=jnp.where(seen, clipped, columns))

    action = jax.tree.leaves(tangents.action)[0]
    ones = jnp.ones(action.shape[-1], deviation.dtype)
    return Tangents(clip(tangents.state, motion), clip(tangents.action, ones))


def clip_singular_values(matrix: jax.Array, bound: Any) -> jax.Array:
    """A matrix whose singular values are at most `bound`; the rest of it stays.

    The four largest are found and clipped one after the other, without LAPACK (large batches of its
    SVD are slow, and on CPUs with few cores they can wait for each other forever). That tells
    values apart badly that are close to each other, and there may be more of them, so the whole is
    then shrunk until none can be too large. The measure is an upper bound on the largest, the 256th
    root of the sum of the values' 256th powers. It is too large by a factor of up to `k ** (1/256)`
    for `k` equal values (1.5 % for 45), and so the largest ends up to that much below the bound,
    and beyond it by rounding alone.

    Args:
        matrix: `(m, n)`, finite.
        bound: `()`.

    Returns:
        `(m, n)`.

    Example:
        >>> clipped = clip_singular_values(jnp.diag(jnp.array([9.0, 0.5])), 2.0)
        >>> jnp.diagonal(clipped).round(3).tolist()
        [2.0, 0.5]
    """
    for _ in range(min(_CLIPPED, *matrix.shape)):
        right = _leading(matrix, bound)
        left, value = _unit(_product(matrix, right))
        matrix = matrix - jnp.maximum(value - bound, 0.0) * jnp.outer(left, right)
    value = _norm_from_above(matrix)
    return matrix * jnp.where(value > bound, bound / jnp.where(value > 0, value, 1.0), 1.0)


_product = partial(jnp.matmul, precision="highest")


def _leading(matrix: jax.Array, bound: Any) -> jax.Array:
    """About the right singular vector of the largest value, if that is beyond the bound, `(n,)`."""

    def apply(vector: jax.Array) -> jax.Array:
        return _product(matrix.T, _product(matrix, vector))

    # No direction of a given matrix is at right angles to these; the longest columns lead.
    angles = jnp.arange(1.0, matrix.shape[1] + 1.0, dtype=matrix.dtype) * math.sqrt(2.0)
    now = _unit((1.5 + jnp.sin(angles)) * jnp.sum(jnp.square(matrix), axis=0))[0]
    for _ in range(_POWERS):
        now = _unit(apply(now))[0]
    # A Chebyshev polynomial is at most 1 up to the edge, and rises beyond it as steeply as any of
    # its degree: what need not be clipped, or is less than has been found, falls behind.
    image = apply(now)
    edge = jnp.maximum(jnp.sum(now * image), jnp.square(bound))
    edge = jnp.where(edge > 0, edge, 1.0)
    before, now = now, 2.0 / edge * image - now
    for _ in range(_DEGREE - 1):
        before, now = now, 2.0 * (2.0 / edge * apply(now) - now) - before
        # Both by one factor, as the recurrence is linear; its numbers would overflow.
        size = jnp.max(jnp.abs(now))
        size = jnp.where(size > 0, size, 1.0)
        before, now = before / size, now / size
    return _unit(now)[0]


def _norm_from_above(matrix: jax.Array) -> jax.Array:
    """An upper bound on the largest singular value, `()`: of the values' 2^(_SQUARES + 1)-norm."""
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    gram, norm = _product(matrix.T, matrix), jnp.ones((), matrix.dtype)
    for square in range(_SQUARES):
        # At a trace of 1 its powers neither overflow nor vanish.
        trace = jnp.trace(gram)
        trace = jnp.where(trace > 0, trace, 1.0)
        norm, gram = norm * trace ** (0.5 ** (square + 1)), gram / trace
        gram = _product(gram, gram) if square < _SQUARES - 1 else gram
    # The trace of the last square needs no product.
    return norm * jnp.sum(jnp.square(gram)) ** (0.5 ** (_SQUARES + 1))


def _unit(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A vector at unit length, zero if it is zero, and its length."""
    length = jnp.sqrt(jnp.sum(jnp.square(vector)))
    return vector / jnp.where(length > 0, length, 1.0), length
