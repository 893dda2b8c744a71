"""The variants of each family, and the programs that train them."""

from dataclasses import dataclass, replace
from typing import Any

import sobolax
from experiments.launch.configuration import Variant, make_environment
from experiments.studies.scaling.options import Options, check
from experiments.studies.scaling.references import TASKS
from experiments.studies.selection import Hyperparameters, make_training
from experiments.studies.study import Plan
from sobolax.controls import GRADIENT_TARGETS
from sobolax.environment import Environment

WEIGHTINGS = ("constant", "scale_free")
_SMOOTHING = 0.2  # TD3's, of actions in [-1, 1]
_SMOOTHED_REWARD_SCALES = (1.0, 0.1)  # relative: plain SAC's best scale is often the smaller one


@dataclass(frozen=True)
class Group:
    """Variants that are one compiled program.

    Attributes:
        name: Its display name.
        variants: Its variants.
        families: The family of each.
        configs: What each was chosen with, for tables.
        config: Of all of them.
        gradient_targets: What `gradient_target` of their hyperparameters points into.
        weightings: What `weighting` of their hyperparameters points into.
        ends_early: Whether training ends once all seeds of one of its variants are there.
    """

    name: str
    variants: tuple[Variant, ...]
    families: tuple[str, ...]
    configs: tuple[str, ...]
    config: sobolax.agents.sac.Config
    gradient_targets: tuple[str, ...] = ("bellman",)
    weightings: tuple[str, ...] = ("constant",)
    ends_early: bool = False


@dataclass(frozen=True)
class Job:
    """A group at one number of dimensions.

    Attributes:
        n: The number.
        environment: Of so many dimensions.
        group: What is trained.
    """

    n: int
    environment: Environment
    group: Group


def prepare(options: Options) -> Plan[Options, Job]:
    """Checks the options.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    check(options)
    options = replace(options, sizes=tuple(sorted(set(options.sizes))))
    parameters: dict[int, dict[str, Any]] = {
        n: {TASKS[options.env].parameter: n} for n in options.sizes
    }
    try:
        made = {n: make_environment(options.env, given) for n, given in parameters.items()}
    except ValueError as error:
        sizes = " ".join(map(str, options.sizes))
        raise ValueError(f"--sizes {sizes}: {error}") from error
    jobs = [Job(n, made[n], group) for n in made for group in make_groups(options, n)]
    for job in jobs:
        group = job.group
        make_training(job.environment, group.config, group.gradient_targets, group.weightings)
    return Plan(options, {f"n = {job.n}, {job.group.name}": job for job in jobs}, options.env)


def make_groups(options: Options, size: int) -> tuple[Group, ...]:
    """The selected programs of a size."""
    makers = {
        "gradients_more": lambda: _gradients_more(options, size),
        "gradients": lambda: _gradients(options, size),
        "plain": lambda: _plain(options, size, "plain", 1, options.plain_budget),
        "plain_more": lambda: _plain(
            options, size, "plain_more", options.more, options.plain_more_budget
        ),
    }
    return tuple(makers[name]() for name in dict.fromkeys(options.groups))


def make_config(
    options: Options, source: str, steps: int, more: int = 1, **changes: Any
) -> sobolax.agents.sac.Config:
    """Static configuration of the program of some variants."""
    values = {
        "total_timesteps": steps,
        "num_envs": options.num_envs,
        "epochs": max(1, steps // options.epoch_steps),
        "gradient_steps": options.gradient_steps * more,
        "learning_starts": options.learning_starts,
        "batch_size": options.batch_size,
        "replay_capacity": steps,
        "first_order": source,
        "hidden_sizes": tuple(options.hidden_sizes),
        "evaluation_episodes": options.evaluation_episodes,
        "report_states": 0,
    }
    if source != "off":
        values |= {"gradient_units": options.gradient_units, "trust": options.trust}
    return sobolax.agents.sac.Config(**{**values, **changes})


def make_hyper(options: Options, rate: float, weight: float, **changes: Any) -> Hyperparameters:
    """Hyperparameters that all variants of a family share, but for the changes."""
    values = {
        "state_weight": weight,
        "action_weight": weight,
        "discount": options.discount,
        "tau": options.tau,
        "critic_learning_rate": rate,
        "actor_learning_rate": rate,
        "temperature_learning_rate": rate,
        "reward_scale": options.reward_scale,
    }
    return Hyperparameters(**{**values, **changes})


def _label(options: Options, weight: float) -> str:
    """What a variant with gradients was chosen with; a report merges variants by it."""
    scale, units, trust = options.reward_scale, options.gradient_units, options.trust
    parts = [f"λ = {weight:g}", f"reward × {scale:g}" if scale != 1 else ""]
    parts += [units if units != "raw" else "", f"{trust} trust" if trust != "full" else ""]
    return ", ".join(part for part in parts if part)


def _plain(options: Options, size: int, family: str, more: int, budget: int) -> Group:
    variants, configs = [], []
    for rate in options.plain_learning_rates:
        for scale in options.plain_reward_scales:
            label = f"lr {rate:g}, reward × {scale:g}"
            variants.append(
                Variant(f"{family}: {label}", make_hyper(options, rate, 0.0, reward_scale=scale))
            )
            configs.append(label)
    config = make_config(options, "off", options.steps_at(size) * budget, more)
    return Group(
        family, tuple(variants), (family,) * len(variants), tuple(configs), config, ends_early=True
    )


def _gradients_more(options: Options, size: int) -> Group:
    variants = tuple(
        Variant(
            f"both_more: {_label(options, weight)}",
            make_hyper(options, options.learning_rate, weight),
        )
        for weight in options.weights
    )
    configs = tuple(_label(options, weight) for weight in options.weights)
    config = make_config(options, options.source, options.steps_at(size), options.more)
    return Group("gradients_more", variants, ("both_more",) * len(variants), configs, config)


def _gradients(options: Options, size: int) -> Group:
    found: list[tuple[str, str, Hyperparameters]] = []
    controls = options.controls if size in options.control_sizes else ()
    # What no variant needs costs no compilation.
    targets = ("bellman", *(name for name in GRADIENT_TARGETS if name in controls))

    def add(family: str, weight: float, **changes: Any) -> None:
        hyper = make_hyper(options, options.learning_rate, weight, **changes)
        found.append((family, _label(options, weight), hyper))

    for weight in options.weights:
        add("both", weight)
    for weight in options.scale_free_weights:
        add("scale_free", weight, weighting=WEIGHTINGS.index("scale_free"))
    for weight in options.weights:
        add("state_only", weight, action_weight=0.0)
        add("action_only", weight, state_weight=0.0)
    for name in controls:
        if name == "smoothed":
            for relative in _SMOOTHED_REWARD_SCALES:
                scale = options.reward_scale * relative
                changes = {"target_action_noise": _SMOOTHING, "reward_scale": scale}
                hyper = make_hyper(options, options.learning_rate, 0.0, **changes)
                found.append((name, f"reward × {scale:g}", hyper))
            continue
        for weight in options.control_weights:
            if name == "frozen":
                add(name, weight, policy_response=0.0)
            else:
                add(name, weight, gradient_target=targets.index(name))
    families, configs, hypers = zip(*found, strict=True)
    variants = tuple(
        Variant(f"{family}: {label}", hyper)
        for family, label, hyper in zip(families, configs, hypers, strict=True)
    )
    config = make_config(options, options.source, options.steps_at(size))
    return Group("gradients", variants, families, configs, config, targets, WEIGHTINGS)
