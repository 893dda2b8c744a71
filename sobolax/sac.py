"""Soft actor-critic with a first-order critic, ready to train.

    train = sobolax.sac.make_train(environment, sobolax.sac.Config())
    state, metrics = jax.jit(train)(jax.random.key(0), sobolax.sac.Hyperparameters())

`jax.vmap(train)` over keys, over hyperparameters or over both just works.
"""

from dataclasses import dataclass

from sobolax import agent_config
from sobolax.agent_config import AgentConfig, Train
from sobolax.agents import sac as agent
from sobolax.agents.agent import Agent
from sobolax.agents.sac import Hyperparameters
from sobolax.environment import Environment
from sobolax.training import Training

__all__ = ["Config", "Hyperparameters", "make_train", "make_training"]


@dataclass(frozen=True)
class Config(AgentConfig):
    """What shapes a SAC training program; see `sobolax.agent_config.AgentConfig`.

    Example:
        >>> config = Config(environment_steps=2_048, state_directions=4)  # all else as it was
        >>> config.epochs, config.hidden_sizes
        (8, (128, 128))
    """

    def make_agent(self, environment: Environment) -> Agent:
        """SAC with two critics."""
        options = self.critic_options(critics=2)
        return agent.make_agent(environment.observation_size, environment.action_size, options)


def make_training(environment: Environment, config: Config | None = None) -> Training:
    """A SAC training, epoch by epoch; see `sobolax.agent_config.make_training`.

    Example:
        >>> from sobolax.cart import Cart
        >>> training = make_training(Cart())
        >>> state = jax.eval_shape(training.init, jax.random.key(0), Hyperparameters())
        >>> jax.eval_shape(training.act, training.policy(state), jnp.zeros(2)).shape
        (1,)
    """
    return agent_config.make_training(environment, config or Config())


def make_train(environment: Environment, config: Config | None = None) -> Train:
    """A whole SAC training as one function; see `sobolax.agent_config.make_train`.

    Example:
        >>> from sobolax.cart import Cart
        >>> train = make_train(Cart(), Config(epochs=4))
        >>> _, metrics = jax.eval_shape(train, jax.random.key(0), Hyperparameters())  # or jax.jit
        >>> metrics["evaluation_return"].shape
        (4,)
    """
    return agent_config.make_train(environment, config or Config())
