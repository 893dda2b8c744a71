"""Tables of a regime: every agent on every task, and one beside the others in as much time."""

import numpy as np

from experiments.report.intervals import estimate, unpaired_difference
from experiments.report.rows import Rows
from experiments.report.table import Cell, Table
from experiments.studies.baselines.curves import (
    Curve,
    curves,
    equal_steps,
    known,
    label,
    times,
    variants,
    whole_time,
)
from experiments.studies.payoff.summary import FINAL, score
from experiments.studies.payoff.tables import places
from experiments.studies.payoff.tasks import REGIMES

_HEADINGS = (
    "task",
    "agent",
    "seeds",
    "steps",
    "final",
    "mean, equal steps",
    "return, equal time",
    "time, s",
    "time of training, s",
    "CPU of training, s",
    "compiling, s",
)
_NOTE = (
    "Final: mean of the last tenth of the evaluations. Time: of training and evaluation, without "
    "compilation; the first epoch counts as the median of the others. Seeds of ours that trained "
    "together have equal parts of it. Time of training alone, processor time and compilation are "
    "known of the peers only."
)
_TIME_HEADINGS = (
    "task",
    "agent",
    "time, s",
    "beside",
    "seeds",
    "return at that time",
    "difference",
    "p of ranks",
    "mean over that time",
    "difference of means",
)
_TIME_SIGNED = ("difference", "difference of means")
_TIME_NOTE = (
    "When an agent ends, its return minus that of the others at that time, and the mean from a "
    "tenth of that time on. Seeds are not paired: Welch's intervals, and the exact p of Mann and "
    "Whitney's test of ranks. Times of runs beside other work, or on other machines, do not "
    "compare."
)


def tables(rows: Rows) -> list[Table]:
    """Two tables for each regime; the second where a task has more than one agent."""
    found = []
    for regime in REGIMES:
        if own := known(rows).where(regime=regime):
            found.append(_table(regime, own))
            found.extend(_in_time(regime, own, rows.options.get("until") or None))
    return found


def _measured(rows: Rows) -> dict[str, list[Curve]]:
    """Curves of every agent in the rows of one task and regime."""
    return {name: curves(rows, name) for name in variants(rows)}


def _ends_first(measured: dict[str, list[Curve]], until: str | None) -> str:
    """The agent whose end sets the time: the one that is named, or else the fastest."""
    if until in measured:
        return until
    return min(measured, key=lambda name: whole_time(measured[name]))


def _table(regime: str, rows: Rows) -> Table:
    lines: list[list[Cell]] = []
    equal = []
    until = rows.options.get("until") or None
    for _, task, own in places(rows):
        measured = _measured(own)
        steps = equal_steps(list(measured.values()))
        seconds = whole_time(measured[_ends_first(measured, until)])
        said = "none" if steps is None else f"{steps[0]:,.0f} to {steps[1]:,.0f}"
        equal.append(f"{task}: steps {said}, time {seconds:,.3g} s")
        for name, some in measured.items():
            mine = own.where(variant=name)
            over = [one.over_steps(*steps) for one in some] if steps else []
            lines.append(
                [
                    task,
                    label(name),
                    len(some),
                    int(np.mean([one.steps[-1] for one in some])),
                    estimate(list(score(mine, FINAL).values())),
                    estimate(over),
                    estimate([one.at_time(seconds) for one in some]),
                    whole_time(some),
                    _last(mine, "train_seconds"),
                    _last(mine, "cpu_seconds", holds_compilation=True),
                    _last(mine, "compile_seconds"),
                ]
            )
    note = f"{REGIMES[regime].about} (SAC). {_NOTE} Equal: {'; '.join(equal)}."
    return Table(f"Beside agents of other people, {regime}", _HEADINGS, lines, 2, note)


def _in_time(regime: str, rows: Rows, until: str | None) -> list[Table]:
    lines: list[list[Cell]] = []
    for _, task, own in places(rows):
        measured = _measured(own)
        first = _ends_first(measured, until)
        seconds = whole_time(measured[first])
        ends, means = _at_and_over(measured[first], seconds)
        for name in measured:
            if name == first:
                continue
            other_ends, other_means = _at_and_over(measured[name], seconds)
            lines.append(
                [
                    task,
                    label(first),
                    seconds,
                    label(name),
                    len(other_ends),
                    estimate(ends),
                    unpaired_difference(ends, other_ends),
                    _ranks(ends, other_ends),
                    estimate(means),
                    unpaired_difference(means, other_means),
                ]
            )
    title = f"In as much time, {regime}"
    return [Table(title, _TIME_HEADINGS, lines, 4, _TIME_NOTE, _TIME_SIGNED)] if lines else []


def _at_and_over(some: list[Curve], seconds: float) -> tuple[list[float], list[float]]:
    return [one.at_time(seconds) for one in some], [one.over_time(seconds) for one in some]


def _ranks(values: list[float], others: list[float]) -> float | None:
    """The exact p of Mann and Whitney's test; None where a value is missing."""
    from scipy import stats  # takes a second to load

    if not np.isfinite([*values, *others]).all():
        return None
    return float(stats.mannwhitneyu(values, others, method="exact").pvalue)


def _last(rows: Rows, column: str, holds_compilation: bool = False) -> float | None:
    """The mean over seeds of a sum that is known after each epoch, at the end."""
    if not rows.has(column):
        return None
    sums = [some.column(column) for _, some in rows.groups("seed")]
    return float(np.mean([(times(one) if holds_compilation else one)[-1] for one in sums]))
