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
  singular values clipped to `1 / gamma`, so that no error comes back larger than it was. This
  changes the target: where something was clipped, the true `Q` has a loss too.

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
# Each costs this many products with the matrix and its transpose.
_CLIPPED, _PRODUCTS = 4, 8


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

    The largest are found one after the other by power iterations (large batches of LAPACK's SVD
    are slow, and on CPUs with few cores they can wait for each other forever). Should more than
    `count` be too large, the whole is shrunk by the next one. Power iterations take long to tell
    values apart that are close to each other: the largest may stay a few percent beyond the bound.

    Args:
        matrix: `(m, n)`, finite.
        bound: `()`.

    Example:
        >>> clipped = clip_singular_values(jnp.diag(jnp.array([9.0, 0.5])), 2.0)
        >>> jnp.diagonal(clipped).round(3).tolist()
        [2.0, 0.5]
    """
    size = matrix.shape[1]
    # No direction of a given matrix is at right angles to these.
    angles = jnp.arange(1.0, size + 1.0, dtype=matrix.dtype) * math.sqrt(2.0)
    start = 1.5 + jnp.sin(angles)
    product = partial(jnp.matmul, precision="highest")

    def largest(matrix: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The largest singular value, its left vector and its right one."""
        # The longest columns lead.
        guess = start * jnp.sum(jnp.square(matrix), axis=0)
        for _ in range(_PRODUCTS):
            guess = _unit(guess)[0]
            guess = product(matrix.T, product(matrix, guess))
        right = _unit(guess)[0]
        left, value = _unit(product(matrix, right))
        return value, left, right

    for _ in range(min(_CLIPPED, *matrix.shape)):
        value, left, right = largest(matrix)
        matrix = matrix - jnp.maximum(value - bound, 0.0) * jnp.outer(left, right)
    value, _, _ = largest(matrix)
    return matrix * jnp.where(value > bound, bound / jnp.where(value > 0, value, 1.0), 1.0)


def _unit(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A vector at unit length, zero if it is zero, and its length."""
    length = jnp.sqrt(jnp.sum(jnp.square(vector)))
    return vector / jnp.where(length > 0, length, 1.0), length
