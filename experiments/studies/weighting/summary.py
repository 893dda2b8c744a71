"""What the seeds say: intervals, paired differences, and a best constant that is not flattered."""

from dataclasses import dataclass

import numpy as np

from experiments.report.intervals import Estimate, estimate, paired_difference
from experiments.report.rows import Rows
from experiments.studies.weighting.measure import SCORE
from experiments.studies.weighting.rules import RULES

BEST = "best_constant"


@dataclass(frozen=True)
class Best:
    """The constant weight of the best final score, chosen on half of the seeds for the other half.

    Both ways, so that every seed has a value and none had a say in the weight that it is judged
    with.

    Attributes:
        rules: The constant judged on the first half of the seeds, and that judged on the second.
        half: How many seeds the first half has.
    """

    rules: tuple[str, str]
    half: int

    @property
    def label(self) -> str:
        """It, and the weights that were chosen."""
        weights = dict.fromkeys(RULES[rule].weight for rule in self.rules)
        return f"best constant ({' or '.join(f'{weight:g}' for weight in weights)})"

    def values(self, rows: Rows, measure: str) -> np.ndarray:
        """One measure of all seeds, each at the weight that the other half chose."""
        first, second = (rows.where(rule=rule).column(measure) for rule in self.rules)
        return np.concatenate([first[: self.half], second[self.half :]])


def constants(rows: Rows) -> list[str]:
    """The rules of the sweep over constant weights."""
    return [name for name in rows.distinct("rule") if RULES[name].constant]


def find_best(rows: Rows) -> Best | None:
    """The best constant of one task; None where no constant was tried."""
    scores = {name: rows.where(rule=name).column(SCORE) for name in constants(rows)}
    if not scores:
        return None
    half = len(next(iter(scores.values()))) // 2

    def choose(seeds: slice) -> str:
        def mean(rule: str) -> float:
            value = scores[rule][seeds].mean()
            return float(value) if np.isfinite(value) else -np.inf

        return max(scores, key=mean)

    return Best((choose(slice(half, None)), choose(slice(0, half))), half)


def lines(rows: Rows) -> dict[str, str]:
    """Lines of a task's table: names and labels, the best constant after the last constant."""
    best, found = find_best(rows), {}
    for name in rows.distinct("rule"):
        found[name] = RULES[name].label
        if best is not None and name == constants(rows)[-1]:
            found[BEST] = best.label
    return found


def values(rows: Rows, line: str, measure: str) -> np.ndarray:
    """One measure of a line, `(seeds,)`; NaN where it was not measured."""
    if line != BEST:
        return rows.where(rule=line).column(measure)
    best = find_best(rows)
    return np.zeros(0) if best is None else best.values(rows, measure)


def mean_of(rows: Rows, line: str, measure: str) -> Estimate:
    """Mean and interval of one measure of a line."""
    return estimate(values(rows, line, measure))


def difference(rows: Rows, line: str, reference: str, measure: str) -> Estimate | None:
    """The paired difference of a line to another; None to itself and to what is not there."""
    if line == reference or reference not in lines(rows):
        return None
    return paired_difference(values(rows, line, measure), values(rows, reference, measure))
