"""Critics and their first-order update: what every agent here has in common.

An agent hands over its TD error; gradients, controls, weighting, Adam, line search and target
networks are the same for all of them, and live here alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from sobolax.agents.networks import Critic, check_networks
from sobolax.agents.smoothness import SMOOTHNESS, mean_pave
from sobolax.checks import check_choice, check_counts, check_flags, owner_of
from sobolax.controls import GRADIENT_TARGETS, GradientTarget
from sobolax.losses import (
    Errors,
    TDError,
    mean_squares,
    mean_terms,
    scale_gradients,
    sobolev_errors,
    squares,
    weighted_sum,
)
from sobolax.tangents.fresh import FreshSteps
from sobolax.tangents.sources import Experience, FindTangents
from sobolax.tangents.trust import TRUSTS, clip_growth
from sobolax.tangents.units import GRADIENT_UNITS, gradient_scales, observed_motion
from sobolax.training.agent import Metrics
from sobolax.training.normalization import Normalizer, deviation, normalize
from sobolax.training.shares import SQUARES
from sobolax.weighting import Weighting, constant, measure_signals

Value = Callable[[jax.Array, jax.Array], jax.Array]  # (observation, action) -> ()

# At most: each shortens the step by 0.8. The next search starts at 1.5 times what was accepted.
_LINE_SEARCH_STEPS = 8


@dataclass(frozen=True)
class CriticOptions:
    """What shapes critics and their update; static.

    Attributes:
        hidden_sizes: Of every critic.
        activation: A name in `sobolax.agents.networks.ACTIVATIONS`.
        count: How many critics; `Critics.min_q` is the smallest of their values, `mean_q` the mean.
        gradient_target: A name in `sobolax.controls.GRADIENT_TARGETS`; or a function of the
            hyperparameters that gives a `GradientTarget`, for a choice that is traced.
        weighting: A function of the hyperparameters that gives a `Weighting`; None for the constant
            weights of the paper.
        line_search: Whether every step of Adam is shortened while it does not lower the value loss
            of its batch, up to eight times (backtracking line search, Armijo, 1966).
        betas: Decay rates of Adam's two moments.
        norm: A name in `sobolax.agents.networks.NORMS`.
        gradient_units: A name in `sobolax.tangents.units.GRADIENT_UNITS`. For "state_std" the
            tangents that come in must be scaled: the training loop does it, and
            `sobolax.tangents.units.scale_directions` does in a loop of your own.
        trust: A name in `sobolax.tangents.trust.TRUSTS`.
        smoothness: A name in `sobolax.agents.smoothness.SMOOTHNESS`.

    Example:
        >>> CriticOptions(hidden_sizes=(64, 64), count=1).activation
        'swish'
    """

    hidden_sizes: tuple[int, ...] = (128, 128)
    activation: str = "swish"
    count: int = 2
    gradient_target: str | Callable[[Any], GradientTarget] = "bellman"
    weighting: Callable[[Any], Weighting] | None = None
    line_search: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    norm: str = "none"
    gradient_units: str = "raw"
    trust: str = "full"
    smoothness: str = "none"

    def __post_init__(self) -> None:
        """Refuses names that there are not: each would silently mean another, or none."""
        owner = owner_of(self)
        check_networks(owner, self.hidden_sizes, self.activation, self.norm, "norm")
        check_counts(owner, self, {"count": 1})
        check_flags(owner, self, ["line_search"])
        if not callable(self.gradient_target):
            check_choice(f"{owner}: gradient_target=", self.gradient_target, GRADIENT_TARGETS)
        check_choice(f"{owner}: gradient_units=", self.gradient_units, GRADIENT_UNITS)
        check_choice(f"{owner}: trust=", self.trust, TRUSTS)
        check_choice(f"{owner}: smoothness=", self.smoothness, SMOOTHNESS)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CriticState:
    """Critics in training.

    Attributes:
        parameters: Of all critics, with a leading axis.
        target: Polyak average of them.
        optimizer: State of Adam, and of the line search where there is one.
        weighting: State of the weighting.

    Example:
        >>> critics = make_critics(2, 1, CriticOptions(hidden_sizes=(4,), count=2))
        >>> from sobolax.agents.sac import Hyperparameters
        >>> state = jax.eval_shape(critics.init, jax.random.key(0), Hyperparameters())
        >>> jax.tree.leaves(state.parameters)[0].shape[0]  # two critics
        2
    """

    parameters: Any
    target: Any
    optimizer: Any
    weighting: Any


@dataclass(frozen=True)
class Critics:
    """Pure functions of critics; `parameters` have a leading axis of critics.

    Attributes:
        init: `(key, hyperparameters) -> CriticState`.
        first_q: `(parameters, normalizer, observation, action) -> ()`, the first critic's value.
        min_q: The same for the smallest of all values, the pessimistic one.
        mean_q: The same for their mean.
        update: `(state, normalizer, batch, make_td_error, extras, find_tangents, key,
            hyperparameters) -> (state, metrics)`. `make_td_error(critic, extra) -> TDError` builds
            the TD error of one critic, a function `(observation, action) -> ()`; `extra` is what
            else the TD error depends on (noise, say), from `extras` with a leading batch axis.
            `find_tangents` is a source's (`sobolax.tangents.sources.Source.tangents`). With
            `fresh` steps (`sobolax.tangents.fresh.FreshSteps`) gradients are matched there; values
            stay those of the batch.

    Example:
        >>> from sobolax.training import normalization
        >>> critics = make_critics(2, 1, CriticOptions(hidden_sizes=(4,)))
        >>> from sobolax.agents.sac import Hyperparameters
        >>> state = jax.eval_shape(critics.init, jax.random.key(0), Hyperparameters())
        >>> seen = normalization.init(2)
        >>> jax.eval_shape(critics.min_q, state.target, seen, jnp.zeros(2), jnp.zeros(1)).shape
        ()
    """

    init: Callable[[jax.Array, Any], CriticState]
    first_q: Callable[[Any, Normalizer, jax.Array, jax.Array], jax.Array]
    min_q: Callable[[Any, Normalizer, jax.Array, jax.Array], jax.Array]
    mean_q: Callable[[Any, Normalizer, jax.Array, jax.Array], jax.Array]
    update: Callable[..., tuple[CriticState, Metrics]] = field(repr=False)


def make_critics(observation_size: int, action_size: int, options: CriticOptions) -> Critics:
    """Builds critics for observations and actions of these sizes.

    Example:
        >>> critics = make_critics(2, 1, CriticOptions(hidden_sizes=(4,), line_search=True))
        >>> from sobolax.agents.sac import Hyperparameters
        >>> state = jax.eval_shape(critics.init, jax.random.key(0), Hyperparameters())
        >>> len(state.optimizer)  # that of Adam, and that of the line search
        2
    """
    network = Critic(options.hidden_sizes, options.activation, options.norm)

    def one_value(parameters, normalizer: Normalizer, observation, action) -> jax.Array:
        found = network.apply(parameters, normalize(normalizer, observation), action)
        return cast(jax.Array, found)

    def first_q(parameters, normalizer: Normalizer, observation, action) -> jax.Array:
        one = jax.tree.map(lambda leaf: leaf[0], parameters)
        return one_value(one, normalizer, observation, action)

    def all_values(parameters, *where) -> jax.Array:
        # One after the other: under a `vmap` over a batch, a `vmap` over critics in here would
        # transpose the activations of every layer.
        each = [
            jax.tree.map(lambda leaf, at=at: leaf[at], parameters) for at in range(options.count)
        ]
        return jnp.stack([one_value(one, *where) for one in each])

    def min_q(parameters, normalizer: Normalizer, observation, action) -> jax.Array:
        return jnp.min(all_values(parameters, normalizer, observation, action))

    def mean_q(parameters, normalizer: Normalizer, observation, action) -> jax.Array:
        return jnp.mean(all_values(parameters, normalizer, observation, action))

    def optimizer_for(hyper: Any) -> optax.GradientTransformationExtraArgs:
        adam = optax.adam(hyper.critic_learning_rate, *options.betas)
        if not options.line_search:
            return optax.with_extra_args_support(adam)
        return optax.chain(adam, optax.scale_by_backtracking_linesearch(_LINE_SEARCH_STEPS))

    def weighting_for(hyper: Any) -> Weighting:
        return options.weighting(hyper) if options.weighting else constant(hyper.weights)

    def gradient_target_for(hyper: Any) -> GradientTarget:
        if not isinstance(options.gradient_target, str):
            return options.gradient_target(hyper)
        return GRADIENT_TARGETS[options.gradient_target]

    def scale(tangents: Any, normalizer: Normalizer, discounts: jax.Array):
        """Tangents of a batch, and the factors of their gradients for units and for trust.

        None for no factors. Those for trust come after the control: a gradient of another
        transition is asked for as it is, and weighs what this one's would.
        """
        units, trust = options.gradient_units, options.trust
        unit = deviation(normalizer)

        def one(tangents, discount):
            if trust == "hard":
                tangents = clip_growth(tangents, observed_motion(tangents, unit), unit, discount)
            # "state_std" is in the tangents already (`sobolax.training.updates`).
            in_units = trusted = None
            if units == "observation_std":
                in_units = gradient_scales(tangents, unit, discount, units)
            if trust == "soft":
                trusted = gradient_scales(tangents, unit, discount, trust=trust)
            return tangents, in_units, trusted

        return (None,) * 3 if tangents is None else jax.vmap(one)(tangents, discounts)

    def init(key: jax.Array, hyper: Any) -> CriticState:
        observation, action = jnp.zeros(observation_size), jnp.zeros(action_size)
        parameters = jax.vmap(lambda one: network.init(one, observation, action))(
            jax.random.split(key, options.count)
        )
        return CriticState(
            parameters=parameters,
            target=parameters,
            optimizer=optimizer_for(hyper).init(parameters),
            weighting=weighting_for(hyper).init(),
        )

    def update(
        state: CriticState,
        normalizer: Normalizer,
        batch: Experience,
        make_td_error: Callable[[Value, Any], TDError],
        extras: Any,
        find_tangents: FindTangents,
        key: jax.Array,
        hyper: Any,
        fresh: FreshSteps | None = None,
    ) -> tuple[CriticState, Metrics]:
        transitions = batch.transition
        size = transitions.observation.shape[0]
        # Only the first may have gradients.
        kept = jax.tree.leaves((batch.tangents, batch.state))
        count = kept[0].shape[0] if kept else size
        first, rest = (
            jax.tree.map(lambda leaf, part=part: leaf[part], (transitions, extras))
            for part in (slice(count), slice(count, None))
        )
        if fresh is None:
            # Where tangents are clipped, the bound comes after; some sources would apply it here.
            late = options.trust == "hard"
            tangents, bound = jax.vmap(find_tangents, in_axes=(0, 0, None), out_axes=(0, None))(
                replace(batch, transition=first[0]),
                jax.random.split(key, count),
                jnp.inf if late else hyper.tangent_bound,
            )
            bound = hyper.tangent_bound if late else bound
        else:
            first = fresh.transition, first[1]
            tangents, bound = fresh.tangents, fresh.tangent_bound
        tangents, in_units, trusted = scale(
            tangents, normalizer, hyper.discount * first[0].discount
        )
        change_gradients, weighting = gradient_target_for(hyper), weighting_for(hyper)

        def errors_of(parameters) -> Errors:
            """Of one critic, over the batch."""

            def one(transition, tangents, extra):
                delta = make_td_error(lambda o, a: one_value(parameters, normalizer, o, a), extra)
                return sobolev_errors(delta, transition, tangents, bound)

            errors = jax.vmap(one)(first[0], tangents, first[1])
            if in_units is not None:
                errors = scale_gradients(errors, in_units)
            if fresh is None and count == size:
                return errors
            # Values of those that have no gradients: of all, where these are matched elsewhere.
            without = rest if fresh is None else (transitions, extras)
            others = jax.vmap(lambda transition, extra: one(transition, None, extra))(*without)
            if fresh is not None:
                return replace(errors, value=others.value, value_valid=others.value_valid)
            return replace(
                errors,
                value=jnp.concatenate([errors.value, others.value]),
                value_valid=jnp.concatenate([errors.value_valid, others.value_valid]),
            )

        def means_of(parameters):
            """TD error -> errors -> squares -> means, added up over critics.

            Besides, Bellman's errors, which a control leaves as they are for the weighting.
            """
            # Critics are the outer axis, as in their parameters: otherwise every layer is
            # transposed, and the pass back through the gradients takes twenty times as long on CPU.
            errors = jax.vmap(errors_of, out_axes=1)(parameters)
            changed = change_gradients(errors, jax.random.fold_in(key, size))
            if trusted is not None:
                over_critics = jax.tree.map(lambda factor: factor[:, None], trusted)
                errors, changed = (scale_gradients(e, over_critics) for e in (errors, changed))
            terms = squares(changed, hyper.huber_delta)
            means = jax.vmap(mean_terms, in_axes=1)(terms)
            return jax.tree.map(jnp.sum, means), (errors, terms)

        means, pull_back, (errors, terms) = jax.vjp(means_of, state.parameters, has_aux=True)
        gradients = None  # of each mean
        if weighting.needs_gradients or options.line_search:
            units = zip(jnp.eye(3), means, strict=True)
            (gradients,) = jax.vmap(pull_back)(tuple(row.astype(m.dtype) for row, m in units))
        values = jax.vmap(
            lambda t: jax.vmap(one_value, in_axes=(0, None, None, None))(
                state.parameters, normalizer, t.observation, t.action
            )
        )(transitions)
        signals = measure_signals(means, errors, values, gradients)
        weights, next_weighting = weighting.update(state.weighting, signals)
        loss = weighted_sum(means, weights)
        extra = {}
        if gradients is None:
            each = (weights.value, weights.state, weights.action)
            (gradient,) = pull_back(
                tuple(jnp.asarray(w, mean.dtype) for w, mean in zip(each, means, strict=True))
            )
        else:
            gradient = jax.tree.map(lambda leaf: weighted_sum(leaf, weights), gradients)
            if options.line_search:
                extra = {
                    "value": means[0],
                    "grad": jax.tree.map(lambda leaf: leaf[0], gradients),
                    "value_fn": lambda parameters: means_of(parameters)[0][0],
                }
        smoothness = {}
        if options.smoothness != "none":
            penalty, more = jax.value_and_grad(mean_pave)(
                state.parameters,
                lambda parameters, o, a: one_value(parameters, normalizer, o, a),
                transitions,
                deviation(normalizer),
                jax.random.fold_in(key, size + 1),
            )
            gradient = jax.tree.map(lambda a, b: a + hyper.smoothness_weight * b, gradient, more)
            loss = loss + hyper.smoothness_weight * penalty
            smoothness = {"smoothness_loss": penalty}
        updates, optimizer = optimizer_for(hyper).update(
            gradient, state.optimizer, state.parameters, **extra
        )
        parameters = cast(Any, optax.apply_updates(state.parameters, updates))
        metrics = {
            "critic_loss": loss,
            "value_loss": means[0],
            "state_gradient_loss": means[1],
            "action_gradient_loss": means[2],
            "weight_value": weights.value,
            "weight_state": weights.state,
            "weight_action": weights.action,
            "gradients_dropped": _share_dropped(terms.state_valid, terms.action_valid),
        }
        each = jax.vmap(mean_squares, in_axes=1)(terms)  # of critics
        metrics |= smoothness
        metrics |= dict(zip(SQUARES, (jnp.sum(one, axis=0) for one in each), strict=True))
        metrics = jax.tree.map(jnp.asarray, metrics)
        target = optax.incremental_update(parameters, state.target, hyper.tau)
        return CriticState(parameters, target, optimizer, next_weighting), metrics

    return Critics(init, first_q, min_q, mean_q, update)


def _share_dropped(*masks: jax.Array) -> jax.Array:
    """Share of gradient terms that took themselves out of a batch."""
    total = sum(mask.size for mask in masks)
    kept = jnp.sum(jnp.stack([jnp.sum(mask) for mask in masks]))
    return (total - kept) / max(total, 1)
