"""The Sobolev temporal-difference loss: one function, for any agent.

For a transition `T`, an agent's TD error `delta(T)` and tangents `dT.v` of the transition, the
slope of the TD error along `v` is `<grad delta, dT.v>`, and the loss of First-Order Sobolev
Reinforcement Learning (arXiv 2511.19165) is

    delta^2 + state_weight * sum_i (d delta / d x_i)^2 + action_weight * sum_j (d delta / d a_j)^2.

The TD error is all that this module knows of an agent: a function of one unbatched transition that
gives one number. Whatever it closes over is free to be differentiated: hand the loss to `jax.grad`
with respect to the critic's parameters alone, and no gradient reaches the target. For several
critics, `vmap` over their parameters: what they share, the target and its slope, is then computed
once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.environment import State
from sobolax.transition import Tangents, Transition

TDError = Callable[[Transition], jax.Array]
TransitionMap = Callable[[jax.Array, jax.Array], tuple[Transition, State]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Weights:
    """How much slopes count beside values, as in the paper; both may be traced.

    Attributes:
        state: lambda_s, `()`.
        action: lambda_a, `()`.
    """

    state: Any
    action: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Terms:
    """The squares that make up the loss, and which of them count.

    Attributes:
        value: Squared TD error, `()`.
        state: Squared slopes of the TD error along state directions, `(state directions,)`.
        action: The same along action directions, `(action directions,)`.
        value_valid: Whether the transition is finite, `()` bool.
        state_valid: Whether the tangents are finite and within the bound, bool as `state`.
        action_valid: The same, as `action`.

    A term that is not valid is 0 and has no gradient.
    """

    value: jax.Array
    state: jax.Array
    action: jax.Array
    value_valid: jax.Array
    state_valid: jax.Array
    action_valid: jax.Array


def value_term(td_error: TDError, transition: Transition) -> tuple[jax.Array, jax.Array]:
    """The ordinary squared TD error of one transition, and whether the transition is finite.

    Returns:
        The squared error `()`, and its validity, `()` bool. A transition that is not finite has
        term 0.
    """
    valid = _all_finite(transition)
    delta = td_error(_zero_unless(valid, transition))
    return jnp.where(valid, jnp.square(delta), 0.0), valid


def sobolev_terms(
    td_error: TDError,
    transition: Transition,
    tangents: Tangents,
    tangent_bound: jax.typing.ArrayLike = jnp.inf,
) -> Terms:
    """Squared TD error and squared slopes of it along tangents, for one transition.

    The derivative of the TD error is one reverse pass through networks alone.

    Args:
        td_error: TD error of a transition, `()`.
        transition: One unbatched transition.
        tangents: Its tangents; parts that are `None` are zero.
        tangent_bound: Tangents of larger Euclidean norm are taken out (and not valid).

    Returns:
        The terms, unweighted.
    """
    finite = _all_finite(transition)
    transition = _zero_unless(finite, transition)
    delta, gradient = jax.value_and_grad(td_error)(transition)
    state, state_valid = _slopes(gradient, tangents.state, tangent_bound)
    action, action_valid = _slopes(gradient, tangents.action, tangent_bound)
    return _terms(delta, state, action, finite, finite & state_valid, finite & action_valid)


def sobolev_terms_by_reverse_mode(
    td_error: TDError,
    transition: Transition,
    transition_map: TransitionMap,
    state_size: int,
    gradient_bound: jax.typing.ArrayLike = jnp.inf,
) -> Terms:
    """The same terms along the full basis, by a reverse pass through the simulator.

    The derivative of the TD error is pulled back through the networks and on through the
    transition map, at whatever state the map is anchored: no tangents are needed, at the price
    of the simulator's reverse pass (which it must support) at every call.

    Args:
        td_error: TD error of a transition, `()`.
        transition: The transition as it was collected; its value term is taken from it.
        transition_map: See `sobolax.tangents.transition_map`.
        state_size: Numbers in a displacement of the state.
        gradient_bound: Slopes of the TD error of larger Euclidean norm are taken out; a reverse
            pass sees no single tangent, so the bound is on what it does see.

    Returns:
        The terms, unweighted. A slope that is not finite takes out all slopes of its kind: a
        reverse pass mixes them.
    """
    finite = _all_finite(transition)
    transition = _zero_unless(finite, transition)
    delta, gradient = jax.value_and_grad(td_error)(transition)
    zero = jnp.zeros(state_size, transition.observation.dtype)
    _, through_physics = jax.vjp(lambda *where: transition_map(*where)[0], zero, transition.action)
    slopes = through_physics(gradient)

    def check(slope: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = jnp.sqrt(jnp.sum(jnp.square(jax.lax.stop_gradient(slope))))
        valid = jnp.isfinite(size) & (size <= gradient_bound)
        return jnp.where(valid, slope, 0.0), jnp.broadcast_to(valid, slope.shape)

    (state, state_valid), (action, action_valid) = map(check, slopes)
    return _terms(delta, state, action, finite, finite & state_valid, finite & action_valid)


def batch_loss(terms: Terms, weights: Weights) -> jax.Array:
    """The loss of a batch: every term's mean over the transitions in which it is valid.

    Args:
        terms: Terms with a leading batch axis.
        weights: Weights of the slopes.

    Returns:
        The loss, `()`.
    """
    value, state, action = mean_terms(terms)
    return value + weights.state * state + weights.action * action


def mean_terms(terms: Terms) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Masked means over a batch: of the value term and of both sums of squared slopes."""
    return (
        _masked_mean(terms.value, terms.value_valid),
        jnp.sum(_masked_mean(terms.state, terms.state_valid)),
        jnp.sum(_masked_mean(terms.action, terms.action_valid)),
    )


