"""Tuned numbers, one entry per environment.

What an entry does not name keeps the library's default; what the command line names wins over both
(`experiments.configuration.merge` is where that happens). An entry looks like this:

    "chain": Preset(
        environment={"joints": 8},
        config={"environment_steps": 65_536, "epochs": 16},
        hyper={"state_weight": 1.0, "action_weight": 1.0, "discount": 0.97},
        seeds=5,
    )
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The weights of the Sobolev arm where an entry does not name its own.
DEFAULT_WEIGHTS = {"state_weight": 0.1, "action_weight": 0.1}


@dataclass(frozen=True)
class Preset:
    """What differs from the defaults in one environment.

    Attributes:
        environment: Keyword arguments of `envs.make`.
        config: Fields of `sobolax.sac.Config`; a nested dataclass is a nested mapping.
        hyper: Fields of `sobolax.sac.Hyperparameters` for the Sobolev arm. The plain arm has the
            same ones, with both weights at zero.
        seeds: How many seeds each arm gets.
    """

    environment: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, float] = field(default_factory=dict)
    seeds: int = 5


PRESETS: dict[str, Preset] = {}


def preset(name: str) -> Preset:
    """The tuned numbers of an environment; an environment without any gets the defaults."""
    found = PRESETS.get(name, Preset())
    return Preset(found.environment, found.config, {**DEFAULT_WEIGHTS, **found.hyper}, found.seeds)
