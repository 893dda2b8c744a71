"""The tables: all tasks in short, and one for each task."""

from collections.abc import Sequence

from experiments.report.intervals import Estimate
from experiments.report.table import Table, number, text
from experiments.studies.weighting.rules import PLAIN, RULES
from experiments.studies.weighting.summary import (
    BEST,
    OVER_TRAINING,
    RATIOS,
    SCORE,
    Results,
    difference,
    mean_of,
    rows,
)

_ERRORS = {
    "value_error": "value error",
    "state_gradient_error": "∇s Q error",
    "action_gradient_error": "∇a Q error",
}


def listings(many: Sequence[Results]) -> list[Table]:
    """All tables."""
    return [overview(many), *(make(one) for one in many for make in (scores, critics))]


def overview(many: Sequence[Results]) -> Table:
    """A row for each rule: its final score on every task, and how far the best constant is."""
    labels: dict[str, str] = {}
    papers = {rule.name: rule.paper for rule in RULES}
    for results in many:
        labels |= {name: label for name, label in rows(results).items() if name != BEST}
    order = list(dict.fromkeys(name for results in many for name in rows(results)))
    table = []
    for name in order:
        cells = []
        for results in many:
            if name not in rows(results):
                cells += ["–", "–"]
                continue
            cells.append(text(mean_of(results, name, SCORE)))
            cells.append(text(difference(results, name, BEST, SCORE), signed=True))
        table.append((labels.get(name, "best constant"), papers.get(name) or "–", *cells))
    headings = ["rule", "after"]
    for results in many:
        headings += [
            f"{results['task']}, {results['score']}",
            f"{results['task']}, − best constant",
        ]
    note = (
        "Final score, the more the better (mean of the last two evaluations), and its paired "
        "difference to the best constant, chosen on other seeds than those it is judged on: means "
        "with 95 % intervals, not corrected for how many there are. Digits of Q*: -log10 of the "
        "critic's relative error."
    )
    return Table("All tasks in short", headings, table, 2, note)


def scores(results: Results) -> Table:
    """All rules of one task: final score, score over training, and paired differences."""
    table = []
    for name, label in rows(results).items():
        cells = []
        for measure in (SCORE, OVER_TRAINING):
            cells.append(text(mean_of(results, name, measure)))
            for reference in (PLAIN, BEST):
                found = difference(results, name, reference, measure)
                cells.append(text(found, signed=True))
        table.append((label, *cells))
    score = results["score"]
    headings = ["rule", score, f"{score}, − plain", f"{score}, − best constant", "over training"]
    headings += ["over training, − plain", "over training, − best constant"]
    note = (
        f"{results['seeds']} paired seeds, {results['amount']} each; means with 95 % intervals. "
        f"First {score}: mean of the last two evaluations. Over training: mean of all of them. "
        "Best constant: the weight that one half of the seeds chooses by its final score, judged "
        "on the other half, both ways. * some seeds are not finite and left out."
    )
    return Table(f"{results['task']}: {score}", headings, table, 1, note)


def critics(results: Results) -> Table:
    """All rules of one task: the critic's errors, and what the weights came to."""
    errors = [
        name
        for name in _ERRORS
        if all(name in rule["measures"] for rule in results["rules"].values())
    ]
    table = []
    for name, label in rows(results).items():
        cells = [text(mean_of(results, name, error)) for error in errors]
        # The best constant is a choice of two: its label says which.
        weights = [None if name == BEST else mean_of(results, name, ratio) for ratio in RATIOS]
        table.append((label, *cells, *map(_mean, weights)))
    headings = ["rule", *(_ERRORS[name] for name in errors), "λs, at the end", "λa, at the end"]
    note = (
        "Errors of the critic are relative to its reference (concepts.md), means of the last two "
        "epochs. λ at the end: the gradient's weight over the value's, mean of the last epoch: "
        "with "
        "Adam a common factor of both changes nothing."
    )
    return Table(f"{results['task']}: critic and weights", headings, table, 1, note)


def _mean(found: Estimate | None) -> str:
    return "–" if found is None or found.mean is None else number(found.mean)
