"""Critics and their first-order update: what every agent here has in common.

An agent hands over its TD error; gradients, controls, weighting, Adam, line search and target
networks are the same for all of them, and live here alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from sobolax.agents.networks import Critic
from sobolax.checks import check_scalars
from sobolax.controls import GRADIENT_TARGETS, GradientTarget
from sobolax.losses import Errors, TDError, Terms, Weights, mean_terms, squares
from sobolax.tangents.sources import ComputeErrors, Experience
from sobolax.training.agent import Metrics
from sobolax.training.normalization import Normalizer, normalize
from sobolax.weighting import Signals, Weighting, constant

Value = Callable[[jax.Array, jax.Array], jax.Array]  # (observation, action) -> ()

# At most: each shortens the step by 0.8. The next search starts at 1.5 times what was accepted.
_LINE_SEARCH_STEPS = 8


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CriticHyperparameters:
    """What a sweep may vary in every agent: numbers that are traced.

    Attributes:
        state_weight: lambda_s, the weight of gradients with respect to the physics state.
        action_weight: lambda_a, the weight of gradients with respect to the action.
        discount: gamma.
        tau: Share of the online critic that goes into the target critic at every update.
        critic_learning_rate: Of Adam.
        reward_scale: Multiplies every reward that the critic learns from.
        tangent_bound: Tangents of larger Euclidean norm take their own term out of the loss.
        huber_delta: Gradient errors of larger Euclidean norm count linearly, not squared (Huber).
        target_action_noise: Standard deviation of the noise that smooths the target's action.
        target_action_noise_bound: That noise is clipped to this size.

    Example:
        >>> CriticHyperparameters(discount=1.5)
        Traceback (most recent call last):
        ValueError: critics.Hyperparameters: discount=1.5 must be at most 1
    """

    state_weight: Any = 0.1
    action_weight: Any = 0.1
    discount: Any = 0.99
    tau: Any = 0.005
    critic_learning_rate: Any = 3e-4
    reward_scale: Any = 1.0
    tangent_bound: Any = 1e3
    huber_delta: Any = float("inf")
    target_action_noise: Any = 0.0
    target_action_noise_bound: Any = 0.5

    def __post_init__(self) -> None:
        """Refuses numbers that cannot work; tracers pass."""
        check_scalars(
            f"{type(self).__module__.rpartition('.')[2]}.Hyperparameters",
            self,
            at_least_zero=(
                "state_weight",
                "action_weight",
                "discount",
                "tau",
                "critic_learning_rate",
                "target_action_noise",
            ),
            above_zero=(
                "reward_scale",
                "tangent_bound",
                "huber_delta",
                "target_action_noise_bound",
            ),
            at_most_one=("discount", "tau"),
        )


@dataclass(frozen=True)
class CriticOptions:
    """What shapes critics and their update; static.

    Attributes:
        hidden_sizes: Of every critic.
        activation: A name in `sobolax.agents.networks.ACTIVATIONS`.
        count: How many critics; `smallest` is the smallest of their values.
        gradient_target: A name in `sobolax.controls.GRADIENT_TARGETS`; or a function of the
            hyperparameters that gives a `GradientTarget`, for a choice that is traced.
        weighting: A function of the hyperparameters that gives a `Weighting`; None for the constant
            weights of the paper.
        line_search: Whether every step of Adam is shortened while it does not lower the value loss
            of its batch, up to eight times (backtracking line search, Armijo, 1966).

    Example:
        >>> CriticOptions(hidden_sizes=(64, 64), count=1).activation
        'swish'
    """

    hidden_sizes: tuple[int, ...] = (256, 256)
    activation: str = "swish"
    count: int = 2
    gradient_target: str | Callable[[Any], GradientTarget] = "bellman"
    weighting: Callable[[Any], Weighting] | None = None
    line_search: bool = False


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
        >>> state = jax.eval_shape(critics.init, jax.random.key(0), CriticHyperparameters())
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
        first: `(parameters, normalizer, observation, action) -> ()`, the first critic's value.
        smallest: The same for the smallest of all values, the pessimistic one.
        update: `(state, normalizer, batch, make_td_error, extras, errors, key, hyperparameters)
            -> (state, metrics)`. `make_td_error(critic, extra) -> TDError` builds the TD error of
            one critic, a function `(observation, action) -> ()`; `extra` is what the agent wants
            to know of that transition besides (its noise, say), from `extras` with leading batch
            axis.

    Example:
        >>> from sobolax.training import normalization
        >>> critics = make_critics(2, 1, CriticOptions(hidden_sizes=(4,)))
        >>> state = jax.eval_shape(critics.init, jax.random.key(0), CriticHyperparameters())
        >>> seen = normalization.create(2)
        >>> jax.eval_shape(critics.smallest, state.target, seen, jnp.zeros(2), jnp.zeros(1)).shape
        ()
    """

    init: Callable[[jax.Array, Any], CriticState]
    first: Callable[[Any, Normalizer, jax.Array, jax.Array], jax.Array]
    smallest: Callable[[Any, Normalizer, jax.Array, jax.Array], jax.Array]
    update: Callable[..., tuple[CriticState, Metrics]] = field(repr=False)


