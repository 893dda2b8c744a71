"""Q-learning over a grid of actions (Watkins, 1989) with a first-order loss.

The target is `r + gamma d max_a Q'(o', a)`, the maximum taken over a fixed grid of actions. Its
gradient is that of `Q'(o', a*)` with the maximiser `a*` held fixed (the envelope theorem; for a
finite set of actions Danskin's): exact except at ties, where the maximum itself has a kink and the
gradient is that of one of the branches. There is no actor, and so no policy's part of the gradient.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sobolax.agents.config import AgentConfig, CriticHyperparameters, register_hyperparameters
from sobolax.agents.critics import CriticOptions, CriticState, make_critics
from sobolax.agents.distributions import smoothing_noise
from sobolax.agents.td3 import make_td_error
from sobolax.checks import check_counts, check_scalars, owner_of
from sobolax.environment import Environment, actor_observations
from sobolax.tangents.sources import Experience, FindTangents
from sobolax.training.agent import Agent, Metrics
from sobolax.training.normalization import Normalizer

LARGEST_GRID = 4_096


@dataclass(frozen=True)
class Config(AgentConfig):
    """What shapes a Q-learning training program; see also `sobolax.agents.config.AgentConfig`.

    Attributes:
        grid_points: Points of the action grid in each dimension, over which the maximum is taken.

    Example:
        >>> Config(grid_points=5).grid_points
        5
    """

    grid_points: int = 9

    def check(self, environment: Environment) -> None:
        """Raises ValueError, saying what to do instead, for what cannot work; compiles nothing."""
        super().check(environment)
        if actor_observations(environment) is not None:
            raise ValueError(
                f"{owner_of(self)}: environment {environment.name!r} hides a part of its "
                "observation from the actor (actor_observations), but the policy of this agent is "
                "its critic, which sees all: choose sac, td3, ddpg or shac"
            )
        check_counts(owner_of(self), self, {"grid_points": 2})
        action_grid(environment.action_size, self.grid_points)

    def make_agent(self, environment: Environment) -> Agent:
        """Q-learning with two critics, whose smaller value counts."""
        made = make_agent(
            environment.observation_size,
            environment.action_size,
            self.critic_options(critics=2),
            self.grid_points,
        )
        return replace(made, config=self)


@register_hyperparameters
@dataclass(frozen=True)
class Hyperparameters(CriticHyperparameters):
    """Everything a sweep may vary: numbers that are traced, never part of a program's shape.

    Attributes:
        exploration_rate: Share of actions drawn uniformly, not greedily (epsilon).

    Example:
        >>> Hyperparameters(exploration_rate=0.2).discount
        0.99
    """

    exploration_rate: Any = 0.1

    def __post_init__(self) -> None:
        """Refuses numbers that cannot work; tracers pass."""
        super().__post_init__()
        check_scalars(
            owner_of(self),
            self,
            at_least_zero=("exploration_rate",),
            at_most_one=("exploration_rate",),
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QLearningState:
    """What Q-learning learns.

    Attributes:
        critics: Critics, their targets, optimiser and weighting.

    Example:
        >>> agent = make_agent(observation_size=2, action_size=1)
        >>> state = jax.eval_shape(agent.init, jax.random.key(0), Hyperparameters())
        >>> type(state.critics).__name__
        'CriticState'
    """

    critics: CriticState


def action_grid(action_size: int, points: int) -> np.ndarray:
    """All actions whose numbers are each one of `points`, evenly spaced, limits included.

    Returns:
        `(points ** action_size, action_size)`.

    Raises:
        ValueError: If there were too many to try.

    Example:
        >>> action_grid(action_size=1, points=3).tolist()
        [[-1.0], [0.0], [1.0]]
    """
    if points < 2 or points**action_size > LARGEST_GRID:
        fitting = int(LARGEST_GRID ** (1 / action_size) + 1e-9)
        instead = (
            f"choose 2 to {fitting} points"
            if fitting >= 2
            else "use an agent with an actor (ddpg, td3, sac)"
        )
        raise ValueError(
            f"q_learning: grid_points={points} in {action_size} action dimensions makes "
            f"{points**action_size} actions, but 2 points or more in each dimension and at most "
            f"{LARGEST_GRID} actions are possible: {instead}"
        )
    axis = np.linspace(-1.0, 1.0, points)
    return np.asarray(list(itertools.product(axis, repeat=action_size)))


def make_agent(
    observation_size: int,
    action_size: int,
    options: CriticOptions | None = None,
    grid_points: int = 9,
) -> Agent:
    """Builds Q-learning for observations and actions of these sizes.

    Args:
        observation_size: Numbers in an observation.
        action_size: Numbers in an action.
        options: Critics and their update.
        grid_points: Points of the action grid in each dimension.

    Raises:
        ValueError: If the grid holds too many actions.

    Example:
        >>> from sobolax.training import normalization
        >>> agent = make_agent(2, 1, CriticOptions(hidden_sizes=(8,)), grid_points=3)
        >>> state = jax.eval_shape(agent.init, jax.random.key(0), Hyperparameters())
        >>> jax.eval_shape(agent.act, state, normalization.init(2), jnp.zeros(2)).shape
        (1,)
    """
    options = options or CriticOptions()
    critics = make_critics(observation_size, action_size, options)
    grid = action_grid(action_size, grid_points)

    def best_action(parameters, normalizer: Normalizer, observation) -> jax.Array:
        actions = jnp.asarray(grid, observation.dtype)
        values = jax.vmap(lambda a: critics.min_q(parameters, normalizer, observation, a))(actions)
        return actions[jnp.argmax(values)]

    def init(key: jax.Array, hyper: Hyperparameters) -> QLearningState:
        return QLearningState(critics.init(key, hyper))

    def act(state: QLearningState, normalizer: Normalizer, observation) -> jax.Array:
        return best_action(state.critics.parameters, normalizer, observation)

    def explore(state: QLearningState, normalizer: Normalizer, observation, key, hyper):
        choice_key, action_key = jax.random.split(key)
        greedy = act(state, normalizer, observation)
        drawn = jax.random.uniform(action_key, greedy.shape, greedy.dtype, -1.0, 1.0)
        return jnp.where(jax.random.uniform(choice_key) < hyper.exploration_rate, drawn, greedy)

    def sample(state: QLearningState, normalizer: Normalizer, observation, noise):
        action = act(state, normalizer, observation)
        return action, jnp.zeros((), action.dtype)

    def value(state: QLearningState, normalizer: Normalizer, observation, action) -> jax.Array:
        return critics.min_q(state.critics.parameters, normalizer, observation, action)

    def update(
        state: QLearningState,
        normalizer: Normalizer,
        batch: Experience,
        find_tangents: FindTangents,
        key: jax.Array,
        hyper: Hyperparameters,
    ) -> tuple[QLearningState, Metrics]:
        noise_key, tangents_key = jax.random.split(key)
        best = jax.vmap(lambda o: best_action(state.critics.target, normalizer, o))(
            batch.transition.next_observation
        )
        noise = smoothing_noise(noise_key, best.shape, hyper)

        def td_error(critic: Callable, action: jax.Array):
            return make_td_error(
                critic,
                lambda o, a: critics.min_q(state.critics.target, normalizer, o, a),
                lambda o: action,
                discount=hyper.discount,
                reward_scale=hyper.reward_scale,
            )

        actions = jnp.clip(best + noise, -1.0, 1.0)
        critic_state, metrics = critics.update(
            state.critics, normalizer, batch, td_error, actions, find_tangents, tangents_key, hyper
        )
        return QLearningState(critic_state), metrics

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
