"""DDPG with a first-order critic, ready to train.

    train = sobolax.ddpg.make_train(environment, sobolax.ddpg.Config())
    state, metrics = jax.jit(train)(jax.random.key(0), sobolax.ddpg.Hyperparameters())

`jax.vmap(train)` over keys, over hyperparameters or over both just works.
"""

from dataclasses import dataclass

from sobolax import agent_config
from sobolax.agent_config import AgentConfig, Train
from sobolax.agents import ddpg as agent
from sobolax.agents.agent import Agent
from sobolax.agents.ddpg import Hyperparameters
from sobolax.environment import Environment
from sobolax.training import Training

__all__ = ["Config", "Hyperparameters", "make_train", "make_training"]


@dataclass(frozen=True)
class Config(AgentConfig):
    """What shapes a DDPG training program; see `sobolax.agent_config.AgentConfig`."""

    def make_agent(self, environment: Environment) -> Agent:
        """DDPG with one critic."""
        options = self.critic_options(critics=1)
        return agent.make_agent(environment.observation_size, environment.action_size, options)


def make_training(environment: Environment, config: Config | None = None) -> Training:
    """A DDPG training, epoch by epoch; see `sobolax.agent_config.make_training`."""
    return agent_config.make_training(environment, config or Config())


def make_train(environment: Environment, config: Config | None = None) -> Train:
    """A whole DDPG training as one function; see `sobolax.agent_config.make_train`."""
    return agent_config.make_train(environment, config or Config())
