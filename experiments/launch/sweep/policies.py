"""Trained policies of a sweep, read back from its folder."""

import dataclasses
import json
from pathlib import Path

import jax

import envs
from experiments.launch import run_folder
from experiments.launch.job import load_policies
from experiments.launch.policy import TrainedPolicy
from experiments.launch.sweep import shards
from experiments.launch.sweep.options import Prepared, read
from sobolax import make_training


def load_policy(folder: str | Path, setting: str | None = None, seed: int = 0) -> TrainedPolicy:
    """Reads the newest policy of one run of a sweep.

    Args:
        folder: Of the sweep.
        setting: Name of the setting, as in `results.json`; None for the best of a complete sweep.
        seed: Which of the setting's seeds, from 0.

    Raises:
        ValueError: If there is no such setting or seed, or no policy of it.
    """
    folder = Path(folder)
    sweep = read(folder)
    names = [variant.name for variant in sweep.variants]
    if setting is None:
        if not (folder / run_folder.RESULTS).exists():
            raise ValueError(f"{folder} is not complete and has no best setting: name one")
        setting = json.loads((folder / run_folder.RESULTS).read_text())["order"][0]
    seeds = sweep.experiment.seeds
    if setting not in names or not 0 <= seed < seeds:
        raise ValueError(
            f"{folder} holds no setting {setting!r} with seed {seed}: its settings are "
            f"{', '.join(names)}, its seeds 0 to {seeds - 1}"
        )
    member = names.index(setting) * seeds + seed
    environment = envs.make(sweep.experiment.env, **sweep.experiment.env_args)
    training = make_training(environment, sweep.experiment.config)
    # The policy is read onto whatever device there is, wherever it was trained.
    prepared = Prepared(dataclasses.replace(sweep, devices=1), training, folder)
    lies = [(part, path) for part, path in shards.find_shards(folder) if member in part]
    if not lies:
        raise ValueError(
            f"{folder} holds no policy of {setting} with seed {seed}: it is in the folder of a "
            "process that trained on another machine"
        )
    [(part, path)] = lies
    policies, _ = load_policies(shards.make_job(prepared, part), path)
    parameters = jax.tree.map(lambda leaf: leaf[member - part.start], policies)
    return TrainedPolicy(environment, parameters, training.act)
