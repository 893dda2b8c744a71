"""Trained policies of a sweep, read back from its folder."""

from pathlib import Path

import jax

from experiments.launch import run_folder
from experiments.launch.configuration import check_env
from experiments.launch.job import check_experiment
from experiments.launch.policy import TrainedPolicy, load_policies
from experiments.launch.sweep import shards
from experiments.launch.sweep.definition import read


def load_sweep_policy(
    folder: str | Path, config: str | None = None, seed: int = 0, env: str | None = None
) -> TrainedPolicy:
    """Reads the newest policy of one run of a sweep onto the default device.

    Args:
        folder: The sweep's folder.
        config: Name of the configuration, as in `results.json`; by default the best of a complete
            sweep.
        seed: Which of the configuration's seeds, from 0.
        env: The sweep's environment, needed if it is a class of your own.

    Raises:
        ValueError: If there is no such configuration, seed or policy.
    """
    folder = Path(folder)
    sweep = read(folder)
    check_env(sweep.experiment.env, env, folder)
    names, seeds = [variant.name for variant in sweep.variants], sweep.experiment.seeds
    if config is None:
        results = run_folder.read_results(folder)
        if results is None:
            raise ValueError(f"{folder} is not complete and has no best configuration: name one")
        order = results.get("order")
        if not order:
            raise ValueError(f"{folder} names no best configuration: name one")
        config = order[0]
    if config not in names or not 0 <= seed < seeds:
        raise ValueError(
            f"{folder} holds no configuration {config!r} with seed {seed}: its configurations are "
            f"{', '.join(names)}, its seeds 0 to {seeds - 1}"
        )
    run = names.index(config) * seeds + seed
    (runs, path), *_ = [
        (runs, path)
        for part in shards.parts_of(folder)
        for runs, path in shards.find_shards(sweep, folder, part)
        if run in runs
    ]
    if not path.exists():
        raise ValueError(
            f"{folder} holds no policy of {config} with seed {seed}: {path} is not here, it is "
            "where that part was trained"
        )
    environment, training = check_experiment(sweep.experiment, None)
    policies, _ = load_policies(shards.make_job(sweep, training, runs), path)
    parameters = jax.tree.map(lambda leaf: leaf[run - runs.start], policies)
    return TrainedPolicy(environment, parameters, training.act)
