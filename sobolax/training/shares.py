"""Which coordinate dominates the gradient loss: the share of each, by name.

An agent's metrics have the mean squared gradient errors along all directions (`SQUARES`); those of
an epoch have each coordinate's share of their sum, `state_gradient_share/root z`, where directions
are coordinates.
"""

import jax.numpy as jnp

from sobolax.environment import Environment, coordinate_names
from sobolax.training.agent import Metrics

#: Metrics of an update along all directions: of the state, of the action.
SQUARES = ("state_gradient_squares", "action_gradient_squares")
#: What the names of shares begin with, likewise.
SHARES = ("state_gradient_share/", "action_gradient_share/")


def name_shares(
    metrics: Metrics,
    environment: Environment,
    directions: tuple[int | None, int | None] = (None, None),
) -> Metrics:
    """Metrics of an epoch, with shares by coordinate in the place of squares.

    Args:
        metrics: Means over an epoch; those of an agent of one's own may have no squares.
        environment: Names the coordinates.
        directions: Random directions of state and action; None where directions are coordinates.

    Example:
        >>> from sobolax.cart import Cart
        >>> metrics = {"state_gradient_squares": jnp.array([3.0, 1.0]), "loss": jnp.ones(())}
        >>> shares = name_shares(metrics, Cart())
        >>> {name: float(value) for name, value in sorted(shares.items())}
        {'loss': 1.0, 'state_gradient_share/position': 0.75, 'state_gradient_share/speed': 0.25}
    """
    metrics = dict(metrics)
    for key, prefix, count, names in zip(
        SQUARES, SHARES, directions, coordinate_names(environment), strict=True
    ):
        squares = metrics.pop(key, jnp.zeros(0))
        if count is not None or not squares.size:
            continue
        total = jnp.sum(squares)
        shares = jnp.where(total > 0, squares / jnp.where(total > 0, total, 1.0), 0.0)
        metrics |= {prefix + name: shares[at] for at, name in enumerate(names)}
    return metrics
