"""What is compared: families of variants, and the programs that train them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sobolax
from experiments.launch.configuration import Variant
from experiments.studies.selection import Hyperparameters
from sobolax.controls import GRADIENT_TARGETS

if TYPE_CHECKING:
    from experiments.studies.scaling.options import Scaling

WEIGHTINGS = ("constant", "scale_free")

# A family's variants differ in what is chosen from; its best variant at each size stands for it.
PLAIN = {"plain": "plain SAC", "plain_more": "plain SAC, more updates"}
GRADIENTS = {
    "both": "λ_s and λ_a",
    "scale_free": "both, scale-free",
    "state_only": "λ_s only",
    "action_only": "λ_a only",
    "both_more": "λ_s and λ_a, more updates",
}
CONTROLS = {
    "zero": "gradient towards 0",
    "unit_norm": "gradient norm towards 1",
    "shuffled": "shuffled gradients",
    "random": "random gradients, same norm",
    "frozen": "policy's part frozen",
    "smoothed": "no gradients, smoothed target action",
}
LABELS = {**PLAIN, **GRADIENTS, **CONTROLS}

_SMOOTHING = 0.2  # TD3's, of actions in [-1, 1]
_SMOOTHED_REWARD_SCALES = (1.0, 0.1)  # relative: plain SAC's best scale is often the smaller one


@dataclass(frozen=True)
class Group:
    """Arms that are one compiled program.

    Attributes:
        name: What people call it.
        variants: Its variants.
        families: The family of each.
        settings: What each was chosen with, for tables.
        config: Of all of them.
        gradient_targets: What `gradient_target` of their hyperparameters points into.
        weightings: What `weighting` of their hyperparameters points into.
        ends_early: Whether training ends once all seeds of one of its variants are there.
    """

    name: str
    variants: tuple[Variant, ...]
    families: tuple[str, ...]
    settings: tuple[str, ...]
    config: sobolax.agents.sac.Config
    gradient_targets: tuple[str, ...] = ("bellman",)
    weightings: tuple[str, ...] = ("constant",)
    ends_early: bool = False


def make_groups(scaling: Scaling, size: int) -> tuple[Group, ...]:
    """The programs of a size that were asked for."""
    makers = {
        "gradients_more": lambda: _gradients_more(scaling, size),
        "gradients": lambda: _gradients(scaling, size),
        "plain": lambda: _plain(scaling, size, "plain", 1, scaling.plain_budget),
        "plain_more": lambda: _plain(
            scaling, size, "plain_more", scaling.more, scaling.plain_more_budget
        ),
    }
    return tuple(makers[name]() for name in dict.fromkeys(scaling.groups))


def make_config(
    scaling: Scaling, source: str, steps: int, more: int = 1, **changes: Any
) -> sobolax.agents.sac.Config:
    """What shapes the program of some variants."""
    values = {
        "total_timesteps": steps,
        "num_envs": scaling.num_envs,
        "epochs": max(1, steps // scaling.epoch_steps),
        "gradient_steps": scaling.gradient_steps * more,
        "learning_starts": scaling.learning_starts,
        "batch_size": scaling.batch_size,
        "replay_capacity": steps,
        "first_order": source,
        "hidden_sizes": tuple(scaling.hidden_sizes),
        "evaluation_episodes": scaling.evaluation_episodes,
        "report_states": 0,
    }
    return sobolax.agents.sac.Config(**{**values, **changes})


def make_hyper(scaling: Scaling, rate: float, weight: float, **changes: Any) -> Hyperparameters:
    """Hyperparameters that all variants of a family share, but for the changes."""
    values = {
        "state_weight": weight,
        "action_weight": weight,
        "discount": scaling.discount,
        "tau": scaling.tau,
        "critic_learning_rate": rate,
        "actor_learning_rate": rate,
        "temperature_learning_rate": rate,
        "reward_scale": scaling.reward_scale,
    }
    return Hyperparameters(**{**values, **changes})


def _setting(scaling: Scaling, weight: float) -> str:
    """What an arm with gradients was chosen with; a report merges variants by it."""
    scale = scaling.reward_scale
    return f"λ = {weight:g}" + (f", reward × {scale:g}" if scale != 1 else "")


def _plain(scaling: Scaling, size: int, family: str, more: int, budget: int) -> Group:
    variants, settings = [], []
    for rate in scaling.plain_learning_rates:
        for scale in scaling.plain_reward_scales:
            setting = f"lr {rate:g}, reward × {scale:g}"
            variants.append(
                Variant(f"{family}: {setting}", make_hyper(scaling, rate, 0.0, reward_scale=scale))
            )
            settings.append(setting)
    config = make_config(scaling, "off", scaling.steps_at(size) * budget, more)
    return Group(
        family, tuple(variants), (family,) * len(variants), tuple(settings), config, ends_early=True
    )


def _gradients_more(scaling: Scaling, size: int) -> Group:
    variants = tuple(
        Variant(
            f"both_more: {_setting(scaling, weight)}",
            make_hyper(scaling, scaling.learning_rate, weight),
        )
        for weight in scaling.weights
    )
    settings = tuple(_setting(scaling, weight) for weight in scaling.weights)
    config = make_config(scaling, scaling.source, scaling.steps_at(size), scaling.more)
    return Group("gradients_more", variants, ("both_more",) * len(variants), settings, config)


def _gradients(scaling: Scaling, size: int) -> Group:
    found: list[tuple[str, str, Hyperparameters]] = []
    controls = scaling.controls if size in scaling.control_sizes else ()
    # What no variant needs costs no compilation.
    targets = ("bellman", *(name for name in GRADIENT_TARGETS if name in controls))

    def add(family: str, weight: float, **changes: Any) -> None:
        hyper = make_hyper(scaling, scaling.learning_rate, weight, **changes)
        found.append((family, _setting(scaling, weight), hyper))

    for weight in scaling.weights:
        add("both", weight)
    for weight in scaling.scale_free_weights:
        add("scale_free", weight, weighting=WEIGHTINGS.index("scale_free"))
    for weight in scaling.weights:
        add("state_only", weight, action_weight=0.0)
        add("action_only", weight, state_weight=0.0)
    for name in controls:
        if name == "smoothed":
            for relative in _SMOOTHED_REWARD_SCALES:
                scale = scaling.reward_scale * relative
                changes = {"target_action_noise": _SMOOTHING, "reward_scale": scale}
                hyper = make_hyper(scaling, scaling.learning_rate, 0.0, **changes)
                found.append((name, f"reward × {scale:g}", hyper))
            continue
        for weight in scaling.control_weights:
            if name == "frozen":
                add(name, weight, policy_response=0.0)
            else:
                add(name, weight, gradient_target=targets.index(name))
    families, settings, hypers = zip(*found, strict=True)
    variants = tuple(
        Variant(f"{family}: {setting}", hyper)
        for family, setting, hyper in zip(families, settings, hypers, strict=True)
    )
    config = make_config(scaling, scaling.source, scaling.steps_at(size))
    return Group("gradients", variants, families, settings, config, targets, WEIGHTINGS)