def make_critics(observation_size: int, action_size: int, options: CriticOptions) -> Critics:
    """Builds critics for observations and actions of these sizes.

    Example:
        >>> critics = make_critics(2, 1, CriticOptions(hidden_sizes=(4,), line_search=True))
        >>> state = jax.eval_shape(critics.init, jax.random.key(0), CriticHyperparameters())
        >>> len(state.optimizer)  # that of Adam, and that of the line search
        2
    """
    network = Critic(options.hidden_sizes, options.activation)

    def one_value(parameters, normalizer: Normalizer, observation, action) -> jax.Array:
        found = network.apply(parameters, normalize(normalizer, observation), action)
        return cast(jax.Array, found)

    def first(parameters, normalizer: Normalizer, observation, action) -> jax.Array:
        one = jax.tree.map(lambda leaf: leaf[0], parameters)
        return one_value(one, normalizer, observation, action)

    def smallest(parameters, normalizer: Normalizer, observation, action) -> jax.Array:
        # One after the other: under a `vmap` over a batch, a `vmap` over critics in here would
        # transpose the activations of every layer.
        each = [
            jax.tree.map(lambda leaf, at=at: leaf[at], parameters) for at in range(options.count)
        ]
        return jnp.min(jnp.stack([one_value(p, normalizer, observation, action) for p in each]))

    def optimizer_for(hyper: Any) -> optax.GradientTransformationExtraArgs:
        adam = optax.adam(hyper.critic_learning_rate)
        if not options.line_search:
            return optax.with_extra_args_support(adam)
        return optax.chain(adam, optax.scale_by_backtracking_linesearch(_LINE_SEARCH_STEPS))

    def weighting_for(hyper: Any) -> Weighting:
        if options.weighting is not None:
            return options.weighting(hyper)
        return constant(Weights(hyper.state_weight, hyper.action_weight))

    def gradient_target_for(hyper: Any) -> GradientTarget:
        if not isinstance(options.gradient_target, str):
            return options.gradient_target(hyper)
        return GRADIENT_TARGETS[options.gradient_target]

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
        errors: ComputeErrors,
        key: jax.Array,
        hyper: Any,
    ) -> tuple[CriticState, Metrics]:
        size = batch.transition.observation.shape[0]
        keys = jax.random.split(key, size)
        change_gradients, weighting = gradient_target_for(hyper), weighting_for(hyper)

        def batch_errors(parameters) -> Errors:
            """Errors of the batch; the critics are the second axis."""

            def one_critic(p):
                def one(experience, extra, key):
                    delta = make_td_error(lambda o, a: one_value(p, normalizer, o, a), extra)
                    return errors(delta, experience, key, hyper.tangent_bound)

                return jax.vmap(one)(batch, extras, keys)

            # Critics are the outer axis, as in their parameters: otherwise every layer is
            # transposed, and the pass back through the gradients at twenty times its price on CPU.
            return jax.vmap(one_critic, out_axes=1)(parameters)

        def terms_of(parameters) -> tuple[jax.Array, tuple[Errors, Terms]]:
            """The three means of the loss `(3,)`, and what they came from."""
            found = change_gradients(batch_errors(parameters), jax.random.fold_in(key, size))
            terms = sum_over_critics(squares(found, hyper.huber_delta))
            return jnp.stack(mean_terms(terms)), (found, terms)

        def weigh(means, found: Errors, gram: jax.Array | None):
            signals = _signals(
                means,
                found,
                jax.vmap(
                    lambda t: jax.vmap(one_value, in_axes=(0, None, None, None))(
                        state.parameters, normalizer, t.observation, t.action
                    )
                )(batch.transition),
                gram,
            )
            weights, following = weighting.update(state.weighting, jax.lax.stop_gradient(signals))
            return jnp.stack([weights.value, weights.state, weights.action]), following

        def loss(parameters):
            means, (found, terms) = terms_of(parameters)
            weights, following = weigh(means, found, None)
            return jnp.sum(weights * means), (means, terms, weights, following)

        extra = {}
        if weighting.needs_gradients or options.line_search:
            means, pull, (found, terms) = jax.vjp(terms_of, state.parameters, has_aux=True)
            (gradients,) = jax.vmap(pull)(jnp.eye(3, dtype=means.dtype))
            weights, following = weigh(means, found, _gram(gradients))
            gradient = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), gradients)
            total = jnp.sum(weights * means)
            if options.line_search:
                extra = {
                    "value": means[0],
                    "grad": jax.tree.map(lambda leaf: leaf[0], gradients),
                    "value_fn": lambda parameters: terms_of(parameters)[0][0],
                }
        else:
            (total, (means, terms, weights, following)), gradient = jax.value_and_grad(
                loss, has_aux=True
            )(state.parameters)

        updates, optimizer = optimizer_for(hyper).update(
            gradient, state.optimizer, state.parameters, **extra
        )
        parameters = cast(Any, optax.apply_updates(state.parameters, updates))
        metrics = {
            "critic_loss": total,
            "value_loss": means[0],
            "state_gradient_loss": means[1],
            "action_gradient_loss": means[2],
            "weight_value": weights[0],
            "weight_state": weights[1],
            "weight_action": weights[2],
            "gradients_dropped": _share_dropped(terms.state_valid, terms.action_valid),
        }
        target = optax.incremental_update(parameters, state.target, hyper.tau)
        return CriticState(parameters, target, optimizer, following), metrics

    return Critics(init, first, smallest, update)


