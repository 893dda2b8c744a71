"""The Sobolev temporal-difference loss: one function, for any agent.

For a transition `T`, an agent's TD error `delta(T)` and tangents `dT.v` of the transition, the
gradient of the TD error along `v` is `<grad delta, dT.v>`, and the loss of First-Order Sobolev
Reinforcement Learning (arXiv 2511.19165) is

    delta^2 + state_weight * sum_i (d delta / d x_i)^2 + action_weight * sum_j (d delta / d a_j)^2.

It is made in four steps: `sobolev_errors` (the TD error and its gradients), `squares`, `mean_terms`
and `weighted_sum`; `batch_loss` and `sobolev_td_loss` are these for a batch and for one transition.

The TD error is all that this module knows of an agent: a function of one unbatched transition that
gives one number. Whatever it closes over is free to be differentiated: hand the loss to `jax.grad`
with respect to the critic's parameters alone, and no gradient reaches the target. For several
critics, `vmap` over their parameters: what they share, the target and its gradient, is then
computed once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.checks import check_one_number, check_scalars, check_tangents, check_transition
from sobolax.tangents.forward import TransitionMap
from sobolax.tangents.units import GradientScales
from sobolax.transition import Tangents, Transition

#: TD error of one unbatched transition, `()`.
TDError = Callable[[Transition], jax.Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Weights:
    """How much gradients count beside values, as in the paper; all may be traced.

    Attributes:
        state: lambda_s, `()`.
        action: lambda_a, `()`.
        value: Weight of the squared TD error, `()`; 1 in the paper.

    Example:
        >>> Weights(state=0.1, action=0.2)
        Weights(state=0.1, action=0.2, value=1.0)
    """

    state: Any
    action: Any
    value: Any = 1.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DirectionalDerivatives:
    """Gradients of the TD error along directions of one kind, in the two parts they come from.

    Attributes:
        critic: Gradient of the critic: what goes through observation and action, `(directions,)`.
        target: Gradient of the target: what goes through the reward, the discount and the next
            observation, `(directions,)`.
        valid: Whether the tangent is finite and within the bound, bool `(directions,)`; where it
            is not, both parts are 0 and have no gradient.

    Example:
        >>> from sobolax.cart import example_transition
        >>> errors = sobolev_errors(lambda t: t.observation[0] - t.reward, *example_transition())
        >>> gradients = errors.state
        >>> # along the position, along the speed
        >>> gradients.critic.tolist(), gradients.target.tolist()
        ([1.0, 0.0], [-2.5, -1.25])
    """

    critic: jax.Array
    target: jax.Array
    valid: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Errors:
    """The TD error of one transition and its gradients: all that the loss is made of.

    Attributes:
        value: TD error, `()`.
        value_valid: Whether the transition is finite, `()` bool; if not, `value` is 0.
        state: Gradients along state directions.
        action: Gradients along action directions.

    Example:
        >>> from sobolax.cart import example_transition
        >>> errors = sobolev_errors(lambda t: t.observation[0] - t.reward, *example_transition())
        >>> float(errors.value), errors.state.valid.tolist()
        (2.5625, [True, True])
    """

    value: jax.Array
    value_valid: jax.Array
    state: DirectionalDerivatives
    action: DirectionalDerivatives


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Terms:
    """The squares that make up the loss, and which of them count.

    Attributes:
        value: Squared TD error, `()`.
        state: Squared gradients of the TD error along state directions, `(state directions,)`.
        action: The same along action directions, `(action directions,)`.
        value_valid: Whether the transition is finite, `()` bool.
        state_valid: Whether the tangents are finite and within the bound, bool as `state`.
        action_valid: The same, as `action`.

    A term that is not valid is 0 and has no gradient.

    Example:
        >>> from sobolax.cart import example_transition
        >>> terms = sobolev_terms(lambda t: t.observation[0] - t.reward, *example_transition())
        >>> float(terms.value), terms.state.tolist(), terms.action.tolist()
        (6.56640625, [12.25, 1.5625], [0.390625])
    """

    value: jax.Array
    state: jax.Array
    action: jax.Array
    value_valid: jax.Array
    state_valid: jax.Array
    action_valid: jax.Array


def sobolev_errors(
    td_error: TDError,
    transition: Transition,
    tangents: Tangents | TransitionMap | None,
    tangent_bound: jax.typing.ArrayLike = jnp.inf,
) -> Errors:
    """TD error and its gradients along tangents, for one transition.

    With tangents the derivative of the TD error is one reverse pass through networks alone. With a
    transition map it is pulled back through the simulator too, at the state where the map is
    anchored: nothing needs to be stored, and every call costs the simulator's reverse pass. What it
    gives can be differentiated once more in reverse mode, not in forward mode.

    Args:
        td_error: TD error of a transition, `()`.
        transition: One unbatched transition, as it was collected. Halves (float16, bfloat16) are
            computed with in float32.
        tangents: Its tangents, where parts that are `None` are zero; or its
            `sobolax.tangents.forward.TransitionMap`, for gradients along the full basis in reverse
            mode; or None for the ordinary TD error, without any gradient.
        tangent_bound: Tangents of larger Euclidean norm are taken out (and not valid). A reverse
            pass sees no single tangent: there the bound is on the gradients of the TD error, and
            one that is too long takes out all gradients of its kind; derivatives of the step that
            are not finite take out both kinds, those of the first observation the state's.

    Returns:
        The errors; the TD error's gradient is `critic - target`.

    Raises:
        ValueError: Naming the leaf, if a part of the transition is not floating-point or belongs to
            a batch, tangents are not those of such a transition, or the TD error is no single
            number, or the bound is not above 0. `sobolax.testing.check_td_error` finds what is not
            that plain.

    Example:
        >>> from sobolax.cart import Cart, example_transition
        >>> from sobolax.tangents.forward import TransitionMap
        >>> td_error = lambda t: t.observation[0] - t.reward
        >>> transition, tangents = example_transition()
        >>> errors = sobolev_errors(td_error, transition, tangents)
        >>> (errors.state.critic - errors.state.target).tolist()
        [3.5, 1.25]
        >>> where = TransitionMap(Cart(), Cart().at(1.0, 0.0))
        >>> sobolev_errors(td_error, transition, where).state.target.tolist()
        [-2.5, -1.25]
        >>> float(sobolev_errors(td_error, transition, None).value)
        2.5625
    """
    check_transition(transition)
    bound = SimpleNamespace(tangent_bound=tangent_bound)  # a wrong one would leave out everything
    check_scalars("sobolev_errors", bound, above_zero=["tangent_bound"])
    if not (tangents is None or isinstance(tangents, TransitionMap)):
        check_tangents(transition, tangents)
    transition = _at_least_single(transition)
    finite = all_finite(transition)
    transition = _stay_unless(finite, transition)

    def delta_of(transition: Transition) -> jax.Array:
        return check_one_number(td_error(transition))

    if tangents is None:
        delta = delta_of(transition)
        nothing = jnp.zeros(0, delta.dtype)
        state = action = DirectionalDerivatives(nothing, nothing, jnp.zeros(0, bool))
    else:
        delta, gradient = jax.value_and_grad(delta_of)(transition)
        if isinstance(tangents, TransitionMap):
            state, action = _pull_back(gradient, transition, tangents, tangent_bound, finite)
        else:
            state = _contract(gradient, tangents.state, tangent_bound, finite)
            action = _contract(gradient, tangents.action, tangent_bound, finite)
    return Errors(jnp.where(finite, delta, 0.0), finite, state, action)


def squares(errors: Errors, huber_delta: jax.typing.ArrayLike = jnp.inf) -> Terms:
    """The squares that the loss adds up.

    Args:
        errors: Errors of one transition, or of many: directions are the last axis.
        huber_delta: Where the Euclidean norm of a transition's gradient error is larger, its square
            goes on as a straight line (Huber, 1964: `2 b |e| - b^2`), so that no transition pulls
            harder than that; for state and action apart.

    Returns:
        The terms, unweighted, with the axes of the errors.

    Example:
        >>> from sobolax.cart import example_transition
        >>> errors = sobolev_errors(lambda t: t.observation[0] - t.reward, *example_transition())
        >>> squares(errors).state.tolist()
        [12.25, 1.5625]
        >>> round(float(squares(errors, huber_delta=1.0).state.sum()), 2)  # 2 sqrt(13.8125) - 1
        6.43
    """

    def bounded(gradients: DirectionalDerivatives) -> jax.Array:
        return _huber(jnp.square(gradients.critic - gradients.target), huber_delta)

    return Terms(
        value=jnp.square(errors.value),
        state=bounded(errors.state),
        action=bounded(errors.action),
        value_valid=errors.value_valid,
        state_valid=errors.state.valid,
        action_valid=errors.action.valid,
    )


def scale_gradients(errors: Errors, scales: GradientScales) -> Errors:
    """Gradients in other units, or trusted less: both parts times a factor for every direction.

    Args:
        errors: Errors of one transition, or of many.
        scales: Their factors (`sobolax.tangents.units.gradient_scales`), with the same axes.

    Example:
        >>> from sobolax.cart import example_transition
        >>> errors = sobolev_errors(lambda t: t.observation[0] - t.reward, *example_transition())
        >>> scales = GradientScales(state=jnp.array([2.0, 0.0]), action=jnp.ones(1))
        >>> squares(scale_gradients(errors, scales)).state.tolist()  # of 3.5 and 1.25
        [49.0, 0.0]
    """

    def scaled(gradients: DirectionalDerivatives, factor: jax.Array) -> DirectionalDerivatives:
        return replace(
            gradients, critic=gradients.critic * factor, target=gradients.target * factor
        )

    return replace(
        errors,
        state=scaled(errors.state, scales.state),
        action=scaled(errors.action, scales.action),
    )


def sobolev_terms(
    td_error: TDError,
    transition: Transition,
    tangents: Tangents,
    tangent_bound: jax.typing.ArrayLike = jnp.inf,
) -> Terms:
    """Squared TD error and squared gradients of it: `squares` of `sobolev_errors`, same arguments.

    Example:
        >>> from sobolax.cart import example_transition
        >>> terms = sobolev_terms(lambda t: t.observation[0] - t.reward, *example_transition())
        >>> terms.state.tolist()
        [12.25, 1.5625]
    """
    return squares(sobolev_errors(td_error, transition, tangents, tangent_bound))


def mean_terms(terms: Terms) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Masked means over a batch, with squared gradients summed over directions.

    Args:
        terms: Terms with one leading batch axis.

    Returns:
        Of the value, of gradients along the state and along the action, each `()`.

    Raises:
        ValueError: If terms have no batch axis, or several.

    Example:
        >>> from sobolax.cart import example_transition
        >>> terms = sobolev_terms(lambda t: t.observation[0] - t.reward, *example_transition())
        >>> batch = jax.tree.map(lambda term: jnp.stack([term, term]), terms)
        >>> [float(mean) for mean in mean_terms(batch)]
        [6.56640625, 13.8125, 0.390625]
    """
    _check_batch("value", terms.value, "(batch,)")
    state, action = mean_squares(terms)
    return masked_mean(terms.value, terms.value_valid), jnp.sum(state), jnp.sum(action)


