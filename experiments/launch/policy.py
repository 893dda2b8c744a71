"""Trained policies, read back from the folder of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.launch import run_folder, snapshot
from experiments.launch.checkpoint_files import Checkpoint, CheckpointError, newest
from experiments.launch.configuration import Experiment, check_env
from experiments.launch.history import METRICS
from experiments.launch.job import Job, check_experiment, fingerprint, make_job, template

_FROZEN = METRICS + "frozen"


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy as `load_policy` restores it.

    Attributes:
        environment: The environment that it was trained on.
        parameters: Its parameters, a `sobolax.training.state.Policy`.
        act: `(parameters, observation) -> action`, deterministic, of the environment's whole
            observation; of a policy that sees a part of it, the rest is ignored.
    """

    environment: Any
    parameters: Any
    act: Callable[[Any, jax.Array], jax.Array]

    def __call__(self, observation: jax.Array) -> jax.Array:
        """The action for one observation."""
        return self.act(self.parameters, observation)


@dataclass(frozen=True)
class TrainedRun:
    """The policies of a run, complete or not.

    Attributes:
        experiment: The experiment.
        environment: Its environment.
        job: The runs of its program.
        policies: Policies of all runs, stacked: variants times seeds, seeds innermost.
        epochs: Epochs that they were trained for.
        source: The checkpoint that they were read from.
        frozen: Which runs were frozen by then, `(variants, seeds)` bool.
    """

    experiment: Experiment
    environment: Any
    job: Job
    policies: Any
    epochs: int
    source: Path
    frozen: np.ndarray

    def indices(self, variant: str | None = None, seed: int | None = None) -> list[int]:
        """Indices of runs along the leading axis of `policies`: of a variant, of a seed, or all.

        Raises:
            ValueError: If there is no such variant or seed.
        """
        names = [entry.name for entry in self.job.variants]
        if (variant is not None and variant not in names) or not 0 <= (seed or 0) < self.job.seeds:
            raise ValueError(
                f"the run holds no variant {variant or names[-1]!r} with seed {seed or 0}: it has "
                f"{', '.join(names)}, its seeds 0 to {self.job.seeds - 1}"
            )
        return [
            index * self.job.seeds + number
            for index, name in enumerate(names)
            for number in range(self.job.seeds)
            if variant in (None, name) and seed in (None, number)
        ]


def policy_names(training: Any, state: Any) -> Any:
    """The policies of a state, each leaf replaced by its name in a checkpoint.

    A policy is a selection of a state's leaves; None if the training has no policies.
    """
    policy = getattr(training, "policy", None)
    if policy is None:
        return None
    return jax.tree.map(lambda name: snapshot.STATE + name, policy(snapshot.paths(state)))


def load_policies(job: Job, folder: Path) -> tuple[Any, Checkpoint]:
    """Reads the policies in a training's folder: the final ones, or those of a newer checkpoint.

    Args:
        job: The job that was trained.
        folder: Its folder.

    Returns:
        Policies of all runs, stacked, in the host's memory, and the checkpoint they come from.

    Raises:
        CheckpointError: If there is no checkpoint, or no undamaged one.
    """
    state = template(job)
    names, whole = policy_names(job.training, state), snapshot.describe(state)
    wanted, good, problems = jax.tree.leaves(names), [], []
    places = {run_folder.POLICY: {name: whole[name] for name in wanted}}
    for place, like in (places | {run_folder.CHECKPOINTS: whole}).items():
        found, bad = newest(folder / place, fingerprint(job), like, wanted, [_FROZEN])
        good += [] if found is None else [found]
        problems += map(str, bad.values())
    if not good and problems:
        raise CheckpointError(
            f"{folder} holds no policy that can be used: {'; '.join(problems)}. Copy the folder "
            "anew from where it was trained, or train again into another folder"
        )
    if not good:
        raise CheckpointError(
            f"{folder} holds no {run_folder.POLICY}/ yet, nor a checkpoint: an epoch has to be "
            "done first; a run that was stopped goes on with experiments.train --resume"
        )
    best = max(good, key=lambda checkpoint: checkpoint.epochs)
    return jax.tree.map(best.arrays.__getitem__, names), best


def load_run(run: str | Path, env: str | None = None) -> TrainedRun:
    """Reads the newest policies of a run: the final ones, or those of its last checkpoint.

    Args:
        run: The folder of a run, complete, interrupted or killed.
        env: The run's environment, needed if it is a class of your own: importing it runs its
            code, and a file alone runs nothing. Another environment is refused.

    Raises:
        ValueError: If the folder is not that of a run, or holds no undamaged policies, or its
            environment cannot be made, has to be named, or is another than `env`.
    """
    folder = Path(run)
    experiment = run_folder.read_experiment(folder)
    check_env(experiment.env, env, folder)
    environment, training = check_experiment(experiment, None)
    job = make_job(experiment, training)
    policies, checkpoint = load_policies(job, folder)
    frozen = _frozen(job, checkpoint)
    return TrainedRun(
        experiment, environment, job, policies, checkpoint.epochs, checkpoint.path, frozen
    )


def _frozen(job: Job, checkpoint: Checkpoint) -> np.ndarray:
    # Not from the lines of metrics: a run that resumes removes those after its checkpoint.
    flags = checkpoint.arrays.get(_FROZEN)
    return np.zeros((len(job.variants), job.seeds), bool) if flags is None else flags[-1] > 0


def load_policy(
    run: str | Path, variant: str | None = None, seed: int = 0, env: str | None = None
) -> TrainedPolicy:
    """Reads the newest policy of one variant and seed, as `load_run` does.

    Args:
        run: The run's folder.
        variant: "plain" or "sobolev"; by default the run's last variant.
        seed: Which of the variant's seeds, from 0.
        env: As in `load_run`.

    Raises:
        ValueError: If the run holds no policy, or no such variant or seed.
    """
    found = load_run(run, env)
    [index] = found.indices(found.job.variants[-1].name if variant is None else variant, seed)
    parameters = jax.tree.map(lambda leaf: leaf[index], found.policies)
    return TrainedPolicy(found.environment, parameters, found.job.training.act)
