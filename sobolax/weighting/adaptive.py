"""Weightings that adapt to sizes of terms alone: no gradient beyond the loss's own is needed."""

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
)


def scale_free(base: Weights, decay: float = 0.99) -> Weighting:
    """Gradients in units of the target's: base weights times `Var(y) / E |grad y|^2`.

    Both are running averages. A weight of 1 then says that an error as large as the target's
    gradients costs what an error as large as the target's spread costs, whatever the units of
    reward, state and action. Differential machine learning (arXiv 2005.02347) divides so, input
    by input and by means over a whole, fixed data set.

    Args:
        base: Weights to be multiplied; the value's stays.
        decay: Of the running averages. All start at zero and decay alike, so the correction of
            their bias cancels in the quotient.

    Returns:
        The weighting. Targets that so far had no gradient at all give weight 0.

    Example:
        >>> rule = scale_free(Weights(state=1.0, action=1.0))
        >>> signals = Signals(1.0, 1.0, 1.0, target_variance=jnp.asarray(1.0),
        ...                   state_target_square=4.0, action_target_square=16.0, gram=None)
        >>> weights, _ = rule.update(rule.init(), jax.tree.map(jnp.asarray, signals))
        >>> float(weights.state), float(weights.action)
        (0.25, 0.0625)
    """

    def factors(averages: jax.Array, signals: Signals) -> tuple[jax.Array, jax.Array]:
        seen = [signals.target_variance, signals.state_target_square, signals.action_target_square]
        averages = decay * averages + (1.0 - decay) * jnp.stack(seen)
        variance, squares = averages[0], averages[1:]
        gradients = jnp.where(squares > 0, ratio(variance, squares), 0.0)
        return jnp.concatenate([jnp.ones_like(gradients[:1]), gradients]), averages

    return make_rule(base, lambda: jnp.zeros(3), factors)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Progress:
    """Terms as they were, and factors as they are; in the order value, state, action.

    Attributes:
        factors: `(3,)`.
        first: Each term at the first update where it was not 0, `(3,)`.
        previous: Terms at the update before this one, `(3,)`.
        count: Updates so far, `()` int32.
    """

    factors: jax.Array
    first: jax.Array
    previous: jax.Array
    count: jax.Array


def relative_loss_progress(
    base: Weights, temperature: float = 0.1, smoothing: float = 0.999, lookback: float = 0.999
) -> Weighting:
    """ReLoBRaLo (arXiv 2110.09813, section on relative loss balancing with random lookback).

    Terms that shrink less than others, since the first update and since the previous one, count
    more: with `m` terms, `balance(t, t')_i = m softmax_i(L_i(t) / (temperature L_i(t')))`, and

        factor(t) = alpha (rho factor(t - 1) + (1 - rho) balance(t, 0))
                    + (1 - alpha) balance(t, t - 1).

    The paper draws `rho` from a Bernoulli distribution; here it is its mean, which gives the
    mean of the paper's factors and needs no random number. As in the authors' code the factors
    are 1 at the first update and `balance(1, 0)` at the second. A base weight cancels in
    `L_i(t) / L_i(t')` and multiplies the result; a gradient of base weight 0 takes no part.

    Args:
        base: Weights to be multiplied, the value's too; the factors' mean is 1.
        temperature: Large: all factors 1. Small: all weight to the slowest term.
        smoothing: The paper's alpha.
        lookback: The paper's mean of rho; 1 is no look back.

    Example:
        >>> rule = relative_loss_progress(Weights(state=1.0, action=1.0))
        >>> _, after = rule.update(rule.init(), Signals(*jnp.ones(6), gram=None))
        >>> signals = Signals(*jnp.array([0.5, 1.0, 1.0, 1.0, 1.0, 1.0]), gram=None)
        >>> # the value has halved: gradients count more now
        >>> weights, _ = rule.update(after, signals)
        >>> bool(weights.state > weights.value)
        True
    """

    def balance(terms: jax.Array, since: jax.Array) -> jax.Array:
        active = find_active(base)
        logits = jnp.where(active, ratio(terms, temperature * since), -jnp.inf)
        return jnp.sum(active) * jax.nn.softmax(logits)

    def factors(state: Progress, signals: Signals) -> tuple[jax.Array, Progress]:
        terms = stack_terms(signals)
        first = jnp.where(state.first > 0, state.first, terms)
        recent = balance(terms, state.previous)
        history = lookback * state.factors + (1.0 - lookback) * balance(terms, first)
        usual = smoothing * history + (1.0 - smoothing) * recent
        now = jnp.where(state.count == 0, 1.0, jnp.where(state.count == 1, recent, usual))
        return now, Progress(now, first, terms, state.count + 1)

    def init() -> Progress:
        return Progress(jnp.ones(3), jnp.zeros(3), jnp.zeros(3), jnp.zeros((), jnp.int32))

    return make_rule(base, init, factors)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Multiplier:
    """State of dual ascent.

    Attributes:
        log_multiplier: `()`.
        averages: Running averages of the value term and of its bound, `(2,)`.
    """

    log_multiplier: jax.Array
    averages: jax.Array


