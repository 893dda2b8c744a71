"""What the measurement varies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.launch.flags import check_seed, read_first
from experiments.studies.scaling.families import CONTROLS
from experiments.studies.study import check_flags, check_names


@dataclass(frozen=True)
class Options:
    """Measures what it takes to reach a stated return, against the number of dimensions.

    The defaults shown are the values that would run in the environment that --env names.

    The defaults take an hour or more on 2 cores, those of chain many hours. For a trial: `--sizes 1
    --seeds 2 --groups gradients plain`.

    Attributes:
        env: point_mass (of n dimensions) or chain (of n joints).
        sizes: The numbers of dimensions n.
        seeds: Seeds of every variant; all variants share them.
        seed: Seed of the random keys; 0 was used to choose learning rates and weights.
        share: The stated return: this share of the way from doing nothing to the reference
            controller.
        groups: What to train: variants with gradients and controls, plain SAC, and either with more
            updates per step. A report merges what was measured apart.
        steps: Environment steps of the variants with gradients, to which those per dimension are
            added.
        steps_per_dimension: More of them for each dimension; the sum is rounded up to epochs.
        plain_budget: Plain SAC gets this many times as many; it ends earlier once all seeds of one
            of its configs are there.
        plain_more_budget: The same for plain SAC with more updates per step.
        more: How many times as many updates per step those groups make.
        weights: Weights (lambda) to choose from, of both terms and of each alone.
        scale_free_weights: Weights to choose from with scale-free weighting.
        control_weights: Weights to choose from for controls.
        controls: Which controls to run.
        control_sizes: The n that controls run at, as far as they are among the sizes.
        plain_learning_rates: Learning rates to choose from for plain SAC.
        plain_reward_scales: Reward scales to choose from for plain SAC.
        learning_rate: Of all variants with gradients and controls.
        reward_scale: Of all variants with gradients and controls.
        discount: Of all variants.
        tau: Of all variants.
        hidden_sizes: Of actors and critics.
        batch_size: Transitions of an update.
        num_envs: Environments side by side in each run.
        gradient_steps: Updates after each step of all of them.
        learning_starts: Environment steps with random actions before the first update.
        epoch_steps: Environment steps between evaluations: how finely steps are resolved.
        evaluation_episodes: Episodes of an evaluation.
        source: Where gradients come from (see sobolax.tangents.sources); all but off are the same
        loss.
        gradient_units: What variants with gradients and controls measure them in: raw,
            observation_std or state_std.
        trust: How far they trust gradients where a step stretches: full, soft or hard.
        timing_steps: Environment steps per timed call, for the wall time.
    """

    env: Literal["point_mass", "chain"] = "point_mass"
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    seeds: int = 6  # the fewest whose range covers the median in 95 % of cases
    seed: int = 1
    share: float = 0.9
    groups: tuple[Literal["gradients", "plain", "plain_more", "gradients_more"], ...] = (
        "gradients",
        "plain",
        "plain_more",
    )
    steps: int = 2_048
    steps_per_dimension: int = 192
    plain_budget: int = 10
    plain_more_budget: int = 3
    more: int = 4
    weights: tuple[float, ...] = (0.1, 1.0, 10.0)
    scale_free_weights: tuple[float, ...] = (0.1, 1.0)
    control_weights: tuple[float, ...] = (1.0, 10.0)
    controls: tuple[str, ...] = tuple(CONTROLS)
    control_sizes: tuple[int, ...] = (2, 4, 8, 16)
    plain_learning_rates: tuple[float, ...] = (1e-3, 3e-3)
    plain_reward_scales: tuple[float, ...] = (0.1, 1.0)
    learning_rate: float = 3e-3
    reward_scale: float = 1.0
    discount: float = 0.95
    tau: float = 0.02
    hidden_sizes: tuple[int, ...] = (64, 64)
    batch_size: int = 64
    num_envs: int = 8
    gradient_steps: int = 4
    learning_starts: int = 256
    epoch_steps: int = 128
    evaluation_episodes: int = 16
    source: Literal["cached", "recomputed", "reverse"] = "reverse"
    gradient_units: str = "raw"
    trust: str = "full"
    timing_steps: int = 1_024

    def steps_at(self, size: int) -> int:
        """Environment steps of the variants with gradients at a size."""
        epochs = (self.steps + self.steps_per_dimension * size) / self.epoch_steps
        return math.ceil(epochs) * self.epoch_steps


DEFAULTS = {
    "point_mass": Options(),
    # MJX steps cost far more than an analytic one, and programs take a minute or two to compile.
    "chain": Options(
        env="chain",
        sizes=(2, 4, 8),
        steps=6_144,
        steps_per_dimension=256,
        plain_budget=3,
        plain_more_budget=1,
        weights=(1.0,),
        scale_free_weights=(1.0,),
        controls=("zero", "shuffled"),
        control_weights=(1.0,),
        control_sizes=(2, 4, 8),
        plain_learning_rates=(3e-4, 1e-3, 3e-3),
        plain_reward_scales=(1.0,),
        learning_rate=1e-3,
        epoch_steps=256,
        source="cached",
        timing_steps=512,
    ),
}


def defaults(argv: Sequence[str] | None) -> Options:
    """Those of the environment that a command line names."""
    [env] = read_first(argv, "--env")
    return DEFAULTS.get(env or "", Options())


def check(options: Options) -> None:
    """Checks what needs no environment.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    if options.controls:
        check_names("controls", options.controls, tuple(CONTROLS))
    counts = ("seeds", "steps", "plain_budget", "plain_more_budget", "more", "gradient_steps")
    counts += ("epoch_steps", "evaluation_episodes", "num_envs", "timing_steps")
    check_flags(options, counts, lambda x: x >= 1, "at least 1")
    check_seed(options.seed)
    check_flags(options, ["share"], lambda x: 0 < x < 1, "between 0 and 1")
    check_flags(options, ["groups"], bool, "one or more")
    check_flags(options, ["sizes"], lambda x: x and min(x) >= 1, "one or more, from 1 on")
    several = ("weights", "scale_free_weights", "control_weights")
    several += ("plain_learning_rates", "plain_reward_scales")
    check_flags(
        options,
        several,
        lambda x: x and all(0 < y < math.inf for y in x),
        "one or more finite numbers above 0",
    )
    numbers = ("learning_rate", "reward_scale")
    check_flags(options, numbers, lambda x: 0 < x < math.inf, "finite and above 0")
    check_flags(
        options,
        ("epoch_steps", "timing_steps"),
        lambda x: x % options.num_envs == 0,
        f"a multiple of --num-envs {options.num_envs}",
    )
    check_flags(options, ["steps_per_dimension"], lambda x: x >= 0, "at least 0")
