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


def squared_error(of: Mapping[str, Any]) -> float:
    """Squared length of the difference of the means, relative to the reference's; NaN likewise.

    Below zero where the difference drowns in noise.
    """
    if not (resolved(of, "length") and resolved(of, "reference")):
        return np.nan
    return float(of["squared_difference"] / of["squared_reference"])


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


def over_states(rows: Rows, measure: Measure, scale: str = "logarithm") -> Estimate:
    """A measure of sums over all states: its 95 % interval is the jackknife's over states.

    The gradients of all states are one long vector: states with a large gradient count most.

    Args:
        rows: One for each state.
        measure: Of sums.
        scale: On which the interval is symmetric: "logarithm", of a positive quantity, "square",
            or "cosine", which ends at -1 and 1. None is given that spans more than a factor of
            100 to each side, or where the measure is not finite without one of the states.
    """
    forward, back = _SCALES[scale]
    columns = {name: rows.column(name) for name in SUMS}
    kept = np.all([np.isfinite(column) for column in columns.values()], axis=0)
    columns = {name: column[kept] for name, column in columns.items()}
    count = int(kept.sum())

    def of(chosen: np.ndarray) -> float:
        return forward(measure({name: column[chosen].sum() for name, column in columns.items()}))

    whole = of(np.ones(count, bool)) if count else np.nan
    if not np.isfinite(whole):
        return Estimate(None, None, None, 0, len(rows))
    left = np.array([of(np.arange(count) != at) for at in range(count)])
    value = back(whole)
    if count == 1 or not np.all(np.isfinite(left)):
        return Estimate(value, None, None, count, len(rows))
    pseudo = estimate(count * whole - (count - 1) * left)
    half = (pseudo.high or 0.0) - (pseudo.mean or 0.0)
    if scale == "logarithm" and half > np.log(100):
        return Estimate(value, None, None, count, len(rows))
    return Estimate(value, back(whole - half), back(whole + half), count, len(rows))


def _logarithm(value: float) -> float:
    return float(np.log(value)) if value > 0 else np.nan


_SCALES: Mapping[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "logarithm": (_logarithm, lambda value: float(np.exp(value))),
    "square": (lambda value: value, lambda value: float(np.sqrt(max(value, 0.0)))),
    "cosine": (lambda value: value, lambda value: float(np.clip(value, -1, 1))),
}
