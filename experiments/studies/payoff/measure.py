"""Trains the variants: a row for every epoch of every seed."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.launch.configuration import Variant
from experiments.launch.history import History
from experiments.launch.job import Job as TrainingJob
from experiments.launch.program import keys_and_hypers
from experiments.launch.progress import Progress
from experiments.report.rows import Row
from experiments.studies.payoff.options import Job, Options
from experiments.studies.payoff.variants import CHOICES
from experiments.studies.study import Done, Plan
from experiments.studies.training import train_job


def measure(plan: Plan[Options, Job], progress: Progress) -> Iterator[Done]:
    """Epochs and checkpoints of a job lie in `training/`: what is cut short goes on there."""
    for name, job in plan.jobs.items():
        variant = Variant(job.variant, job.hyper)
        _, hypers = keys_and_hypers([variant], len(job.seeds), 0)
        # By number: a seed is the same whatever program it is in.
        keys = jax.vmap(jax.random.key)(jnp.asarray(job.seeds))
        training = TrainingJob(
            job.training, [variant], len(job.seeds), keys, hypers, job.config.epochs
        )
        outcome = train_job(training, plan.folder, name, progress)
        yield Done(name, list(_rows(job, outcome.history)))


def _rows(job: Job, history: History) -> Iterator[Row]:
    for epoch, metrics in enumerate(history.epochs):
        for at, seed in enumerate(job.seeds):
            own = {name: float(row[0, at]) for name, row in metrics.items()}
            yield {
                "task": job.task,
                "regime": job.regime,
                "variant": job.variant,
                "seed": seed,
                "epoch": epoch,
                # Seeds are trained together: each has its part of the time.
                "seconds": round(history.seconds[epoch] / len(job.seeds), 6),
                **({"mean_q": mean_q(own)} if CHOICES[job.variant].agent == "sac" else {}),
                **own,
            }


def mean_q(metrics: Row) -> float:
    """The critic's mean value of the policy's actions in the batches of an epoch.

    The actor's loss is `temperature * log-probability - Q`, and all of its parts are means.
    """
    names = ("actor_loss", "temperature", "entropy")
    loss, temperature, entropy = (metrics.get(name, np.nan) for name in names)
    return float(-loss - temperature * entropy)
