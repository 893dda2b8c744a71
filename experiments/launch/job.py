"""A job of training, and how what it holds lies in checkpoints."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs
from experiments.launch import checkpoint_choice, run_folder, snapshot
from experiments.launch.checkpoint_choice import Checkpoint
from experiments.launch.checkpoint_files import CheckpointError
from experiments.launch.checkpoints import CheckpointRule
from experiments.launch.configuration import Experiment, Variant, to_json, variants
from experiments.launch.history import History
from experiments.launch.program import keys_and_hypers
from sobolax import make_training

# Names of arrays in a checkpoint begin with one of these.
_STATE, _METRICS, _SECONDS = "state/", "history/metrics/", "history/seconds"
# Of what wrote a checkpoint, what may change the last bits of what follows.
_MATTERS = (
    *(("versions", name) for name in ("sobolax", "jax", "jaxlib", "mujoco", "mujoco-mjx")),
    *(("device", name) for name in ("platform", "kind", "count")),
    ("commit", "hash"),
)


@dataclass(frozen=True)
class Job:
    """What is trained: the members of one program.

    Attributes:
        training: `init` and `epoch`, and `policy` where members have one, as
            `sobolax.training.loop.Training` has them; not compiled.
        variants: Names and weights of the members; each variant has all seeds.
        seeds: How many each variant has.
        keys: A key per member, `(len(variants) * seeds,)`, seeds innermost.
        hypers: Hyperparameters, the same leading axis.
        epochs: How many there are.
        identity: What else tells this job from others, as JSON knows it: a checkpoint of anything
            else is refused.
    """

    training: Any
    variants: Sequence[Variant]
    seeds: int
    keys: jax.Array
    hypers: Any
    epochs: int
    identity: Mapping[str, Any] = field(default_factory=dict)


def make_job(experiment: Experiment, training: Any) -> Job:
    """The job of an experiment: all of its variants and seeds.

    Args:
        experiment: What to train.
        training: As the agent's `make_training` makes it for the experiment.
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


def check_experiment(experiment: Experiment, checkpoints: CheckpointRule | None) -> tuple[Any, Any]:
    """Checks an experiment as far as can be done before anything compiles.

    Returns:
        Its environment and its training.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    if experiment.seeds < 1:
        raise ValueError(f"--seeds {experiment.seeds} must be at least 1 (3 for an interval)")
    if not 0 <= experiment.seed < 2**32:
        raise ValueError(f"--seed {experiment.seed} must be from 0 to 2**32 - 1")
    if checkpoints is not None:
        checkpoints.check()
    try:
        environment = envs.make(experiment.env, **experiment.env_args)
    except (TypeError, ImportError) as error:
        raise ValueError(str(error)) from error
    return environment, make_training(environment, experiment.config)


def fingerprint(job: Job) -> dict[str, Any]:
    """What tells the checkpoints of a job from those of any other."""
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


def policy_paths(training: Any, state: Any) -> Any:
    """The policies of a state, with each leaf's name in the state in its place.

    A policy is a selection of a state's leaves; None where the training has no policies.
    """
    policy = getattr(training, "policy", None)
    return None if policy is None else policy(snapshot.paths(state))


def state_arrays(state: Any, members: int) -> dict[str, np.ndarray]:
    """A state as a checkpoint holds it, without members that only fill up devices."""
    return {_STATE + name: value for name, value in snapshot.to_arrays(state, members).items()}


def policy_arrays(paths: Any, policies: Any) -> dict[str, np.ndarray]:
    """Policies as a checkpoint holds them: those leaves of the state."""
    names, values = jax.tree.leaves(paths), jax.tree.leaves(policies)
    return {_STATE + name: value for name, value in zip(names, values, strict=True)}


def history_arrays(history: History) -> dict[str, np.ndarray]:
    """A history as a checkpoint holds it."""
    arrays = {_SECONDS: np.array(history.seconds, np.float64)}
    for name in history.names:
        values = history.values(name)
        assert values is not None
        arrays[_METRICS + name] = values
    return arrays


def read_state(like: Any, arrays: Mapping[str, np.ndarray], width: int) -> Any:
    """The inverse of `state_arrays`, filled up to `width` members."""
    own = {name.removeprefix(_STATE): value for name, value in arrays.items()}
    return snapshot.from_arrays(like, own, width)


def read_policies(paths: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `policy_arrays`."""
    return jax.tree.map(lambda name: arrays[_STATE + name], paths)


