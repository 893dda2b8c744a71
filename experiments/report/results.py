"""The final numbers of a run: means, intervals and paired differences."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiments.launch.history import RETURN, History
from experiments.report.intervals import Estimate, estimate, paired_difference
from sobolax.training.gradient_warnings import LARGEST_SHARE_DROPPED

RETURN_OVER_TRAINING = "evaluation_return_over_training"


@dataclass(frozen=True)
class Timing:
    """Where the time went, in seconds; compilation is apart from everything else.

    Attributes:
        compile_seconds: Lowering and compiling both programs.
        initialise_seconds: Running the first one: networks, buffer, prefill.
        train_seconds: All epochs done.
        steady_steps_per_second: Environment steps of all runs together per second, over all
            epochs but the first; None before there are two.
        wall_seconds: From the start to the results.
    """

    compile_seconds: float
    initialise_seconds: float
    train_seconds: float
    steady_steps_per_second: float | None
    wall_seconds: float


def summarise(
    history: History, timing: Timing, interrupted: bool, reference: int = 0
) -> dict[str, Any]:
    """What `results.json` holds.

    Every metric of the last epoch per variant with a 95 % interval over seeds, its difference to
    the reference variant paired by seed, and the return averaged over all epochs (how fast it
    learned). Frozen runs are listed, and left out of means and differences.

    Args:
        history: What was measured.
        timing: Where the time went.
        interrupted: Whether it was cut short.
        reference: Index of the variant that the others are compared with.
    """
    final: dict[str, np.ndarray] = dict(history.epochs[-1]) if history.epochs else {}
    frozen_at = final.pop("frozen_at", None)
    frozen = final.pop("frozen", np.zeros((len(history.variants), history.seeds))) > 0
    returns = history.values(RETURN)
    if returns is not None:
        final[RETURN_OVER_TRAINING] = returns.mean(axis=0)
    sound = {name: np.where(frozen, np.nan, values) for name, values in final.items()}
    results: dict[str, Any] = {
        "interrupted": interrupted,
        "epochs": len(history.epochs),
        "seeds": history.seeds,
        "confidence": 0.95,
        "interval": "Student's t over seeds; null with fewer than two finite values",
        "timing": asdict(timing),
        "variants": {
            variant.name: {
                "label": variant.label,
                "weights": variant.weights,
                "metrics": {
                    name: {
                        **asdict(estimate(sound[name][index])),
                        "per_seed": values[index].tolist(),
                    }
                    for name, values in final.items()
                },
                "whole_run": _whole_run(history, index),
                "frozen_at": [
                    int(frozen_at[index, seed]) if frozen_at is not None and sick else None
                    for seed, sick in enumerate(frozen[index])
                ],
            }
            for index, variant in enumerate(history.variants)
        },
        "paired_differences": {},
    }
    base = history.variants[reference].name if history.variants else ""
    for index, variant in enumerate(history.variants):
        if index == reference:
            continue
        results["paired_differences"][f"{variant.name} - {base}"] = {
            name: asdict(paired_difference(values[index], values[reference]))
            for name, values in sound.items()
        }
    return results


# What a last epoch alone would not show; the one is a share per epoch, the others are counts.
_SHARES = ("gradients_dropped", "references_dropped")
_COUNTS = ("transitions_nonfinite", "evaluation_nonfinite")


def _whole_run(history: History, variant: int) -> dict[str, float]:
    """A variant's mean shares (without frozen runs) and summed counts, over epochs and seeds."""
    found: dict[str, float] = {}
    for name in (*_SHARES, *_COUNTS):
        values = history.values(name)
        if values is None:
            continue
        own = values[:, variant]
        if name in _SHARES:
            own = own[~history.frozen[:, variant]]
            found[name] = float(own.mean()) if own.size else 0.0
        else:
            found[name] = float(own.sum())
    return found


def metric(results: Mapping[str, Any], variant: str, name: str) -> Estimate | None:
    """One entry of `results["variants"]`; None where the metric is absent."""
    entry = results["variants"][variant]["metrics"].get(name)
    if entry is None:
        return None
    return Estimate(*(entry[part] for part in ("mean", "low", "high", "count", "total")))


def sentence(results: Mapping[str, Any]) -> str:
    """One sentence on what the seeds show about the returns."""
    if not results["epochs"]:
        return "No epoch was finished: there is nothing to compare."
    if not results["paired_differences"]:
        return "One variant alone: there is nothing to compare."
    (pair, differences) = next(iter(results["paired_differences"].items()))
    if RETURN not in differences:
        return "No returns were measured: there is nothing to compare."
    final = differences[RETURN]
    text = f"Paired difference of returns ({pair}) over {counted(final['count'], 'seed')}: "
    if final["low"] is None:
        value = "none" if final["mean"] is None else f"{final['mean']:+.4g}"
        return text + f"{value}; one seed has no interval."
    contains = final["low"] <= 0 <= final["high"]
    verdict = "the interval contains zero" if contains else "the interval does not contain zero"
    left_out = final["total"] - final["count"]
    note = f"; {counted(left_out, 'seed')} left out: frozen or not finite" if left_out else ""
    return f"{text}{final['mean']:+.4g} [{final['low']:.4g}, {final['high']:.4g}]; {verdict}{note}."


def frozen_runs(results: Mapping[str, Any]) -> str | None:
    """Lists the frozen runs and since when; None if there are none."""
    frozen = []
    for variant in results["variants"].values():
        steps = {seed: step for seed, step in enumerate(variant["frozen_at"]) if step is not None}
        if steps:
            since = ", ".join(f"seed {seed} at step {step:,}" for seed, step in steps.items())
            frozen.append(f"{variant['label']} {since}")
    if not frozen:
        return None
    return f"Frozen by numbers that are not finite, and left out of means: {'; '.join(frozen)}."


def dropped_gradients(results: Mapping[str, Any]) -> str | None:
    """Lists the variants that most gradients were dropped of; None if there are none."""
    shares = {
        variant["label"]: variant["whole_run"].get("gradients_dropped", 0.0)
        for variant in results["variants"].values()
        if any(variant["weights"].values())
    }
    most = [f"{x} {share:.0%}" for x, share in shares.items() if share > LARGEST_SHARE_DROPPED]
    if not most:
        return None
    return (
        f"Mostly plain TD learning, with gradients dropped: {'; '.join(most)}. Their tangents are "
        "not finite or longer than tangent_bound."
    )


def counted(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
