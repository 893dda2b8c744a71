"""TD3 with a first-order critic, ready to train.

    train = sobolax.td3.make_train(environment, sobolax.td3.Config())
    state, metrics = jax.jit(train)(jax.random.key(0), sobolax.td3.Hyperparameters())

`jax.vmap(train)` over keys, over hyperparameters or over both just works.
"""

from dataclasses import dataclass

from sobolax import agent_config
from sobolax.agent_config import AgentConfig, Train
from sobolax.agents import td3 as agent
from sobolax.agents.agent import Agent
from sobolax.agents.td3 import Hyperparameters
from sobolax.environment import Environment
from sobolax.training import Training
from sobolax.validation import check_counts

__all__ = ["Config", "Hyperparameters", "make_train", "make_training"]


@dataclass(frozen=True)
class Config(AgentConfig):
    """What shapes a TD3 training program; see also `sobolax.agent_config.AgentConfig`.

    Attributes:
        actor_delay: Updates of the critics for one of the actor.

    Example:
        >>> Config(actor_delay=3).actor_delay
        3
    """

    actor_delay: int = 2

    def check(self, environment: Environment) -> None:
        """Raises ValueError, with the mend, for what cannot work; compiles nothing."""
        super().check(environment)
        check_counts("td3.Config", self, {"actor_delay": 1})

    def make_agent(self, environment: Environment) -> Agent:
        """TD3 with two critics."""
        return agent.make_agent(
            environment.observation_size,
            environment.action_size,
            self.critic_options(critics=2),
            self.actor_delay,
        )


def make_training(environment: Environment, config: Config | None = None) -> Training:
    """A TD3 training, epoch by epoch; see `sobolax.agent_config.make_training`.

    Example:
        >>> from sobolax.cart import Cart
        >>> training = make_training(Cart(), Config(hidden_sizes=(8,)))
        >>> state = jax.eval_shape(training.init, jax.random.key(0), Hyperparameters())
        >>> jax.eval_shape(training.act, training.policy(state), jnp.zeros(2)).shape
        (1,)
    """
    return agent_config.make_training(environment, config or Config())


def make_train(environment: Environment, config: Config | None = None) -> Train:
    """A whole TD3 training as one function; see `sobolax.agent_config.make_train`.

    Example:
        >>> from sobolax.cart import Cart
        >>> make_train(Cart(), Config(actor_delay=0))  # refused before anything compiles
        Traceback (most recent call last):
        ValueError: td3.Config: actor_delay=0 must be a whole number of at least 1
    """
    return agent_config.make_train(environment, config or Config())
