"""From steps of single runs to medians, choices, exponents and ratios; runs may be censored.

A run that never got there counts as infinitely many steps: medians and their order statistics
stay right as long as a majority got there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom

from experiments.studies.scaling.variants import GRADIENTS, LABELS, PLAIN

Size = Mapping[str, Any]
Variant = Mapping[str, Any]
QUANTITIES = ("steps", "updates", "seconds")
_COVERAGE = 0.9
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Median:
    """A median over seeds with a distribution-free interval; inf where it is censored.

    Attributes:
        middle: The median.
        low: Lower end of the interval.
        high: Upper end of it.
        coverage: How often such an interval holds the median, at least.
    """

    middle: float
    low: float
    high: float
    coverage: float


@dataclass(frozen=True)
class Exponent:
    """The gradient of a straight line through logarithms.

    Attributes:
        value: The exponent.
        low: Lower end of a 95 % bootstrap interval over seeds.
        high: Upper end of it.
        factor: The line's value at n = 1.
        sizes: The n it is fitted to.
    """

    value: float
    low: float
    high: float
    factor: float
    sizes: tuple[int, ...]


def median(values: Sequence[float]) -> Median:
    """Median and the narrowest interval of order statistics that covers it in 90 % of cases.

    With fewer than 5 values not even their whole range does; that is what is given then.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = ordered.size
    cut = 0
    while cut + 1 <= (count - 1) // 2 and 1 - 2 * binom.cdf(cut + 1, count, 0.5) >= _COVERAGE:
        cut += 1
    coverage = 1 - 2 * binom.cdf(cut, count, 0.5)
    return Median(_middle(ordered), ordered[cut], ordered[-1 - cut], float(coverage))


def _middle(values: Any) -> float:
    """The median; of an even number the upper one, so that a majority got there."""
    ordered = np.sort(np.asarray(values, np.float64))
    return float(ordered[ordered.size // 2])


def values(size: Size, variant: Variant, quantity: str) -> list[float]:
    """Steps, updates or seconds that each seed needed; inf for never."""
    return [cost(size, variant, math.inf if s is None else s, quantity) for s in variant["steps"]]


def budget(size: Size, variant: Variant, quantity: str) -> float:
    """The same of a run that used up its budget."""
    return cost(size, variant, variant["budget"], quantity)


def cost(size: Size, variant: Variant, steps: float, quantity: str) -> float:
    """What so many environment steps are in updates, or in seconds."""
    if quantity == "steps" or not math.isfinite(steps):
        return steps
    updates = max(steps - size["learning_starts"], 0) * variant["gradient_steps"]
    if quantity == "updates":
        return updates
    price = size["prices"]["plain" if variant["family"] in PLAIN else "gradients"]
    return steps * price["seconds_per_step"] + updates * price["seconds_per_update"]


def best(size: Size, families: Sequence[str], quantity: str = "steps") -> Variant | None:
    """The arm of these families with the smallest median; if none got there, the best return."""
    variants = [variant for variant in size["variants"] if variant["family"] in families]

    def rank(variant: Variant) -> tuple[float, float, float]:
        numbers = values(size, variant, quantity)
        shares = [-math.inf if share is None else share for share in variant["best_shares"]]
        finite = [number for number in numbers if math.isfinite(number)]
        mean = float(np.mean(finite)) if len(finite) == len(numbers) else math.inf
        return (_middle(numbers), mean, -_middle(shares))

    return min(variants, key=rank, default=None)


def families_of(sizes: Sequence[Size]) -> list[str]:
    """Those that were run, in the order they are shown."""
    present = {variant["family"] for size in sizes for variant in size["variants"]}
    return [family for family in LABELS if family in present]


def exponent(sizes: Sequence[Size], family: str, quantity: str = "steps") -> Exponent | None:
    """The growth of a family's median with n, where a majority got there; None below two n."""
    draw = np.random.default_rng(0)
    found = []
    for size in sizes:
        variant = best(size, [family])
        if variant is not None and math.isfinite(_middle(values(size, variant, quantity))):
            found.append((size["n"], np.asarray(values(size, variant, quantity))))
    if len(found) < 2:
        return None
    numbers = np.array([n for n, _ in found])
    gradient, offset = _line(numbers, np.array([_middle(of) for _, of in found]))
    gradients = []
    for _ in range(_RESAMPLES):
        medians = np.array([_middle(draw.choice(of, of.size)) for _, of in found])
        kept = np.isfinite(medians)
        if kept.sum() >= 2:
            gradients.append(_line(numbers[kept], medians[kept])[0])
    low, high = np.quantile(gradients, [0.025, 0.975])
    return Exponent(gradient, float(low), float(high), math.exp(offset), tuple(numbers.tolist()))


def _line(numbers: np.ndarray, medians: np.ndarray) -> tuple[float, float]:
    gradient, offset = np.polyfit(np.log(numbers), np.log(medians), 1)
    return float(gradient), float(offset)


@dataclass(frozen=True)
class Advantage:
    """Tuned plain SAC over the best variant with gradients.

    Attributes:
        plain: Its best variant.
        gradients: The best variant with gradients.
        ratio: Of medians; NaN where the variant with gradients did not get there.
        careful: Of the ends of their intervals that are nearest to each other.
        bound: Whether the ratio is a lower bound: plain SAC did not get there in its budget.
    """

    plain: Variant
    gradients: Variant
    ratio: float
    careful: float
    bound: bool


def advantage(size: Size, quantity: str) -> Advantage | None:
    """How many times as much tuned plain SAC needs; None where one of the two was not run.

    Of plain SAC's families the one counts that needs least, for this quantity; one that did not
    get there counts with its budget, and the ratio is a lower bound then.
    """
    gradients = best(size, list(GRADIENTS))
    plain = [variant for family in PLAIN if (variant := best(size, [family], quantity)) is not None]
    if gradients is None or not plain:
        return None

    def least(variant: Variant) -> tuple[float, bool]:
        found = median(values(size, variant, quantity)).middle
        if math.isfinite(found):
            return found, False
        return budget(size, variant, quantity), True

    nearest = min(plain, key=least)
    needed, bound = least(nearest)
    low = min(median(values(size, nearest, quantity)).low, budget(size, nearest, quantity))
    ours = median(values(size, gradients, quantity))
    if not math.isfinite(ours.middle):
        return Advantage(nearest, gradients, math.nan, math.nan, bound)
    return Advantage(nearest, gradients, needed / ours.middle, low / ours.high, bound)