def sobolev_td_loss(
    td_error: TDError,
    transition: Transition,
    tangents: Tangents,
    weights: Weights,
    tangent_bound: jax.typing.ArrayLike = jnp.inf,
) -> jax.Array:
    """The first-order Sobolev TD loss of one transition (arXiv 2511.19165).

    Args:
        td_error: TD error of a transition, `()`.
        transition: One unbatched transition.
        tangents: Its tangents; parts that are `None` are zero.
        weights: lambda_s and lambda_a.
        tangent_bound: Tangents of larger Euclidean norm, and those that are not finite, take
            their own term out.

    Returns:
        `delta^2 + lambda_s sum_i (d delta/d x_i)^2 + lambda_a sum_j (d delta/d a_j)^2`, `()`.
        For a batch with invalid terms, prefer `batch_loss` of the `vmap`ped `sobolev_terms`: it
        divides by the number of valid ones.
    """
    terms = sobolev_terms(td_error, transition, tangents, tangent_bound)
    return (
        terms.value + weights.state * jnp.sum(terms.state) + weights.action * jnp.sum(terms.action)
    )


def _terms(delta, state, action, value_valid, state_valid, action_valid) -> Terms:
    """Squares the TD error and its slopes; drops what is not valid."""
    return Terms(
        value=jnp.where(value_valid, jnp.square(delta), 0.0),
        state=jnp.where(state_valid, jnp.square(state), 0.0),
        action=jnp.where(action_valid, jnp.square(action), 0.0),
        value_valid=value_valid,
        state_valid=state_valid,
        action_valid=action_valid,
    )


def _slopes(
    gradient: Transition, tangents: Transition, bound: jax.typing.ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Contracts a gradient with tangents `(directions, ...)`, and says which of those count."""
    pairs = [
        (jnp.ravel(along), tangent.reshape(tangent.shape[0], -1).astype(along.dtype))
        for along, tangent in zip(
            jax.tree.leaves(gradient, is_leaf=_is_none),
            jax.tree.leaves(tangents, is_leaf=_is_none),
            strict=True,
        )
        if tangent is not None
    ]
    size = jnp.sqrt(sum(jnp.sum(jnp.square(tangent), axis=1) for _, tangent in pairs))
    valid = jnp.isfinite(size) & (size <= bound)
    slopes = [
        jnp.sum(jnp.where(valid[:, None], tangent, 0.0) * along, axis=1) for along, tangent in pairs
    ]
    return sum(slopes[1:], slopes[0]), valid


def _is_none(leaf: object) -> bool:
    return leaf is None


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def _zero_unless(valid: jax.Array, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.where(valid, leaf, jnp.zeros_like(leaf)), tree)


def _masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(mask, values, 0.0), axis=0) / jnp.maximum(jnp.sum(mask, axis=0), 1)
