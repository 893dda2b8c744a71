"""Tables of audits, of one environment or of several."""

import math
from collections.abc import Sequence
from typing import Any

from experiments.report.rows import Rows
from experiments.report.table import Cell, Table, text
from experiments.studies.derivatives.measure import LEFT_OUT
from experiments.studies.derivatives.quantities import percentile
from experiments.studies.derivatives.states import RANDOM

_RANKS = (50, 90, 99, 100)


def tables(rows: Rows) -> list[Table]:
    """All tables; those that would be empty are left out."""
    makers = (
        summary, soundness, errors, norms, growth, rollouts, within, costs, one_iteration, left_out,
    )  # fmt: skip
    return [table for table in (make(rows) for make in makers) if table.rows]


def summary(rows: Rows) -> Table:
    """One row for each environment."""
    methods = [name for name in rows.where(measure="cost").distinct("method") if " " not in name]
    lines: list[Sequence[Cell]] = []
    for (env,), some in rows.groups("env"):
        found, cost = some.where(measure="derivatives"), some.where(measure="cost")
        along = some.where(measure="rollouts", kind=RANDOM)
        if not (found and cost and along):
            continue  # interrupted
        ratios = {row["method"]: row["ratio"] for row in cost}
        whole, first = along[0], found.where(method=found[0]["method"])
        bad = int(whole["nonfinite_derivatives"]) + _nonfinite(found)
        lines.append(
            (
                env,
                cost[0]["directions"],
                len(found) + int(whole["states"]),
                bad,
                _worst_median(first, "error_float32"),
                _worst_median(first, "error_float64"),
                *(whole[name] for name in ("median", "p99", "largest")),
                whole["exponent"],
                _above(whole["exponent_low"], whole["exponent_high"], _limit(rows)),
                *(ratios.get(method) for method in methods),
            )
        )
    headings = ("env", "directions", "derivatives", "not finite", "error, float32")
    headings += ("error, float64", "norm, median", "norm, 99 %", "norm, largest")
    headings += ("exponent, per step", "above, log 1/γ", *(f"cost, {name}" for name in methods))
    note = (
        "Derivatives: at states of every kind and along rollouts. Error: the median over states of "
        "the kind where it is largest, of the first method. Norm and exponent: along rollouts of "
        "the random policy. Cost: in plain steps, all directions."
    )
    return Table("Summary", headings, lines, 1, note, signed=["exponent, per step"])


def soundness(rows: Rows) -> Table:
    """Finite and not zero, by kind and method."""
    lines = []
    for names, some in _by_method(rows):
        shares = ("state_finite", "state_nonzero", "action_finite", "action_nonzero")
        means = (float(some.column(name).mean()) for name in shares)
        bad_states = int((some.column("finite") == 0).sum())
        lines.append((*names, len(some), bad_states, *means, _nonfinite(some)))
    headings = ("env", "states of", "method", "count", "states, not finite", "∂f/∂s, finite")
    headings += ("∂f/∂s, not zero", "∂f/∂a, finite", "∂f/∂a, not zero", "not finite, in all")
    note = (
        "f is the whole transition: the next state, its observation and the reward. Shares of the "
        "states where all of a derivative is finite, and where some of it is not zero as well."
    )
    return Table("Finite and not zero", headings, _merged(lines), 3, note)


def errors(rows: Rows) -> Table:
    """Against central differences."""
    lines = []
    for names, some in _by_method(rows):
        columns = [_there(some, name) for name in ("error_float32", "error_float64", "uncertainty")]
        cells = [percentile(column, rank) for column in columns for rank in (50, 90, 100)]
        lines.append((*names, len(columns[0]), *cells))
    parts = ("float32", "float64", "uncertainty")
    headings = ("env", "states of", "method", "count")
    headings += tuple(f"{part}, {rank}" for part in parts for rank in ("median", "90 %", "worst"))
    note = (
        "The largest error of an entry, relative to the largest entry of its part (state, "
        "observation, reward; no less than 0.01), against central differences in float64 with a "
        "step of 1e-6. The uncertainty of the differences is their distance to those with a step "
        "of 2e-6. An error below it is no error. Where the uncertainty is as large as the error, "
        "the differences straddle a kink, as at the joint limits where pusher starts."
    )
    return Table("Error", headings, lines, 3, note)


def norms(rows: Rows) -> Table:
    """Spectral norms of one step."""
    bound = rows.options["bound"]
    lines = []
    for names, some in _by_method(rows):
        found = some.column("norm")
        cells = [percentile(found, rank) for rank in _RANKS]
        lines.append((*names, *cells, float((found > bound).mean())))
    headings = ("env", "states of", "method", "median", "90 %", "99 %", "largest")
    note = "∂s'/∂s in local coordinates (SI units); the last column is a share of the states."
    return Table(
        "Spectral norm of one step", (*headings, f"above {bound:g}"), _merged(lines), 3, note
    )


def rollouts(rows: Rows) -> Table:
    """Numbers that are not finite along rollouts, and norms."""
    names = ("nonfinite_states", "nonfinite_derivatives", "episodes_ended", "median", "p99")
    names = ("env", "kind", "states", *names, "largest", "extreme")
    lines = [[row[name] for name in names] for row in rows.where(measure="rollouts")]
    headings = ("env", "rollouts of", "states", "states, not finite", "derivatives, not finite")
    headings += ("episodes, ended", "norm, median", "norm, 99 %", "norm, largest")
    bound = f"share above {rows.options['bound']:g}"
    return Table("Rollouts", (*headings, bound), lines, 2)


