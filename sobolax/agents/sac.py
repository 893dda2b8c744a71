"""Soft actor-critic (arXiv 1812.05905) with a first-order critic loss.

The TD error below is the whole of what the agent contributes: the Sobolev loss differentiates it,
so the slope of the target goes through reward, dynamics, target critics, entropy term and the
reparameterised policy, because the value does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from sobolax.agents.agent import Agent, Metrics
from sobolax.distributions import sample_tanh_gaussian
from sobolax.losses import TDError, Terms, Weights, batch_loss, mean_terms
from sobolax.networks import Critic, GaussianActor
from sobolax.normalization import Normalizer, normalize
from sobolax.sources import ComputeTerms, Experience
from sobolax.transition import Transition
from sobolax.validation import check_scalars


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hyperparameters:
    """Everything a sweep may vary: numbers that are traced, never part of a program's shape.

    Attributes:
        state_weight: lambda_s, the weight of slopes with respect to the physics state.
        action_weight: lambda_a, the weight of slopes with respect to the action.
        discount: gamma.
        polyak: Share of the online critic that goes into the target critic at every update.
        critic_learning_rate: Of Adam.
        actor_learning_rate: Of Adam.
        temperature_learning_rate: Of Adam.
        initial_temperature: Entropy coefficient to begin with.
        target_entropy: Entropy per action dimension that the temperature is learned for, in nats.
        reward_scale: Multiplies every reward that the critic learns from.
        tangent_bound: Tangents of larger Euclidean norm take their own term out of the loss.
    """

    state_weight: Any = 0.1
    action_weight: Any = 0.1
    discount: Any = 0.99
    polyak: Any = 0.005
    critic_learning_rate: Any = 3e-4
    actor_learning_rate: Any = 3e-4
    temperature_learning_rate: Any = 3e-4
    initial_temperature: Any = 0.1
    target_entropy: Any = -1.0
    reward_scale: Any = 1.0
    tangent_bound: Any = 1e3

    def __post_init__(self) -> None:
        """Refuses numbers that cannot work; tracers pass."""
        check_scalars(
            "sac.Hyperparameters",
            self,
            at_least_zero=(
                "state_weight",
                "action_weight",
                "discount",
                "polyak",
                "critic_learning_rate",
                "actor_learning_rate",
                "temperature_learning_rate",
            ),
            above_zero=("initial_temperature", "reward_scale", "tangent_bound"),
            at_most_one=("discount", "polyak"),
            finite=("target_entropy",),
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SacState:
    """Parameters and optimiser states.

    Attributes:
        actor: Parameters of the actor.
        critic: Parameters of the critics.
        target_critic: Polyak average of them.
        log_temperature: Logarithm of the entropy coefficient, `()`.
        actor_optimizer: State of Adam.
        critic_optimizer: State of Adam.
        temperature_optimizer: State of Adam.
    """

    actor: Any
    critic: Any
    target_critic: Any
    log_temperature: jax.Array
    actor_optimizer: Any
    critic_optimizer: Any
    temperature_optimizer: Any


def make_agent(
    observation_size: int,
    action_size: int,
    hidden_sizes: tuple[int, ...] = (256, 256),
    activation: str = "swish",
    policy_slope: bool = True,
    critics: int = 2,
) -> Agent:
    """Builds SAC for observations and actions of these sizes.

    Args:
        observation_size: Numbers in an observation.
        action_size: Numbers in an action.
        hidden_sizes: Of actor and critics.
        activation: A name in `sobolax.networks.ACTIVATIONS`.
        policy_slope: Whether the target's slope goes through the policy's response to the next
            observation; if not, the next action and its log-probability are held fixed.
        critics: How many; the target is the smallest of their values.
    """
    actor = GaussianActor(hidden_sizes, action_size, activation)
    critic = Critic(hidden_sizes, activation)
    policy = make_policy(actor)

    def one_value(parameters, normalizer: Normalizer, observation, action) -> jax.Array:
        return cast(jax.Array, critic.apply(parameters, normalize(normalizer, observation), action))

    def smallest_value(parameters, normalizer: Normalizer, observation, action) -> jax.Array:
        """The pessimistic one of all critics, whose parameters have a leading axis."""
        values = jax.vmap(one_value, in_axes=(0, None, None, None))(
            parameters, normalizer, observation, action
        )
        return jnp.min(values)

    def init(key: jax.Array, hyper: Hyperparameters) -> SacState:
        actor_key, critic_key = jax.random.split(key)
        observation, action = jnp.zeros(observation_size), jnp.zeros(action_size)
        actor_parameters = actor.init(actor_key, observation)
        critic_parameters = jax.vmap(lambda one: critic.init(one, observation, action))(
            jax.random.split(critic_key, critics)
        )
        log_temperature = jnp.log(jnp.asarray(hyper.initial_temperature, observation.dtype))
        return SacState(
            actor=actor_parameters,
            critic=critic_parameters,
            target_critic=critic_parameters,
            log_temperature=log_temperature,
            actor_optimizer=optax.adam(hyper.actor_learning_rate).init(actor_parameters),
            critic_optimizer=optax.adam(hyper.critic_learning_rate).init(critic_parameters),
            temperature_optimizer=optax.adam(hyper.temperature_learning_rate).init(log_temperature),
        )

    def explore(state: SacState, normalizer: Normalizer, observation, key) -> jax.Array:
        noise = jax.random.normal(key, (action_size,), observation.dtype)
        return policy(state.actor, normalizer, observation, noise)[0]

    def act(state: SacState, normalizer: Normalizer, observation) -> jax.Array:
        mean, _ = cast(
            tuple[jax.Array, jax.Array],
            actor.apply(state.actor, normalize(normalizer, observation)),
        )
        return jnp.tanh(mean)

    def sample(state: SacState, normalizer: Normalizer, observation, noise):
        action, log_probability = policy(state.actor, normalizer, observation, noise)
        return action, -jnp.exp(state.log_temperature) * log_probability

    def value(state: SacState, normalizer: Normalizer, observation, action) -> jax.Array:
        return smallest_value(state.critic, normalizer, observation, action)

    def update(
        state: SacState,
        normalizer: Normalizer,
        batch: Experience,
        terms: ComputeTerms,
        key: jax.Array,
        hyper: Hyperparameters,
    ) -> tuple[SacState, Metrics]:
        target_key, actor_key, terms_key = jax.random.split(key, 3)
        observations = batch.transition.observation
        size = observations.shape[0]
        temperature = jnp.exp(state.log_temperature)

        target_noise = jax.random.normal(target_key, (size, action_size))
        term_keys = jax.random.split(terms_key, size)

        def critic_loss(parameters):
            def one(experience, noise, key):
                def one_critic(critic_parameters):
                    delta = make_td_error(
                        lambda o, a: one_value(critic_parameters, normalizer, o, a),
                        lambda o, a: smallest_value(state.target_critic, normalizer, o, a),
                        lambda o: policy(state.actor, normalizer, o, noise),
                        temperature=temperature,
                        discount=hyper.discount,
                        reward_scale=hyper.reward_scale,
                        policy_slope=policy_slope,
                    )
                    return terms(delta, experience, key, hyper.tangent_bound)

                return sum_over_critics(jax.vmap(one_critic)(parameters))

            batch_terms = jax.vmap(one)(batch, target_noise, term_keys)
            weights = Weights(hyper.state_weight, hyper.action_weight)
            return batch_loss(batch_terms, weights), batch_terms

        (loss, batch_terms), gradient = jax.value_and_grad(critic_loss, has_aux=True)(state.critic)
        critic_parameters, critic_optimizer = _adam_step(
            hyper.critic_learning_rate, gradient, state.critic_optimizer, state.critic
        )

        actor_noise = jax.random.normal(actor_key, (size, action_size))

        def actor_loss(parameters):
            def one(observation, noise):
                action, log_probability = policy(parameters, normalizer, observation, noise)
                value = smallest_value(critic_parameters, normalizer, observation, action)
                return temperature * log_probability - value, log_probability

            losses, log_probabilities = jax.vmap(one)(observations, actor_noise)
            return jnp.mean(losses), jnp.mean(log_probabilities)

        (actor_objective, log_probability), gradient = jax.value_and_grad(actor_loss, has_aux=True)(
            state.actor
        )
        actor_parameters, actor_optimizer = _adam_step(
            hyper.actor_learning_rate, gradient, state.actor_optimizer, state.actor
        )

        def temperature_loss(log_temperature):
            surplus = -log_probability - action_size * hyper.target_entropy
            return jnp.exp(log_temperature) * surplus

        log_temperature, temperature_optimizer = _adam_step(
            hyper.temperature_learning_rate,
            jax.grad(temperature_loss)(state.log_temperature),
            state.temperature_optimizer,
            state.log_temperature,
        )

        value_loss, state_slope_loss, action_slope_loss = mean_terms(batch_terms)
        metrics = {
            "critic_loss": loss,
            "value_loss": value_loss,
            "state_slope_loss": state_slope_loss,
            "action_slope_loss": action_slope_loss,
            "actor_loss": actor_objective,
            "temperature": temperature,
            "entropy": -log_probability,
            "slopes_dropped": _share_dropped(batch_terms.state_valid, batch_terms.action_valid),
        }
        new_state = SacState(
            actor=actor_parameters,
            critic=critic_parameters,
            target_critic=optax.incremental_update(
                critic_parameters, state.target_critic, hyper.polyak
            ),
            log_temperature=log_temperature,
            actor_optimizer=actor_optimizer,
            critic_optimizer=critic_optimizer,
            temperature_optimizer=temperature_optimizer,
        )
        return new_state, metrics

    return Agent(init, explore, act, sample, value, update)


def make_policy(
    actor: GaussianActor,
) -> Callable[[Any, Normalizer, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """The reparameterised policy.

    Returns:
        `(parameters, normalizer, observation, noise) -> (action, log-probability)`.
    """

    def policy(parameters, normalizer, observation, noise):
        mean, log_deviation = cast(
            tuple[jax.Array, jax.Array],
            actor.apply(parameters, normalize(normalizer, observation)),
        )
        return sample_tanh_gaussian(mean, log_deviation, noise)

    return policy


def make_td_error(
    critic: Callable[[jax.Array, jax.Array], jax.Array],
    target_critic: Callable[[jax.Array, jax.Array], jax.Array],
    policy: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    *,
    temperature: Any,
    discount: Any,
    reward_scale: Any = 1.0,
    policy_slope: bool = True,
) -> TDError:
    """SAC's TD error of one transition, differentiable in everything the transition holds.

    `delta = Q(o, a) - (c r + gamma d (Q'(o', a') - alpha log pi(a'|o')))`

    Args:
        critic: `(observation, action) -> ()`, one of the critics.
        target_critic: The same for the target: the smallest value of the target critics.
        policy: `observation -> (action, log-probability)` with its noise fixed.
        temperature: alpha.
        discount: gamma.
        reward_scale: c.
        policy_slope: Whether slopes go through the policy's response to `o'`.

    Returns:
        A function of a `Transition` that gives `()`.
    """

    def td_error(transition: Transition) -> jax.Array:
        following = transition.next_observation
        seen = following if policy_slope else jax.lax.stop_gradient(following)
        action, log_probability = policy(seen)
        next_value = target_critic(following, action) - temperature * log_probability
        target = reward_scale * transition.reward + discount * transition.discount * next_value
        return critic(transition.observation, transition.action) - target

    return td_error


def sum_over_critics(terms: Terms) -> Terms:
    """Adds up terms with a leading axis of critics; what is valid does not depend on the critic."""
    return Terms(
        value=jnp.sum(terms.value, axis=0),
        state=jnp.sum(terms.state, axis=0),
        action=jnp.sum(terms.action, axis=0),
        value_valid=jnp.all(terms.value_valid, axis=0),
        state_valid=jnp.all(terms.state_valid, axis=0),
        action_valid=jnp.all(terms.action_valid, axis=0),
    )


def _adam_step(learning_rate, gradient, optimizer_state, parameters):
    updates, optimizer_state = optax.adam(learning_rate).update(
        gradient, optimizer_state, parameters
    )
    # Any: optax's annotation of parameters names no type that a caller has.
    return cast(Any, optax.apply_updates(parameters, updates)), optimizer_state


def _share_dropped(*masks: jax.Array) -> jax.Array:
    """Share of slope terms that took themselves out of a batch."""
    total = sum(mask.size for mask in masks)
    kept = jnp.sum(jnp.stack([jnp.sum(mask) for mask in masks]))
    return (total - kept) / max(total, 1)