def read_history(job: Job, arrays: Mapping[str, np.ndarray]) -> History:
    """The inverse of `history_arrays`."""
    seconds = arrays[_SECONDS].tolist()
    metrics = {
        name.removeprefix(_METRICS): values
        for name, values in arrays.items()
        if name.startswith(_METRICS)
    }
    epochs = [{name: values[i] for name, values in metrics.items()} for i in range(len(seconds))]
    return History(job.variants, job.seeds, epochs, seconds)


def make_check(like: Any) -> Callable[[Path, Mapping[str, Any]], None]:
    """Refuses a checkpoint of a state of other shapes than this one's."""
    here = {_STATE + name: what for name, what in snapshot.describe(like).items()}

    def check(path: Path, manifest: Mapping[str, Any]) -> None:
        there = {
            entry["name"]: (tuple(entry["shape"]), entry["dtype"])
            for entry in manifest["arrays"]
            if entry["name"].startswith(_STATE)
        }
        for name in dict.fromkeys([*here, *there]):
            if here.get(name) != there.get(name):
                raise CheckpointError(
                    f"{path} holds the state of another program: {name.removeprefix(_STATE)} is "
                    f"{_told(there.get(name))} there and {_told(here.get(name))} here"
                )

    return check


def strangeness(checkpoint: Checkpoint) -> str | None:
    """How what wrote a checkpoint differs from this, where bits may depend on it; None if not."""
    there, here = checkpoint.manifest["written_by"], run_folder.provenance()

    def look(found: Mapping[str, Any], part: str, name: str) -> Any:
        return (found.get(part) or {}).get(name)

    unlike = [
        f"{name} {look(there, part, name)} -> {look(here, part, name)}"
        for part, name in _MATTERS
        if look(there, part, name) != look(here, part, name)
    ]
    if not unlike:
        return None
    return (
        f"{checkpoint.path} was not written by what goes on from it ({', '.join(unlike)}): "
        "the last bits may differ from those of a run that was never stopped"
    )


def load_policies(job: Job, folder: Path) -> tuple[Any, Checkpoint]:
    """The policies that training left in a folder: those at its end, or of a newer checkpoint.

    Args:
        job: What was trained.
        folder: Where.

    Returns:
        Policies of all members, stacked, in the host's memory; and what they were read from.

    Raises:
        CheckpointError: If there are none, or none is good.
    """
    paths = policy_paths(job.training, template(job))
    wanted, owner = [_STATE + name for name in jax.tree.leaves(paths)], fingerprint(job)
    found, problems = checkpoint_choice.newest(folder / run_folder.CHECKPOINTS, owner, names=wanted)
    good, bad = [found] if found is not None else [], [*problems.values()]
    if (folder / run_folder.POLICY).exists():
        try:
            good.append(checkpoint_choice.read(folder / run_folder.POLICY, owner, names=wanted))
        except CheckpointError as error:
            bad.append(error)
    if not good:
        told = ": " + "; ".join(map(str, bad)) if bad else ", nor a checkpoint"
        raise CheckpointError(f"{folder} holds no {run_folder.POLICY}/ yet{told}")
    best = max(good, key=lambda checkpoint: checkpoint.epochs)
    return read_policies(paths, best.arrays), best


def _told(what: tuple[tuple[int, ...], str] | None) -> str:
    return "missing" if what is None else f"{what[1]} {what[0]}"
