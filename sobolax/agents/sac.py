"""Soft actor-critic (arXiv 1812.05905) with a first-order critic loss.

The TD error below is the whole of what the agent contributes: the Sobolev loss differentiates it,
so the gradient of the target goes through reward, dynamics, target critics, entropy term and the
reparameterised policy, because the value does. The actor climbs the critic, or that gradient of the
target itself, at a fresh step of the simulator (`sobolax.agents.actor_gradients`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from sobolax.agents.actor_gradients import (
    ACTOR_GRADIENTS,
    check_fresh_steps,
    climb,
    differentiate_targets,
)
from sobolax.agents.config import AgentConfig, CriticHyperparameters, register_hyperparameters
from sobolax.agents.critics import CriticOptions, CriticState, make_critics
from sobolax.agents.distributions import sample_tanh_gaussian, smoothing_noise
from sobolax.agents.gradients import adam_step, scale_gradient
from sobolax.agents.networks import GaussianActor
from sobolax.checks import check_choice, check_scalars, owner_of
from sobolax.environment import Environment, actor_observations
from sobolax.losses import TDError, masked_mean
from sobolax.tangents.fresh import GRADIENTS_AT, FreshStep, make_fresh_step, take_fresh_steps
from sobolax.tangents.sources import Experience, FindTangents
from sobolax.training.agent import Agent, Metrics
from sobolax.training.normalization import Normalizer, deviation, normalize
from sobolax.transition import Transition


@dataclass(frozen=True)
class Config(AgentConfig):
    """What shapes a SAC training program; see `sobolax.agents.config.AgentConfig`.

    Attributes:
        actor_gradient: What the actor climbs: the "critic", as published; the "simulator", the
            critic's target through a fresh step at the policy's own action (SVG(1), arXiv
            1510.09142); or "mixed", as far as each can be trusted (see
            `sobolax.agents.actor_gradients`). The last two keep states in the replay buffer,
            whatever `first_order` is, and differentiate a step at every update: with tangents along
            the action, or a reverse pass where `first_order` is "reverse".
        gradients_at: Where the critic's gradients are matched: at the "replayed" action, or at the
            action that the "policy" takes there today, by a fresh step. Values are matched at what
            was replayed. The actor's step is the same one.

    Example:
        >>> config = Config(total_timesteps=2_048, state_directions=4)  # all else as it was
        >>> config.epochs, config.hidden_sizes
        (8, (128, 128))
        >>> from sobolax.cart import Cart
        >>> Config(actor_gradient="simulator", n_step=3).check(Cart())
        Traceback (most recent call last):
        ValueError: sac.Config: actor_gradient='simulator' goes through one step, but n_step=3 ...
    """

    actor_gradient: str = "critic"
    gradients_at: str = "replayed"

    @property
    def actor_differentiates(self) -> bool:
        """Whether the actor's gradient goes through the simulator."""
        return self.actor_gradient != "critic"

    @property
    def keeps_states(self) -> bool:
        """Whether the replay buffer keeps states whatever `first_order` is, to step from them."""
        return self.actor_differentiates

    def check(self, environment: Environment) -> None:
        """Raises ValueError, saying what to do instead, for what cannot work; compiles nothing."""
        owner = owner_of(self)
        check_choice(f"{owner}: actor_gradient=", self.actor_gradient, ACTOR_GRADIENTS)
        check_choice(f"{owner}: gradients_at=", self.gradients_at, GRADIENTS_AT)
        super().check(environment)
        check_fresh_steps(owner, self)

    def make_agent(self, environment: Environment) -> Agent:
        """SAC with two critics."""
        fresh_step, at_policy = None, self.gradients_at == "policy"
        if self.actor_differentiates or at_policy:
            fresh_step = make_fresh_step(
                environment,
                self.derivatives,
                reverse=self.first_order == "reverse",
                state_directions=self.state_directions if at_policy else 0,
                action_directions=self.action_directions if at_policy else None,
            )
        made = make_agent(
            environment.observation_size,
            environment.action_size,
            self.critic_options(critics=2),
            self.actor_gradient,
            self.gradients_at,
            fresh_step,
            actor_observations(environment),
        )
        return replace(made, config=self)


