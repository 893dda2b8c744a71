"""The final numbers of a run: means, intervals and paired differences."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiments.history import History
from experiments.statistics import Estimate, estimate, paired_difference

RETURN = "evaluation_return"
RETURN_OVER_TRAINING = "evaluation_return_over_training"


@dataclass(frozen=True)
class Timing:
    """Where the time went, in seconds; compilation is apart from everything else.

    Attributes:
        compile_seconds: Lowering and compiling both programs.
        initialise_seconds: Running the first one: networks, buffer, prefill.
        train_seconds: All epochs done.
        steady_steps_per_second: Environment steps of all members together per second, over all
            epochs but the first; None before there are two.
        wall_seconds: From the start to the results.
    """

    compile_seconds: float
    initialise_seconds: float
    train_seconds: float
    steady_steps_per_second: float | None
    wall_seconds: float


def steady_steps_per_second(history: History) -> float | None:
    """Environment steps of all members per second, the first epoch left out."""
    steps = history.values("environment_steps")
    if steps is None or len(steps) < 2:
        return None
    passed = history.seconds[-1] - history.seconds[0]
    return float((steps[-1] - steps[0]).sum() / passed) if passed > 0 else None


def summarise(history: History, timing: Timing, interrupted: bool) -> dict[str, Any]:
    """What `results.json` holds.

    Every metric of the last epoch per arm with a 95 % interval over seeds, its difference to the
    first arm paired by seed, and the return averaged over all epochs (how fast it learned).
    """
    final: dict[str, np.ndarray] = dict(history.epochs[-1]) if history.epochs else {}
    returns = history.values(RETURN)
    if returns is not None:
        final[RETURN_OVER_TRAINING] = returns.mean(axis=0)
    results: dict[str, Any] = {
        "interrupted": interrupted,
        "epochs": len(history.epochs),
        "seeds": history.seeds,
        "confidence": 0.95,
        "interval": "Student's t over seeds; null with fewer than two finite values",
        "timing": asdict(timing),
        "arms": {
            arm.name: {
                "label": arm.label,
                "weights": arm.weights,
                "metrics": {name: _entry(values[index]) for name, values in final.items()},
                "whole_run": _whole_run(history, index),
            }
            for index, arm in enumerate(history.arms)
        },
        "paired_differences": {},
    }
    for index, arm in enumerate(history.arms[1:], start=1):
        results["paired_differences"][f"{arm.name} - {history.arms[0].name}"] = {
            name: asdict(paired_difference(values[index], values[0]))
            for name, values in final.items()
        }
    return results


# What a last epoch alone would not show; the one is a share per epoch, the others are counts.
_SHARES = ("slopes_dropped", "references_dropped")
_COUNTS = ("transitions_nonfinite", "evaluation_nonfinite")


def _whole_run(history: History, arm: int) -> dict[str, float]:
    """Shares averaged, and counts summed, over all epochs and seeds of an arm."""
    values = {name: history.values(name) for name in (*_SHARES, *_COUNTS)}
    return {
        name: float(np.mean(found[:, arm]) if name in _SHARES else np.sum(found[:, arm]))
        for name, found in values.items()
        if found is not None
    }


def _entry(values: np.ndarray) -> dict[str, Any]:
    return {**asdict(estimate(values)), "per_seed": values.tolist()}


def metric(results: Mapping[str, Any], arm: str, name: str) -> Estimate | None:
    """One entry of `results["arms"]`; None where the metric is absent."""
    entry = results["arms"][arm]["metrics"].get(name)
    if entry is None:
        return None
    return Estimate(*(entry[part] for part in ("mean", "low", "high", "count", "total")))


def sentence(results: Mapping[str, Any]) -> str:
    """What the seeds say about the returns, and no more than that."""
    if not results["epochs"]:
        return "No epoch was finished: there is nothing to compare."
    if not results["paired_differences"]:
        return "One arm alone: there is nothing to compare."
    (pair, differences) = next(iter(results["paired_differences"].items()))
    if RETURN not in differences:
        return "No returns were measured: there is nothing to compare."
    final = differences[RETURN]
    told = f"Paired difference of returns ({pair}) over {counted(final['count'], 'seed')}: "
    if final["low"] is None:
        value = "none" if final["mean"] is None else f"{final['mean']:+.4g}"
        return told + f"{value}; one seed has no interval."
    contains = final["low"] <= 0 <= final["high"]
    verdict = "the interval contains zero" if contains else "the interval does not contain zero"
    left_out = final["total"] - final["count"]
    note = f"; {counted(left_out, 'seed')} left out: returns not finite" if left_out else ""
    return f"{told}{final['mean']:+.4g} [{final['low']:.4g}, {final['high']:.4g}]; {verdict}{note}."


def counted(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
