"""From steps of single runs to medians, choices, exponents and ratios; runs may be censored.

A run that never got there counts as infinitely many steps: medians and their order statistics
stay right as long as a majority got there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.report.intervals import Median, median
from experiments.report.rows import Rows
from experiments.studies.scaling.families import GRADIENTS, LABELS, PLAIN

_RESAMPLES = 2_000


@dataclass(frozen=True)
class Measured:
    """One variant at one number of dimensions.

    Attributes:
        rows: One for each seed.
        learning_starts: Environment steps before the first update.
    """

    rows: Rows
    learning_starts: int

    @property
    def family(self) -> str:
        """Its family."""
        return self.rows[0]["family"]

    @property
    def config(self) -> str:
        """What it was chosen with."""
        return self.rows[0]["config"]

    @property
    def reached(self) -> int:
        """How many seeds got there."""
        return int(np.isfinite(self.rows.column("steps")).sum())

    def costs(self, quantity: str) -> np.ndarray:
        """Steps, updates or seconds that each seed needed; inf for never."""
        steps = self.rows.column("steps")
        return self._cost(np.where(np.isnan(steps), np.inf, steps), quantity)

    def budget(self, quantity: str) -> float:
        """The same of a run that used up its budget."""
        return float(self._cost(self.rows.column("budget")[:1], quantity)[0])

    def needed(self, quantity: str) -> Median:
        """Median over seeds; inf where no majority got there."""
        return median(self.costs(quantity))

    def _cost(self, steps: np.ndarray, quantity: str) -> np.ndarray:
        if quantity == "steps":
            return steps
        row = self.rows[0]
        updates = np.maximum(steps - self.learning_starts, 0) * row["gradient_steps"]
        if quantity == "updates":
            return updates
        return steps * row["seconds_per_step"] + updates * row["seconds_per_update"]


@dataclass(frozen=True)
class Size:
    """All variants at one number of dimensions."""

    n: int
    variants: tuple[Measured, ...]

    def best(self, families: Sequence[str], quantity: str = "steps") -> Measured | None:
        """The variant of these families with the smallest median; if none got there, the best."""

        def rank(variant: Measured) -> tuple[float, float, float]:
            costs = variant.costs(quantity)
            shares = np.nan_to_num(variant.rows.column("best_share"), nan=-np.inf)
            return (_middle(costs), float(costs.mean()), -_middle(shares))

        own = [variant for variant in self.variants if variant.family in families]
        return min(own, key=rank, default=None)


def sizes_of(rows: Rows) -> list[Size]:
    """What was measured, by number of dimensions."""
    starts = rows.options["learning_starts"]
    return [
        Size(
            n,
            tuple(Measured(own, starts) for _, own in rows.where(n=n).groups("family", "config")),
        )
        for n in sorted(rows.distinct("n"))
    ]


def families_of(sizes: Sequence[Size]) -> list[str]:
    """Those that were run, in the order they are shown."""
    present = {variant.family for size in sizes for variant in size.variants}
    return [family for family in LABELS if family in present]


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


def exponent(sizes: Sequence[Size], family: str, quantity: str = "steps") -> Exponent | None:
    """The growth of a family's median with n, where a majority got there; None below two n."""
    draw = np.random.default_rng(0)
    found = []
    for size in sizes:
        variant = size.best([family])
        if variant is not None and math.isfinite(_middle(variant.costs(quantity))):
            found.append((size.n, variant.costs(quantity)))
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


def _middle(values: np.ndarray) -> float:
    """The median of `Measured.needed`, without its interval; inf where no majority got there."""
    return float(np.median(values))


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
        careful: Of the ends of their intervals that are nearest to each other; NaN without them.
        bound: Whether the ratio is a lower bound: plain SAC did not get there in its budget.
    """

    plain: Measured
    gradients: Measured
    ratio: float
    careful: float
    bound: bool


def advantage(size: Size, quantity: str) -> Advantage | None:
    """How many times as much tuned plain SAC needs; None where one of the two was not run.

    Of plain SAC's families the one counts that needs least, for this quantity; one that did not
    get there counts with its budget, and the ratio is a lower bound then.
    """
    gradients = size.best(list(GRADIENTS))
    plain = [variant for family in PLAIN if (variant := size.best([family], quantity)) is not None]
    if gradients is None or not plain:
        return None

    def least(variant: Measured) -> tuple[float, bool]:
        found = variant.needed(quantity).median or math.inf
        return (found, False) if math.isfinite(found) else (variant.budget(quantity), True)

    nearest = min(plain, key=least)
    needed, bound = least(nearest)
    theirs, ours = nearest.needed(quantity), gradients.needed(quantity)
    if ours.median is None or not math.isfinite(ours.median):
        return Advantage(nearest, gradients, math.nan, math.nan, bound)
    careful = math.nan
    if theirs.low is not None and ours.high is not None:
        careful = min(theirs.low, nearest.budget(quantity)) / ours.high
    return Advantage(nearest, gradients, needed / ours.median, careful, bound)
