"""TD3 (arXiv 1802.09477) with a first-order critic loss; DDPG (arXiv 1509.02971) is a case of it.

The target is `r + gamma d min_i Q'_i(o', clip(mu'(o') + noise))`, with a target network `mu'` of
the deterministic policy. Its gradient goes through that policy as through everything else.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from sobolax.agents.config import AgentConfig, CriticHyperparameters, register_hyperparameters
from sobolax.agents.critics import CriticOptions, CriticState, make_critics
from sobolax.agents.distributions import smoothing_noise
from sobolax.agents.gradients import adam_step, scale_gradient
from sobolax.agents.networks import MLP
from sobolax.checks import check_counts, check_scalars, owner_of
from sobolax.environment import Environment, actor_observations
from sobolax.losses import TDError
from sobolax.tangents.sources import Experience, FindTangents
from sobolax.training.agent import Agent, Metrics
from sobolax.training.normalization import Normalizer, normalize
from sobolax.transition import Transition


@dataclass(frozen=True)
class Config(AgentConfig):
    """What shapes a TD3 training program; see also `sobolax.agents.config.AgentConfig`.

    Attributes:
        actor_delay: Updates of the critics for one of the actor and of all targets.

    Example:
        >>> Config(actor_delay=3).actor_delay
        3
    """

    actor_delay: int = 2

    def check(self, environment: Environment) -> None:
        """Raises ValueError, saying what to do instead, for what cannot work; compiles nothing."""
        super().check(environment)
        check_counts(owner_of(self), self, {"actor_delay": 1})

    def make_agent(self, environment: Environment) -> Agent:
        """TD3 with two critics."""
        made = make_agent(
            environment.observation_size,
            environment.action_size,
            self.critic_options(critics=2),
            self.actor_delay,
            actor_observations(environment),
        )
        return replace(made, config=self)


@register_hyperparameters
@dataclass(frozen=True)
class Hyperparameters(CriticHyperparameters):
    """Everything a sweep may vary: numbers that are traced, never part of a program's shape.

    Attributes:
        target_action_noise: Standard deviation of the noise that smooths the target's action.
        policy_response: Share of the policy's response to the next observation in the target's
            gradient: 1 for all of it, 0 to hold the next action fixed.
        actor_learning_rate: Of Adam.
        exploration_noise: Standard deviation of the normal noise on explored actions.

    Example:
        >>> Hyperparameters(exploration_noise=0.2).target_action_noise
        0.2
    """

    target_action_noise: Any = 0.2
    policy_response: Any = 1.0
    actor_learning_rate: Any = 3e-4
    exploration_noise: Any = 0.1

    def __post_init__(self) -> None:
        """Refuses numbers that cannot work; tracers pass."""
        super().__post_init__()
        check_scalars(
            owner_of(self),
            self,
            at_least_zero=("policy_response", "actor_learning_rate", "exploration_noise"),
            at_most_one=("policy_response",),
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Td3State:
    """Parameters and optimiser states.

    Attributes:
        actor: Parameters of the policy.
        target_actor: Polyak average of them.
        critics: Critics, their targets, optimiser and weighting.
        actor_optimizer: State of Adam.
        updates: Updates done, `()` int32.

    Example:
        >>> agent = make_agent(observation_size=2, action_size=1)
        >>> state = jax.eval_shape(agent.init, jax.random.key(0), Hyperparameters())
        >>> jax.tree.structure(state.actor) == jax.tree.structure(state.target_actor)
        True
    """

    actor: Any
    target_actor: Any
    critics: CriticState
    actor_optimizer: Any
    updates: jax.Array


def make_agent(
    observation_size: int,
    action_size: int,
    options: CriticOptions | None = None,
    actor_delay: int = 2,
    actor_inputs: tuple[int, ...] | None = None,
) -> Agent:
    """Builds TD3 for observations and actions of these sizes.

    Args:
        observation_size: Numbers in an observation.
        action_size: Numbers in an action.
        options: Critics and their update; the actor has hidden layers of the same sizes.
        actor_delay: Updates of the critics for one of the actor and of all targets.
        actor_inputs: Indices of the numbers of an observation that the actor sees; None for all.
            The critics see all of them.

    Example:
        >>> from sobolax.training import normalization
        >>> agent = make_agent(2, 1, CriticOptions(hidden_sizes=(8,)), actor_delay=2)
        >>> state = jax.eval_shape(agent.init, jax.random.key(0), Hyperparameters())
        >>> jax.eval_shape(agent.act, state, normalization.init(2), jnp.zeros(2)).shape
        (1,)
    """
    options = options or CriticOptions()
    actor = MLP(options.hidden_sizes, action_size, options.activation, inputs=actor_inputs)
    critics = make_critics(observation_size, action_size, options)

    def policy(parameters, normalizer: Normalizer, observation) -> jax.Array:
        return jnp.tanh(
            cast(jax.Array, actor.apply(parameters, normalize(normalizer, observation)))
        )

    def init(key: jax.Array, hyper: Hyperparameters) -> Td3State:
        actor_key, critic_key = jax.random.split(key)
        parameters = actor.init(actor_key, jnp.zeros(observation_size))
        return Td3State(
            actor=parameters,
            target_actor=parameters,
            critics=critics.init(critic_key, hyper),
            actor_optimizer=optax.adam(hyper.actor_learning_rate).init(parameters),
            updates=jnp.zeros((), jnp.int32),
        )

    def act(state: Td3State, normalizer: Normalizer, observation) -> jax.Array:
        return policy(state.actor, normalizer, observation)

    def explore(state: Td3State, normalizer: Normalizer, observation, key, hyper) -> jax.Array:
        action = act(state, normalizer, observation)
        noise = hyper.exploration_noise * jax.random.normal(key, action.shape, action.dtype)
        return jnp.clip(action + noise, -1.0, 1.0)

    def sample(state: Td3State, normalizer: Normalizer, observation, noise):
        action = act(state, normalizer, observation)
        return action, jnp.zeros((), action.dtype)

    def value(state: Td3State, normalizer: Normalizer, observation, action) -> jax.Array:
        return critics.first_q(state.critics.parameters, normalizer, observation, action)

    def update(
        state: Td3State,
        normalizer: Normalizer,
        batch: Experience,
        find_tangents: FindTangents,
        key: jax.Array,
        hyper: Hyperparameters,
    ) -> tuple[Td3State, Metrics]:
        noise_key, tangents_key = jax.random.split(key)
        observations = batch.transition.observation

        def td_error(critic, noise):
            return make_td_error(
                critic,
                lambda o, a: critics.min_q(state.critics.target, normalizer, o, a),
                lambda o: jnp.clip(policy(state.target_actor, normalizer, o) + noise, -1.0, 1.0),
                discount=hyper.discount,
                reward_scale=hyper.reward_scale,
                policy_response=hyper.policy_response,
            )

        noises = smoothing_noise(noise_key, (observations.shape[0], action_size), hyper)
        critic_state, critic_metrics = critics.update(
            state.critics, normalizer, batch, td_error, noises, find_tangents, tangents_key, hyper
        )

        def actor_loss(parameters):
            def one(observation):
                action = policy(parameters, normalizer, observation)
                return -critics.first_q(critic_state.parameters, normalizer, observation, action)

            return jnp.mean(jax.vmap(one)(observations))

        objective, gradient = jax.value_and_grad(actor_loss)(state.actor)
        parameters, optimizer = adam_step(
            hyper.actor_learning_rate, gradient, state.actor_optimizer, state.actor
        )
        target = optax.incremental_update(parameters, state.target_actor, hyper.tau)
        # Every update computes the actor's step, and the delayed ones keep it: under vmap a
        # branch would cost as much.
        due = (state.updates + 1) % actor_delay == 0
        actor, target, optimizer, target_critics = jax.tree.map(
            lambda new, old: jnp.where(due, new, old),
            (parameters, target, optimizer, critic_state.target),
            (state.actor, state.target_actor, state.actor_optimizer, state.critics.target),
        )
        critic_state = replace(critic_state, target=target_critics)
        metrics = critic_metrics | {"actor_loss": objective}
        return Td3State(actor, target, critic_state, optimizer, state.updates + 1), metrics

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


def make_td_error(
    critic: Callable[[jax.Array, jax.Array], jax.Array],
    target_critic: Callable[[jax.Array, jax.Array], jax.Array],
    policy: Callable[[jax.Array], jax.Array],
    *,
    discount: Any,
    reward_scale: Any = 1.0,
    policy_response: Any = 1.0,
) -> TDError:
    """TD error of a deterministic policy, differentiable in everything the transition holds.

    `delta = Q(o, a) - (c r + gamma d Q'(o', mu'(o')))`

    Args:
        critic: `(observation, action) -> ()`, one of the critics.
        target_critic: The same for the target: the smallest value of the target critics.
        policy: `observation -> action`, with its noise fixed.
        discount: gamma.
        reward_scale: c.
        policy_response: Share of the policy's response to `o'` in the gradient; values are unmoved.

    Returns:
        A function of a `Transition` that gives `()`.

    Example:
        >>> from sobolax.cart import example_transition
        >>> delta = make_td_error(
        ...     critic=lambda o, a: o[0], target_critic=lambda o, a: 2.0 * o[0],
        ...     policy=lambda o: -o[1:], discount=0.5,
        ... )
        >>> transition, _ = example_transition()
        >>> float(delta(transition))  # 1 - (-1.5625 + 0.5 * 2 * 1.25)
        1.3125
    """

    def td_error(transition: Transition) -> jax.Array:
        next_observation = transition.next_observation
        next_action = policy(scale_gradient(next_observation, policy_response))
        next_value = target_critic(next_observation, next_action)
        target = reward_scale * transition.reward + discount * transition.discount * next_value
        return critic(transition.observation, transition.action) - target

    return td_error
