"""What the numbers say: paired differences, gains, tests, over seeds and over tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from experiments.report.intervals import COVERAGE, Estimate, estimate, paired_difference
from experiments.report.results import RETURN
from experiments.report.rows import Rows
from experiments.studies.payoff.variants import PLAIN

OVER_TRAINING, AFTER_FIRST, FINAL = "over training", "after the first epoch", "final"
OWN_RETURN = "own_return"  # in the physics that a variant learned in
_EXACT = 40  # pairs: sorting a million sums takes a tenth of a second
_LAST = 0.1  # share of the epochs that the final return is the mean of, at least one


@dataclass(frozen=True)
class Comparison:
    """A variant beside another, mostly plain, on one task, over the seeds that both have.

    Attributes:
        value: The variant's mean and interval.
        difference: To the other, paired.
        gain: The difference over the size of the other's mean; without an interval where that
            mean is not told from zero.
        p_value: Two-sided, of the exact sign-flip test of the paired differences; None without
            two pairs.
        better: Probability that a random seed of the variant is above a random one of the other;
            a tie counts half.
    """

    value: Estimate
    difference: Estimate
    gain: Estimate
    p_value: float | None
    better: float | None


def score(rows: Rows, measure: str, column: str = RETURN) -> dict[int, float]:
    """The return of each seed, averaged over all epochs, all but the first, or the last tenth."""
    found = {}
    for (seed,), own in rows.groups("seed"):
        returns = own.sound(column)
        last = max(1, round(_LAST * len(returns)))
        first = {OVER_TRAINING: 0, AFTER_FIRST: min(1, len(returns) - 1), FINAL: -last}[measure]
        # A run that was frozen has no return from there on, and none as a whole.
        found[seed] = float(np.mean(returns[first:]))
    return found


def compare(
    rows: Rows,
    variant: str,
    measure: str,
    other: str = PLAIN,
    columns: tuple[str, str] = (RETURN, RETURN),
) -> Comparison:
    """A variant's return beside another's, in the rows of one task and regime."""
    ours, theirs = (
        score(rows.where(variant=name), measure, column)
        for name, column in zip((variant, other), columns, strict=True)
    )
    values, reference = _pairs(ours, theirs)
    return Comparison(
        estimate(list(ours.values())),
        # Of all seeds that both have, so that those left out show.
        replace(paired_difference(values, reference), total=len(ours.keys() & theirs.keys())),
        gain(values, reference),
        sign_flip_test(values - reference),
        probability_of_improvement(values, reference),
    )


def paired(
    rows: Rows, variant: str, measure: str, other: str = PLAIN
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a variant and another, of the seeds for which both are finite, `(seeds,)` each."""
    ours, theirs = (score(rows.where(variant=name), measure) for name in (variant, other))
    return _pairs(ours, theirs)


def _pairs(ours: dict[int, float], theirs: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    seeds = [seed for seed in ours if np.isfinite(ours[seed] + theirs.get(seed, np.nan))]
    return np.array([ours[s] for s in seeds]), np.array([theirs[s] for s in seeds])


def gain(values: ArrayLike, reference: ArrayLike) -> Estimate:
    """Difference of means over the size of the reference's mean, with Fieller's interval.

    It is exact for normal values, however few, and excludes zero where that of the paired
    difference does. Where the reference's mean is not told from zero a ratio to it has no finite
    interval, and none is given. Source: Fieller (1954), Some problems in interval estimation.

    Args:
        values: One per seed, `(seeds,)`.
        reference: Those of the plain agent with the same seeds.
    """
    from scipy import special

    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    count = len(values)
    if not count:
        return Estimate(None, None, None, 0, 0)
    difference, size = values - reference, reference * np.sign(np.mean(reference))
    over, under = float(np.mean(difference)), float(np.mean(size))
    without = Estimate(over / under if under else None, None, None, count, count)
    if count < 2:
        return without
    quantile = float(special.stdtrit(count - 1, 0.5 + COVERAGE / 2))
    # All ratios r for which mean(difference - r * size) is not told from zero: a quadratic in r.
    spread = np.cov(difference, size) * quantile**2 / count
    square, half = under**2 - spread[1, 1], over * under - spread[0, 1]
    if square <= 0:
        return without
    root = np.sqrt(max(0.0, half**2 - square * (over**2 - spread[0, 0])))
    return Estimate(
        over / under, float((half - root) / square), float((half + root) / square), count, count
    )


def sign_flip_test(differences: ArrayLike) -> float | None:
    """Two-sided p-value of paired differences whose signs are exchangeable; exact up to 40 pairs.

    The sums of all signs are those of one half plus those of the other, of which one is sorted:
    2^(n/2) look-ups count all 2^n.
    """
    differences = np.asarray(differences, np.float64)
    count = len(differences)
    if count < 2:
        return None
    if count > _EXACT:
        return _drawn_sign_flips(differences)
    one, other = (_signed_sums(half) for half in np.split(differences, [count // 2]))
    observed, rounding = abs(one[0] + other[0]), 1e-14 * np.sum(np.abs(differences))
    below = np.searchsorted(np.sort(other), observed - rounding - one)
    # As many sums are as far below zero.
    return min(1.0, 2.0 * float(np.sum(other.size - below)) / 2.0**count)


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """Sums of the values with all signs, `(2^values,)`; first that of the values themselves."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _drawn_sign_flips(differences: np.ndarray) -> float:
    from scipy import stats

    found = stats.permutation_test(
        (differences,),
        lambda d, axis=-1: np.mean(d, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**16,
        batch=2**14,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def probability_of_improvement(values: ArrayLike, reference: ArrayLike) -> float | None:
    """P(a value is above a reference), as in arXiv 2108.13264; a tie counts half."""
    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    if not values.size or not reference.size:
        return None
    above = values[:, None] > reference[None, :]
    return float(np.mean(above + 0.5 * (values[:, None] == reference[None, :])))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of several p-values, in their order; None stays None."""
    known = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, at) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        found[at] = largest
    return found


def interquartile_mean(values: ArrayLike) -> float | None:
    """The mean of the middle half, as in arXiv 2108.13264."""
    from scipy import stats

    values = np.asarray(values, np.float64)
    return float(stats.trim_mean(values, 0.25)) if values.size else None