@register_hyperparameters
@dataclass(frozen=True)
class Hyperparameters(CriticHyperparameters):
    """Everything a sweep may vary: numbers that are traced, never part of a program's shape.

    Attributes:
        policy_response: Share of the policy's response to the next observation in the target's
            gradient: 1 for all of it, 0 to hold the next action and its log-probability fixed.
        actor_learning_rate: Of Adam.
        temperature_learning_rate: Of Adam.
        initial_temperature: Entropy coefficient to begin with.
        target_entropy: Entropy per action dimension that the temperature is learned for, in nats.

    Example:
        >>> Hyperparameters(state_weight=1.0, action_weight=1.0, discount=0.95).initial_temperature
        0.1
    """

    policy_response: Any = 1.0
    actor_learning_rate: Any = 3e-4
    temperature_learning_rate: Any = 3e-4
    initial_temperature: Any = 0.1
    target_entropy: Any = -1.0

    def __post_init__(self) -> None:
        """Refuses numbers that cannot work; tracers pass."""
        super().__post_init__()
        check_scalars(
            owner_of(self),
            self,
            at_least_zero=("policy_response", "actor_learning_rate", "temperature_learning_rate"),
            at_most_one=("policy_response",),
            above_zero=("initial_temperature",),
            finite=("target_entropy", "initial_temperature"),
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SacState:
    """Parameters and optimiser states.

    Attributes:
        actor: Parameters of the actor.
        critics: Critics, their targets, optimiser and weighting.
        log_temperature: Logarithm of the entropy coefficient, `()`.
        actor_optimizer: State of Adam.
        temperature_optimizer: State of Adam.

    Example:
        >>> agent = make_agent(observation_size=2, action_size=1)
        >>> state = jax.eval_shape(agent.init, jax.random.key(0), Hyperparameters())
        >>> state.log_temperature.shape
        ()
    """

    actor: Any
    critics: CriticState
    log_temperature: jax.Array
    actor_optimizer: Any
    temperature_optimizer: Any


def make_agent(
    observation_size: int,
    action_size: int,
    options: CriticOptions | None = None,
    actor_gradient: str = "critic",
    gradients_at: str = "replayed",
    fresh_step: FreshStep | None = None,
    actor_inputs: tuple[int, ...] | None = None,
) -> Agent:
    """Builds SAC for observations and actions of these sizes.

    Args:
        observation_size: Numbers in an observation.
        action_size: Numbers in an action.
        options: Critics and their update; the actor has hidden layers of the same sizes.
        actor_gradient: A name in `sobolax.agents.actor_gradients.ACTOR_GRADIENTS`.
        gradients_at: A name in `sobolax.tangents.fresh.GRADIENTS_AT`, for the critic's.
        fresh_step: The step that either goes through, where it does not stay at what was replayed.
            Batches then need states.
        actor_inputs: Indices of the numbers of an observation that the actor sees; None for all.
            The critics see all of them.

    Raises:
        ValueError: If the name is unknown, or there is no step to go through.

    Example:
        >>> from sobolax.training import normalization
        >>> agent = make_agent(2, 1, CriticOptions(hidden_sizes=(8,)))
        >>> state = jax.eval_shape(agent.init, jax.random.key(0), Hyperparameters())
        >>> seen = normalization.init(2)
        >>> jax.eval_shape(agent.value, state, seen, jnp.zeros(2), jnp.zeros(1)).shape
        ()
    """
    check_choice("sac: actor_gradient=", actor_gradient, ACTOR_GRADIENTS)
    check_choice("sac: gradients_at=", gradients_at, GRADIENTS_AT)
    if ((actor_gradient, gradients_at) == ("critic", "replayed")) != (fresh_step is None):
        raise ValueError(
            f"sac: actor_gradient={actor_gradient!r} and gradients_at={gradients_at!r} with "
            f"fresh_step={fresh_step!r}: 'simulator', 'mixed' and 'policy' need a step "
            "(sobolax.tangents.fresh.make_fresh_step), 'critic' with 'replayed' takes none"
        )
    options = options or CriticOptions()
    actor = GaussianActor(
        options.hidden_sizes, action_size, options.activation, inputs=actor_inputs
    )
    critics = make_critics(observation_size, action_size, options)
    policy = make_policy(actor)

    def init(key: jax.Array, hyper: Hyperparameters) -> SacState:
        actor_key, critic_key = jax.random.split(key)
        observation = jnp.zeros(observation_size)
        actor_parameters = actor.init(actor_key, observation)
        log_temperature = jnp.log(jnp.asarray(hyper.initial_temperature, observation.dtype))
        return SacState(
            actor=actor_parameters,
            critics=critics.init(critic_key, hyper),
            log_temperature=log_temperature,
            actor_optimizer=optax.adam(hyper.actor_learning_rate).init(actor_parameters),
            temperature_optimizer=optax.adam(hyper.temperature_learning_rate).init(log_temperature),
        )

    def explore(state: SacState, normalizer: Normalizer, observation, key, hyper) -> jax.Array:
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
        return critics.min_q(state.critics.parameters, normalizer, observation, action)

    def update(
        state: SacState,
        normalizer: Normalizer,
        batch: Experience,
        find_tangents: FindTangents,
        key: jax.Array,
        hyper: Hyperparameters,
    ) -> tuple[SacState, Metrics]:
        target_key, actor_key, tangents_key = jax.random.split(key, 3)
        observations = batch.transition.observation
        size = observations.shape[0]
        temperature = jnp.exp(state.log_temperature)

        def td_error(critic, noises):
            noise, smoothing = noises

            def smoothed(observation):
                action, log_probability = policy(state.actor, normalizer, observation, noise)
                return jnp.clip(action + smoothing, -1.0, 1.0), log_probability

            return make_td_error(
                critic,
                lambda o, a: critics.min_q(state.critics.target, normalizer, o, a),
                smoothed,
                temperature=temperature,
                discount=hyper.discount,
                reward_scale=hyper.reward_scale,
                policy_response=hyper.policy_response,
            )

        actor_noise = jax.random.normal(actor_key, (size, action_size))
        fresh = None
        if fresh_step is not None:
            actions, _ = jax.vmap(policy, in_axes=(None, None, 0, 0))(
                state.actor, normalizer, observations, actor_noise
            )
            step_key = jax.random.fold_in(actor_key, 3)
            fresh = take_fresh_steps(fresh_step, batch, actions, step_key, hyper.tangent_bound)

        noise = jax.random.normal(target_key, (size, action_size))
        smoothing = smoothing_noise(jax.random.fold_in(target_key, 1), noise.shape, hyper)
        critic_state, critic_metrics = critics.update(
            state.critics,
            normalizer,
            batch,
            td_error,
            (noise, smoothing),
            find_tangents,
            tangents_key,
            hyper,
            fresh if gradients_at == "policy" else None,
        )

        through_step = None
        if fresh is not None and actor_gradient != "critic":
            next_key, smoothing_key = (jax.random.fold_in(actor_key, i) for i in (1, 2))
            next_noise = jax.random.normal(next_key, noise.shape)
            through_step = differentiate_targets(
                lambda noises: td_error(lambda o, a: jnp.zeros_like(a[0]), noises),
                fresh,
                (next_noise, smoothing_noise(smoothing_key, noise.shape, hyper)),
                (deviation(normalizer), hyper.discount) if actor_gradient == "mixed" else None,
            )

        def actor_loss(parameters):
            def one(observation, noise, through_step):
                action, log_probability = policy(parameters, normalizer, observation, noise)
                value = climb(
                    lambda a: critics.min_q(critic_state.parameters, normalizer, observation, a),
                    action,
                    through_step,
                )
                return temperature * log_probability - value, log_probability

            losses, log_probabilities = jax.vmap(one)(observations, actor_noise, through_step)
            if through_step is None or actor_gradient == "mixed":
                # "mixed" takes the critic's gradient where there is no other.
                return jnp.mean(losses), jnp.mean(log_probabilities)
            return masked_mean(losses, through_step.valid), jnp.mean(log_probabilities)

        (actor_objective, log_probability), gradient = jax.value_and_grad(actor_loss, has_aux=True)(
            state.actor
        )
        actor_parameters, actor_optimizer = adam_step(
            hyper.actor_learning_rate, gradient, state.actor_optimizer, state.actor
        )

        def temperature_loss(log_temperature):
            surplus = -log_probability - action_size * hyper.target_entropy
            return jnp.exp(log_temperature) * surplus

        log_temperature, temperature_optimizer = adam_step(
            hyper.temperature_learning_rate,
            jax.grad(temperature_loss)(state.log_temperature),
            state.temperature_optimizer,
            state.log_temperature,
        )
        metrics = critic_metrics | {
            "actor_loss": actor_objective,
            "temperature": temperature,
            "entropy": -log_probability,
        }
        if through_step is not None:
            metrics |= {
                "actor_gradients_dropped": 1.0 - jnp.mean(through_step.valid.astype(noise.dtype)),
                "actor_simulator_share": jnp.mean(through_step.weight),
            }
        new_state = SacState(
            actor=actor_parameters,
            critics=critic_state,
            log_temperature=log_temperature,
            actor_optimizer=actor_optimizer,
            temperature_optimizer=temperature_optimizer,
        )
        return new_state, metrics

    return Agent(
        init,
        explore,
        act,
        sample,
        value,
        update,
        Hyperparameters,
        counts_coordinates=options.gradient_units == "state_std",
    )


def make_policy(
    actor: GaussianActor,
) -> Callable[[Any, Normalizer, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """The reparameterised policy.

    Returns:
        `(parameters, normalizer, observation, noise) -> (action, log-probability)`.

    Example:
        >>> from sobolax.training import normalization
        >>> actor = GaussianActor(hidden_sizes=(8,), action_size=1)
        >>> parameters = jax.eval_shape(actor.init, jax.random.key(0), jnp.zeros(2))
        >>> seen, policy = normalization.init(2), make_policy(actor)
        >>> drawn = jax.eval_shape(policy, parameters, seen, jnp.zeros(2), jnp.zeros(1))
        >>> [part.shape for part in drawn]  # the action, and its log-probability
        [(1,), ()]
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
    policy_response: Any = 1.0,
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
        policy_response: Share of the policy's response to `o'` in the gradient; values are unmoved.

    Returns:
        A function of a `Transition` that gives `()`.

    Example:
        >>> from sobolax.cart import example_transition
        >>> delta = make_td_error(
        ...     critic=lambda o, a: o[0], target_critic=lambda o, a: 2.0 * o[0],
        ...     policy=lambda o: (-o[1:], 0.5), temperature=1.0, discount=0.5,
        ... )
        >>> transition, _ = example_transition()
        >>> float(delta(transition))  # 1 - (-1.5625 + 0.5 * (2 * 1.25 - 0.5))
        1.5625
    """

    def td_error(transition: Transition) -> jax.Array:
        next_observation = transition.next_observation
        action, log_probability = policy(scale_gradient(next_observation, policy_response))
        next_value = target_critic(next_observation, action) - temperature * log_probability
        target = reward_scale * transition.reward + discount * transition.discount * next_value
        return critic(transition.observation, transition.action) - target

    return td_error
