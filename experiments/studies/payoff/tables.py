"""The tables: a row for every variant on every task, all tasks in short, and the critics."""

import math
from collections.abc import Iterator

import numpy as np

from experiments.report.intervals import Estimate, estimate
from experiments.report.results import RETURN
from experiments.report.rows import Rows
from experiments.report.table import Cell, Table
from experiments.studies.payoff.summary import (
    AFTER_FIRST,
    FINAL,
    OVER_TRAINING,
    OWN_RETURN,
    Comparison,
    compare,
    gain,
    holm,
    interquartile_mean,
    paired,
)
from experiments.studies.payoff.tasks import REGIMES, TASKS
from experiments.studies.payoff.variants import CHOICES, MORE, ONE_ITERATION, PLAIN

_CRITIC = {
    "value_error": "value error",
    "state_gradient_error": "∇s Q, error",
    "state_gradient_cosine": "∇s Q, cosine",
    "std_gradient_error": "∇s Q per std, error",
    "std_gradient_cosine": "∇s Q per std, cosine",
    "action_gradient_cosine": "∇a Q, cosine",
    "references_dropped": "references, dropped",
    "gradients_dropped": "gradients, dropped",
    "mean_q": "mean Q",
}


def places(rows: Rows) -> Iterator[tuple[str, str, Rows]]:
    """Regime, task and the rows of both, in the order of the study."""
    for regime in REGIMES:
        for task in TASKS:
            if own := rows.where(regime=regime, task=task):
                yield regime, task, own


def variants(rows: Rows) -> list[str]:
    """Those that were measured, in the order of the study."""
    return [name for name in CHOICES if name in rows.distinct("variant")]


def baseline(rows: Rows) -> str:
    """What the others are compared with."""
    return rows.options.get("baseline", PLAIN)


def tables(rows: Rows) -> list[Table]:
    """All tables."""
    made = []
    for regime in REGIMES:
        if own := rows.where(regime=regime):
            made += [returns(regime, own), beside_more(regime, own)]
            made += [overview(regime, own), critics(regime, own), actors(regime, own)]
    return [table for table in made if table.rows]


def returns(regime: str, rows: Rows) -> Table:
    """Every variant on every task, beside the baseline."""
    base = baseline(rows)
    found: list[tuple[str, str, Rows, Comparison, Comparison]] = []
    for _, task, own in places(rows):
        found += [
            (
                task,
                name,
                own,
                compare(own, name, OVER_TRAINING, base),
                compare(own, name, FINAL, base),
            )
            for name in variants(own)
        ]
    corrected = holm(
        [row[3].p_value if row[1] != base and _same_steps(row[1], base) else None for row in found]
    )
    lines: list[list[Cell]] = []
    for (task, name, own, whole, final), p in zip(found, corrected, strict=True):
        same = name == base
        apart = same or not _same_steps(name, base)
        lines.append(
            [
                task,
                CHOICES[name].label,
                whole.value.total,
                None if same else whole.difference.count,
                whole.value,
                None if apart else whole.difference,
                None if apart else _percent(whole.gain),
                None if apart else _percent(gain(*paired(own, name, AFTER_FIRST, base))),
                p,
                None if apart else whole.better,
                final.value,
                None if same else final.difference,
                None if same else _ratio(own, name, base),
            ]
        )
    signed = [f"over training, − {base}", "gain, %", "gain after the first epoch, %"]
    signed += [f"final, − {base}"]
    headings = ["task", "variant", "seeds", "pairs", "over training", *signed[:3], "p, Holm"]
    headings += ["P(better)", "final", signed[3], f"time, / {base}"]
    note = (
        f"{REGIMES[regime].about}. Returns of deterministic evaluations: means with 95 % intervals "
        f"over seeds; differences to {base} over paired seeds. Over training: mean of all epochs; "
        f"final: of their last tenth. Gain: of the mean over training, in percent of {base}'s size "
        "(Fieller's interval; none where that size is not told from zero); in the first epoch of "
        "`few` nothing is learned. p: sign-flip test, exact up to 40 pairs, corrected for all rows "
        f"of this table. P(better): that a random seed is above a random one of {base}. * some "
        "runs are not finite, or were frozen."
    )
    if base not in variants(rows):
        note += (
            f" No row is the baseline's, {base}, so there are no differences: --baseline names "
            "another of the variants, and --report merges this with a run of it."
        )
    return Table(f"Returns, {regime}", headings, lines, 2, note, signed)


def beside_more(regime: str, rows: Rows) -> Table:
    """Every variant with gradients beside plain with more of what time buys."""
    found: list[tuple[str, str, str, Comparison, Comparison, float | None]] = []
    for _, task, own in places(rows):
        there = variants(own)
        for name in (name for name in there if CHOICES[name].kind == "gradients"):
            found += [
                (
                    task,
                    name,
                    more,
                    compare(own, name, OVER_TRAINING, more),
                    compare(own, name, FINAL, more),
                    _ratio(own, name, more),
                )
                for more in MORE
                if more in there
            ]
    corrected = holm([row[3].p_value if _same_steps(*row[1:3]) else None for row in found])
    lines: list[list[Cell]] = []
    for (task, name, more, whole, final, time), p in zip(found, corrected, strict=True):
        names = (task, CHOICES[name].label, CHOICES[more].label)
        over = (whole.difference, _percent(whole.gain)) if _same_steps(name, more) else (None, None)
        lines.append([*names, *over, p, final.difference, time])
    signed = ["over training, difference", "gain, %", "final, difference"]
    headings = ["task", "variant", "beside", *signed[:2], "p, Holm", signed[2], "time, ratio"]
    note = (
        "As above, but beside plain SAC with more updates or transitions, which take longer, too; "
        "with more transitions only the ends compare, as epochs are longer. "
        "p is corrected for all rows of this table."
    )
    return Table(f"Beside more of plain, {regime}", headings, lines, 3, note, signed)


