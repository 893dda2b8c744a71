"""The tables: all tasks in short, and two for each task."""

from experiments.report.rows import Rows
from experiments.report.table import Table
from experiments.studies.weighting.measure import OVER_TRAINING, RATIOS, SCORE
from experiments.studies.weighting.rules import PLAIN, RULES
from experiments.studies.weighting.summary import BEST, difference, lines, mean_of
from experiments.studies.weighting.tasks import TASKS

_ERRORS = {
    "value_error": "value error",
    "state_gradient_error": "∇s Q error",
    "action_gradient_error": "∇a Q error",
}


def by_task(rows: Rows) -> dict[str, Rows]:
    """The rows of each task, in the order of `TASKS`."""
    return {name: own for name in TASKS if (own := rows.where(task=name))}


def tables(rows: Rows) -> list[Table]:
    """All tables."""
    each = by_task(rows)
    made = [make(name, own) for name, own in each.items() for make in (scores, critics)]
    return [overview(each), *made]


def overview(tasks: dict[str, Rows]) -> Table:
    """A row for each rule: its final score on every task, and how far the best constant is."""
    labels = {name: label for own in tasks.values() for name, label in lines(own).items()}
    labels |= {BEST: "best constant"} if BEST in labels else {}
    table = []
    for name, label in labels.items():
        cells = []
        for own in tasks.values():
            there = name in lines(own)
            cells.append(mean_of(own, name, SCORE) if there else None)
            cells.append(difference(own, name, BEST, SCORE) if there else None)
        paper = RULES[name].paper if name in RULES else ""
        table.append((label, paper or "–", *cells))
    signed = [f"{name}, − best constant" for name in tasks]
    headings = ["rule", "after"]
    for name, difference_to_best in zip(tasks, signed, strict=True):
        headings += [f"{name}, {TASKS[name].score_label}", difference_to_best]
    note = (
        "Final score, the more the better (mean of the last two evaluations), and its paired "
        "difference to the best constant, chosen on other seeds than those it is judged on: means "
        "with 95 % intervals, not corrected for how many there are. Digits of Q*: -log10 of the "
        "critic's relative error."
    )
    return Table("All tasks in short", headings, table, 2, note, signed)


def scores(task: str, rows: Rows) -> Table:
    """All rules of one task: final score, score over training, and paired differences."""
    table = [
        (
            label,
            *(
                cell
                for measure in (SCORE, OVER_TRAINING)
                for cell in (
                    mean_of(rows, name, measure),
                    difference(rows, name, PLAIN, measure),
                    difference(rows, name, BEST, measure),
                )
            ),
        )
        for name, label in lines(rows).items()
    ]
    score = TASKS[task].score_label
    signed = [
        f"{what}, − {reference}"
        for what in (score, "over training")
        for reference in ("plain", "best constant")
    ]
    headings = ("rule", score, *signed[:2], "over training", *signed[2:])
    seeds = len(rows.where(rule=rows.distinct("rule")[0]))
    note = (
        f"{seeds} paired seeds, {TASKS[task].amount(rows.options['steps'])} each; means with "
        f"95 % intervals. First {score}: mean of the last two evaluations. Over training: mean of "
        "all of them. Best constant: the weight that one half of the seeds chooses by its final "
        "score, judged on the other half, both ways. * some seeds are not finite and left out."
    )
    return Table(f"{task}: {score}", headings, table, 1, note, signed)


def critics(task: str, rows: Rows) -> Table:
    """All rules of one task: the critic's errors, and what the weights came to."""
    errors = [name for name in _ERRORS if rows.has(name)]
    table = []
    for name, label in lines(rows).items():
        cells = [mean_of(rows, name, error) for error in errors]
        # The best constant is a choice of two: its label says which.
        weights = [None if name == BEST else mean_of(rows, name, ratio).mean for ratio in RATIOS]
        table.append((label, *cells, *weights))
    headings = ["rule", *(_ERRORS[name] for name in errors), "λs, at the end", "λa, at the end"]
    note = (
        "Errors of the critic are relative to its reference (docs/concepts/overview.md), means of "
        "the last two epochs. λ at the end: the gradient's weight over the value's, mean of the "
        "last epoch: with Adam a common factor of both changes nothing."
    )
    return Table(f"{task}: critic and weights", headings, table, 1, note)
