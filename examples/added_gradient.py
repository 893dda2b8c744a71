"""Adds a gradient to the one that somebody else's update computes."""

from typing import Any

import jax
import optax


def adding(optimizer: optax.GradientTransformation, extra: Any) -> optax.GradientTransformation:
    """The optimizer, with `extra` added to every gradient it is given; its state is the same."""

    def update(updates, state, params=None):
        updates = jax.tree.map(lambda one, other: one + other, updates, extra)
        return optimizer.update(updates, state, params)

    return optax.GradientTransformation(optimizer.init, update)