def overview(regime: str, rows: Rows) -> Table:
    """Every variant over all tasks that have it."""
    base = baseline(rows)
    lines: list[list[Cell]] = []
    for name in variants(rows):
        if name == base or not _same_steps(name, base):
            continue
        shares, better, ahead, count = [], [], 0, 0
        for _, _, own in places(rows):
            if not {name, base} <= set(variants(own)):
                continue
            found = compare(own, name, OVER_TRAINING, base)
            ours, theirs = paired(own, name, OVER_TRAINING, base)
            shares += list((ours - theirs) / np.abs(np.mean(theirs)))
            better.append(found.better)
            count += 1
            ahead += found.difference.low is not None and found.difference.low > 0
        if not count:
            continue
        middle = interquartile_mean(shares)
        chance = [value for value in better if value is not None]
        lines.append(
            [
                CHOICES[name].label,
                CHOICES[name].kind,
                count,
                None if middle is None else 100 * middle,
                float(np.mean(chance)) if chance else None,
                ahead,
            ]
        )
    headings = ["variant", "kind", "tasks", "gain, %, IQM", "P(better)", f"tasks above, {base}"]
    note = (
        f"Gain of the return over training, in percent of {base}'s size: interquartile mean over "
        f"seeds and tasks. P(better): mean over tasks. Above {base}: the 95 % interval of the "
        "paired difference lies above zero, uncorrected."
    )
    return Table(f"All tasks, {regime}", headings, lines, 2, note, ["gain, %, IQM"])


def critics(regime: str, rows: Rows) -> Table:
    """The critics at the end, and what gradients were left out."""
    names = [name for name in _CRITIC if rows.has(name)]
    lines: list[list[Cell]] = []
    for _, task, own in places(rows):
        last = own.where(epoch=max(own.distinct("epoch")))
        for name in variants(own):
            some = last.where(variant=name)
            cells = [estimate(some.sound(column)) for column in names]
            lines.append([task, CHOICES[name].label, *cells])
    headings = ["task", "variant", *(_CRITIC[name] for name in names)]
    note = (
        "After the last epoch. Errors are relative to rollouts of the policy and their exact "
        "derivatives, in raw units (docs/concepts/overview.md)."
    )
    return Table(f"Critics, {regime}", headings, lines, 2, note)


def actors(regime: str, rows: Rows) -> Table:
    """Gradients of actors through the simulator, and returns in what they learned in."""
    base = baseline(rows)
    lines: list[list[Cell]] = []
    for _, task, own in places(rows):
        for name in (name for name in variants(own) if CHOICES[name].agent == "shac"):
            seeds = [some for _, some in own.where(variant=name).groups("seed")]
            cut = [
                np.sum(some.sound("windows_cut")) / np.max(some.column("environment_steps"))
                for some in seeds
            ]
            elsewhere: list[Cell] = [None] * 4
            if CHOICES[name].physics != "converged":
                # Returns in two kinds of physics do not tell derivatives from physics.
                there = OWN_RETURN if _same_physics(name, base) else RETURN
                found = [
                    compare(own, name, measure, base, (OWN_RETURN, there))
                    for measure in (OVER_TRAINING, FINAL)
                ]
                elsewhere = [
                    cell
                    for each in found
                    for cell in (each.value, None if name == base else each.difference)
                ]
            lines.append(
                [
                    task,
                    CHOICES[name].label,
                    estimate(100 * np.array(cut)),
                    estimate([np.mean(some.sound("actor_gradient_norm")) for some in seeds]),
                    estimate([100 * np.mean(some.sound("windows_dropped")) for some in seeds]),
                    *elsewhere,
                ]
            )
    signed = [f"over training there, − {base}", f"final there, − {base}"]
    headings = ["task", "variant", "steps cut, %", "norm of the actor's gradient"]
    headings += ["windows dropped, %", "over training there", signed[0], "final there", signed[1]]
    note = (
        "Means over epochs: the share of steps at which a chain of gradients was cut, the norm "
        "before it is clipped, and the share of windows without a finite gradient. There: in the "
        f"physics that it learned in, where that is not the converged one; beside {base} there if "
        "it learned in the same, else beside it in the converged one."
    )
    return Table(f"Actors through the simulator, {regime}", headings, lines, 2, note, signed)


def _same_physics(name: str, other: str) -> bool:
    """Whether two variants learned in steps of the same values, whatever their derivatives."""
    ours, theirs = (
        {**ONE_ITERATION.get(CHOICES[one].physics, {}), "implicit": None} for one in (name, other)
    )
    return ours == theirs


def _same_steps(name: str, other: str) -> bool:
    """Whether epochs of two variants are as long, so that means over them compare."""
    return CHOICES[name].steps == CHOICES[other].steps


def _percent(found: Estimate) -> Estimate:
    def scaled(value: float | None) -> float | None:
        return None if value is None else 100 * value

    return Estimate(
        scaled(found.mean), scaled(found.low), scaled(found.high), found.count, found.total
    )


def _ratio(rows: Rows, variant: str, other: str) -> float | None:
    """Of the variants' times; None where one is not known, or too short to be measured."""
    ours, theirs = _seconds(rows, variant), _seconds(rows, other)
    return ours / theirs if ours > 0 and theirs > 0 else None


def _seconds(rows: Rows, variant: str) -> float:
    """Of one seed, without the first epoch, in which programs may still compile."""
    own = rows.where(variant=variant)
    if not own:
        return math.nan
    epochs = own.distinct("epoch")
    first, last = (own.where(epoch=at(epochs)).column("seconds") for at in (min, max))
    return float(np.mean(last) - np.mean(first))
