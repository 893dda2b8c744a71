"""What the toy is asked for, and what can be checked before anything compiles."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from envs.analytic.scalar import KINDS
from experiments.launch import run_folder
from experiments.studies.toy.critics import CRITICS
from experiments.studies.toy.fit import CHUNK, Sizes

LARGEST = 100_000


@dataclass(frozen=True)
class Toy:
    """Fitted Q iteration on systems with one state, one action and a known Q*.

    Plain learning beside Sobolev learning and the controls: leaves a table, plots and JSON.

    Attributes:
        study: "main" for the table of docs/results/toy.md; "tuning" for what its learning rates and
            weights were chosen by, which is no part of the table and takes longer.
        systems: Which systems, of "linear", "smooth", "steep" and "contact".
        critics: Which critics beside the main one, swish.
        transitions: How many transitions the controls and the critics are compared at.
        sizes: How many transitions plain and Sobolev learning are compared at.
        seeds: Networks and data sets; every variant and critic gets the same.
        iterations: Of fitted Q iteration.
        updates: Steps of Adam per iteration.
        seed: Where random numbers start.
        output: Folder, new or empty; None for a new one under runs/.
    """

    study: Literal["main", "tuning"] = "main"
    systems: tuple[str, ...] = ("linear", "smooth", "contact")
    critics: tuple[str, ...] = tuple(CRITICS)
    transitions: int = 16
    sizes: tuple[int, ...] = (8, 16, 32, 64, 256, 1024)
    seeds: int = 20
    iterations: int = 60
    updates: int = 50
    seed: int = 0
    output: Path | None = None

    @property
    def shape(self) -> Sizes:
        """What shapes the programs."""
        most = max(*self.sizes, 3 * self.transitions)
        capacity = -(-most // CHUNK) * CHUNK
        return Sizes(self.iterations, self.updates, capacity=capacity)


@dataclass(frozen=True)
class Prepared:
    """Options that are known to be sound; nothing is compiled and nothing written yet."""

    toy: Toy
    folder: Path


def prepare(toy: Toy) -> Prepared:
    """Checks what was asked for; compiles nothing.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    for name in ("seeds", "iterations", "updates", "transitions"):
        value = getattr(toy, name)
        _check(name, value, 1 <= value <= LARGEST, f"from 1 to {LARGEST}")
    rising = all(a < b for a, b in zip(toy.sizes, toy.sizes[1:], strict=False))
    sound = bool(toy.sizes) and toy.sizes[0] >= 1 and toy.sizes[-1] <= LARGEST and rising
    _check("sizes", toy.sizes, sound, f"rising numbers from 1 to {LARGEST}, such as 8 32 128")
    _check("seed", toy.seed, 0 <= toy.seed < 2**31, "from 0 to 2**31 - 1")
    for name, known in (("systems", KINDS), ("critics", tuple(CRITICS))):
        for value in getattr(toy, name):
            if value not in known:
                raise ValueError(f"--{name} {value!r} is unknown: choose from {', '.join(known)}")
    if not toy.systems:
        raise ValueError(f"--systems names none: choose from {', '.join(KINDS)}")
    toy = replace(
        toy,
        systems=tuple(dict.fromkeys(toy.systems)),
        critics=tuple(dict.fromkeys(toy.critics)),
    )
    return Prepared(toy, run_folder.choose(toy.output, "toy", [toy.study]))


def _check(name: str, value: object, sound: bool, rule: str) -> None:
    if not sound:
        raise ValueError(f"--{name} {value} must be {rule}")
