"""Soft actor-critic with a first-order critic, ready to train.

    train = sobolax.sac.make_train(environment, sobolax.sac.Config())
    state, metrics = jax.jit(train)(jax.random.key(0), sobolax.sac.Hyperparameters())

`jax.vmap(train)` over keys, over hyperparameters or over both just works.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from sobolax import agent_config
from sobolax.agent_config import AgentConfig
from sobolax.agents import sac as agent
from sobolax.agents.agent import Agent, Metrics
from sobolax.agents.sac import Hyperparameters
from sobolax.environment import Environment
from sobolax.training import Training, TrainingState

__all__ = ["Config", "Hyperparameters", "make_agent", "make_train", "make_training"]


@dataclass(frozen=True)
class Config(AgentConfig):
    """What shapes a SAC training program; see `sobolax.agent_config.AgentConfig`."""


def make_agent(environment: Environment, config: AgentConfig) -> Agent:
    """SAC for an environment, with two critics."""
    return agent.make_agent(
        environment.observation_size,
        environment.action_size,
        config.critic_options(count=2),
        config.policy_slope,
    )


def make_training(environment: Environment, config: Config | None = None) -> Training:
    """A SAC training, epoch by epoch.

    Args:
        environment: The environment.
        config: Sizes and counts; all defaults if left out.

    Raises:
        ValueError: If the configuration cannot work, before anything is compiled.
    """
    return agent_config.make_training(environment, config or Config(), make_agent)


def make_train(
    environment: Environment, config: Config | None = None
) -> Callable[[jax.Array, Any], tuple[TrainingState, Metrics]]:
    """A whole SAC training as one pure function.

    Args:
        environment: The environment.
        config: Sizes and counts; all defaults if left out.

    Returns:
        `train(key, hyperparameters) -> (state, metrics)`; every metric is `(epochs,)`.

    Raises:
        ValueError: If the configuration cannot work, before anything is compiled.
    """
    return make_training(environment, config).run
