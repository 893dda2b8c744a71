"""The configurations of a sweep, from the values of its hyperparameters."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.launch.memory import check_listed

SweepConfig = Mapping[str, float]  # hyperparameters that vary, by name

_DIGITS = 4  # significant digits of drawn values, so that they can be read and typed
_RANGE = ".."


@dataclass(frozen=True)
class Axis:
    """The values of one hyperparameter.

    Attributes:
        name: Name of the hyperparameter.
        values: The listed values; empty for a range.
        bounds: Both ends of a range, from which a random sweep draws log-uniformly.
    """

    name: str
    values: tuple[float, ...] = ()
    bounds: tuple[float, float] | None = None

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return self.bounds is not None or len(self.values) > 1


def parse_axis(name: str, words: Sequence[str]) -> Axis:
    """Reads `0.1 1 10`, values, or `1e-3..10`, a range.

    Raises:
        ValueError: If there is no value, a value cannot be read or occurs twice, or the bounds of
            a range are out of order.
    """
    flag = f"--{name.replace('_', '-')}"
    if not words:
        raise ValueError(f"{flag} names no value: the grid is empty. Give it one value or more")
    ranges = [word for word in words if _RANGE in word]
    if not ranges:
        values = tuple(_number(flag, word) for word in words)
        seen: set[np.float32] = set()  # the program computes in single precision
        for value in values:
            if np.float32(value) in seen:
                raise ValueError(f"{flag} names {value:g} twice: name each value once")
            seen.add(np.float32(value))
        return Axis(name, values)
    if len(words) > 1:
        raise ValueError(
            f"{flag} {' '.join(words)} mixes a range with other values: give it a range, or values"
        )
    low, _, high = ranges[0].partition(_RANGE)
    bounds = _number(flag, low), _number(flag, high)
    if not 0 < bounds[0] < bounds[1] < math.inf:
        raise ValueError(
            f"{flag} {ranges[0]} must be LOW..HIGH with 0 < LOW < HIGH, as values are drawn "
            "log-uniformly; list values instead"
        )
    return Axis(name, bounds=bounds)


def make_configs(axes: Sequence[Axis], draws: int | None, seed: int) -> tuple[SweepConfig, ...]:
    """All configurations of a sweep, no two the same.

    Args:
        axes: The hyperparameters that vary.
        draws: Number of configurations to draw; None for the whole grid. Ranges are drawn
            log-uniformly, lists uniformly.
        seed: Seed of the draws. A larger number of draws begins with the same ones.

    Raises:
        ValueError: If nothing varies, a range has no draws, or the grid has fewer configurations.
    """
    if not axes:
        raise ValueError(
            "nothing varies: give a hyperparameter several values, such as --state-weight 0.1 1 "
            "(python -m experiments.train runs a single configuration)"
        )
    names = [axis.name for axis in axes]
    ranges = [axis for axis in axes if axis.bounds is not None]
    if draws is None:
        if ranges:
            flag = ranges[0].name.replace("_", "-")
            raise ValueError(f"--{flag} is a range: add --random N to draw from it, or list values")
        check_listed(math.prod(len(axis.values) for axis in axes))
        points = list(itertools.product(*(axis.values for axis in axes)))
    else:
        if draws < 1:
            raise ValueError(f"--random {draws} must be at least 1")
        size = math.inf if ranges else math.prod(len(axis.values) for axis in axes)
        if draws > size:
            raise ValueError(
                f"--random {draws} is more than the grid's {size} configurations: leave it out to "
                "try all"
            )
        check_listed(draws)
        generator = np.random.default_rng(seed)
        found: dict[tuple[float, ...], None] = {}
        misses = 0
        while len(found) < draws:
            before = len(found)
            found[tuple(_draw(axis, generator) for axis in axes)] = None
            misses = 0 if len(found) > before else misses + 1
            # The last of n values is found within n draws in the mean.
            if misses > 1000 + 50 * len(found):
                narrow = " ".join(f"{bound:g}" for axis in ranges for bound in axis.bounds or ())
                raise ValueError(
                    f"--random {draws}: draws from {narrow} are rounded to {_DIGITS} digits, and "
                    f"no more than {len(found)} of them differ: ask for fewer, or widen the range"
                )
        points = list(found)
    return tuple(dict(zip(names, point, strict=True)) for point in points)


def name_of(config: SweepConfig) -> str:
    """`state_weight=0.1 action_weight=1`."""
    return " ".join(f"{name}={value:.9g}" for name, value in config.items())


def _draw(axis: Axis, generator: np.random.Generator) -> float:
    if axis.bounds is None:
        return float(generator.choice(axis.values))
    low, high = map(math.log, axis.bounds)
    drawn = math.exp(generator.uniform(low, high))
    return min(max(float(f"{drawn:.{_DIGITS}g}"), axis.bounds[0]), axis.bounds[1])


def _number(flag: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise ValueError(
            f"{flag} takes numbers, such as 0.1 1, or a range, such as 1e-3..10, but got {word!r}"
        ) from None
    if math.isnan(value):
        raise ValueError(f"{flag} nan is no value")
    return value
