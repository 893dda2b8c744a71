"""Flags that would change nothing beside others: named before anything compiles."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from sobolax.tangents.methods import Derivatives
from sobolax.training.config import LoopConfig

_DERIVATIVES = tuple(
    f"derivatives.{entry.name.replace('_', '-')}" for entry in dataclasses.fields(Derivatives)
)
# Of the critic's gradients alone, and of an actor's that goes through the simulator too.
_CRITIC = (
    *("state-weight", "action-weight", "weighting", "huber-delta"),
    *("tangent-dtype", "state-directions", "action-directions"),
)
# Of the critic's gradients as far as they have a weight.
_OF_WEIGHTS = (
    *("weighting", "huber-delta", "gradient-target", "gradient-units", "trust"),
    *("gradient-fraction", "gradients-at"),
    *("teacher", "teacher-learning-rate", "teacher-tangent-weight"),
)
_SIMULATOR = ("policy-response", "tangent-bound", *_DERIVATIVES)


def _of_replay(config: LoopConfig) -> list[tuple[bool, str, Sequence[str]]]:
    """Rules for what only a training with a replay buffer has."""
    source, derivatives = config.first_order, config.derivatives
    # Any of these looks at differences along the tangents.
    differs = derivatives.method == "differences" or derivatives.max_disagreement is not None
    return [
        (
            source in ("recomputed", "reverse"),
            f"--first-order {source}, which stores no tangents",
            ("tangent-dtype",),
        ),
        (
            config.state_directions == 0,
            "--state-directions 0, which takes no gradient along the state",
            ("state-weight", "gradient-units"),
        ),
        (
            config.action_directions == 0,
            "--action-directions 0, which takes no gradient along the action",
            ("action-weight",),
        ),
        (
            source == "reverse",
            "--first-order reverse, which computes no tangents",
            ("tangent-bound", *_DERIVATIVES),
        ),
        (
            getattr(config, "teacher", "fitted") == "simulator",
            "--teacher simulator, which is not fitted",
            ("teacher-learning-rate", "teacher-tangent-weight"),
        ),
        (
            getattr(config, "critic_smoothness", "") == "none",
            "--critic-smoothness none",
            ("smoothness-weight",),
        ),
        (
            getattr(config, "gradient_target", "bellman") == "zero",
            "--gradient-target zero, which no target's gradient enters",
            ("policy-response",),
        ),
        (
            derivatives.smoothing_samples == 1,
            "--derivatives.smoothing-samples 1",
            ("derivatives.smoothing-scale",),
        ),
        (
            not differs,
            f"--derivatives.method {derivatives.method}, without --derivatives.max-disagreement",
            ("derivatives.difference-step",),
        ),
    ]


def _weightless(config: Any, hyper: Any) -> bool:
    """Whether nothing takes gradients: no critic, nor an actor that goes through the simulator."""
    weights = [getattr(hyper, name, 0.0) for name in ("state_weight", "action_weight")]
    return not any(weights) and getattr(config, "actor_gradient", "critic") == "critic"


def check_idle_flags(given: Collection[str], config: Any, hyper: Any, checkpoints: bool) -> None:
    """Checks that every flag that was given has an effect beside the others.

    Args:
        given: Names of the flags on the command line, as `experiments.launch.flags.given_flags`
            finds them.
        config: The agent's configuration, all flags and presets applied.
        hyper: Its hyperparameters, where each has one value.
        checkpoints: Whether checkpoints are taken.

    Raises:
        ValueError: Naming the flag, why it has no effect, and what to do.
    """
    noise = getattr(hyper, "target_action_noise", 1.0)
    rules: list[tuple[bool, str, Sequence[str]]] = [
        (
            config.first_order == "off",
            "--first-order off, which takes no gradients",
            _CRITIC if getattr(config, "keeps_states", False) else (*_CRITIC, *_SIMULATOR),
        ),
        (
            config.first_order != "off" and _weightless(config, hyper),
            "weights of 0, which leave no gradients in the loss",
            _OF_WEIGHTS,
        ),
        (
            config.report_states == 0,
            "--report-states 0, which leaves the critic report out",
            ("report-horizon", "report-draws"),
        ),
        (
            not checkpoints,
            "--no-checkpoints",
            ("checkpoint-seconds", "keep-checkpoints"),
        ),
        (noise == 0.0, "--target-action-noise 0", ("target-action-noise-bound",)),
        (
            getattr(hyper, "initial_temperature", 1.0) == 0.0,
            "--initial-temperature 0, which has no entropy bonus",
            ("temperature-learning-rate", "target-entropy"),
        ),
    ]
    if isinstance(config, LoopConfig):
        rules += _of_replay(config)
    for applies, beside, flags in rules:
        for flag in flags if applies else ():
            if flag in given:
                raise ValueError(f"--{flag} has no effect beside {beside}: leave one of them out")
