"""What the critic's gradients are matched to: Bellman's gradients, or one of the controls.

A control replaces the target's gradient, in the units of the loss, and leaves everything else as it
is: TD error, weights, trust, validity, bounds. What a control achieves as well as Bellman's
gradients do, Bellman's gradients did not achieve: mere smoothing did.

- `bellman`: the gradient of the Bellman target (arXiv 2511.19165).
- `zero`: no gradient at all, which is a gradient penalty `|grad Q|^2` (arXiv 1801.04406, R1, for
  critics of another kind).
- `unit_norm`: a gradient of norm 1, which is the gradient penalty `(|grad Q| - 1)^2` (arXiv
  1704.00028, equation 3), for state and action apart.
- `shuffled`: Bellman's gradient of another transition of the batch, for every one.
- `random`: a gradient of random direction and of the norm of Bellman's.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp

from sobolax.checks import check_choice
from sobolax.losses import DirectionalDerivatives, Errors

#: `(errors of a batch, key) -> errors of the batch`; the batch is the first axis, directions the
#: last.
GradientTarget = Callable[[Errors, jax.Array], Errors]


def bellman(errors: Errors, key: jax.Array) -> Errors:
    """Leaves everything as it is.

    Example:
        >>> critic, target = jnp.array([[0, 4.0]]), jnp.array([[3.0, 0]])
        >>> valid = jnp.ones((1, 2), bool)
        >>> gradients = DirectionalDerivatives(critic, target, valid)
        >>> errors = Errors(jnp.zeros(1), jnp.ones(1, bool), gradients, gradients)
        >>> bellman(errors, jax.random.key(0)).state.target.tolist()
        [[3.0, 0.0]]
    """
    return errors


def zero(errors: Errors, key: jax.Array) -> Errors:
    """Asks for no gradient.

    Example:
        >>> critic, target = jnp.array([[0, 4.0]]), jnp.array([[3.0, 0]])
        >>> valid = jnp.ones((1, 2), bool)
        >>> gradients = DirectionalDerivatives(critic, target, valid)
        >>> errors = Errors(jnp.zeros(1), jnp.ones(1, bool), gradients, gradients)
        >>> zero(errors, jax.random.key(0)).state.target.tolist()
        [[0.0, 0.0]]
    """
    return _each(
        errors, lambda gradients: replace(gradients, target=jnp.zeros_like(gradients.target))
    )


def unit_norm(errors: Errors, key: jax.Array) -> Errors:
    """Asks for the critic's own gradient at norm 1; one that is exactly zero is left at zero.

    Example:
        >>> critic, target = jnp.array([[0, 4.0]]), jnp.array([[3.0, 0]])
        >>> valid = jnp.ones((1, 2), bool)
        >>> gradients = DirectionalDerivatives(critic, target, valid)
        >>> errors = Errors(jnp.zeros(1), jnp.ones(1, bool), gradients, gradients)
        >>> unit_norm(errors, jax.random.key(0)).state.target.tolist()
        [[0.0, 1.0]]
    """

    def one(gradients: DirectionalDerivatives) -> DirectionalDerivatives:
        # With the direction held fixed, |g - g/|g||^2 has the value and the gradient of
        # (|g| - 1)^2.
        gradient = jax.lax.stop_gradient(gradients.critic)
        return replace(gradients, target=_unit(gradient))

    return _each(errors, one)


def shuffled(errors: Errors, key: jax.Array) -> Errors:
    """Gives every transition the target's gradient of another one, state and action together.

    All of them are one cycle in random order, so that none keeps its own. A gradient is valid where
    both are.

    Raises:
        ValueError: If errors have no batch axis, or there is no other transition.

    Example:
        >>> critic, target = jnp.zeros((2, 1)), jnp.array([[1.0], [2.0]])
        >>> valid = jnp.ones((2, 1), bool)
        >>> gradients = DirectionalDerivatives(critic, target, valid)
        >>> errors = Errors(jnp.zeros(2), jnp.ones(2, bool), gradients, gradients)
        >>> sorted(shuffled(errors, jax.random.key(0)).state.target.tolist())
        [[1.0], [2.0]]
    """
    _check_batch("shuffled", errors)
    size = errors.state.target.shape[0]
    check_batch_size("shuffled", "shuffled", size)
    order = jax.random.permutation(key, size)
    other = jnp.zeros_like(order).at[order].set(jnp.roll(order, -1))

    def one(gradients: DirectionalDerivatives) -> DirectionalDerivatives:
        valid = gradients.valid & gradients.valid[other]
        critic, target = (
            jnp.where(valid, part, 0.0) for part in (gradients.critic, gradients.target[other])
        )
        return DirectionalDerivatives(critic, target, valid)

    return _each(errors, one)


def random(errors: Errors, key: jax.Array) -> Errors:
    """Keeps the norm of every target's gradient, and draws its direction anew.

    Raises:
        ValueError: If errors have no batch axis: under one key all would be drawn alike.

    Example:
        >>> critic, target = jnp.array([[0, 4.0]]), jnp.array([[3.0, 0]])
        >>> valid = jnp.ones((1, 2), bool)
        >>> gradients = DirectionalDerivatives(critic, target, valid)
        >>> errors = Errors(jnp.zeros(1), jnp.ones(1, bool), gradients, gradients)
        >>> drawn = random(errors, jax.random.key(0)).state.target
        >>> round(float(jnp.sum(drawn**2)), 3)  # as long as the target's gradient
        9.0
    """
    _check_batch("random", errors)
    keys = iter(jax.random.split(key))

    def one(gradients: DirectionalDerivatives) -> DirectionalDerivatives:
        drawn = jax.random.normal(next(keys), gradients.target.shape, gradients.target.dtype)
        drawn = jnp.where(gradients.valid, drawn, 0.0)
        size = jnp.sqrt(jnp.sum(jnp.square(gradients.target), axis=-1, keepdims=True))
        return replace(gradients, target=jax.lax.stop_gradient(size) * _unit(drawn))

    return _each(errors, one)


#: By name.
GRADIENT_TARGETS: dict[str, GradientTarget] = {
    "bellman": bellman,
    "zero": zero,
    "unit_norm": unit_norm,
    "shuffled": shuffled,
    "random": random,
}


def check_gradient_target(
    owner: str, name: str, first_order: str, directions: Mapping[str, int | None] | None = None
) -> None:
    """Raises ValueError if there is no such target, or if it cannot be what it says.

    Args:
        owner: Whose target it is.
        name: Of the target.
        first_order: The source of gradients (`sobolax.tangents.sources.SOURCES`).
        directions: How many random ones of each kind, "state" and "action"; None for the full
            basis.

    Example:
        >>> check_gradient_target("mine", "belman", first_order="cached")
        Traceback (most recent call last):
        ValueError: mine: gradient_target='belman' is unknown (did you mean 'bellman'?): ...
    """
    check_choice(f"{owner}: gradient_target=", name, GRADIENT_TARGETS)
    if name != "bellman" and first_order == "off":
        raise ValueError(
            f"{owner}: gradient_target={name!r} needs tangents, and first_order='off' stores none: "
            "choose first_order='cached', or gradient_target='bellman' for plain TD learning"
        )
    for kind, count in (directions or {}).items():
        if count and name in ("shuffled", "unit_norm"):
            raise ValueError(
                f"{owner}: gradient_target={name!r} needs whole gradients, but "
                f"{kind}_directions={count} draws random directions, of every transition its own: "
                "along them another transition's gradient is noise, and no norm is 1. Leave "
                f"{kind}_directions at None, or choose 'zero'"
            )


def check_batch_size(owner: str, name: str, size: int) -> None:
    """Raises ValueError if a target needs more transitions with gradients than a batch has.

    Example:
        >>> check_batch_size("mine", "shuffled", 1)
        Traceback (most recent call last):
        ValueError: mine: gradient_target='shuffled' takes gradients of other transitions, and ...
    """
    if name == "shuffled" and size < 2:
        raise ValueError(
            f"{owner}: gradient_target='shuffled' takes gradients of other transitions, and a "
            f"batch has {size} with gradients: choose a batch of 2 or more, or another target"
        )


def _check_batch(name: str, errors: Errors) -> None:
    if jnp.ndim(errors.value) == 0:
        raise ValueError(
            f"{name}: the errors are of one transition, but the batch is the first axis: apply it "
            "to the errors of the whole batch, after the vmap that makes them"
        )


def _each(
    errors: Errors, change: Callable[[DirectionalDerivatives], DirectionalDerivatives]
) -> Errors:
    return replace(errors, state=change(errors.state), action=change(errors.action))


def _unit(gradient: jax.Array) -> jax.Array:
    square = jnp.sum(jnp.square(gradient), axis=-1, keepdims=True)
    return jnp.where(square > 0, gradient / jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
