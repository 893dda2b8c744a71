"""What shapes the training of an agent: the loop, the networks and the options of the loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from sobolax.agents.critics import CriticOptions
from sobolax.agents.networks import ACTIVATIONS
from sobolax.controls import check_gradient_target
from sobolax.environment import Environment
from sobolax.losses import Weights
from sobolax.training import loop
from sobolax.training.agent import Agent, Metrics
from sobolax.training.loop import LoopConfig, Training, TrainingState
from sobolax.weighting import Weighting, check_weighting, make_weighting

#: `(key, hyperparameters) -> (state, metrics of all epochs)`.
Train = Callable[[jax.Array, Any], tuple[TrainingState, Metrics]]


@dataclass(frozen=True)
class AgentConfig(LoopConfig):
    """What shapes a training program; see also `sobolax.training.loop.LoopConfig`.

    Attributes:
        hidden_sizes: Of actor and critics.
        activation: Smooth: "swish", "tanh", "gelu" or "softplus".
        gradient_target: What the critic's gradients are matched to: "bellman", or a control (see
            `sobolax.controls`): "zero", "unit_norm", "shuffled", "random".
        weighting: How the terms of the loss are weighted (see `sobolax.weighting`): "constant",
            "schedule", "scale_free", "relative_loss_progress", "gradient_norm_balance",
            "conflict_free" or "constrained"; or a rule of your own, a function of the base weights
            (lambda_s and lambda_a, traced) that gives a `sobolax.weighting.Weighting`.
        line_search: Whether every step of the critic is shortened, up to eight times, while it does
            not lower the value loss of its batch.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> sac.Config(activation="relu").check(Cart())
        Traceback (most recent call last):
        ValueError: sac.Config: activation='relu' is not to be had: its gradient jumps, ...
    """

    hidden_sizes: tuple[int, ...] = (128, 128)
    activation: str = "swish"
    gradient_target: str = "bellman"
    weighting: str | Callable[[Weights], Weighting] = "constant"
    line_search: bool = False

    def check(self, environment: Environment) -> None:
        """Raises ValueError, with the mend, for what cannot work; compiles nothing."""
        super().check(environment)
        owner = f"{type(self).__module__.rpartition('.')[2]}.Config"
        if not self.hidden_sizes or any(
            not isinstance(size, int) or size < 1 for size in self.hidden_sizes
        ):
            raise ValueError(
                f"{owner}: hidden_sizes={self.hidden_sizes!r} must be one or more whole "
                "numbers of at least 1, say (128, 128)"
            )
        if self.activation not in ACTIVATIONS:
            why = (
                ": its gradient jumps, and gradients are what is trained"
                if self.activation == "relu"
                else ""
            )
            raise ValueError(
                f"{owner}: activation={self.activation!r} is not to be had{why}; choose one "
                f"of {', '.join(ACTIVATIONS)}"
            )
        check_gradient_target(owner, self.gradient_target, self.first_order)
        check_weighting(self.make_weighting(Weights(1.0, 1.0)))

    def make_weighting(self, base: Weights) -> Weighting:
        """The weighting of these base weights."""
        if isinstance(self.weighting, str):
            return make_weighting(self.weighting, base, max(1, self.updates))
        return self.weighting(base)

    def make_agent(self, environment: Environment) -> Agent:
        """The agent for an environment; every agent's own `Config` says which."""
        raise NotImplementedError

    def critic_options(self, critics: int) -> CriticOptions:
        """What the agent's critics are made of."""
        return CriticOptions(
            hidden_sizes=self.hidden_sizes,
            activation=self.activation,
            count=critics,
            gradient_target=self.gradient_target,
            weighting=lambda hyper: self.make_weighting(
                Weights(hyper.state_weight, hyper.action_weight)
            ),
            line_search=self.line_search,
        )


def make_training(environment: Environment, config: AgentConfig) -> Training:
    """A training of the configuration's agent, epoch by epoch.

    Args:
        environment: The environment.
        config: Sizes, counts and options.

    Returns:
        Pure functions; nothing is compiled yet.

    Raises:
        ValueError: If the configuration cannot work, before anything is compiled.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> training = make_training(Cart(), sac.Config(replay_capacity=1_600))
        >>> state = jax.eval_shape(loop.init, jax.random.key(0), sac.Hyperparameters())
        >>> state.replay.rows.shape[0]
        1600
    """
    config.check(environment)
    return loop.make_training(environment, config.make_agent(environment), config)


def make_train(environment: Environment, config: AgentConfig) -> Train:
    """A whole training of the configuration's agent as one pure function.

    Args:
        environment: The environment.
        config: Sizes, counts and options.

    Returns:
        `train(key, hyperparameters) -> (state, metrics)`; every metric is `(epochs,)`.

    Raises:
        ValueError: If the configuration cannot work, before anything is compiled.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> make_train(Cart(), sac.Config(epochs=7))
        Traceback (most recent call last):
        ValueError: ...environment_steps=32768 must be a multiple of num_envs * epochs=112...
    """
    return make_training(environment, config).run