def growth(rows: Rows) -> Table:
    """Chained environment steps and the exponent."""
    chains, limit = rows.where(measure="growth"), _limit(rows)
    steps = sorted(chains.distinct("steps"))
    lines = []
    for row in rows.where(measure="rollouts"):
        own = {
            one["steps"]: one["median"] for one in chains.where(env=row["env"], kind=row["kind"])
        }
        low, high = row["exponent_low"], row["exponent_high"]
        cells = (row["exponent"], low, high, _above(low, high, limit))
        lines.append((row["env"], row["kind"], *(own.get(count) for count in steps), *cells))
    signed = ("exponent, per step", "rollouts', 10 %", "rollouts', 90 %")
    headings = ("env", "rollouts of", *map(str, steps), *signed, "above, log 1/γ")
    note = (
        "Median spectral norm of the product of so many steps' Jacobians along rollouts, from "
        "the start of an episode and within it; and the leading Lyapunov exponent per step. "
        f"log 1/γ = {limit:.3f} (γ = {rows.options['discount']:g}): above it, chaos dominates "
        "gradients of long returns. From some tens of steps the exponent is an estimate: growth by "
        "a power of n counts as a little."
    )
    return Table("Growth over environment steps", headings, lines, 2, note, signed)


def within(rows: Rows) -> Table:
    """Growth over the physics steps of one environment step."""
    found = rows.where(measure="physics steps")
    steps = sorted(found.distinct("steps"))
    lines = []
    for (env,), some in found.groups("env"):
        own = {row["steps"]: row["median"] for row in some}
        lines.append((env, *(own.get(count) for count in steps), some[-1]["largest"]))
    headings = ("env", *map(str, steps), "whole step, largest")
    note = (
        "Median spectral norm of the product of so many physics steps, at states of the random "
        "policy."
    )
    return Table("Growth over the physics steps of one step", headings, lines, 1, note)


def costs(rows: Rows) -> Table:
    """In plain steps."""
    names = ("env", "method", "directions", "seconds", "ratio", "smallest_ratio", "largest_ratio")
    lines = [
        [
            1e6 * row[name] if name == "seconds" else row[name]
            for name in (*names, "compile_seconds")
        ]
        for row in rows.where(measure="cost")
    ]
    headings = ("env", "what", "directions", "µs per state", "in plain steps", "smallest")
    batches = " or ".join(map(str, rows.distinct("batch")))
    note = (
        f"Batches of {batches}, interleaved, the median of ratios. At a few "
        "microseconds per state a call is mostly overhead, and the ratio says little. The distance "
        "between the smallest and the largest ratio shows what else the machine was doing."
    )
    return Table("Cost", (*headings, "largest", "compile s"), lines, 2, note)


def one_iteration(rows: Rows) -> Table:
    """One solver iteration beside the converged solver."""
    lines = []
    for names, some in rows.where(measure="one iteration").groups("env", "derivative"):
        by_start = {row["start"]: row for row in some}
        cells = [by_start[start][rank] for start in ("warm", "cold") for rank in ("median", "p90")]
        lines.append((*names, some[0]["states"], some[0]["constrained"], *cells))
    note = (
        "How far the Jacobian of a physics step with one solver iteration is from the converged "
        "one at the same states: relative distance (Frobenius), along rollouts of random actions "
        "with one iteration, where a constraint acts. Unrolled is the derivative of the iteration "
        "itself. Implicit is the derivative of an optimum, taken where the iteration ended."
    )
    headings = ("env", "derivative", "states", "constrained", "warm start, median")
    headings += ("warm start, 90 %", "cold, median", "cold, 90 %")
    return Table("One solver iteration", headings, lines, 2, note)


def left_out(rows: Rows) -> Table:
    """What was not measured, and why."""
    found = rows.where(measure=LEFT_OUT).groups("kind", "reason")
    lines = [(*names, ", ".join(map(str, some.distinct("env")))) for names, some in found]
    return Table("Left out", ("what", "why", "of"), lines, 3)


def _by_method(rows: Rows):
    return rows.where(measure="derivatives").groups("env", "kind", "method")


def _there(rows: Rows, name: str):
    """The numbers of a column, without the rows that have none."""
    found = [row[name] for row in rows if row.get(name) is not None]
    return Rows([{name: value} for value in found]).column(name)


def _nonfinite(rows: Rows) -> int:
    state, action = rows.column("state_finite"), rows.column("action_finite")
    return int(((state == 0) | (action == 0)).sum())


def _worst_median(rows: Rows, name: str) -> float | None:
    medians = (percentile(_there(some, name), 50) for _, some in rows.groups("kind"))
    return max((one for one in medians if one is not None), default=None)


def _limit(rows: Rows) -> float:
    return math.log(1 / rows.options["discount"])


def _above(low: float | None, high: float | None, limit: float) -> str | None:
    if low is None or high is None:
        return None
    return "yes" if low > limit else "in some" if high > limit else "no"


def _merged(lines: Sequence[Sequence[Cell]]) -> list[Sequence[Cell]]:
    """Methods whose numbers look the same in one row, with the numbers of the first."""
    merged: dict[tuple[str, ...], list[Any]] = {}
    for env, kind, method, *numbers in lines:
        key = tuple(map(text, (env, kind, *numbers)))
        found = merged.setdefault(key, [env, kind, "", *numbers])
        found[2] = ", ".join(filter(None, (found[2], str(method))))
    return list(merged.values())
