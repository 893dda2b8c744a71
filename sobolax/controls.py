"""What the critic's slopes are matched to: Bellman's slopes, or one of the controls.

A control replaces the target's slope and leaves everything else of the loss as it is: TD error,
weights, validity, bounds. What a control achieves as well as Bellman's slopes do, Bellman's slopes
did not achieve: mere smoothing did.

- `bellman`: the slope of the Bellman target (arXiv 2511.19165).
- `zero`: no slope at all, which is a gradient penalty `|grad Q|^2` (arXiv 1801.04406, R1, for
  critics of another kind).
- `unit_norm`: a slope of norm 1, which is the gradient penalty `(|grad Q| - 1)^2` (arXiv
  1704.00028, equation 3), for state and action apart.
- `shuffled`: Bellman's slope of another transition of the batch.
- `random`: a slope of random direction and of the norm of Bellman's.
"""

import difflib
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from sobolax.losses import Errors, Slopes

#: `(errors of a batch, key) -> errors of the batch`; the batch is the first axis, directions the
#: last.
SlopeTarget = Callable[[Errors, jax.Array], Errors]


def bellman(errors: Errors, key: jax.Array) -> Errors:
    """Leaves everything as it is.

    Example:
        >>> slopes = Slopes(jnp.array([[0, 4.0]]), jnp.array([[3.0, 0]]), jnp.ones((1, 2), bool))
        >>> errors = Errors(jnp.zeros(1), jnp.ones(1, bool), slopes, slopes)
        >>> bellman(errors, jax.random.key(0)).state.target.tolist()
        [[3.0, 0.0]]
    """
    return errors


def zero(errors: Errors, key: jax.Array) -> Errors:
    """Asks for no slope.

    Example:
        >>> slopes = Slopes(jnp.array([[0, 4.0]]), jnp.array([[3.0, 0]]), jnp.ones((1, 2), bool))
        >>> errors = Errors(jnp.zeros(1), jnp.ones(1, bool), slopes, slopes)
        >>> zero(errors, jax.random.key(0)).state.target.tolist()
        [[0.0, 0.0]]
    """
    return _each(errors, lambda slopes: replace(slopes, target=jnp.zeros_like(slopes.target)))


def unit_norm(errors: Errors, key: jax.Array) -> Errors:
    """Asks for the critic's own slope at norm 1; one that is exactly zero is left at zero.

    Example:
        >>> slopes = Slopes(jnp.array([[0, 4.0]]), jnp.array([[3.0, 0]]), jnp.ones((1, 2), bool))
        >>> errors = Errors(jnp.zeros(1), jnp.ones(1, bool), slopes, slopes)
        >>> unit_norm(errors, jax.random.key(0)).state.target.tolist()
        [[0.0, 1.0]]
    """

    def one(slopes: Slopes) -> Slopes:
        # With the direction held fixed, |g - g/|g||^2 has the value and the gradient of
        # (|g| - 1)^2.
        slope = jax.lax.stop_gradient(slopes.critic)
        return replace(slopes, target=_unit(slope))

    return _each(errors, one)


def shuffled(errors: Errors, key: jax.Array) -> Errors:
    """Gives every transition the target's slope of another one, state and action together.

    A slope is valid where both are.

    Example:
        >>> slopes = Slopes(jnp.zeros((2, 1)), jnp.array([[1.0], [2.0]]), jnp.ones((2, 1), bool))
        >>> errors = Errors(jnp.zeros(2), jnp.ones(2, bool), slopes, slopes)
        >>> sorted(shuffled(errors, jax.random.key(0)).state.target.tolist())
        [[1.0], [2.0]]
    """
    order = jax.random.permutation(key, errors.value.shape[0])

    def one(slopes: Slopes) -> Slopes:
        valid = slopes.valid & slopes.valid[order]
        critic, target = (
            jnp.where(valid, part, 0.0) for part in (slopes.critic, slopes.target[order])
        )
        return Slopes(critic, target, valid)

    return _each(errors, one)


def random(errors: Errors, key: jax.Array) -> Errors:
    """Keeps the norm of every target's slope, and draws its direction anew.

    Example:
        >>> slopes = Slopes(jnp.array([[0, 4.0]]), jnp.array([[3.0, 0]]), jnp.ones((1, 2), bool))
        >>> errors = Errors(jnp.zeros(1), jnp.ones(1, bool), slopes, slopes)
        >>> drawn = random(errors, jax.random.key(0)).state.target
        >>> round(float(jnp.sum(drawn**2)), 3)  # as long as the target's slope
        9.0
    """
    keys = iter(jax.random.split(key))

    def one(slopes: Slopes) -> Slopes:
        drawn = jax.random.normal(next(keys), slopes.target.shape, slopes.target.dtype)
        drawn = jnp.where(slopes.valid, drawn, 0.0)
        size = jnp.sqrt(jnp.sum(jnp.square(slopes.target), axis=-1, keepdims=True))
        return replace(slopes, target=jax.lax.stop_gradient(size) * _unit(drawn))

    return _each(errors, one)


#: By name.
SLOPE_TARGETS: dict[str, SlopeTarget] = {
    "bellman": bellman,
    "zero": zero,
    "unit_norm": unit_norm,
    "shuffled": shuffled,
    "random": random,
}


def check_slope_target(owner: str, name: str, first_order: str) -> None:
    """Raises ValueError, with the mend, if there is no such target or nothing to apply it to.

    Example:
        >>> check_slope_target("mine", "belman", first_order="cached")
        Traceback (most recent call last):
        ValueError: mine: slope_target='belman' is unknown (did you mean 'bellman'?); ...
    """
    if name not in SLOPE_TARGETS:
        near = difflib.get_close_matches(str(name), SLOPE_TARGETS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"{owner}: slope_target={name!r} is unknown{hint}; choose one of "
            f"{', '.join(SLOPE_TARGETS)}"
        )
    if name != "bellman" and first_order == "off":
        raise ValueError(
            f"{owner}: slope_target={name!r} needs tangents, and first_order='off' stores none: "
            "choose first_order='cached', or slope_target='bellman' for plain TD learning"
        )


def _each(errors: Errors, change: Callable[[Slopes], Slopes]) -> Errors:
    return replace(errors, state=change(errors.state), action=change(errors.action))


def _unit(slope: jax.Array) -> jax.Array:
    square = jnp.sum(jnp.square(slope), axis=-1, keepdims=True)
    return jnp.where(square > 0, slope / jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
