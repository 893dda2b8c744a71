"""What a sweep found: its settings in order, and which are not told from the best."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.launch.sweep.options import Sweep, sweep_to_json
from experiments.launch.sweep.shards import Done
from experiments.report.intervals import Estimate
from experiments.report.results import RETURN, counted, metric, summarise

Results = Mapping[str, Any]


def make_results(sweep: Sweep, done: Done, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What `results.json` holds: as that of a run, with an arm for each setting, and the order.

    The best setting is the one of the highest mean return at the end. A setting that lost seeds,
    frozen or not finite, comes after those that lost none, whatever is left of it. Differences
    are to the best, paired by seed; the best was chosen by these very returns.
    """
    measured = summarise(done.history, done.timing, done.interrupted)
    order = rank(measured)
    names = list(measured["variants"])
    if order:
        best = names.index(order[0])
        measured = summarise(done.history, done.timing, done.interrupted, reference=best)
    asked = sweep_to_json(sweep)
    return {
        "environment": asked["experiment"]["env"],
        "environment_arguments": asked["experiment"]["env_args"],
        "agent": asked["experiment"]["agent"],
        "steps": sweep.experiment.config.total_timesteps,
        "varied": [axis.name for axis in sweep.axes],
        "drawn": sweep.drawn,
        "settings": dict(zip(names, asked["settings"], strict=True)),
        "order": order,
        "not_told_from_best": not_told_apart(measured, order),
        "plan": plan,
        "warnings": done.warnings,
        **measured,
    }


def rank(measured: Results) -> list[str]:
    """Names of the settings, best first."""

    def key(name: str) -> tuple[bool, bool, float]:
        found = metric(measured, name, RETURN)
        if found is None or found.mean is None:
            return True, True, 0.0
        return False, found.count < found.total, -found.mean

    return sorted(measured["variants"], key=key) if measured["epochs"] else []


def not_told_apart(measured: Results, order: Sequence[str]) -> list[str]:
    """Settings whose paired difference to the best has an interval that contains 0, or none.

    A setting of which nothing is left is not among them.
    """
    close = []
    for name in order[1:]:
        found = to_best(measured, order, name, RETURN)
        if found is None or found.mean is None:
            continue
        if found.low is None or found.high is None or found.low <= 0 <= found.high:
            close.append(name)
    return close


def to_best(results: Results, order: Sequence[str], name: str, measure: str) -> Estimate | None:
    """A setting's difference to the best one, paired by seed; None for the best itself."""
    if name == order[0]:
        return None
    found = results["paired_differences"][f"{name} - {order[0]}"].get(measure)
    return found and Estimate(**found)


def sentence(results: Results) -> str:
    """What the seeds say about the best setting, and no more than that."""
    order = results["order"]
    if not order:
        return "No epoch was finished: there is nothing to compare."
    if results["seeds"] < 2:
        return f"Best: {order[0]}. One seed has no interval: nothing is told apart."
    close, others = len(results["not_told_from_best"]), len(order) - 1
    text = f"Best: {order[0]}; {close} of the other {others} are not told from it"
    lost = sum(
        found is not None and found.count < found.total
        for found in (metric(results, name, RETURN) for name in order)
    )
    return f"{text}; {counted(lost, 'setting')} lost seeds." if lost else f"{text}."
