"""Means with confidence intervals over seeds, and paired differences."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit


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


def bands(values: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low and high per row of `(epochs, seeds)`, with NaN where there is none."""
    rows = [estimate(row) for row in np.asarray(values, np.float64)]
    columns = [(row.mean, row.low, row.high) for row in rows]
    mean, low, high = np.array(columns, np.float64).reshape(-1, 3).T
    return mean, low, high
