"""Means and medians with 95 % confidence intervals over seeds, and paired differences.

`scipy.stats` is imported when a median or an unpaired difference is first computed: it takes a
second to load.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

COVERAGE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its confidence interval.

    Attributes:
        mean: The mean of the finite values; None where there is none.
        low: Lower end of the interval; None with fewer than two finite values.
        high: Upper end of it.
        count: How many values are finite, and so took part.
        total: How many there were.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int
    total: int

    @property
    def value(self) -> float | None:
        """The mean."""
        return self.mean


@dataclass(frozen=True)
class Median:
    """A median over seeds and its confidence interval.

    Attributes:
        median: The median, infinite where half of the values diverged; None without values.
        low: Lower end of the interval; None where there are too few values for one.
        high: Upper end of it.
        count: How many values are finite.
        total: How many there were.
    """

    median: float | None
    low: float | None
    high: float | None
    count: int
    total: int

    @property
    def value(self) -> float | None:
        """The median."""
        return self.median


def estimate(values: ArrayLike) -> Estimate:
    """Mean and Student's t interval of independent values, say one per seed.

    With few seeds a percentile bootstrap is too narrow; the t interval is exact for normal values.
    Values that are not finite are left out and show in `count < total`.
    """
    from scipy import special

    values = np.asarray(values, np.float64).ravel()
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return Estimate(None, None, None, 0, values.size)
    mean = float(finite.mean())
    if finite.size == 1:
        return Estimate(mean, None, None, 1, values.size)
    deviation = finite.std(ddof=1) / np.sqrt(finite.size)
    half = float(special.stdtrit(finite.size - 1, 0.5 + COVERAGE / 2) * deviation)
    return Estimate(mean, mean - half, mean + half, finite.size, values.size)


def paired_difference(values: ArrayLike, reference: ArrayLike) -> Estimate:
    """Estimate of `values - reference`, where entries at the same place share a seed."""
    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf is one of the values left out
        return estimate(values - reference)


def unpaired_difference(values: ArrayLike, others: ArrayLike) -> Estimate:
    """Difference of the means of independent values, say of other seeds, with Welch's t interval.

    Values that are not finite are left out and show in `count < total`, which add up both samples.
    """
    from scipy import stats

    first, second = (np.asarray(some, np.float64).ravel() for some in (values, others))
    total = first.size + second.size
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    count = first.size + second.size
    if not first.size or not second.size:
        return Estimate(None, None, None, count, total)
    mean = float(first.mean() - second.mean())
    if min(first.size, second.size) < 2:
        return Estimate(mean, None, None, count, total)
    found = stats.ttest_ind(first, second, equal_var=False).confidence_interval(COVERAGE)
    return Estimate(mean, float(found.low), float(found.high), count, total)


def median(values: ArrayLike, worst: float = np.inf) -> Median:
    """Median of independent values, and the interval between two of them that covers the true one.

    The interval is that of the sign test, whatever the distribution (of 20 values the 6th to the
    15th).

    Args:
        values: One per seed, of any shape.
        worst: What a NaN counts as: by default larger than any number, as an error that diverged;
            `-np.inf` where larger is better.
    """
    from scipy import stats

    values = np.asarray(values, np.float64).ravel()
    if values.size == 0:
        return Median(None, None, None, 0, 0)
    ordered = np.sort(np.where(np.isnan(values), worst, values))
    middle = float((ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]) / 2)
    found = stats.quantile_test(ordered, p=0.5).confidence_interval(COVERAGE)
    low, high = (None if np.isnan(end) else float(end) for end in (found.low, found.high))
    if low is None or high is None:
        low = high = None
    return Median(middle, low, high, int(np.isfinite(values).sum()), ordered.size)


def columns(found: Sequence[Estimate | Median]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, lows and highs of several estimates, `(estimates,)`, NaN where there is none."""
    parts = [(one.value, one.low, one.high) for one in found]
    value, low, high = np.array(parts, np.float64).reshape(-1, 3).T
    return value, low, high
