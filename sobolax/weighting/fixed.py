"""Weightings that do not look at the learning: constant, scheduled, and one out of several."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from sobolax.losses import Weights
from sobolax.weighting.interface import Signals, Weighting, make_rule, stack_weights

if TYPE_CHECKING:
    import optax


def constant(base: Weights) -> Weighting:
    """The base weights at every update, as in First-Order Sobolev RL (arXiv 2511.19165).

    Example:
        >>> rule = constant(Weights(state=0.5, action=2.0))
        >>> weights, _ = rule.update(rule.init(), Signals(*jnp.ones(6), gram=None))
        >>> float(weights.state), float(weights.action)
        (0.5, 2.0)
    """
    return make_rule(base, lambda: (), lambda state, signals: (jnp.ones(3), state))


def scheduled(base: Weights, schedule: "optax.Schedule") -> Weighting:
    """The base weights of gradients times a schedule of the number of updates.

    No paper's rule: a schedule shows whether gradients help early, late or throughout.

    Args:
        base: Weights to be multiplied; the value's stays.
        schedule: From the number of updates before this one, `()` int32, to a factor, `()`.

    Example:
        >>> rule = scheduled(Weights(state=0.5, action=2.0), lambda count: 1.0 / (1.0 + count))
        >>> _, after = rule.update(rule.init(), Signals(*jnp.ones(6), gram=None))
        >>> weights, _ = rule.update(after, Signals(*jnp.ones(6), gram=None))
        >>> float(weights.value), float(weights.state), float(weights.action)
        (1.0, 0.25, 1.0)
    """

    def factors(count: jax.Array, signals: Signals) -> tuple[jax.Array, jax.Array]:
        factor = jnp.asarray(schedule(count), float)
        return jnp.stack([jnp.ones_like(factor), factor, factor]), count + 1

    return make_rule(base, lambda: jnp.zeros((), jnp.int32), factors)


def warm_up(wait: int, ramp: int) -> Callable[[jax.typing.ArrayLike], jax.Array]:
    """A schedule that leaves gradients out at first: a target bootstrapped from nothing has none.

    Args:
        wait: Updates without gradients.
        ramp: Updates over which they rise to their weight, along a line.

    Returns:
        From the number of updates before this one, `()`, to a factor, `()`.

    Raises:
        ValueError: If a count is negative.

    Example:
        >>> schedule = warm_up(wait=2, ramp=4)
        >>> [float(schedule(count)) for count in range(8)]
        [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    if min(wait, ramp) < 0:
        raise ValueError(f"warm_up: wait={wait} and ramp={ramp} must be at least 0")

    def schedule(count: jax.typing.ArrayLike) -> jax.Array:
        done = jnp.asarray(count, float) - wait
        return jnp.where(done < 0, 0.0, jnp.clip((done + 1.0) / max(ramp, 1), 0.0, 1.0))

    return schedule


def choose(index: jax.typing.ArrayLike, weightings: Sequence[Weighting]) -> Weighting:
    """The weighting that a traced index names, so that a sweep over weightings is one program.

    All are evaluated (they are a few numbers each) and all states are kept up to date; the
    others' weights, were they not finite, do not reach the chosen one's.

    Args:
        index: Which of them, `()` int; beyond the ends it counts as the nearest.
        weightings: At least one.

    Returns:
        A weighting whose state is the tuple of their states, and which needs gradients if any
        of them does.

    Raises:
        ValueError: If there are none to choose from.

    Example:
        >>> rule = choose(1, [constant(Weights(0.0, 0.0)), constant(Weights(0.5, 2.0))])
        >>> weights, _ = rule.update(rule.init(), Signals(*jnp.ones(6), gram=None))
        >>> float(weights.state), float(weights.action)
        (0.5, 2.0)
    """
    weightings = tuple(weightings)
    if not weightings:
        raise ValueError("choose: weightings is empty, but must hold at least one weighting")

    def update(states: tuple[Any, ...], signals: Signals) -> tuple[Weights, tuple[Any, ...]]:
        pairs = [w.update(s, signals) for w, s in zip(weightings, states, strict=True)]
        stacked = jnp.stack([stack_weights(weights) for weights, _ in pairs])
        value, state, action = jnp.take(stacked, index, axis=0, mode="clip").astype(
            signals.value.dtype
        )
        return Weights(value=value, state=state, action=action), tuple(new for _, new in pairs)

    return Weighting(
        init=lambda: tuple(weighting.init() for weighting in weightings),
        update=update,
        needs_gradients=any(weighting.needs_gradients for weighting in weightings),
    )
