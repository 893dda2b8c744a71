"""Learning curves over steps and over time, and what they come to at equal amounts of either."""

from dataclasses import dataclass

import numpy as np

from experiments.report.results import RETURN
from experiments.report.rows import Rows
from experiments.studies.baselines.options import PEERS
from experiments.studies.payoff.tasks import TASKS
from experiments.studies.payoff.variants import CHOICES


@dataclass(frozen=True)
class Curve:
    """One training.

    Attributes:
        steps: Of the environments until each evaluation, `(evaluations,)`.
        seconds: Until each evaluation, `(evaluations,)`, see `times`.
        returns: Of each evaluation, `(evaluations,)`.
    """

    steps: np.ndarray
    seconds: np.ndarray
    returns: np.ndarray

    def over_steps(self, start: float, end: float) -> float:
        """Mean return from one number of steps to another, linear between evaluations."""
        return _mean(self.steps, self.returns, start, end)

    def at_time(self, seconds: float) -> float:
        """Return after so much time, linear between evaluations; NaN before the first.

        A training that has ended keeps its last return.
        """
        return float(np.interp(seconds, self.seconds, self.returns, left=np.nan))

    def over_time(self, seconds: float) -> float:
        """Mean return from a tenth of a time to its end.

        Linear between evaluations. The first return holds before it, and the last after it.
        """
        return _mean(self.seconds, self.returns, 0.1 * seconds, seconds)


def _mean(across: np.ndarray, returns: np.ndarray, start: float, end: float) -> float:
    """Mean of returns from one place to another, linear between evaluations."""
    inner = across[(across > start) & (across < end)]
    grid = np.array([start, *inner, end])
    values = np.interp(grid, across, returns)
    if end == start:
        return float(values[0])
    return float(np.trapezoid(values, grid) / (end - start))


def known(rows: Rows) -> Rows:
    """Those of variants and tasks that there are; another version may have had more."""
    return rows.among("variant", [*CHOICES, *PEERS]).among("task", list(TASKS))


def variants(rows: Rows) -> list[str]:
    """Those that were measured: ours, then the peers."""
    found = rows.distinct("variant")
    return [name for name in (*CHOICES, *PEERS) if name in found]


def label(variant: str) -> str:
    """For tables and figures."""
    return PEERS[variant].label if variant in PEERS else CHOICES[variant].label


def curves(rows: Rows, variant: str) -> list[Curve]:
    """Of each seed of a variant, in the rows of one task and regime."""
    found = []
    for _, some in rows.where(variant=variant).groups("seed"):
        compiling = np.nan_to_num(some.column("compile_seconds"))  # of ours it is apart
        seconds = times(some.column("seconds") - compiling)
        found.append(Curve(some.column("environment_steps"), seconds, some.sound(RETURN)))
    return found


def times(seconds: np.ndarray) -> np.ndarray:
    """Seconds of a training whose first epoch takes as long as the median of the others.

    What happens but once, and is apart in some, lies in the first: filling the buffer, compilation
    that is not known.
    """
    if len(seconds) < 2:
        return seconds
    return seconds - seconds[0] + np.median(np.diff(seconds))


def equal_steps(measured: list[list[Curve]]) -> tuple[float, float] | None:
    """The largest range of steps that all have; None if there is none."""
    every = [curve.steps for some in measured for curve in some]
    start, end = max(steps[0] for steps in every), min(steps[-1] for steps in every)
    return (start, end) if start <= end else None


def whole_time(some: list[Curve]) -> float:
    """Seconds of a whole training, mean over seeds."""
    return float(np.mean([curve.seconds[-1] for curve in some]))
