"""The table of a regime: every agent on every task, at equal steps and at equal time."""

import numpy as np

from experiments.report.intervals import estimate
from experiments.report.rows import Rows
from experiments.report.table import Cell, Table
from experiments.studies.baselines.curves import (
    curves,
    equal_steps,
    equal_time,
    known,
    label,
    times,
    variants,
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


def tables(rows: Rows) -> list[Table]:
    """A table for each regime."""
    return [_table(regime, own) for regime in REGIMES if (own := known(rows).where(regime=regime))]


def _table(regime: str, rows: Rows) -> Table:
    lines: list[list[Cell]] = []
    equal = []
    for _, task, own in places(rows):
        names = variants(own)
        measured = [curves(own, name) for name in names]
        steps, seconds = equal_steps(measured), equal_time(measured)
        said = "none" if steps is None else f"{steps[0]:,.0f} to {steps[1]:,.0f}"
        equal.append(f"{task}: steps {said}, time {seconds:,.3g} s")
        for name, some in zip(names, measured, strict=True):
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
                    float(np.mean([one.seconds[-1] for one in some])),
                    _last(mine, "train_seconds"),
                    _last(mine, "cpu_seconds", holds_compilation=True),
                    _last(mine, "compile_seconds"),
                ]
            )
    note = f"{REGIMES[regime].about} (SAC). {_NOTE} Equal: {'; '.join(equal)}."
    return Table(f"Beside agents of other people, {regime}", _HEADINGS, lines, 2, note)


def _last(rows: Rows, column: str, holds_compilation: bool = False) -> float | None:
    """The mean over seeds of a sum that is known after each epoch, at the end."""
    if not rows.has(column):
        return None
    sums = [some.column(column) for _, some in rows.groups("seed")]
    return float(np.mean([(times(one) if holds_compilation else one)[-1] for one in sums]))
