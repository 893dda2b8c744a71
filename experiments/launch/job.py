"""A job of training: the runs of one program."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from experiments.launch import run_folder, snapshot
from experiments.launch.configuration import (
    CheckpointRule,
    Experiment,
    Variant,
    make_environment,
    to_json,
    variants,
)
from experiments.launch.flags import check_seed
from experiments.launch.memory import check_listed
from experiments.launch.program import keys_and_hypers
from sobolax import make_training
from sobolax.agents import q_learning


@dataclass(frozen=True)
class Job:
    """The runs of one program.

    Attributes:
        training: `init` and `epoch`, and `policy` if the runs have one, as in
            `sobolax.training.loop.Training`; not compiled.
        variants: Names and weights of the runs; each variant has all seeds.
        seeds: Seeds per variant.
        keys: A key per run, `(len(variants) * seeds,)`, seeds innermost.
        hypers: Hyperparameters, with the same leading axis.
        epochs: Epochs of the training.
        identity: Whatever else distinguishes this job, as JSON: checkpoints of any other job are
            refused.
    """

    training: Any
    variants: Sequence[Variant]
    seeds: int
    keys: jax.Array
    hypers: Any
    epochs: int
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def differentiating(self) -> list[bool]:
        """Which variants learn from the simulator's derivatives; an actor may without weights."""
        actor = getattr(self.training, "actor_differentiates", False)
        return [actor or any(variant.weights.values()) for variant in self.variants]


def make_job(experiment: Experiment, training: Any) -> Job:
    """The job of an experiment: all of its variants and seeds.

    Args:
        experiment: The experiment.
        training: The result of the agent's `make_training` for it.
    """
    chosen = variants(experiment)
    keys, hypers = keys_and_hypers(chosen, experiment.seeds, experiment.seed)
    return Job(
        training,
        chosen,
        experiment.seeds,
        keys,
        hypers,
        experiment.config.epochs,
        to_json(experiment),
    )


def check_experiment(
    experiment: Experiment, checkpoints: CheckpointRule | None, mesh: Mesh | None = None
) -> tuple[Any, Any]:
    """Checks whatever can be checked before anything compiles.

    Args:
        experiment: The experiment.
        checkpoints: When to take checkpoints; None for never.
        mesh: Devices over which its training is split; None for one.

    Returns:
        Its environment and its training.

    Raises:
        ValueError: If the experiment cannot work; the message names the fix.
    """
    if experiment.seeds < 1:
        raise ValueError(f"--seeds {experiment.seeds} must be at least 1 (3 for an interval)")
    check_seed(experiment.seed)
    check_listed(experiment.seeds * len(variants(experiment)))
    if checkpoints is not None:
        checkpoints.check()
    environment = make_environment(experiment.env, experiment.env_args)
    config = experiment.config
    if isinstance(config, q_learning.Config):  # says so before physics is traced, which takes long
        q_learning.action_grid(environment.action_size, config.grid_points)
    if (check := getattr(environment, "check_rewards", None)) is not None:  # of an own robot
        # The other sources go backwards, where other derivatives may exist.
        check(gradients=config.first_order in ("cached", "recomputed"))
    return environment, make_training(environment, config, mesh=mesh)


def fingerprint(job: Job) -> dict[str, Any]:
    """Identifies the checkpoints of a job."""
    digest = hashlib.sha256(np.asarray(jax.random.key_data(job.keys)).tobytes())
    for name, value in snapshot.to_arrays(job.hypers).items():
        digest.update(name.encode() + value.tobytes())
    return {
        "identity": run_folder.plain(job.identity),
        "variants": [variant.name for variant in job.variants],
        "seeds": job.seeds,
        "epochs": job.epochs,
        "members": digest.hexdigest(),
    }


def template(job: Job) -> Any:
    """The shapes and types of the job's state; nothing is computed."""
    return jax.eval_shape(jax.vmap(job.training.init), job.keys, job.hypers)
