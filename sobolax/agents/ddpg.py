"""DDPG (arXiv 1509.02971) with a first-order critic loss.

It is TD3 with one critic, an actor that moves at every update and a target action without noise.
"""

from dataclasses import dataclass, replace
from typing import Any

from sobolax.agents import td3
from sobolax.agents.config import AgentConfig, register_hyperparameters
from sobolax.agents.critics import CriticOptions
from sobolax.environment import Environment, actor_observations
from sobolax.training.agent import Agent


@dataclass(frozen=True)
class Config(AgentConfig):
    """What shapes a DDPG training program; see `sobolax.agents.config.AgentConfig`.

    Example:
        >>> Config(n_step=3).n_step
        3
    """

    def make_agent(self, environment: Environment) -> Agent:
        """DDPG with one critic."""
        options = self.critic_options(critics=1)
        made = make_agent(
            environment.observation_size,
            environment.action_size,
            options,
            actor_observations(environment),
        )
        return replace(made, config=self)


@register_hyperparameters
@dataclass(frozen=True)
class Hyperparameters(td3.Hyperparameters):
    """Everything a sweep may vary; see `sobolax.agents.td3.Hyperparameters`.

    Attributes:
        target_action_noise: Standard deviation of the noise that smooths the target's action.

    Example:
        >>> Hyperparameters().target_action_noise
        0.0
    """

    target_action_noise: Any = 0.0


def make_agent(
    observation_size: int,
    action_size: int,
    options: CriticOptions | None = None,
    actor_inputs: tuple[int, ...] | None = None,
) -> Agent:
    """Builds DDPG for observations and actions of these sizes; see `sobolax.agents.td3`.

    Example:
        >>> agent = make_agent(observation_size=2, action_size=1)
        >>> state = jax.eval_shape(agent.init, jax.random.key(0), Hyperparameters())
        >>> jax.tree.leaves(state.critics.parameters)[0].shape[0]  # one critic
        1
    """
    options = options or CriticOptions(count=1)
    made = td3.make_agent(observation_size, action_size, options, 1, actor_inputs)
    return replace(made, hyperparameters=Hyperparameters)
