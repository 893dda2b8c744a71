"""What the seeds say: intervals, paired differences, and a best constant that is not flattered."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiments.report.intervals import Estimate, estimate, paired_difference
from experiments.studies.weighting.rules import PLAIN

# The score of a task, the more the better: as it is at last, and over all of training.
SCORE, OVER_TRAINING = "score", "score_over_training"
# Effective lambdas: what an update of Adam sees, which is blind to a common factor.
RATIOS = {"state_ratio": "weight_state", "action_ratio": "weight_action"}
BEST = "best_constant"

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Best:
    """The constant weight of the best final score, chosen on half of the seeds for the other half.

    Both ways, so that every seed has a value and none had a say in the weight that it is judged
    with.

    Attributes:
        chosen: The weight judged on the first half of the seeds, and that judged on the second.
        rules: The names of the rules these are.
        half: How many seeds the first half has.
    """

    chosen: tuple[float, float]
    rules: tuple[str, str]
    half: int

    def values(self, results: Results, measure: str) -> np.ndarray:
        """One measure of all seeds, each at the weight that the other half chose."""
        first, second = (column(results, rule, measure) for rule in self.rules)
        return np.concatenate([first[: self.half], second[self.half :]])


def column(results: Results, rule: str, measure: str) -> np.ndarray:
    """One measure of a rule, `(seeds,)`; what is not finite is NaN."""
    return np.array(results["rules"][rule]["measures"][measure], np.float64)


def find_best(results: Results) -> Best | None:
    """The best constant; None where no constant was tried."""
    weights = {name: rule["weight"] for name, rule in constants(results).items()}
    if not weights:
        return None
    half = results["seeds"] // 2

    def choose(seeds: slice) -> str:
        def mean(rule: str) -> float:
            value = column(results, rule, SCORE)[seeds].mean()
            return float(value) if np.isfinite(value) else -np.inf

        return max(weights, key=mean)

    rules = choose(slice(half, None)), choose(slice(0, half))
    return Best((weights[rules[0]], weights[rules[1]]), rules, half)


def constants(results: Results) -> dict[str, Mapping[str, Any]]:
    """The rules of the sweep over constant weights."""
    return {name: rule for name, rule in results["rules"].items() if rule["constant"]}


def rows(results: Results) -> dict[str, str]:
    """Rows of a table: names and labels, the best constant after the last of the constants."""
    best, found = find_best(results), {}
    for name, rule in results["rules"].items():
        found[name] = rule["label"]
        if best is not None and name == list(constants(results))[-1]:
            chosen = " or ".join(f"{weight:g}" for weight in dict.fromkeys(best.chosen))
            found[BEST] = f"best constant ({chosen})"
    return found


def values(results: Results, row: str, measure: str) -> np.ndarray | None:
    """One measure of a row, `(seeds,)`; None where it was not measured."""
    if row == BEST:
        best = find_best(results)
        assert best is not None
        if measure not in results["rules"][best.rules[0]]["measures"]:
            return None
        return best.values(results, measure)
    if measure not in results["rules"][row]["measures"]:
        return None
    return column(results, row, measure)


def mean_of(results: Results, row: str, measure: str) -> Estimate | None:
    """Mean and interval of one measure of a row; None where it was not measured."""
    found = values(results, row, measure)
    return None if found is None else estimate(found)


def difference(results: Results, row: str, reference: str, measure: str) -> Estimate | None:
    """The paired difference of a row to another; None to itself and to what is not there."""
    if row == reference or reference not in rows(results):
        return None
    one, other = values(results, row, measure), values(results, reference, measure)
    return None if one is None or other is None else paired_difference(one, other)


def summarise(results: Results) -> dict[str, Any]:
    """All rows of a task as JSON holds them."""
    best = find_best(results)
    told: dict[str, Any] = {"rows": {}}
    if best is not None:
        told["best_constant"] = {"judged_on_first_half": best.rules[0], "on_second": best.rules[1]}
    for row, label in rows(results).items():
        entry: dict[str, Any] = {"label": label}
        for measure in (SCORE, OVER_TRAINING):
            found = mean_of(results, row, measure)
            entry[measure] = {"mean": _plain(found)}
            for reference in (PLAIN, BEST):
                entry[measure][f"minus_{reference}"] = _plain(
                    difference(results, row, reference, measure)
                )
        told["rows"][row] = entry
    return told


def _plain(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)
