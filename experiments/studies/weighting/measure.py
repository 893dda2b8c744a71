"""Trains all rules on all tasks: a program per group of rules."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from experiments.launch.configuration import Variant
from experiments.launch.history import History
from experiments.launch.job import Job as TrainingJob
from experiments.launch.program import keys_and_hypers
from experiments.launch.progress import Progress
from experiments.report.rows import Row
from experiments.studies.study import Done, Plan
from experiments.studies.training import train_job
from experiments.studies.weighting.options import Job, Options
from experiments.studies.weighting.tasks import Task

# The score of a task, the more the better: as it is at last, and over all of training.
SCORE, OVER_TRAINING = "score", "score_over_training"
# Effective lambdas: what an update of Adam sees, which is blind to a common factor.
RATIOS = {"state_ratio": "weight_state", "action_ratio": "weight_action"}
_LAST = 2  # epochs that a final number is the mean of


def measure(plan: Plan[Options, Job], progress: Progress) -> Iterator[Done]:
    """A row for each seed of each rule; epochs and checkpoints lie in `training/`."""
    seeds, seed = plan.options.seeds, plan.options.seed
    for name, job in plan.jobs.items():
        variants = [
            Variant(rule.name, job.task.make_hyper(rule, job.weightings)) for rule in job.rules
        ]
        keys, hypers = keys_and_hypers(variants, seeds, seed)
        training = TrainingJob(job.training, variants, seeds, keys, hypers, job.config.epochs)
        summary = partial(_range, job.task)
        outcome = train_job(training, plan.folder, name, progress, summary)
        seconds = outcome.history.seconds[-1]
        updates = len(variants) * seeds * job.config.updates
        progress.note(
            f"{name}: {len(keys)} runs, compiled in {outcome.compile_seconds:.0f} s, trained in "
            f"{seconds:.0f} s ({1e3 * seconds / updates:.2f} ms per update and run)"
        )
        yield Done(name, list(_rows(job, outcome.history)))


def _rows(job: Job, history: History) -> Iterator[Row]:
    for at, rule in enumerate(job.rules):
        measures = final_measures(history, at, job.task.score)
        for seed in range(history.seeds):
            yield {
                "task": job.task.name,
                "rule": rule.name,
                "seed": seed,
                **{name: values[seed] for name, values in measures.items()},
            }


def final_measures(history: History, variant: int, score: str) -> dict[str, np.ndarray]:
    """What tables are made of, `(seeds,)` each: means over the last two epochs.

    The score is averaged over all epochs too, which says how fast a rule learned; the ratios
    of weights, gradients' to value's, are those of the last epoch. NaN where a run was frozen.
    """

    def values(name: str) -> np.ndarray:
        found = history.values(name) if name.startswith("frozen") else history.sound(name)
        assert found is not None
        return found[:, variant]

    skipped = {"environment_steps", "updates"}
    found = {
        name: values(name)[-_LAST:].mean(axis=0) for name in history.names if name not in skipped
    }
    found[SCORE] = found[score]
    found[OVER_TRAINING] = values(score).mean(axis=0)
    for ratio, weight in RATIOS.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            found[ratio] = values(weight)[-1] / values("weight_value")[-1]
    return found


def _range(task: Task, history: History) -> str:
    last = history.last(task.score)
    assert last is not None
    means = last.mean(axis=1)
    finite = means[np.isfinite(means)]
    if not finite.size:
        return f"{task.score_label}: none is finite"
    return f"{task.score_label} from {finite.min():.4g} to {finite.max():.4g}"
