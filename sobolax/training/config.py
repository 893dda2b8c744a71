"""What shapes a training program, and whether it can work."""

import math
from dataclasses import dataclass, field
from typing import Any

from sobolax.checks import (
    check_choice,
    check_counts,
    check_multiple,
    owner_of,
)
from sobolax.environment import Environment
from sobolax.tangents.methods import Derivatives
from sobolax.tangents.sources import Source, check_source, make_source
from sobolax.tangents.storage import TANGENT_DTYPES
from sobolax.training.base_config import Loop, TrainingConfig
from sobolax.training.n_step import MultiStep
from sobolax.training.teacher import Teacher


@dataclass(frozen=True)
class LoopConfig(TrainingConfig):
    """What shapes a training with a replay buffer; see `sobolax.training.base_config` for the rest.

    Attributes:
        gradient_steps: Updates after every step of all environments.
        learning_starts: Environment steps with uniformly random actions before the first update.
        batch_size: Transitions of an update.
        n_step: Steps that a target looks ahead before it bootstraps (`sobolax.training.n_step`).
            Transitions reach the buffer `n_step - 1` steps late; that many steps of every
            environment, with random actions, come before the first one and are not counted. SAC's
            entropy bonus then comes with the bootstrapped value alone, once in `n_step` steps.
        replay_capacity: Transitions that the replay buffer holds.
        first_order: Where gradients come from: "cached", "recomputed", "reverse", or "off" (see
            `sobolax.tangents.sources`).
        state_directions: Random directions of the state per transition; None for all, 0 for no
            gradient along the state, whose weight then has no effect.
        action_directions: The same for the action.
        tangent_dtype: How stored tangents are kept: "float32", "bfloat16", "float16", "int8" or
            "int4" (see `sobolax.tangents.storage`). Only "cached" stores any; the others accept it,
            so that runs that are compared may share it.
        derivatives: How tangents are computed (see `sobolax.tangents.methods`).
        gradient_fraction: Share of the environments, of the memory and of every batch that have
            gradients. Weights mean what they mean at 1, as means do not change; 0.25 costs about a
            quarter of what gradients cost in time and memory.

    Example:
        >>> config = LoopConfig(total_timesteps=1_024, num_envs=16, learning_starts=256)
        >>> config.updates  # (1024 - 256) / 16 steps of all environments, 8 updates after each
        384
    """

    gradient_steps: int = 8
    learning_starts: int = 1_024
    batch_size: int = 256
    n_step: int = 1
    replay_capacity: int = 131_072
    first_order: str = "cached"
    state_directions: int | None = None
    action_directions: int | None = None
    tangent_dtype: str = "float32"
    derivatives: Derivatives = field(default_factory=Derivatives)
    gradient_fraction: float = 1.0

    @property
    def first_update_step(self) -> int:
        """Steps of every environment before the first update."""
        return math.ceil(self.learning_starts / self.num_envs)

    def make_teacher(self, environment: Environment) -> Teacher | None:
        """What tangents go through on their way from source to agent; None for nothing."""
        return None

    @property
    def keeps_states(self) -> bool:
        """Whether the replay buffer keeps states whatever `first_order` is, to step from them."""
        return False

    @property
    def gradient_envs(self) -> int:
        """Environments whose transitions have gradients: the first ones."""
        return round(self.gradient_fraction * self.num_envs)

    @property
    def gradient_batch(self) -> int:
        """Transitions of an update that have gradients."""
        return round(self.gradient_fraction * self.batch_size)

    @property
    def updates(self) -> int:
        """Updates of the whole training."""
        steps = self.total_timesteps // self.num_envs
        return (steps - self.first_update_step) * self.gradient_steps

    @property
    def parts(self) -> dict[str, int]:
        """Counts that devices share in equal parts, by name (`sobolax.training.sharding`)."""
        counts = super().parts | {"batch_size": self.batch_size}
        if self.gradient_fraction == 1:
            return counts
        return counts | {
            "gradient_fraction * num_envs": self.gradient_envs,
            "gradient_fraction * batch_size": self.gradient_batch,
        }

    def make_loop(self) -> Loop:
        """Collection, replay and updates."""
        from sobolax.training import collection, updates  # they know this module

        return Loop(collection.start, updates.learn)

    @property
    def directions(self) -> dict[str, int | None]:
        """How many random directions of each kind; None for the full basis, 0 for none at all."""
        return {"state": self.state_directions, "action": self.action_directions}

    @property
    def gradient_mode(self) -> str | None:
        """How the simulator's derivatives come in; differences and no gradients have none."""
        if self.first_order == "reverse":
            return "reverse"
        nothing = self.first_order == "off" and not self.actor_differentiates
        numerical = self.derivatives.method in ("differences", "mujoco_fd")
        return None if nothing or numerical else "forward"

    @property
    def difference_step(self) -> float | None:
        """Step of central differences; None for one that fits the precision."""
        return self.derivatives.difference_step

    @property
    def bonus_interval(self) -> int:
        """Steps from one entropy bonus to the next in what the critic learns."""
        return self.n_step

    def look_ahead(self, environment: Environment) -> Environment:
        """The environment whose step is a transition of the replay buffer."""
        return environment if self.n_step == 1 else MultiStep(environment, self.n_step)

    def make_source(self, environment: Environment) -> Source:
        """The source of gradients for an environment."""
        return make_source(
            self.first_order,
            self.look_ahead(environment),
            self.state_directions,
            self.action_directions,
            self.tangent_dtype,
            self.derivatives,
            self.keeps_states,
        )

    def check(self, environment: Environment) -> None:
        """Raises ValueError, saying what to do instead, for what cannot work; compiles nothing."""
        super().check(environment)
        owner = owner_of(self)
        counts = {"batch_size": 1, "n_step": 1, "replay_capacity": 1}
        check_counts(owner, self, counts | {"gradient_steps": 0, "learning_starts": 0})
        check_multiple(owner, "replay_capacity", self.replay_capacity, "num_envs", self.num_envs)
        self._check_updates(owner, "gradient_steps")
        if self.batch_size > self.replay_capacity:
            raise ValueError(
                f"{owner}: batch_size={self.batch_size} is larger than "
                f"replay_capacity={self.replay_capacity}: lower the one or raise the other"
            )
        if self.first_update_step * self.num_envs >= self.total_timesteps:
            raise ValueError(
                f"{owner}: learning_starts={self.learning_starts} leaves nothing of "
                f"total_timesteps={self.total_timesteps} to learn in, after whole steps of "
                f"num_envs={self.num_envs}: lower the one or raise the other"
            )
        check_choice(f"{owner}: tangent_dtype=", self.tangent_dtype, TANGENT_DTYPES)
        if not isinstance(self.derivatives, Derivatives):
            raise ValueError(
                f"{owner}: derivatives={self.derivatives!r} must be a "
                "sobolax.tangents.Derivatives, whose defaults are Derivatives()"
            )
        self._check_tangents(owner)
        if self.n_step > environment.episode_length:
            raise ValueError(
                f"{owner}: n_step={self.n_step} is longer than an episode of environment "
                f"{environment.name!r}, which has {environment.episode_length} steps: choose 1 to "
                f"{environment.episode_length}"
            )
        self._check_fraction(owner)
        check_source(
            self.first_order,
            self.look_ahead(environment),
            self.state_directions,
            self.action_directions,
            self.derivatives,
        )

    def _check_tangents(self, owner: str) -> None:
        """Options of tangents where there are none; see `check`."""
        if self.first_order == "reverse" and self.derivatives != Derivatives():
            raise ValueError(
                f"{owner}: derivatives={self.derivatives!r} would do nothing: "
                "first_order='reverse' pulls the step back and computes no tangents. Choose "
                "'cached' or 'recomputed', or leave derivatives out"
            )
        if self.first_order != "off":
            return
        plain: dict[str, Any] = {"state_directions": None, "action_directions": None}
        if not self.actor_differentiates:
            plain["derivatives"] = Derivatives()
        for name, value in plain.items():
            if (found := getattr(self, name)) != value:
                raise ValueError(
                    f"{owner}: {name}={found!r} would do nothing: first_order='off' has no "
                    "gradients. Choose first_order='cached', or leave it out"
                )

    def _check_fraction(self, owner: str) -> None:
        """See `check`."""
        share = self.gradient_fraction
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not 0 < share <= 1:
            raise ValueError(
                f"{owner}: gradient_fraction={share!r} must be above 0 and at most 1; "
                "first_order='off' is for no gradients at all"
            )
        if share == 1:
            return
        if self.first_order == "off":
            raise ValueError(
                f"{owner}: gradient_fraction={share} would do nothing: first_order='off' has no "
                "gradients. Choose first_order='cached', or leave it out"
            )
        for name in ("num_envs", "batch_size"):
            count = getattr(self, name)
            part = share * count
            if round(part) < 1 or abs(part - round(part)) > 1e-6 * count:
                common = math.gcd(self.num_envs, self.batch_size)
                nearest = max(1, round(share * common)) / common  # that divides both
                raise ValueError(
                    f"{owner}: gradient_fraction={share} of {name}={count} is {part:g}, but must "
                    f"be a whole number of at least 1: choose {nearest:g}, or another {name}"
                )