def mean_squares(terms: Terms) -> tuple[jax.Array, jax.Array]:
    """Masked means of squared gradients over a batch, one for every direction.

    Args:
        terms: Terms with one leading batch axis.

    Returns:
        Along the state, `(state directions,)`, and along the action, `(action directions,)`.

    Raises:
        ValueError: If terms have no batch axis, or several.

    Example:
        >>> from sobolax.cart import example_transition
        >>> terms = sobolev_terms(lambda t: t.observation[0] - t.reward, *example_transition())
        >>> batch = jax.tree.map(lambda term: jnp.stack([term, term]), terms)
        >>> [squares.tolist() for squares in mean_squares(batch)]
        [[12.25, 1.5625], [0.390625]]
    """
    _check_batch("state", terms.state, "(batch, directions)")
    _check_batch("action", terms.action, "(batch, directions)")
    return (
        masked_mean(terms.state, terms.state_valid),
        masked_mean(terms.action, terms.action_valid),
    )


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Means over a batch, the first axis, of what the mask keeps; 0 where that is nothing.

    Args:
        values: `(batch, ...)`.
        mask: Bool, of the same shape, or 1 in the place of any axis but the first.

    Raises:
        ValueError: If the mask has another shape, which would be broadcast.

    Example:
        >>> float(masked_mean(jnp.array([1.0, 2.0, 6.0]), jnp.array([True, False, True])))
        3.5
    """
    shape, given = jnp.shape(values), jnp.shape(mask)
    if len(given) != len(shape) or any(
        size != own and (size != 1 or axis == 0)
        for axis, (size, own) in enumerate(zip(given, shape, strict=True))
    ):
        raise ValueError(
            f"masked_mean: the mask has shape {given}, but values have {shape}: give it the same "
            "axes, of size 1 where it does not depend on one, say with mask[:, None]"
        )
    return jnp.sum(jnp.where(mask, values, 0.0), axis=0) / jnp.maximum(jnp.sum(mask, axis=0), 1)


def weighted_sum(parts: tuple[Any, Any, Any], weights: Weights) -> Any:
    """Adds up what belongs to value, state and action: terms, or gradients of terms.

    Args:
        parts: Three arrays, or three pytrees of one structure.
        weights: How much each of them counts.

    Raises:
        ValueError: If weights are no `Weights`, or one is negative, not finite, or no single
            number.

    Example:
        >>> weighted_sum((1.0, 10.0, 100.0), Weights(state=0.5, action=0.25))
        31.0
    """
    names = ("value", "state", "action")
    if not all(hasattr(weights, name) for name in names):
        raise ValueError(
            f"weights is a {type(weights).__name__}, but must be sobolax.losses.Weights: give "
            "Weights(state=1.0, action=1.0)"
        )
    check_scalars("Weights", weights, at_least_zero=names)
    for name in names:
        if shape := jnp.shape(getattr(weights, name)):
            raise ValueError(
                f"Weights: {name} has shape {shape}, but must be one number, (): vmap over several"
            )
    return jax.tree.map(
        lambda value, state, action: (
            weights.value * value + weights.state * state + weights.action * action
        ),
        *parts,
    )


def batch_loss(terms: Terms, weights: Weights) -> jax.Array:
    """The loss of a batch: the weighted sum of the means of its terms.

    Args:
        terms: Terms with one leading batch axis.
        weights: Weights of the gradients.

    Returns:
        The loss, `()`.

    Raises:
        ValueError: If terms have no batch axis, or several; weights are no `Weights`; or one is
            negative, not finite, or no single number.

    Example:
        >>> from sobolax.cart import example_transition
        >>> terms = sobolev_terms(lambda t: t.observation[0] - t.reward, *example_transition())
        >>> batch = jax.tree.map(lambda term: jnp.stack([term, term]), terms)
        >>> float(batch_loss(batch, Weights(state=1.0, action=0.0)))  # 2.5625^2 + 3.5^2 + 1.25^2
        20.37890625
    """
    return weighted_sum(mean_terms(terms), weights)


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

    Raises:
        ValueError: If there are no tangents, and for what `sobolev_errors` refuses.

    Example:
        >>> from sobolax.cart import example_transition
        >>> def td_error(t):  # of the critic Q(o, a) = o[0] and a target without bootstrap
        ...     return t.observation[0] - t.reward
        >>> float(sobolev_td_loss(td_error, *example_transition(), Weights(state=1.0, action=1.0)))
        20.76953125
    """
    if tangents is None:
        raise ValueError(
            "sobolev_td_loss: tangents is None, so no gradient would be fitted whatever the "
            "weights: compute them with sobolax.tangents.forward_tangents, or square the TD error"
        )
    terms = sobolev_terms(td_error, transition, tangents, tangent_bound)
    return batch_loss(jax.tree.map(lambda term: term[None], terms), weights)


