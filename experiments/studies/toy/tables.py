"""Tables of the toy: errors to Q*, and how many times smaller than plain learning's they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.report.intervals import Median, median
from experiments.report.rows import Rows
from experiments.report.table import Cell, Table, number
from experiments.studies.toy.critics import CRITICS, MAIN
from experiments.studies.toy.measure import shown_arrays
from experiments.studies.toy.systems import MEASURES
from experiments.studies.toy.variants import LABELS, PLAIN, SOBOLEV

# Mean squared errors of Q of the paper's MLP on its own toy (arXiv 2511.19165), which is not
# public: the ratio compares with ours, the values do not.
PAPER = {PLAIN.name: 4.45e-2, SOBOLEV.name: 1.25e-2}
_SYMBOLS = {"value": "Q", "state": "∇s Q", "action": "∇a Q"}
_HEADINGS = (
    *(f"{symbol}, MSE" for symbol in _SYMBOLS.values()),
    *(f"{symbol}, factor" for symbol in _SYMBOLS.values()),
)
_HOW = (
    "MSE: the mean squared error over all states and actions; factor: plain's MSE divided by this "
    "one, of the same seed. Of both the median over seeds and its 95 % interval."
)
_FIT: tuple[str, ...] = ("system", "critic", "transitions", "learning_rate")


def tables(rows: Rows) -> list[Table]:
    """All tables of a study."""
    count = rows.options["transitions"]
    own_rate = CRITICS[MAIN].learning_rate
    if rows.options["study"] == "tuning":
        return [
            best_rates(rows),
            _table(
                "Learning rates", _pairs(rows), ("critic", "system", "transitions", "learning_rate")
            ),
            _table(
                "Weights of controls",
                rows.where(critic=MAIN, transitions=count, learning_rate=own_rate),
                ("system",),
                hidden=(SOBOLEV.name,),
            ),
        ]
    main = rows.where(critic=MAIN)
    return [
        *(
            controls(main.where(system=system, transitions=count))
            for system in rows.distinct("system")
        ),
        _table("Critics", _pairs(rows.where(transitions=count)), ("system", "critic")),
        _table("Numbers of transitions", _pairs(main), ("system", "transitions")),
    ]


def controls(rows: Rows) -> Table:
    """Every variant on one system, by the main critic."""
    system, count = rows[0]["system"], rows.options["transitions"]
    table = _table(f"Controls, {system}", rows, ())
    ratio = PAPER[PLAIN.name] / PAPER[SOBOLEV.name]
    paper: list[Sequence[Cell]] = [
        ("paper, plain MLP", PAPER[PLAIN.name], None, None, 1, None, None),
        ("paper, Sobolev MLP", PAPER[SOBOLEV.name], None, None, ratio, None, None),
    ]
    note = f"{CRITICS[MAIN].label}, {count} transitions. "
    if found := shown_arrays(rows, system):
        value, state, action = found["surfaces"][:, 0]
        scale = [number(float(x)) for x in (np.var(value), np.mean(state**2), np.mean(action**2))]
        note += (
            f"The mean of Q* as a guess, and gradients of 0, have MSEs of {scale[0]}, {scale[1]} "
            f"and {scale[2]}. "
        )
    note += (
        f"{_HOW} λ = 1 where nothing else is said. The paper's toy is another one and not public: "
        "its factor compares, its values do not."
    )
    return Table(table.title, table.headings, [*table.rows, *paper], 1, note)


def best_rates(rows: Rows) -> Table:
    """Which learning rate serves plain learning best."""
    count = rows.options["transitions"]
    plain = rows.where(transitions=count, variant=PLAIN.name)
    rates = sorted(plain.distinct("learning_rate"))

    def mean(critic: str, rate: float) -> float:
        chosen = plain.where(critic=critic, learning_rate=rate)
        found = [median(some.column("value")).median for _, some in chosen.groups("system")]
        return float(np.exp(np.mean(np.log(np.asarray(found, np.float64)))))

    lines = [
        (CRITICS[critic].label, *(mean(critic, rate) for rate in rates))
        for critic in plain.distinct("critic")
    ]
    note = f"Plain learning, {count} transitions: MSE of Q, the geometric mean over systems."
    return Table("Best learning rates", ("critic", *(f"{r:g}" for r in rates)), lines, 1, note)


def factors(rows: Rows, plain: Rows) -> dict[str, Median]:
    """How many times smaller than plain learning's squared errors are, seed by seed.

    An error that diverged makes a factor of 0, even where plain learning's diverged too.
    """

    def errors(some: Rows, name: str) -> np.ndarray:
        found = some.column(name)
        return np.where(np.isnan(found), np.inf, found)

    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = {name: errors(plain, name) / errors(rows, name) for name in MEASURES}
    return {name: median(ratio, worst=0.0) for name, ratio in ratios.items()}


def _pairs(rows: Rows) -> Rows:
    return rows.among("variant", (PLAIN.name, SOBOLEV.name))


def _table(title: str, rows: Rows, names: Sequence[str], hidden: Sequence[str] = ()) -> Table:
    """A row for each fit: what it differs in by name, its errors, its factors."""

    def place(fit: dict[str, Any]) -> list[Any]:
        systems, critics = rows.distinct("system"), list(CRITICS)
        known = fit | {
            "system": systems.index(fit["system"]),
            "critic": critics.index(fit["critic"]),
        }
        return [known[name] for name in names]

    fits = [(dict(zip(_FIT, key, strict=True)), some) for key, some in rows.groups(*_FIT)]
    lines: list[Sequence[Cell]] = []
    for fit, fitted in sorted(fits, key=lambda one: place(one[0])):
        plain = fitted.where(variant=PLAIN.name)
        texts = fit | {"critic": CRITICS[fit["critic"]].label}
        for (variant,), some in fitted.groups("variant"):
            if variant in hidden:
                continue
            cells: list[Cell] = [median(some.column(name)) for name in MEASURES]
            if variant == PLAIN.name or not plain:
                cells += [1 if variant == PLAIN.name else None] * len(MEASURES)
            else:
                cells += factors(some, plain).values()
            lines.append((*(str(texts[name]) for name in names), LABELS[variant], *cells))
    headings = (*(name.replace("_", " ") for name in names), "variant", *_HEADINGS)
    counts = "" if "transitions" in names else f"{rows.options['transitions']} transitions. "
    critics = "" if "critic" in names else f"{CRITICS[MAIN].label}. "
    return Table(title, headings, lines, len(names) + 1, f"{critics}{counts}{_HOW}")
