"""Tables of a study: the same rows on the console and in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.report.intervals import Median, median
from experiments.report.table import Listing
from experiments.studies.toy.critics import MAIN
from experiments.studies.toy.study import pick
from experiments.studies.toy.systems import MEASURES
from experiments.studies.toy.variants import PLAIN, SOBOLEV

Results = Mapping[str, Any]

# Mean squared errors of Q of the paper's MLP on its own toy (arXiv 2511.19165), which is not
# public: the ratio compares with ours, the values do not.
PAPER = {PLAIN.name: 4.45e-2, SOBOLEV.name: 1.25e-2}
_SYMBOLS = {"value": "Q", "state": "∇s Q", "action": "∇a Q"}
_HEADINGS = (
    *(f"{symbol}, MSE" for symbol in _SYMBOLS.values()),
    *(f"{symbol}, factor" for symbol in _SYMBOLS.values()),
)


def listings(results: Results, intervals: bool = True) -> list[Listing]:
    """All tables of a study.

    Args:
        results: Of the study.
        intervals: Whether intervals stand beside medians, for which a terminal is too narrow.
    """
    if results["toy"]["study"] == "tuning":
        return [best_rates(results), rates(results, intervals), weights(results, intervals)]
    found = [controls(results, system, intervals) for system in results["systems"]]
    return [*found, critics(results, intervals), sizes(results, intervals)]


def controls(results: Results, system: str, intervals: bool = True) -> Listing:
    """Every variant on one system, by the main critic."""
    count = results["toy"]["transitions"]
    rows = [
        (results["variants"][fit["variant"]]["label"], *_cells(results, fit, intervals))
        for fit in pick(results, critic=MAIN, system=system, transitions=count)
    ]
    ratio = PAPER[PLAIN.name] / PAPER[SOBOLEV.name]
    rows += [
        ("paper, plain MLP", f"{PAPER[PLAIN.name]:.2e}", "–", "–", "1", "–", "–"),
        ("paper, Sobolev MLP", f"{PAPER[SOBOLEV.name]:.2e}", "–", "–", f"{ratio:.2f}", "–", "–"),
    ]
    described = results["systems"][system]
    scale = described["variance"]["value"], *(described["mean_square"][n] for n in MEASURES[1:])
    note = (
        f"{results['critics'][MAIN]['label']}, {count} transitions. The mean of Q* as a guess, and "
        f"gradients of 0, have MSEs of {_number(scale[0])}, {_number(scale[1])} and "
        f"{_number(scale[2])}. {_HOW} λ = 1 where nothing else is said. The paper's toy is another "
        "one and not public: its factor compares, its values do not."
    )
    return Listing(f"Controls, {described['label']}", ("variant", *_HEADINGS), rows, 1, note)


_HOW = (
    "MSE: the mean squared error over all states and actions; factor: plain's MSE divided by this "
    "one, of the same seed. Of both the median over seeds and its 95 % interval."
)


def critics(results: Results, intervals: bool = True) -> Listing:
    """Plain and Sobolev by every critic."""
    count = results["toy"]["transitions"]
    rows = [
        (
            results["systems"][system]["label"],
            results["critics"][critic]["label"],
            results["variants"][fit["variant"]]["label"],
            *_cells(results, fit, intervals),
        )
        for system in results["systems"]
        for critic in results["critics"]
        for fit in _pair(results, critic=critic, system=system, transitions=count)
    ]
    note = f"{count} transitions."
    return Listing("Critics", ("system", "critic", "variant", *_HEADINGS), rows, 3, note)


def sizes(results: Results, intervals: bool = True) -> Listing:
    """Plain and Sobolev by numbers of transitions."""
    rows = [
        (
            results["systems"][system]["label"],
            str(count),
            results["variants"][fit["variant"]]["label"],
            *_cells(results, fit, intervals),
        )
        for system in results["systems"]
        for count in results["toy"]["sizes"]
        for fit in _pair(results, critic=MAIN, system=system, transitions=count)
    ]
    note = f"{results['critics'][MAIN]['label']}."
    headings = ("system", "transitions", "variant", *_HEADINGS)
    return Listing("Numbers of transitions", headings, rows, 3, note)


def rates(results: Results, intervals: bool = True) -> Listing:
    """Plain and Sobolev by learning rates."""
    rows = [
        (
            results["critics"][critic]["label"],
            results["systems"][system]["label"],
            str(count),
            f"{fit['learning_rate']:g}",
            results["variants"][fit["variant"]]["label"],
            *_cells(results, fit, intervals),
        )
        for critic in results["critics"]
        for system in results["systems"]
        for count in (results["toy"]["transitions"], results["toy"]["sizes"][-1])
        for fit in _pair(results, critic=critic, system=system, transitions=count)
    ]
    headings = ("critic", "system", "transitions", "rate", "variant", *_HEADINGS)
    return Listing("Learning rates", headings, rows, 5, _HOW)


def best_rates(results: Results) -> Listing:
    """Which learning rate serves plain learning best."""
    count = results["toy"]["transitions"]
    rates = sorted({fit["learning_rate"] for fit in results["fits"]})

    def mean(critic: str, rate: float) -> float:
        chosen = pick(
            results, critic=critic, learning_rate=rate, transitions=count, variant=PLAIN.name
        )
        medians = [median(fit["errors"]["value"]).median for fit in chosen]
        return float(np.exp(np.mean(np.log(np.asarray(medians, np.float64)))))

    rows = [
        (described["label"], *(_number(mean(critic, rate)) for rate in rates))
        for critic, described in results["critics"].items()
    ]
    note = f"Plain learning, {count} transitions: MSE of Q, the geometric mean over systems."
    return Listing("Best learning rates", ("critic", *(f"{r:g}" for r in rates)), rows, 1, note)


def weights(results: Results, intervals: bool = True) -> Listing:
    """Controls by their weights."""
    rate, count = results["critics"][MAIN]["learning_rate"], results["toy"]["transitions"]
    rows = [
        (
            results["systems"][system]["label"],
            results["variants"][fit["variant"]]["label"],
            *_cells(results, fit, intervals),
        )
        for system in results["systems"]
        for fit in pick(results, critic=MAIN, system=system, transitions=count, learning_rate=rate)
        if fit["variant"] != SOBOLEV.name
    ]
    return Listing("Weights of controls", ("system", "variant", *_HEADINGS), rows, 2, _HOW)


def factors(fit: Results, plain: Results) -> dict[str, Median]:
    """How many times smaller than plain's an arm's squared errors are, seed by seed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            name: median(np.asarray(plain["errors"][name]) / np.asarray(fit["errors"][name]))
            for name in MEASURES
        }


def _pair(results: Results, **chosen: Any) -> list[Results]:
    names = (PLAIN.name, SOBOLEV.name)
    return [fit for fit in pick(results, **chosen) if fit["variant"] in names]


def _cells(results: Results, fit: Results, intervals: bool) -> Sequence[str]:
    """Errors and factors of a fit."""
    same = {name: fit[name] for name in ("critic", "system", "transitions", "learning_rate")}
    tell = _interval if intervals else lambda found: _number(found.median)
    errors = [tell(median(fit["errors"][name])) for name in MEASURES]
    if fit["variant"] == PLAIN.name:
        return (*errors, "1", "1", "1")
    plain = pick(results, variant=PLAIN.name, **same)[0]
    return (*errors, *(tell(found) for found in factors(fit, plain).values()))


def _interval(found: Median) -> str:
    if found.low is None or found.high is None:
        return _number(found.median)
    return f"{_number(found.median)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "–" if value is None else "∞"
    if value == 0:
        return "0"
    if value >= 1e4 or value < 1e-2:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
