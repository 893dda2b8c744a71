"""The results of a sweep: configurations ranked, and which are as good as the best."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.launch.history import steady_steps_per_second
from experiments.launch.sweep.merging import Merged
from experiments.report.intervals import Estimate
from experiments.report.results import RETURN, Timing, counted, metric, summarise

Results = Mapping[str, Any]


def make_results(merged: Merged, start: float) -> dict[str, Any]:
    """The content of `results.json`: as for a run, with one variant per configuration, and more.

    The best configuration has the highest mean return at the end. Configurations that lost seeds,
    frozen or not finite, rank after those that lost none, whatever their mean.
    Differences are to the best, paired by seed; the same returns chose the best.

    Args:
        merged: The merged measurements.
        start: When the sweep started, by `time.perf_counter`.
    """
    sweep, history = merged.sweep, merged.history
    train_seconds = history.seconds[-1] if history.seconds else 0.0
    at_least = merged.compile_seconds + merged.initialise_seconds + train_seconds
    timing = Timing(
        compile_seconds=merged.compile_seconds,
        initialise_seconds=merged.initialise_seconds,
        train_seconds=train_seconds,
        steady_steps_per_second=steady_steps_per_second(history),
        wall_seconds=max(time.perf_counter() - start, at_least),
    )
    measured = summarise(history, timing, interrupted=False)
    order, names = rank(measured), list(measured["variants"])
    if order:
        measured = summarise(history, timing, False, reference=names.index(order[0]))
    values = sweep.to_json()
    configs = zip(sweep.variants, values["configs"], strict=True)
    return {
        "environment": values["experiment"]["env"],
        "environment_arguments": values["experiment"]["env_args"],
        "agent": values["experiment"]["agent"],
        "steps": sweep.experiment.config.total_timesteps,
        "varied": [axis.name for axis in sweep.axes],
        "drawn": sweep.drawn,
        "configs": {variant.name: config for variant, config in configs if variant.name in names},
        "order": order,
        "close_to_best": close_to_best(measured, order),
        "plan": merged.plan,
        "warnings": merged.warnings,
        "missing": merged.missing,
        **measured,
    }


def rank(measured: Results) -> list[str]:
    """Names of the configurations, best first; those that lost seeds come last."""

    def key(name: str) -> tuple[bool, bool, float]:
        found = metric(measured, name, RETURN)
        if found is None or found.mean is None:
            return True, True, 0.0
        return False, found.count < found.total, -found.mean

    return sorted(measured["variants"], key=key) if measured["epochs"] else []


def close_to_best(measured: Results, order: Sequence[str]) -> list[str]:
    """Configurations whose paired difference to the best has no interval, or one that contains 0.

    Configurations that lost all their seeds are left out.
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
    """A configuration's difference to the best, paired by seed; None for the best itself."""
    if name == order[0]:
        return None
    found = results["paired_differences"][f"{name} - {order[0]}"].get(measure)
    return found and Estimate(**found)


def lost_seeds(results: Results, name: str) -> int:
    """Seeds of a configuration without a return at the end: frozen, or not finite."""
    found = metric(results, name, RETURN)
    return found.total - found.count if found else 0


def sentence(results: Results) -> str:
    """One sentence on what the seeds show about the best configuration."""
    order = results["order"]
    if not order:
        return "No epoch was finished: there is nothing to compare."
    if results["seeds"] < 2:
        return f"Best: {order[0]}. One seed has no interval: the order may be chance."
    close, others = len(results["close_to_best"]), len(order) - 1
    text = f"Best: {order[0]}"
    text += f"; {close} of the other {others} may be as good" if others else ", of one"
    lost = sum(lost_seeds(results, name) > 0 for name in order)
    return f"{text}; {counted(lost, 'configuration')} lost seeds." if lost else f"{text}."
