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


def clip_norm(gradient: Any, largest: Any) -> tuple[Any, jax.Array]:
    """A gradient whose Euclidean norm, over all leaves, is at most `largest`; and its norm before.

    Example:
        >>> clipped, norm = clip_norm({"w": jnp.array([3.0, 4.0])}, 2.5)
        >>> clipped["w"].tolist(), float(norm)
        ([1.5, 2.0], 5.0)
    """
    norm = optax.tree.norm(gradient)
    share = jnp.where(norm > largest, largest / jnp.where(norm > 0, norm, 1.0), 1.0)
    return jax.tree.map(lambda leaf: leaf * share.astype(leaf.dtype), gradient), norm
