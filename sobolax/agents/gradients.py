"""What to do with a gradient: hand on a share, shorten it, and take a step of Adam along it."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import optax


def scale_gradient(value: jax.Array, share: Any) -> jax.Array:
    """The same value, with `share` of its gradient.

    Example:
        >>> value, gradient = jax.value_and_grad(lambda x: scale_gradient(x, 0.25) ** 2)(3.0)
        >>> float(value), float(gradient)
        (9.0, 1.5)
    """
    still = jax.lax.stop_gradient(value)
    return still + share * (value - still)


def adam_step(
    learning_rate: Any,
    gradient: Any,
    optimizer_state: Any,
    parameters: Any,
    betas: tuple[float, float] = (0.9, 0.999),
):
    """One step of Adam, with its decay rates: `(parameters, optimiser state)`.

    Example:
        >>> begin, gradient = jnp.ones(1), jnp.ones(1)
        >>> parameters, state = adam_step(0.5, gradient, optax.adam(0.5).init(begin), begin)
        >>> round(float(parameters[0]), 3)  # the first step is as long as the learning rate
        0.5
    """
    updates, optimizer_state = optax.adam(learning_rate, *betas).update(
        gradient, optimizer_state, parameters
    )
    # Any: optax's annotation of parameters names no type that a caller has.
    return cast(Any, optax.apply_updates(parameters, updates)), optimizer_state


def clip_gradient(gradient: Any, largest: Any) -> tuple[Any, jax.Array]:
    """A gradient whose Euclidean norm, over all leaves, is at most `largest`; and its norm before.

    Example:
        >>> clipped, norm = clip_gradient({"w": jnp.array([3.0, 4.0])}, 2.5)
        >>> clipped["w"].tolist(), float(norm)
        ([1.5, 2.0], 5.0)
    """
    # In units of the largest number, whose square may be more than a float holds.
    unit = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(gradient)]))
    unit = jnp.where(unit > 0, unit, 1.0)
    norm = unit * optax.tree.norm(jax.tree.map(lambda leaf: leaf / unit, gradient))
    share = jnp.where(norm > largest, largest / jnp.where(norm > 0, norm, 1.0), 1.0)
    return jax.tree.map(lambda leaf: leaf * share.astype(leaf.dtype), gradient), norm


def shorten_outliers(
    gradients: jax.Array, kept: jax.Array, bound: Any
) -> tuple[jax.Array, jax.Array]:
    """Gradients along single actions, none of them longer than a multiple of their median.

    A chain through contact that explodes can be thousands of times longer than the others: the mean
    is then that one alone, and `actor_gradient_norm`, which bounds its length, does not turn it.

    Args:
        gradients: `(environments, horizon, action_size)`.
        kept: Which count, bool `(environments, horizon)`; the others are set to 0.
        bound: How many medians of the lengths of those that count; infinite for no bound.

    Returns:
        The gradients, and the share of those that count that was shortened, `()`.

    Example:
        >>> gradients = jnp.array([[[1.0], [-2.0], [900.0]]])
        >>> shortened, share = shorten_outliers(gradients, jnp.ones((1, 3), bool), 3.0)
        >>> shortened.ravel().tolist(), round(float(share), 3)  # the median is 2
        ([1.0, -2.0, 6.0], 0.333)
    """
    gradients = jnp.where(kept[..., None], gradients, 0.0)
    lengths = jnp.sqrt(jnp.sum(jnp.square(gradients), axis=-1))
    median = jnp.nanmedian(jnp.where(kept, lengths, jnp.nan))
    # Where nothing counts there is no median; where half of them are 0, nothing to go by.
    known = jnp.isfinite(median) & (median > 0)
    largest = jnp.where(known, bound * median, jnp.inf).astype(lengths.dtype)
    long = lengths > largest
    factor = jnp.where(long, largest / jnp.where(long, lengths, 1.0), 1.0)
    share = jnp.sum(long, dtype=lengths.dtype) / jnp.maximum(jnp.sum(kept), 1)
    return gradients * factor[..., None], share
