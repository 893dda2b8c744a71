"""Means and medians with confidence intervals over seeds, and paired differences."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, stdtrit


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


def estimate(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean and Student's t interval of independent values, say one per seed.

    With few seeds a percentile bootstrap is too narrow; the t interval is exact for normal values.
    Values that are not finite are left out and show in `count < total`.
    """
    values = np.asarray(values, np.float64).ravel()
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return Estimate(None, None, None, 0, values.size)
    mean = float(finite.mean())
    if finite.size == 1:
        return Estimate(mean, None, None, 1, values.size)
    quantile = stdtrit(finite.size - 1, 0.5 + confidence / 2)
    half = float(quantile * finite.std(ddof=1) / np.sqrt(finite.size))
    return Estimate(mean, mean - half, mean + half, finite.size, values.size)


def paired_difference(values: ArrayLike, reference: ArrayLike) -> Estimate:
    """Estimate of `values - reference`, where entries at the same place share a seed."""
    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf is one of the values left out
        return estimate(values - reference)


@dataclass(frozen=True)
class Median:
    """A median over seeds and its confidence interval.

    Attributes:
        median: The median, infinite where half of the values are not finite; None without values.
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


def median(values: ArrayLike, confidence: float = 0.95) -> Median:
    """Median of independent values, and the interval between two of them that covers the true one.

    Each value lies below the true median with probability one half, whatever the distribution, so
    that the number of those that do is binomial; the interval is the narrowest symmetric one that
    covers with at least the confidence (of 20 values the 6th to the 15th: 95.9 %). A value that is
    not finite counts as larger than any other: an error that diverged.
    """
    values = np.asarray(values, np.float64).ravel()
    if values.size == 0:
        return Median(None, None, None, 0, 0)
    finite = np.isfinite(values)
    ordered = np.sort(np.where(finite, values, np.inf))
    size, counts = ordered.size, (int(finite.sum()), ordered.size)
    middle = float((ordered[(size - 1) // 2] + ordered[size // 2]) / 2)
    # The most values that may be left out on either side.
    left_out = [k for k in range(size // 2) if bdtr(k, size, 0.5) <= (1 - confidence) / 2]
    if not left_out:
        return Median(middle, None, None, *counts)
    rank = left_out[-1]
    return Median(middle, float(ordered[rank]), float(ordered[size - 1 - rank]), *counts)


def bands(values: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low and high per row of `(epochs, seeds)`, with NaN where there is none."""
    rows = [estimate(row) for row in np.asarray(values, np.float64)]
    columns = [(row.mean, row.low, row.high) for row in rows]
    mean, low, high = np.array(columns, np.float64).reshape(-1, 3).T
    return mean, low, high
