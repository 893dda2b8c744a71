"""What a weighting is: it looks at a few numbers of a batch, and says how much each term counts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.losses import DirectionalDerivatives, Errors, Weights, masked_mean


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Signals:
    """What a weighting may look at, at one update; all over the batch, summed over critics.

    Those of the target are of Bellman's target, whatever a control asks for.

    Attributes:
        value: Mean squared TD error, `()`.
        state: Mean squared gradient of the TD error along the state, summed over directions, `()`.
        action: The same along the action, `()`.
        target_variance: Variance of the target's value, `()`.
        state_target_square: Mean squared gradient of the target along the state, summed over
            directions, `()`.
        action_target_square: The same along the action, `()`.
        gram: Inner products of the gradients of the value, state and action terms with respect
            to the critic's parameters, in this order, unweighted, `(3, 3)`; None for a weighting
            that does not need them.

    Example:
        >>> signals = Signals(*jnp.arange(6.0), gram=None)
        >>> float(signals.action), float(signals.target_variance)
        (2.0, 3.0)
    """

    value: jax.Array
    state: jax.Array
    action: jax.Array
    target_variance: jax.Array
    state_target_square: jax.Array
    action_target_square: jax.Array
    gram: jax.Array | None


def measure_signals(
    means: tuple[jax.Array, jax.Array, jax.Array],
    errors: Errors,
    values: jax.Array,
    gradients: Any = None,
) -> Signals:
    """What a weighting may look at; the compiler drops whatever it does not use.

    Args:
        means: Of the terms (`sobolax.losses.mean_terms`), summed over critics.
        errors: Of a batch, `(batch, critics)`; directions are the last axis. Bellman's.
        values: Of the critics, `(batch, critics)`.
        gradients: Of the three means with respect to the critics' parameters, each leaf with
            the three as its leading axis; None for a weighting that does not need them.

    Raises:
        ValueError: If values are not those of the errors, by their shape.

    Example:
        >>> from sobolax.losses import DirectionalDerivatives
        >>> still, known = jnp.zeros((2, 1, 1)), jnp.ones((2, 1), bool)
        >>> gradients = DirectionalDerivatives(still, still + 3.0, known[..., None])
        >>> errors = Errors(jnp.zeros((2, 1)), known, gradients, gradients)
        >>> signals = measure_signals((0.0, 9.0, 9.0), errors, jnp.array([[1.0], [3.0]]))
        >>> float(signals.target_variance), float(signals.state_target_square)
        (1.0, 9.0)
    """
    if jnp.shape(values) != jnp.shape(errors.value):
        raise ValueError(
            f"measure_signals: values have shape {jnp.shape(values)}, but errors.value has "
            f"{jnp.shape(errors.value)}: give the critics' values of the same transitions, "
            "(batch, critics) both"
        )
    valid = errors.value_valid
    targets = jnp.where(valid, values - errors.value, 0.0)
    centred = targets - masked_mean(targets, valid)

    def square(gradients: DirectionalDerivatives) -> jax.Array:
        return jnp.sum(masked_mean(jnp.square(gradients.target), gradients.valid))

    gram = None
    if gradients is not None:
        rows = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(gradients)]
        whole = jnp.concatenate(rows, axis=1)
        gram = whole @ whole.T
    return Signals(
        *means,
        target_variance=jnp.sum(masked_mean(jnp.square(centred), valid)),
        state_target_square=square(errors.state),
        action_target_square=square(errors.action),
        gram=gram,
    )


@dataclass(frozen=True)
class Weighting:
    """How the terms of the loss are weighted, as two pure functions.

    Attributes:
        init: Gives the state before the first update: a pytree of strongly typed arrays.
        update: From that state and an update's signals, the weights of the terms and the next
            state.
        needs_gradients: Whether `update` reads `Signals.gram`, which costs a gradient per term.

    Example:
        >>> rule = Weighting(lambda: (), lambda state, signals: (Weights(0.5, 0.5), state))
        >>> rule.update(rule.init(), Signals(*jnp.ones(6), gram=None))[0].state
        0.5
    """

    init: Callable[[], Any]
    update: Callable[[Any, Signals], tuple[Weights, Any]]
    needs_gradients: bool = False


def make_rule(
    base: Weights,
    init: Callable[[], Any],
    factors: Callable[[Any, Signals], tuple[jax.Array, Any]],
    needs_gradients: bool = False,
) -> Weighting:
    """A weighting that multiplies base weights.

    Signals are constants of the loss: no gradient flows through them. Weights have the signals'
    type, and the state keeps its own.

    Args:
        base: Weights to be multiplied, numbers or traced.
        init: As in `Weighting`.
        factors: From state and signals, the factors of the value, state and action weights,
            `(3,)`, and the next state.
        needs_gradients: As in `Weighting`.
    """

    def update(state: Any, signals: Signals) -> tuple[Weights, Any]:
        product, after = factors(state, jax.lax.stop_gradient(signals))
        product = (product * stack_weights(base)).astype(signals.value.dtype)
        after = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state)
        return Weights(value=product[0], state=product[1], action=product[2]), after

    return Weighting(init, update, needs_gradients)


def stack_weights(weights: Weights) -> jax.Array:
    """Weights of value, state and action, `(3,)`."""
    return jnp.stack(
        [jnp.asarray(w, float) for w in (weights.value, weights.state, weights.action)]
    )


def stack_terms(signals: Signals) -> jax.Array:
    """The value, state and action terms, `(3,)`."""
    return jnp.stack([signals.value, signals.state, signals.action])


def find_active(base: Weights) -> jax.Array:
    """Which terms take part, `(3,)` bool: the value, and gradients whose weight is not 0."""
    return (stack_weights(base) > 0).at[0].set(True)


def ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """A quotient of two numbers of at least 0, finite also where the denominator is 0."""
    tiny, huge = jnp.finfo(denominator.dtype).tiny, 1e30
    return jnp.minimum(numerator / jnp.maximum(denominator, tiny), huge)
