"""What shapes the training of an agent: the loop, the networks and the options of the loss."""

from collections.abc import Callable
from dataclasses import dataclass

from sobolax import training
from sobolax.agents import Agent
from sobolax.agents.critics import CriticOptions
from sobolax.environment import Environment
from sobolax.losses import Weights
from sobolax.networks import ACTIVATIONS
from sobolax.slope_targets import check_slope_target
from sobolax.training import LoopConfig, Training
from sobolax.weighting import check_weighting, make_weighting


@dataclass(frozen=True)
class AgentConfig(LoopConfig):
    """What shapes a training program; see also `sobolax.training.LoopConfig`.

    Attributes:
        hidden_sizes: Of actor and critics.
        activation: Smooth: "swish", "tanh", "gelu" or "softplus".
        policy_slope: Whether the target's slope goes through the policy's response to the next
            observation; if not, the policy's part is frozen.
        slope_target: What the critic's slopes are matched to: "bellman", or a control (see
            `sobolax.slope_targets`): "zero", "unit_norm", "shuffled", "random".
        weighting: How the terms of the loss are weighted (see `sobolax.weighting`): "constant",
            "schedule", "scale_free", "relative_loss_progress", "gradient_norm_balance",
            "conflict_free" or "constrained".
        line_search: Whether every step of the critic is shortened until it lowers the value loss of
            its batch.
    """

    hidden_sizes: tuple[int, ...] = (128, 128)
    activation: str = "swish"
    policy_slope: bool = True
    slope_target: str = "bellman"
    weighting: str = "constant"
    line_search: bool = False

    def check(self, environment: Environment) -> None:
        """Raises ValueError, with the mend, for what cannot work; compiles nothing."""
        super().check(environment)
        owner = f"{type(self).__module__.removeprefix('sobolax.')}.Config"
        if not self.hidden_sizes or any(
            not isinstance(size, int) or size < 1 for size in self.hidden_sizes
        ):
            raise ValueError(
                f"{owner}: hidden_sizes={self.hidden_sizes!r} must be one or more whole "
                "numbers of at least 1, say (128, 128)"
            )
        if self.activation not in ACTIVATIONS:
            why = (
                ": its slope jumps, and slopes are what is trained"
                if self.activation == "relu"
                else ""
            )
            raise ValueError(
                f"{owner}: activation={self.activation!r} is not to be had{why}; choose one "
                f"of {', '.join(ACTIVATIONS)}"
            )
        check_slope_target(owner, self.slope_target, self.first_order)
        check_weighting(make_weighting(self.weighting, Weights(1.0, 1.0), max(1, self.updates)))

    def critic_options(self, count: int) -> CriticOptions:
        """What the agent's critics are made of, `count` of them."""
        return CriticOptions(
            hidden_sizes=self.hidden_sizes,
            activation=self.activation,
            count=count,
            slope_target=self.slope_target,
            weighting=self.weighting,
            updates=max(1, self.updates),
            line_search=self.line_search,
        )


def make_training(
    environment: Environment,
    config: AgentConfig,
    make_agent: Callable[[Environment, AgentConfig], Agent],
) -> Training:
    """A training of some agent, epoch by epoch.

    Raises:
        ValueError: If the configuration cannot work, before anything is compiled.
    """
    config.check(environment)
    return training.make_training(environment, make_agent(environment, config), config)
