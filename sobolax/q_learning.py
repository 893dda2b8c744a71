"""Q-learning over a grid of actions with a first-order critic, ready to train.

    train = sobolax.q_learning.make_train(environment, sobolax.q_learning.Config())
    state, metrics = jax.jit(train)(jax.random.key(0), sobolax.q_learning.Hyperparameters())

`jax.vmap(train)` over keys, over hyperparameters or over both just works.
"""

from dataclasses import dataclass

from sobolax import agent_config
from sobolax.agent_config import AgentConfig, Train
from sobolax.agents import q_learning as agent
from sobolax.agents.agent import Agent
from sobolax.agents.q_learning import Hyperparameters
from sobolax.environment import Environment
from sobolax.training import Training

__all__ = ["Config", "Hyperparameters", "make_train", "make_training"]


@dataclass(frozen=True)
class Config(AgentConfig):
    """What shapes a Q-learning training program; see also `sobolax.agent_config.AgentConfig`.

    Attributes:
        grid_points: Points of the action grid in each dimension, over which the maximum is taken.

    Example:
        >>> Config(grid_points=5).grid_points
        5
    """

    grid_points: int = 9

    def check(self, environment: Environment) -> None:
        """Raises ValueError, with the mend, for what cannot work; compiles nothing."""
        super().check(environment)
        agent.action_grid(environment.action_size, self.grid_points)

    def make_agent(self, environment: Environment) -> Agent:
        """Q-learning with two critics, whose smaller value counts."""
        return agent.make_agent(
            environment.observation_size,
            environment.action_size,
            self.critic_options(critics=2),
            self.grid_points,
        )


def make_training(environment: Environment, config: Config | None = None) -> Training:
    """A Q-learning training, epoch by epoch; see `sobolax.agent_config.make_training`.

    Example:
        >>> from sobolax.cart import Cart
        >>> training = make_training(Cart(), Config(hidden_sizes=(8,)))
        >>> state = jax.eval_shape(training.init, jax.random.key(0), Hyperparameters())
        >>> jax.eval_shape(training.act, training.policy(state), jnp.zeros(2)).shape
        (1,)
    """
    return agent_config.make_training(environment, config or Config())


def make_train(environment: Environment, config: Config | None = None) -> Train:
    """A whole Q-learning training as one function; see `sobolax.agent_config.make_train`.

    Example:
        >>> from sobolax.cart import Cart
        >>> make_train(Cart(), Config(grid_points=1))  # refused before anything compiles
        Traceback (most recent call last):
        ValueError: q_learning: grid_points=1 in 1 action dimensions makes 1 actions, ...
    """
    return agent_config.make_train(environment, config or Config())
