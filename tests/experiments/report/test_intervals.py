import numpy as np
import pytest
from scipy import stats

from experiments.report.intervals import (
    columns,
    estimate,
    median,
    paired_difference,
    unpaired_difference,
)


def test_interval_of_a_hand_computed_case():
    # Mean 2, standard deviation 1, three values; the quantile of t with 2 degrees of freedom
    # at 0.975 is 4.302653 (any table).
    found = estimate([1.0, 2.0, 3.0])
    half = 4.302653 / np.sqrt(3)
    assert found.mean == pytest.approx(2.0)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-6)
    assert (found.count, found.total) == (3, 3)


def test_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=(4000, 4))
    found = [estimate(row) for row in draws]
    covered = np.mean([one.low <= 3.0 <= one.high for one in found])
    # Four standard deviations of a share of 4000 at 0.95 are 0.014.
    assert abs(covered - 0.95) < 0.014


def test_values_that_are_not_finite_are_left_out_and_counted():
    found = estimate([1.0, np.nan, 3.0, np.inf])
    assert found.mean == pytest.approx(2.0)
    assert (found.count, found.total) == (2, 4)


@pytest.mark.parametrize("values", [[], [np.nan], [np.nan, np.inf]])
def test_nothing_finite_gives_nothing(values):
    found = estimate(values)
    assert (found.mean, found.low, found.high, found.count) == (None, None, None, 0)


def test_one_value_has_a_mean_and_no_interval():
    found = estimate([4.0])
    assert (found.mean, found.low, found.high) == (4.0, None, None)


def test_difference_is_paired_by_seed():
    # Both variants vary by hundreds from seed to seed, their difference by little.
    reference = np.array([100.0, 500.0, -300.0])
    found = paired_difference(reference + np.array([1.0, 2.0, 3.0]), reference)
    assert found == estimate([1.0, 2.0, 3.0])


def test_unpaired_difference_is_welchs_by_hand():
    # Squared standard errors 1 / 3 of three values and 8 / 2 of two, whose sum is 13 / 3.
    found = unpaired_difference([1.0, 2.0, 3.0], [3.0, np.nan, 7.0])
    half = stats.t.ppf(0.975, (13 / 3) ** 2 / ((1 / 3) ** 2 / 2 + 4**2 / 1)) * np.sqrt(13 / 3)
    assert (found.mean, found.count, found.total) == (-3.0, 5, 6)
    assert [found.low, found.high] == pytest.approx([-3.0 - half, -3.0 + half])
    assert unpaired_difference([1.0], [2.0, 3.0]).low is None
    assert unpaired_difference([], [2.0]).mean is None


def test_columns_have_one_row_per_epoch():
    mean, low, high = columns([estimate([1.0, 2.0, 3.0]), estimate([np.nan])])
    assert mean[0] == pytest.approx(2.0)
    assert low[0] < 2.0 < high[0]
    assert np.isnan([mean[1], low[1], high[1]]).all()


def test_the_median_and_its_interval_by_hand():
    # Of 20 values P(5 or fewer below the median) = 21700 / 2^20 = 0.0207, of 6 or fewer 0.0577.
    found = median(np.random.default_rng(0).permutation(np.arange(1.0, 21.0)))
    assert (found.median, found.low, found.high) == (10.5, 6.0, 15.0)
    # Of 6 the outermost two: 1 - 2 / 64 = 0.969. Of 5 there is none: 1 - 2 / 32 = 0.9375.
    assert median(range(6)).low == 0.0
    assert median(range(5)).low is None
    assert median([]).median is None


@pytest.mark.parametrize("size", [6, 20])
def test_the_medians_interval_covers_a_skewed_truth_as_often_as_it_says(size):
    draws = np.random.default_rng(0).exponential(size=(1000, size))
    found = [median(row) for row in draws]
    covered = np.mean([one.low <= np.log(2) <= one.high for one in found])
    # At least 0.95; four standard deviations of a share of 1000 are 0.028.
    assert 0.95 - 0.028 < covered < 0.99


def test_what_diverged_is_larger_than_anything():
    found = median([1.0, np.nan, 2.0, np.inf, 3.0, 4.0, 5.0])
    assert (found.median, found.high, found.count, found.total) == (4.0, np.inf, 5, 7)


def test_what_diverged_is_smaller_than_anything_where_more_is_better():
    found = median([0.9, 0.95, np.nan, np.nan, np.nan, -np.inf], worst=-np.inf)
    assert (found.median, found.low, found.high) == (-np.inf, -np.inf, 0.95)
    assert (found.count, found.total) == (2, 6)
    assert median([1.0, np.inf, np.nan], worst=-np.inf).median == 1.0
