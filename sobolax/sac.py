"""Soft actor-critic with a first-order critic, ready to train.

    train = sobolax.sac.make_train(environment, sobolax.sac.Config())
    state, metrics = jax.jit(train)(jax.random.key(0), sobolax.sac.Hyperparameters())

`jax.vmap(train)` over keys, over hyperparameters or over both just works.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from sobolax import training
from sobolax.agents import sac as agent
from sobolax.agents.agent import Agent, Metrics
from sobolax.agents.sac import Hyperparameters
from sobolax.environment import Environment
from sobolax.networks import ACTIVATIONS
from sobolax.training import Training, TrainingState

__all__ = ["Config", "Hyperparameters", "make_agent", "make_train", "make_training"]


@dataclass(frozen=True)
class Config(training.LoopConfig):
    """What shapes a SAC training program; see also `sobolax.training.LoopConfig`.

    Attributes:
        hidden_sizes: Of actor and critics.
        activation: Smooth: "swish", "tanh", "gelu" or "softplus".
        policy_slope: Whether the target's slope goes through the policy's response to the next
            observation; if not, the policy's part is frozen.
    """

    hidden_sizes: tuple[int, ...] = (128, 128)
    activation: str = "swish"
    policy_slope: bool = True

    def check(self, environment: Environment) -> None:
        """Raises ValueError, with the mend, for what cannot work; compiles nothing."""
        super().check(environment)
        if not self.hidden_sizes or any(
            not isinstance(size, int) or size < 1 for size in self.hidden_sizes
        ):
            raise ValueError(
                f"sac.Config: hidden_sizes={self.hidden_sizes!r} must be one or more whole "
                "numbers of at least 1, say (128, 128)"
            )
        if self.activation not in ACTIVATIONS:
            why = (
                ": its slope jumps, and slopes are what is trained"
                if self.activation == "relu"
                else ""
            )
            raise ValueError(
                f"sac.Config: activation={self.activation!r} is not to be had{why}; choose one "
                f"of {', '.join(ACTIVATIONS)}"
            )


def make_agent(environment: Environment, config: Config) -> Agent:
    """SAC for an environment."""
    return agent.make_agent(
        environment.observation_size,
        environment.action_size,
        config.hidden_sizes,
        config.activation,
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
    config = config or Config()
    config.check(environment)
    return training.make_training(environment, make_agent(environment, config), config)


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
