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
    """What shapes a DDPG training program; see `sobolax.agent_config.AgentConfig`.

    Example:
        >>> Config(n_step=3).n_step
        3
    """

    def make_agent(self, environment: Environment) -> Agent:
        """DDPG with one critic."""
        options = self.critic_options(critics=1)
        return agent.make_agent(environment.observation_size, environment.action_size, options)


def make_training(environment: Environment, config: Config | None = None) -> Training:
    """A DDPG training, epoch by epoch; see `sobolax.agent_config.make_training`.

    Example:
        >>> from sobolax.cart import Cart
        >>> training = make_training(Cart(), Config(hidden_sizes=(8,)))
        >>> state = jax.eval_shape(training.init, jax.random.key(0), Hyperparameters())
        >>> jax.eval_shape(training.act, training.policy(state), jnp.zeros(2)).shape
        (1,)
    """
    return agent_config.make_training(environment, config or Config())


def make_train(environment: Environment, config: Config | None = None) -> Train:
    """A whole DDPG training as one function; see `sobolax.agent_config.make_train`.

    Example:
        >>> from sobolax.cart import Cart
        >>> make_train(Cart(), Config(tangent_dtype="float8"))  # refused before anything compiles
        Traceback (most recent call last):
        ValueError: ddpg.Config: tangent_dtype='float8' must be one of float32, bfloat16, ...
    """
    return agent_config.make_train(environment, config or Config())
