"""What is compared: the plain agent, gradients of some kinds, and controls."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PLAIN = "plain"


@dataclass(frozen=True)
class Choice:
    """One way to train the critic, everything else the same.

    Attributes:
        label: For tables and figures.
        kind: "baseline", "gradients", or "control": what must not gain if gradients do.
        config: Fields of the agent's `Config`.
        hyper: Fields of its `Hyperparameters`.
        updates: Factor of the updates of a step.
        steps: Factor of the environment's steps.
    """

    label: str
    kind: Literal["baseline", "gradients", "control"]
    config: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, Any] = field(default_factory=dict)
    updates: float = 1.0
    steps: float = 1.0


def _weights(value: float) -> Mapping[str, float]:
    return {"state_weight": value, "action_weight": value}


_TENTH, _ONE = _weights(0.1), _weights(1.0)

CHOICES: dict[str, Choice] = {
    PLAIN: Choice("plain", "baseline", {"first_order": "off"}),
    "raw": Choice("gradients as in the paper, λ = 0.1", "gradients", hyper=_TENTH),
    "raw_1": Choice("gradients as in the paper, λ = 1", "gradients", hyper=_ONE),
    "shuffled": Choice("shuffled gradients", "control", {"gradient_target": "shuffled"}, _TENTH),
    "zero": Choice("gradients towards 0", "control", {"gradient_target": "zero"}, _TENTH),
    "unit_norm": Choice(
        "gradients towards norm 1", "control", {"gradient_target": "unit_norm"}, _TENTH
    ),
    "differences": Choice(
        "gradients by differences", "gradients", {"derivatives": {"method": "differences"}}, _TENTH
    ),
    "more_updates": Choice(
        "plain, twice the updates", "control", {"first_order": "off"}, updates=2.0
    ),
    "more_data": Choice(
        "plain, twice the transitions", "control", {"first_order": "off"}, steps=2.0
    ),
}