def sum_over_critics(terms: Terms) -> Terms:
    """Adds up terms whose second axis is the critics; what is valid is the same for all.

    Example:
        >>> one = jnp.ones((1, 2)), jnp.ones((1, 2, 3)), jnp.ones((1, 2, 1))  # of two critics
        >>> terms = Terms(*one, *[term > 0 for term in one])
        >>> sum_over_critics(terms).state.tolist()
        [[2.0, 2.0, 2.0]]
    """
    return Terms(
        value=jnp.sum(terms.value, axis=1),
        state=jnp.sum(terms.state, axis=1),
        action=jnp.sum(terms.action, axis=1),
        value_valid=jnp.all(terms.value_valid, axis=1),
        state_valid=jnp.all(terms.state_valid, axis=1),
        action_valid=jnp.all(terms.action_valid, axis=1),
    )


def smoothing_noise(key: jax.Array, shape: tuple[int, ...], hyper: Any) -> jax.Array:
    """Clipped normal noise for the target's action (TD3, arXiv 1802.09477, section 5.3).

    A gradient goes through the action as if the noise were not there.

    Example:
        >>> hyper = CriticHyperparameters(target_action_noise=100.0, target_action_noise_bound=0.5)
        >>> float(jnp.abs(smoothing_noise(jax.random.key(0), (8, 1), hyper)).max())
        0.5
    """

    def draw() -> jax.Array:
        noise = hyper.target_action_noise * jax.random.normal(key, shape)
        return jnp.clip(noise, -hyper.target_action_noise_bound, hyper.target_action_noise_bound)

    # Most agents have none, and drawing it is a twentieth of the update of a small network. Under a
    # `vmap` over its deviation it is drawn all the same.
    zeros = jnp.zeros(shape, jax.eval_shape(draw).dtype)
    return jax.lax.cond(jnp.asarray(hyper.target_action_noise) > 0, draw, lambda: zeros)


def scale_gradient(value: jax.Array, share: Any) -> jax.Array:
    """The same value, with `share` of its gradient.

    Example:
        >>> value, gradient = jax.value_and_grad(lambda x: scale_gradient(x, 0.25) ** 2)(3.0)
        >>> float(value), float(gradient)
        (9.0, 1.5)
    """
    still = jax.lax.stop_gradient(value)
    return still + share * (value - still)


def adam_step(learning_rate: Any, gradient: Any, optimizer_state: Any, parameters: Any):
    """One step of Adam: `(parameters, optimiser state)`.

    Example:
        >>> begin, gradient = jnp.ones(1), jnp.ones(1)
        >>> parameters, state = adam_step(0.5, gradient, optax.adam(0.5).init(begin), begin)
        >>> round(float(parameters[0]), 3)  # the first step is as long as the learning rate
        0.5
    """
    updates, optimizer_state = optax.adam(learning_rate).update(
        gradient, optimizer_state, parameters
    )
    # Any: optax's annotation of parameters names no type that a caller has.
    return cast(Any, optax.apply_updates(parameters, updates)), optimizer_state


def _signals(means, errors: Errors, values: jax.Array, gram: jax.Array | None) -> Signals:
    """What a weighting looks at; `values` are those of the critics, `(batch, critics)`.

    The compiler takes out whatever the weighting does not look at.
    """
    valid = errors.value_valid
    share = jnp.maximum(jnp.sum(valid, axis=0), 1)
    targets = jnp.where(valid, values - errors.value, 0.0)
    centred = jnp.where(valid, targets - jnp.sum(targets, axis=0) / share, 0.0)

    def square(target: jax.Array) -> jax.Array:
        return jnp.mean(jnp.sum(jnp.square(target), axis=-1))

    return Signals(
        value=means[0],
        state=means[1],
        action=means[2],
        target_variance=jnp.mean(jnp.sum(jnp.square(centred), axis=0) / share),
        state_target_square=square(errors.state.target),
        action_target_square=square(errors.action.target),
        gram=gram,
    )


def _gram(gradients: Any) -> jax.Array:
    """Inner products `(n, n)` of `n` gradients, the leading axis of every leaf."""
    rows = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(gradients)]
    whole = jnp.concatenate(rows, axis=1)
    return whole @ whole.T


def _share_dropped(*masks: jax.Array) -> jax.Array:
    """Share of gradient terms that took themselves out of a batch."""
    total = sum(mask.size for mask in masks)
    kept = jnp.sum(jnp.stack([jnp.sum(mask) for mask in masks]))
    return (total - kept) / max(total, 1)
