"""Trains all rules on all tasks: a program per group of rules, on disk epoch by epoch."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.launch import run_folder
from experiments.launch.configuration import Variant
from experiments.launch.history import History
from experiments.launch.job import Job as TrainingJob
from experiments.launch.program import keys_and_hypers
from experiments.launch.progress import Silent, clock, seconds_left
from experiments.launch.runner import train_members
from experiments.studies.weighting.options import Group, Job, Prepared
from experiments.studies.weighting.summary import OVER_TRAINING, RATIOS, SCORE, summarise
from experiments.studies.weighting.tasks import Task

Tell = Callable[[str], None]

_LAST = 2  # epochs that a final number is the mean of


def execute(prepared: Prepared, tell: Tell) -> tuple[list[dict[str, Any]], bool]:
    """Trains everything; what is done is on disk.

    Args:
        prepared: What to train.
        tell: Gets told how it goes on.

    Returns:
        What was measured, task by task, as the files `TASK.json` hold it; and whether an
        interrupt cut it short, in which case groups that were done are kept.
    """
    folder = prepared.folder
    run_folder.create(folder)
    asked = {name: value for name, value in asdict(prepared.sweep).items() if name != "output"}
    configuration = {"sweep": asked, **run_folder.provenance()}
    run_folder.write_json(folder / run_folder.CONFIGURATION, configuration)
    measured: list[dict[str, Any]] = []
    for job in prepared.jobs:
        results, interrupted = _measure(prepared, job, tell)
        if results["rules"]:
            results["summary"] = summarise(results)
            run_folder.write_json(folder / f"{job.task.name}.json", results)
            measured.append(results)
        if interrupted:
            return measured, True
    return measured, False


def _measure(prepared: Prepared, job: Job, tell: Tell) -> tuple[dict[str, Any], bool]:
    sweep, task = prepared.sweep, job.task
    config = job.groups[0].config
    results: dict[str, Any] = {
        "task": task.name,
        "environment": {"name": task.environment, **task.parameters},
        "score": task.score_label,
        "amount": f"{getattr(config, task.steps):,} {task.unit}",
        "config": asdict(config),
        "hyper": dict(task.hyper),
        "seeds": sweep.seeds,
        "seed": sweep.seed,
        **run_folder.provenance(),
        "seconds": {},
        "rules": {},
    }
    try:
        for group in job.groups:
            start = time.perf_counter()
            tell(f"{task.name}, {group.name}: compiling")
            history, compiled = _train(prepared, job, group, tell)
            results["seconds"][group.name] = {
                "members": len(group.rules) * sweep.seeds,
                "updates": group.config.updates,
                "compile": compiled,
                "train": history.seconds[-1],
                "wall": time.perf_counter() - start,
            }
            for rule in group.rules:
                entry = asdict(rule) | {"group": group.name, "constant": rule.constant}
                entry["huber_delta"] = str(rule.huber_delta)  # JSON knows no infinity
                results["rules"][rule.name] = entry | {
                    "measures": measures(history, rule.name, task.score)
                }
    except KeyboardInterrupt:
        return results, True
    return results, False


def _train(prepared: Prepared, job: Job, group: Group, tell: Tell) -> tuple[History, float]:
    """All epochs of one group; every epoch's metrics are on disk when the next begins."""
    variants = [
        Variant(rule.name, job.task.make_hyper(rule, group.weightings)) for rule in group.rules
    ]
    keys, hypers = keys_and_hypers(variants, prepared.sweep.seeds, prepared.sweep.seed)
    folder = prepared.folder / job.task.name / group.name.replace(" ", "-")
    run_folder.create(folder)
    outcome = train_members(
        TrainingJob(
            group.training, variants, prepared.sweep.seeds, keys, hypers, group.config.epochs
        ),
        folder,
        _Telling(tell, job.task, group),
    )
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome.history, outcome.compile_seconds


class _Telling(Silent):
    """Tells of a group of rules in training, a line per epoch."""

    def __init__(self, tell: Tell, task: Task, group: Group):
        self._tell, self._task = tell, task
        self._name, self._rules = f"{task.name}, {group.name}", len(group.rules)

    def epoch(self, history: History, epochs: int) -> None:
        left = clock(seconds_left(history, epochs))
        self._tell(
            f"{self._name}: epoch {len(history.epochs)}/{epochs}, {_range(history, self._task)}, "
            f"{left} left for these {self._rules} rules"
        )

    def warn(self, text: str) -> None:
        self._tell(f"WARNING: {self._name}: {text}")


def measures(history: History, rule: str, score: str) -> dict[str, list[float]]:
    """What the table is made of, seed by seed: means over the last two epochs.

    The score is averaged over all epochs too, which says how fast a rule learned; the ratios
    of weights, gradients' to value's, are those of the last epoch.
    """
    at = [variant.name for variant in history.variants].index(rule)

    def values(name: str) -> np.ndarray:
        found = history.values(name)
        assert found is not None
        return found[:, at]

    skipped = {"environment_steps", "updates"}
    found = {
        name: values(name)[-_LAST:].mean(axis=0) for name in history.names if name not in skipped
    }
    found[SCORE] = found[score]
    found[OVER_TRAINING] = values(score).mean(axis=0)
    for ratio, weight in RATIOS.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            found[ratio] = values(weight)[-1] / values("weight_value")[-1]
    return {name: column.tolist() for name, column in found.items()}


def _range(history: History, task: Task) -> str:
    last = history.last(task.score)
    assert last is not None
    means = last.mean(axis=1)
    finite = means[np.isfinite(means)]
    if not finite.size:
        return f"{task.score_label}: none is finite"
    return f"{task.score_label} from {finite.min():.4g} to {finite.max():.4g}"
