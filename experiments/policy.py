"""Saving and restoring trained policies."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs
from experiments.configuration import agent_module, arms, from_json
from experiments.run_folder import CONFIGURATION, POLICY


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy as `load_policy` restores it.

    Attributes:
        environment: What it was trained on.
        parameters: Of one member, a `sobolax.training.Policy`.
        act: `(parameters, observation) -> action`, deterministic.
    """

    environment: Any
    parameters: Any
    act: Callable[[Any, jax.Array], jax.Array]

    def __call__(self, observation: jax.Array) -> jax.Array:
        """The action for one observation."""
        return self.act(self.parameters, observation)


def to_host(policies: Any) -> Any:
    """A copy in memory of its own: the epoch that follows donates the original's."""
    return jax.tree.map(np.array, policies)


def save_policies(path: Path, policies: Any) -> None:
    """Saves the policies of all members, stacked."""
    with _checkpointer() as checkpointer:
        checkpointer.save(path.absolute(), policies)
    # Orbax marks a whole checkpoint with a file whose text is where it lay; it may move.
    marker = path / "commit_success.txt"
    if marker.exists():
        marker.write_text("The checkpoint is whole.\n")


def load_policy(run: str | Path, arm: str | None = None, seed: int = 0) -> TrainedPolicy:
    """Restores a policy from the folder of a run.

    Args:
        run: The folder.
        arm: "plain" or "sobolev"; None for the last arm of the run.
        seed: Which of the arm's seeds, from 0.

    Raises:
        ValueError: If the run holds no policy, or no such arm or seed.
    """
    run = Path(run)
    if not (run / POLICY).is_dir():
        raise ValueError(f"{run} holds no {POLICY}/: name the folder of a run")
    try:
        experiment = from_json(json.loads((run / CONFIGURATION).read_text())["experiment"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run} was written by another version of sobolax: {error}") from error
    names = [entry.name for entry in arms(experiment)]
    arm = names[-1] if arm is None else arm
    if arm not in names or not 0 <= seed < experiment.seeds:
        raise ValueError(
            f"{run} holds no arm {arm!r} with seed {seed}: its arms are {', '.join(names)}, "
            f"its seeds 0 to {experiment.seeds - 1}"
        )
    environment = envs.make(experiment.env, **experiment.env_args)
    training = agent_module(experiment.agent).make_training(environment, experiment.config)
    state = jax.eval_shape(training.init, jax.random.key(0), experiment.hyper)
    count = len(names) * experiment.seeds
    template = jax.tree.map(
        lambda leaf: np.empty((count, *leaf.shape), leaf.dtype), training.policy(state)
    )
    with _checkpointer() as checkpointer:
        policies = checkpointer.restore((run / POLICY).absolute(), template)
    member = names.index(arm) * experiment.seeds + seed
    parameters = jax.tree.map(lambda leaf: leaf[member], policies)
    return TrainedPolicy(environment, parameters, training.act)


def _checkpointer() -> Any:
    # Imported late: it takes seconds, for which nobody who asks for --help should wait.
    import orbax.checkpoint

    return orbax.checkpoint.StandardCheckpointer()