def constrained(
    base: Weights,
    tolerance: float = 0.05,
    rate: float = 0.01,
    decay: float = 0.99,
    largest_multiplier: float = 1e6,
) -> Weighting:
    """Gradients as good as can be while values stay right: GECO (arXiv 1810.00597, algorithm 1).

    Minimises the base-weighted gradient terms subject to `value <= tolerance * Var(y)`. Dual ascent
    on the logarithm of the multiplier `mu`: with running averages `v` of the value term and `b`
    of the bound, `log mu` grows by `rate * (v - b) / (v + b)` at each update. (GECO's step is
    in proportion to `v - b`; the quotient frees it of the reward's units and bounds it.) The
    Lagrangian is divided by `1 + mu`: the value's factor is `mu / (1 + mu)`, that of gradients
    `1 / (1 + mu)`. Where both gradients have base weight 0, the value's factor is 1.

    Args:
        base: Weights to be multiplied, the value's too.
        tolerance: Squared TD error allowed, as a share of the target's variance.
        rate: Largest change of `log mu` in one update.
        decay: Of the running averages, whose bias cancels in the quotient.
        largest_multiplier: `mu` stays between this and its inverse, so that it finds back soon.

    Example:
        >>> rule = constrained(Weights(state=1.0, action=1.0), tolerance=0.05)
        >>> weights, _ = rule.update(rule.init(), Signals(*jnp.ones(6), gram=None))
        >>> bool(weights.value > weights.state)  # beyond 5 % of the variance
        True
    """

    def factors(state: Multiplier, signals: Signals) -> tuple[jax.Array, Multiplier]:
        seen = jnp.stack([signals.value, tolerance * signals.target_variance])
        averages = decay * state.averages + (1.0 - decay) * seen
        violation = ratio(averages[0], averages.sum()) - ratio(averages[1], averages.sum())
        limit = jnp.log(largest_multiplier)
        logarithm = jnp.clip(state.log_multiplier + rate * violation, -limit, limit)
        value, gradients = jax.nn.sigmoid(logarithm), jax.nn.sigmoid(-logarithm)
        value = jnp.where(find_active(base)[1:].any(), value, 1.0)
        return jnp.stack([value, gradients, gradients]), Multiplier(logarithm, averages)

    return make_rule(base, lambda: Multiplier(jnp.zeros(()), jnp.zeros(2)), factors)


def guarded(
    base: Weights, tolerance: float = 1.5, fast: float = 0.99, slow: float = 0.999
) -> Weighting:
    """Gradients only while the value loss does not rise: no paper's rule.

    The value term over the target's variance, in two running averages: gradients count while the
    fast one is at most `tolerance` times the slow one, and not at all otherwise. A critic whose
    values run away from its targets has wrong gradients too, and wrong gradients of the target are
    how it can come to that. Over the variance, since values grow with the returns that are
    learned.

    Args:
        base: Weights to be multiplied; the value's stays.
        tolerance: By how much it may rise, above 1.
        fast: Decay of what is watched.
        slow: Decay of what it is held against. (All averages start at zero, and their bias cancels
            in quotients.)

    Raises:
        ValueError: If `tolerance` is not above 1 or the fast average is not the faster one.

    Example:
        >>> rule = guarded(Weights(state=0.5, action=2.0), fast=0.0, slow=0.9)
        >>> calm = Signals(*jnp.ones(6), gram=None)
        >>> weights, after = rule.update(rule.init(), calm)
        >>> float(weights.state)
        0.5
        >>> risen = Signals(jnp.array(1e3), *jnp.ones(5), gram=None)
        >>> weights, _ = rule.update(after, risen)
        >>> float(weights.value), float(weights.state)
        (1.0, 0.0)
    """
    if not tolerance > 1 or not 0 <= fast < slow < 1:
        raise ValueError(
            f"guarded: tolerance={tolerance} must be above 1, and fast={fast} below slow={slow}, "
            "both in [0, 1)"
        )

    def factors(averages: jax.Array, signals: Signals) -> tuple[jax.Array, jax.Array]:
        decays = jnp.array([fast, slow])[:, None]
        seen = jnp.stack([signals.value, signals.target_variance])
        averages = decays * averages + (1.0 - decays) * seen
        share = ratio(averages[:, 0], averages[:, 1])
        gradients = jnp.where(share[0] <= tolerance * share[1], 1.0, 0.0)
        return jnp.stack([jnp.ones_like(gradients), gradients, gradients]), averages

    return make_rule(base, lambda: jnp.zeros((2, 2)), factors)
