"""What every training program has in common: sizes, counts, evaluation, and which loop it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sobolax.checks import (
    LARGEST_COUNT,
    check_counts,
    check_flags,
    check_multiple,
    check_structure,
    owner_of,
)
from sobolax.environment import Environment
from sobolax.tangents.sources import Source, make_source
from sobolax.training.agent import Agent


@dataclass(frozen=True)
class Loop:
    """How a training begins and what an epoch of it learns; see `sobolax.training.loop.Training`.

    Attributes:
        start: `(setup, key, hyperparameters) -> TrainingState`.
        learn: `(setup, state, hyperparameters, index of the epoch) -> (state, metrics)`.
        gives_windows: Whether the agent's `update` is handed windows, see `Agent.takes_windows`.

    Example:
        >>> from sobolax.training.config import LoopConfig
        >>> loop = LoopConfig().make_loop()
        >>> loop.start.__module__, loop.learn.__module__
        ('sobolax.training.collection', 'sobolax.training.updates')
    """

    start: Callable[..., Any]
    learn: Callable[..., tuple[Any, Any]]
    gives_windows: bool = False


@dataclass(frozen=True)
class TrainingConfig:
    """What shapes every training program: sizes, counts, evaluation. All of it is static.

    Attributes:
        total_timesteps: Steps of all environments together, over the whole training.
        num_envs: Environments that are stepped side by side.
        epochs: Parts the training is split into; after each the policy is evaluated, the critic
            reported on, and the metrics reach the host.
        normalize_observations: Whether networks see observations centred and scaled by running
            statistics.
        evaluation_episodes: Episodes of an evaluation.
        check_tangents: Whether there is a `check` of a sample of tangents, which commands run once
            beside the training (see `sobolax.training.tangent_check`).
        report_states: States that the critic report looks at, from as many episodes of the
            evaluation, at least 2; 0 for no report.
        report_horizon: Steps of its rollouts.
        report_draws: Draws of the policy's noise that its references are averaged over.

    Example:
        >>> from sobolax.agents import sac, shac
        >>> isinstance(sac.Config(), TrainingConfig), isinstance(shac.Config(), TrainingConfig)
        (True, True)
    """

    total_timesteps: int = 32_768
    num_envs: int = 16
    epochs: int = 8
    normalize_observations: bool = True
    evaluation_episodes: int = 16
    check_tangents: bool = True
    report_states: int = 16
    report_horizon: int = 100
    report_draws: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Steps of every environment in an epoch."""
        return self.total_timesteps // (self.num_envs * self.epochs)

    @property
    def updates(self) -> int:
        """Updates of the whole training."""
        return 0

    @property
    def evaluated_states(self) -> int:
        """Environments of an evaluation, those of the critic report included."""
        return self.evaluation_episodes + self.report_states * self.report_draws

    @property
    def gradient_mode(self) -> str | None:
        """How the simulator's derivatives come in: "forward", "reverse", or None for not at all."""
        return None

    @property
    def actor_differentiates(self) -> bool:
        """Whether the actor learns from the simulator's derivatives, whatever the critic does."""
        return False

    @property
    def difference_step(self) -> float | None:
        """Step of central differences; None for one that fits the precision."""
        return None

    @property
    def stored_states(self) -> int:
        """Whole states of environments that an update keeps, beside the training's own state."""
        return 0

    @property
    def counts_coordinates(self) -> bool:
        """Whether running statistics of the environment's local coordinates are kept."""
        return False

    @property
    def bonus_interval(self) -> int:
        """Steps from one entropy bonus to the next in what the critic learns."""
        return 1

    def look_ahead(self, environment: Environment) -> Environment:
        """The environment whose steps are differentiated."""
        return environment

    def make_loop(self) -> Loop:
        """How the training begins and learns."""
        raise NotImplementedError(f"{owner_of(self)} has no loop: take the Config of an agent")

    def make_source(self, environment: Environment) -> Source:
        """The source of gradients for an environment: none, unless the configuration has one."""
        return make_source("off", environment)

    def make_agent(self, environment: Environment) -> Agent:
        """The agent for an environment; the `Config` of an agent knows which."""
        raise NotImplementedError(f"{owner_of(self)} has no agent: hand one to make_training")

    @property
    def parts(self) -> dict[str, int]:
        """Counts that devices share in equal parts, by name (`sobolax.training.sharding`)."""
        return {"num_envs": self.num_envs}

    def check(self, environment: Environment) -> None:
        """Raises ValueError, saying what to do instead, for what cannot work; compiles nothing."""
        owner = owner_of(self)
        counts = ("total_timesteps", "num_envs", "epochs", "evaluation_episodes", "report_draws")
        check_counts(
            owner, self, dict.fromkeys(counts, 1) | {"report_states": 0, "report_horizon": 2}
        )
        steps, whole = self.total_timesteps, self.num_envs * self.epochs
        check_multiple(owner, "total_timesteps", steps, "num_envs * epochs", whole)
        if self.report_states > self.evaluation_episodes:
            raise ValueError(
                f"{owner}: report_states={self.report_states} is more than "
                f"evaluation_episodes={self.evaluation_episodes}, and every state comes from an "
                "episode of its own: lower the one or raise the other"
            )
        if self.report_states == 1:
            raise ValueError(
                f"{owner}: report_states=1 has no spread of returns, which value_error is relative "
                "to: choose 2 or more (and evaluation_episodes at least as many), or 0 for no "
                "report"
            )
        check_flags(owner, self, ["normalize_observations", "check_tangents"])
        check_structure(environment)

    def _check_updates(self, owner: str, factor: str) -> None:
        """See `check`; `factor` is the field that says how many updates steps bring."""
        if self.updates > LARGEST_COUNT:
            raise ValueError(
                f"{owner}: total_timesteps={self.total_timesteps} with {factor}="
                f"{getattr(self, factor)} makes {self.updates:,} updates, but there can be at most "
                f"{LARGEST_COUNT:,}: lower one"
            )
