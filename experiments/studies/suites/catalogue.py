"""The environments that are tried, and what they are called in the table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import envs

_BRAX = (
    "ant", "halfcheetah", "hopper", "humanoid", "humanoidstandup", "inverted_double_pendulum",
    "inverted_pendulum", "pusher", "reacher", "swimmer", "walker2d",
)  # fmt: skip
_BACKENDS = ("generalized", "positional", "spring", "mjx")
_GYMNASIUM = (
    "Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5", "InvertedPendulum-v5", "Pusher-v5", "Reacher-v5", "Swimmer-v5",
    "Walker2d-v5",
)  # fmt: skip
_GYMNAX = (
    "MountainCarContinuous-v0", "Pendulum-v1", "PointRobot-misc", "Reacher-misc", "Swimmer-misc",
    "CartPole-v1",
)  # fmt: skip
_DM_CONTROL = (
    "AcrobotSwingup", "AcrobotSwingupSparse", "BallInCup", "CartpoleBalance",
    "CartpoleBalanceSparse", "CartpoleSwingup", "CartpoleSwingupSparse", "CheetahRun", "FingerSpin",
    "FingerTurnEasy", "FingerTurnHard", "FishSwim", "HopperHop", "HopperStand", "HumanoidStand",
    "HumanoidWalk", "HumanoidRun", "PendulumSwingup", "PointMass", "ReacherEasy", "ReacherHard",
    "SwimmerSwimmer6", "WalkerRun", "WalkerStand", "WalkerWalk",
)  # fmt: skip
# One of each: all others need the same download.
_ROBOTS = ("Go1JoystickFlatTerrain", "PandaPickCube")


@dataclass(frozen=True)
class Candidate:
    """An environment to try.

    Attributes:
        name: For `envs.make`.
        parameters: For `envs.make`.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and parameters, for the table and the command line."""
        listed = ",".join(f"{key}={value}" for key, value in self.parameters.items())
        return f"{self.name}[{listed}]" if listed else self.name


def candidates() -> dict[str, Candidate]:
    """All of them, by label."""
    found = [
        *(Candidate(name) for name in envs.names()),
        *(Candidate(f"brax:{n}", {"backend": backend}) for n in _BRAX for backend in _BACKENDS),
        *(Candidate(f"gymnax:{name}") for name in _GYMNAX),
        *(Candidate(f"gymnasium:{name}") for name in _GYMNASIUM),
        *(Candidate(f"playground:{name}") for name in (*_DM_CONTROL, *_ROBOTS)),
    ]
    return {candidate.label: candidate for candidate in found}


def chosen(patterns: tuple[str, ...]) -> list[Candidate]:
    """The candidates with these labels, or with labels of which a pattern is a part; all for none.

    Raises:
        ValueError: For a pattern that is in no label.
    """
    known = candidates()
    wanted = set() if patterns else set(known)
    for pattern in patterns:
        found = {pattern} & set(known) or {label for label in known if pattern in label}
        if not found:
            raise ValueError(
                f"--names {pattern!r} is in no name: a part of one of {', '.join(known)}"
            )
        wanted |= found
    return [candidate for label, candidate in known.items() if label in wanted]
