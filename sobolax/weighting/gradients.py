"""Weightings that look at the gradients of the three terms, through their inner products."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from sobolax.losses import Weights
from sobolax.weighting.interface import (
    Signals,
    Weighting,
    find_active,
    make_rule,
    ratio,
    stack_terms,
    stack_weights,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Balance:
    """State of GradNorm, in the order value, state, action.

    Attributes:
        log_factors: `(3,)`.
        first: Each term at the first update where it was not 0, `(3,)`.
    """

    log_factors: jax.Array
    first: jax.Array


def gradient_norm_balance(base: Weights, asymmetry: float = 0.12, rate: float = 0.025) -> Weighting:
    """GradNorm (arXiv 1711.02257, equations 1 and 2): gradients of equal norm for all terms.

    With `G_i = factor_i |grad L_i|` and their mean `G` over terms, the factors follow
    `G_i -> G r_i^asymmetry`, where `r_i` is `L_i(t) / L_i(0)` divided by its mean over terms:
    terms that lag behind pull harder. The factors' mean is kept at 1.

    The paper descends `sum_i |G_i - G r_i^asymmetry|` in the factors, whose steps are as large
    as the gradients; here the logarithm of each factor moves against the logarithm of
    `G_i / (G r_i^asymmetry)`, by at most `rate`: the same fixed point, positive factors, and no
    unit. Base weights multiply the result, hence `base.state` is the ratio of norms, of the
    state term's gradient to the value term's, where the rule settles. A gradient of base weight 0
    and a gradient that is 0 take no part.

    Args:
        base: Weights to be multiplied, the value's too.
        asymmetry: The paper's alpha (0.12 in its toy example, 1.5 for images); 0 ignores `r_i`.
        rate: Largest change of the logarithm of a factor in one update, before the mean is set.

    Example:
        >>> rule = gradient_norm_balance(Weights(state=1.0, action=1.0))
        >>> signals = Signals(*jnp.ones(6), gram=jnp.diag(jnp.array([1.0, 16.0, 1.0])))
        >>> weights, _ = rule.update(rule.init(), signals)  # the state's is four times the others
        >>> bool(weights.state < weights.value)
        True
    """

    def factors(state: Balance, signals: Signals) -> tuple[jax.Array, Balance]:
        gram = _gram_of(signals)
        terms = stack_terms(signals)
        first = jnp.where(state.first > 0, state.first, terms)
        norms = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0))
        active = find_active(base)
        present = active & (norms > 0)
        progress = ratio(terms, first)
        progress = ratio(progress, _mean(progress, present))
        current = jnp.exp(state.log_factors) * norms
        target = _mean(current, present) * progress**asymmetry
        lag = jnp.log(_at_least_tiny(target)) - jnp.log(_at_least_tiny(current))
        step = jnp.where(present, rate * jnp.clip(lag, -1.0, 1.0), 0.0)
        moved = jnp.where(active, state.log_factors + step, -jnp.inf)
        moved = jax.nn.log_softmax(moved) + jnp.log(jnp.sum(active))
        log_factors = jnp.where(active, moved, 0.0)
        return jnp.exp(log_factors), Balance(log_factors, first)

    return make_rule(base, lambda: Balance(jnp.zeros(3), jnp.zeros(3)), factors, True)


def conflict_free(base: Weights, largest_ratio: float = 1e6) -> Weighting:
    """ConFIG (arXiv 2408.11104, equations 2 and 3) for values against gradients.

    The two gradients are the value term's, `g_v`, and that of the base-weighted gradients, `g_s`.
    The update has the same, positive cosine with both, and the length of the sum of their
    projections on it. For two gradients this is `(|g_v| + |g_s|) / 2` times the sum of both at
    unit length, so that only norms enter: it is finite for parallel gradients and vanishes, as
    the paper's, for opposite ones. Where one gradient is zero, the update is the other one.

    Args:
        base: Weights to be multiplied, the value's too.
        largest_ratio: A gradient shorter than the other by more than this is scaled up by no
            more than half of this.

    Example:
        >>> rule = conflict_free(Weights(state=1.0, action=0.0))
        >>> signals = Signals(*jnp.ones(6), gram=jnp.diag(jnp.array([1.0, 16.0, 1.0])))
        >>> weights, _ = rule.update(rule.init(), signals)  # (1 + 4) / 2 and (1 + 1/4) / 2
        >>> float(weights.value), float(weights.state)
        (2.5, 0.625)
    """

    def factors(state: tuple[()], signals: Signals) -> tuple[jax.Array, tuple[()]]:
        gram = _gram_of(signals)
        weights = stack_weights(base)
        # Only ratios matter: a largest entry of 1 keeps products from overflowing.
        scaled = gram / _at_least_tiny(jnp.abs(gram).max())
        scaled = scaled * weights[:, None] * weights
        value = jnp.sqrt(jnp.maximum(scaled[0, 0], 0.0))
        gradients = jnp.sqrt(jnp.maximum(scaled[1:, 1:].sum(), 0.0))
        both = (value > 0) & (gradients > 0)

        def half_sum_over(norm: jax.Array, other: jax.Array) -> jax.Array:
            longer = jnp.minimum(ratio(other, norm), largest_ratio)
            return jnp.where(both, 0.5 * (1.0 + longer), 1.0)

        gradient_factor = half_sum_over(gradients, value)
        return jnp.stack([half_sum_over(value, gradients), gradient_factor, gradient_factor]), state

    return make_rule(base, lambda: (), factors, True)


def _gram_of(signals: Signals) -> jax.Array:
    if signals.gram is None:
        raise ValueError(
            "this weighting needs gradients, but Signals.gram is None: where needs_gradients is "
            "True, hand in the inner products of the three terms' gradients, (3, 3)"
        )
    return signals.gram


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def _at_least_tiny(values: jax.Array) -> jax.Array:
    return jnp.maximum(values, jnp.finfo(values.dtype).tiny)