def _check_batch(name: str, term: jax.Array, wanted: str) -> None:
    shape = jnp.shape(term)
    if len(shape) != len(wanted.split(", ")):
        raise ValueError(
            f"terms.{name} has shape {shape}, but must be {wanted}, with one leading batch axis: "
            "reshape time and environments into one axis, vmap over critics, and make one "
            "transition a batch with jax.tree.map(lambda term: term[None], terms)"
        )


def _at_least_single(tree: Any) -> Any:
    """The same pytree, with halves as float32: a residual is a difference of large numbers."""

    def convert(leaf: jax.Array) -> jax.Array:
        dtype = jnp.result_type(leaf)
        half = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
        return leaf.astype(jnp.float32) if half else leaf

    return jax.tree.map(convert, tree)


def _stay_unless(finite: jax.Array, transition: Transition) -> Transition:
    """The same transition; where it is not finite, a step that stays in place and earns nothing.

    Its TD error does not count, but is differentiated all the same. Zeros would be no place for one
    that divides by `|o|`, and a next observation may be finite and still too large for a network.
    """
    observation, action = (
        jnp.where(jnp.isfinite(part), part, 0.0)
        for part in (transition.observation, transition.action)
    )
    still = {"observation": observation, "action": action, "next_observation": observation}

    def choose(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return jnp.where(
            finite, leaf, still.get(getattr(path[0], "name", ""), jnp.zeros_like(leaf))
        )

    # By name: it may be a class of the agent's own, with more in it.
    return jax.tree_util.tree_map_with_path(choose, transition)


def _contract(
    gradient: Transition,
    tangents: Transition,
    bound: jax.typing.ArrayLike,
    finite: jax.Array,
) -> DirectionalDerivatives:
    """Contracts a gradient with tangents `(..., directions)`, and says which of those count."""

    def pair(name: str) -> tuple[jax.Array, jax.Array] | None:
        along, tangent = jnp.ravel(getattr(gradient, name)), getattr(tangents, name)
        if tangent is None:
            return None
        return along, tangent.reshape(along.size, tangent.shape[-1]).astype(along.dtype)

    own = [pair("observation"), pair("action")]
    after = [pair("reward"), pair("discount"), pair("next_observation")]
    present = [found for found in (*own, *after) if found is not None]
    size = jnp.sqrt(sum(jnp.sum(jnp.square(tangent), axis=0) for _, tangent in present))
    valid = finite & jnp.isfinite(size) & (size <= bound)

    def contract(pairs: list[tuple[jax.Array, jax.Array] | None]) -> jax.Array:
        return sum(
            (
                # In full precision: accelerators would round to 10 bits by default.
                jnp.matmul(along, jnp.where(valid, tangent, 0.0), precision="highest")
                for along, tangent in filter(None, pairs)
            ),
            start=jnp.zeros(valid.shape, present[0][0].dtype),
        )

    return DirectionalDerivatives(contract(own), -contract(after), valid)


def _pull_back(
    gradient: Transition,
    transition: Transition,
    transition_map: TransitionMap,
    bound: jax.typing.ArrayLike,
    finite: jax.Array,
) -> tuple[DirectionalDerivatives, DirectionalDerivatives]:
    """The derivatives along state and action, by a reverse pass through the simulator."""
    zero = jnp.zeros(transition_map.state_size, transition_map.state.observation.dtype)
    action = transition.action.astype(zero.dtype)

    def moved(displacement: jax.Array, action: jax.Array) -> Transition:
        return _at_least_single(transition_map(displacement, action)[0])

    def outcome(displacement: jax.Array, action: jax.Array) -> tuple[jax.Array, ...]:
        return _outcome_of(moved(displacement, action))

    _, through_physics = jax.vjp(outcome, zero, action)
    # The observation before the step needs no simulation, and what is left of its pass is cheap.
    _, through_observation = jax.vjp(lambda along: moved(along, action).observation, zero)
    gradient = _nan_to_zero_behind(gradient)
    (along_state,) = through_observation(gradient.observation)
    after = through_physics(_outcome_of(gradient))
    # One pass for both kinds: where it is not finite, neither can be trained. Forward mode, which
    # pushes all directions through together, has tangents of neither there.
    sound = finite & all_finite(jax.lax.stop_gradient(after))

    def derivatives(critic: jax.Array, after: jax.Array) -> DirectionalDerivatives:
        critic, after = _at_least_single((critic, after))
        size = jnp.sqrt(jnp.sum(jnp.square(jax.lax.stop_gradient(critic + after))))
        valid = sound & jnp.isfinite(size) & (size <= bound)
        critic, after = (jnp.where(valid, part, 0.0) for part in (critic, after))
        return DirectionalDerivatives(critic, -after, jnp.broadcast_to(valid, critic.shape))

    return derivatives(along_state, after[0]), derivatives(gradient.action, after[1])


def _outcome_of(transition: Transition) -> tuple[jax.Array, jax.Array, jax.Array]:
    return transition.reward, transition.discount, transition.next_observation


@jax.custom_vjp
def _nan_to_zero_behind(gradient: Transition) -> Transition:
    """The same gradient, whose cotangent is 0 where it would be NaN.

    What is not valid has a cotangent of zero, and zero times a derivative that is not finite is
    NaN.
    """
    return gradient


def _forward(gradient: Transition) -> tuple[Transition, None]:
    return gradient, None


def _backward(_: None, cotangent: Transition) -> tuple[Transition]:
    return (jax.tree.map(lambda leaf: jnp.where(jnp.isnan(leaf), 0.0, leaf), cotangent),)


_nan_to_zero_behind.defvjp(_forward, _backward)


def _huber(squared: jax.Array, bound: jax.typing.ArrayLike) -> jax.Array:
    """Scales squares `(..., directions)` such that their sum is Huber's function of its root."""
    total = jnp.sum(squared, axis=-1, keepdims=True)
    limit = jnp.asarray(bound, squared.dtype)
    beyond = total > jnp.square(limit)
    # Branches that are not taken get numbers that they can be differentiated at.
    size = jnp.sqrt(jnp.where(beyond, total, 1.0))
    limit = jnp.where(beyond, limit, 1.0)
    factor = jnp.where(beyond, (2.0 * limit * size - jnp.square(limit)) / jnp.square(size), 1.0)
    return squared * factor


def all_finite(tree: Any) -> jax.Array:
    """Whether every number of a pytree is finite, `()` bool.

    Example:
        >>> bool(all_finite((jnp.ones(2), jnp.array([1.0, jnp.inf]))))
        False
    """
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def zero_unless(valid: jax.Array, tree: Any) -> Any:
    """The same pytree, or zeros of its shapes.

    Example:
        >>> zero_unless(jnp.array(False), jnp.array([1.0, jnp.nan])).tolist()
        [0.0, 0.0]
    """
    return jax.tree.map(lambda leaf: jnp.where(valid, leaf, jnp.zeros_like(leaf)), tree)
