"""Inner products of mean gradients without the noise's share, and what is made of them.

Samples are derivatives along the same directions, one row for each noise. The product of two means
over the same noises is too large by the noise's own covariance; the mean over pairs of different
noises is not. So a gradient that drowns in noise has no cosine here, rather than that of its noise.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.report.intervals import Estimate, estimate
from experiments.report.rows import Rows

#: Columns of a row that may be added over states.
SUMS = (
    "squared_length",
    "squared_reference",
    "product",
    "squared_difference",
    "variance",
    "directions",
    "length_variance",
    "reference_variance",
)
Measure = Callable[[Mapping[str, Any]], float]


def sums(found: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Unbiased estimates of what cosine, error and noise are made of.

    Args:
        found: Derivatives, `(noises, directions)`.
        reference: Those that they are compared with, for the same noises and directions.

    Returns:
        Squared lengths of both mean gradients, their product, the squared length of their
        difference, and the variance of one sample of `found`, each summed over directions; the
        number of directions; and the variances of both squared lengths as estimates (jackknife).
    """
    return {
        "squared_length": _inner(found, found),
        "squared_reference": _inner(reference, reference),
        "product": _inner(found, reference),
        "squared_difference": _inner(found - reference, found - reference),
        "variance": float(np.sum(np.var(found, axis=0, ddof=1))),
        "directions": found.shape[1],
        "length_variance": _jackknife(lambda one: _inner(one, one), found),
        "reference_variance": _jackknife(lambda one: _inner(one, one), reference),
    }


def _inner(one: np.ndarray, other: np.ndarray) -> float:
    """The product of two means, over pairs of different noises."""
    count = len(one)
    whole = one.sum(axis=0) @ other.sum(axis=0) - np.sum(one * other)
    return float(whole / (count * (count - 1)))


def _jackknife(function: Callable[..., float], *samples: np.ndarray) -> float:
    """The variance of a function of samples, from leaving out one after the other."""
    count = len(samples[0])
    left = [function(*(np.delete(side, at, axis=0) for side in samples)) for at in range(count)]
    return float((count - 1) * np.var(left))


def resolved(of: Mapping[str, Any], which: str) -> bool:
    """Whether a squared length, "length" or "reference", is above twice its standard error."""
    return bool(of[f"squared_{which}"] > 2 * np.sqrt(of[f"{which}_variance"]))


def cosine(of: Mapping[str, Any]) -> float:
    """Of the mean gradient and the reference's; NaN where one of them drowns in noise."""
    if not (resolved(of, "length") and resolved(of, "reference")):
        return np.nan
    return _ratio(of)


def _ratio(of: Mapping[str, Any]) -> float:
    lengths = of["squared_length"] * of["squared_reference"]
    return float(np.clip(of["product"] / np.sqrt(lengths), -1, 1)) if lengths > 0 else np.nan


def cosine_error(found: np.ndarray, reference: np.ndarray) -> float:
    """Standard error of the cosine over noises: jackknife."""
    return float(np.sqrt(_jackknife(lambda *sides: _ratio(_products(*sides)), found, reference)))


def _products(found: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    return {
        "squared_length": _inner(found, found),
        "squared_reference": _inner(reference, reference),
        "product": _inner(found, reference),
    }


def error(of: Mapping[str, Any]) -> float:
    """Length of the difference of the means, relative to the reference's; NaN likewise."""
    if not resolved(of, "reference"):
        return np.nan
    return float(np.sqrt(max(of["squared_difference"], 0.0) / of["squared_reference"]))


def noise(of: Mapping[str, Any]) -> float:
    """Variance of one sample relative to the squared length of the mean; NaN likewise."""
    return float(of["variance"] / of["squared_length"]) if resolved(of, "length") else np.nan


def norm(of: Mapping[str, Any]) -> float:
    """Root mean square over directions of the mean gradient; NaN likewise."""
    if not resolved(of, "length"):
        return np.nan
    return float(np.sqrt(of["squared_length"] / of["directions"]))


def deviation(of: Mapping[str, Any]) -> float:
    """Standard deviation of one sample, root mean square over directions."""
    return float(np.sqrt(of["variance"] / of["directions"]))


def over_states(rows: Rows, measure: Measure, positive: bool = True) -> Estimate:
    """A measure of sums over all states: its 95 % interval is the jackknife's over states.

    The gradients of all states are one long vector: states with a large gradient count most.

    Args:
        rows: One for each state.
        measure: Of sums.
        positive: Whether it is a positive quantity, whose interval is that of its logarithm: none
                where it is zero without one of the states.
    """
    columns = {name: rows.column(name) for name in SUMS}
    kept = np.all([np.isfinite(column) for column in columns.values()], axis=0)
    columns = {name: column[kept] for name, column in columns.items()}
    count = int(kept.sum())

    def of(chosen: np.ndarray) -> float:
        return measure({name: column[chosen].sum() for name, column in columns.items()})

    whole = of(np.ones(count, bool)) if count else np.nan
    if not np.isfinite(whole):
        return Estimate(None, None, None, 0, len(rows))
    left = np.array([of(np.arange(count) != at) for at in range(count)]) if count > 1 else []
    some = np.array([whole, *left])
    if count == 1 or not np.all(np.isfinite(some)) or (positive and np.min(some) <= 0):
        return Estimate(whole, None, None, count, len(rows))
    scaled = np.log(some) if positive else some
    pseudo = estimate(count * scaled[0] - (count - 1) * scaled[1:])
    if pseudo.low is None or pseudo.high is None:
        return Estimate(whole, None, None, count, len(rows))
    half = min((pseudo.high - pseudo.low) / 2, 700.0)  # of a logarithm: no overflow
    if positive:
        return Estimate(whole, whole * np.exp(-half), whole * np.exp(half), count, len(rows))
    return Estimate(whole, max(-1.0, whole - half), min(1.0, whole + half), count, len(rows))
