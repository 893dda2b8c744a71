"""What is learned, and how many transitions and updates there are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """An environment, and what the agent is told about it.

    Attributes:
        env: A name that `envs.make` knows.
        config: Fields of the agent's `Config` that are its own.
        hyper: Fields of the agent's `Hyperparameters` that are its own.
    """

    env: str
    config: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Regime:
    """How much data there is, and how much is made of it.

    Attributes:
        about: For people.
        config: Fields of the agent's `Config`.
    """

    about: str
    config: Mapping[str, Any]


# Critic reports of chaotic tasks are rollouts whose gradients no critic could have: none there.
TASKS = {
    task.env: task
    for task in (
        Task("reacher", {"report_horizon": 50}, {"discount": 0.95}),
        Task("hopper"),
        Task("walker2d"),
        Task("pusher", {"report_horizon": 50}, {"discount": 0.95}),
        Task("ant"),
        Task("half_cheetah", {"report_states": 0}),
        Task("humanoid"),
        Task("chain", {"report_horizon": 60}, {"discount": 0.95}),
        Task("pendulum", {"report_horizon": 50}, {"discount": 0.95}),
    )
}

_SIZES: Mapping[str, Any] = {
    "num_envs": 8,
    "hidden_sizes": (128, 128),
    "evaluation_episodes": 8,
    "report_states": 8,
    "report_horizon": 100,
}

_LONG: Mapping[str, Any] = _SIZES | {
    "total_timesteps": 204_800,
    "epochs": 20,
    "gradient_steps": 4,
    "learning_starts": 4_096,
    "batch_size": 256,
    "tangent_dtype": "bfloat16",
}

# `configure` adds a replay buffer of all transitions.
REGIMES = {
    "few": Regime(
        "10,240 transitions, 4 updates each",
        _SIZES
        | {
            "total_timesteps": 10_240,
            "epochs": 10,
            "gradient_steps": 32,
            "learning_starts": 1_024,
            "batch_size": 128,
        },
    ),
    # The usual updates of SAC, where each costs as much as many steps of the environment.
    "few_1": Regime(
        "10,240 transitions, 1 update each",
        _SIZES
        | {
            "total_timesteps": 10_240,
            "epochs": 10,
            "gradient_steps": 8,
            "learning_starts": 1_024,
            "batch_size": 128,
        },
    ),
    "few_16": Regime(
        "5,120 transitions, 16 updates each",
        _SIZES
        | {
            "total_timesteps": 5_120,
            "epochs": 10,
            "gradient_steps": 128,
            "learning_starts": 512,
            "batch_size": 128,
        },
    ),
    "many": Regime(
        "102,400 transitions, half an update each", _LONG | {"total_timesteps": 102_400}
    ),
    "long": Regime("204,800 transitions, half an update each", _LONG),
    # As one program on a GPU.
    "long_64": Regime(
        "204,800 transitions of 64 environments, half an update each",
        _LONG | {"num_envs": 64, "epochs": 8, "gradient_steps": 32, "report_states": 0},
    ),
}
