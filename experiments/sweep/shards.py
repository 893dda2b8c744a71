"""Trains the shards of a sweep, one after another, and puts their members together again."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import run_folder
from experiments.configuration import Arm
from experiments.history import History
from experiments.job import Job
from experiments.members import Outcome, train_members
from experiments.program import Program, compile_program, members, size_of
from experiments.progress import Listener
from experiments.results import Timing, steady_steps_per_second
from experiments.sweep import memory
from experiments.sweep.memory import Plan
from experiments.sweep.options import Prepared, Sweep, sweep_to_json
from experiments.sweep.progress import OverShards, Shower

PLAN, SHARDS = "plan.json", "shards"


@dataclass
class Done:
    """What a sweep left.

    Attributes:
        history: Metrics of all members: an arm for each setting. Where Ctrl-C cut the sweep
            short, of nothing.
        timing: Where the time went.
        interrupted: Whether Ctrl-C did.
        warnings: What went wrong without stopping it.
    """

    history: History
    timing: Timing
    interrupted: bool = False
    warnings: list[str] = field(default_factory=list)


def plan(prepared: Prepared) -> Plan:
    """Compiles a program that fits, and says what it takes; nothing is written.

    A sweep that is taken up again gets the shards that it had.

    Raises:
        ValueError: If it does not fit.
    """
    sweep, training = prepared.sweep, prepared.training
    keys, hypers = all_members(sweep)

    def compile_for(width: int) -> Program:
        chosen = _take((keys, hypers), range(width))
        return compile_program(training, chosen[0], chosen[1], sweep.devices)

    def need_of(program: Program) -> memory.Need:
        checkpoints = sweep.checkpoints is not None
        return memory.measure(training, program, sweep.devices, checkpoints, hypers)

    one = jax.eval_shape(training.init, *_take((keys, hypers), 0))
    return memory.make_plan(
        compile_for,
        need_of,
        lambda: memory.find_budget(sweep.devices, sweep.memory),
        members=len(keys),
        smallest_state=size_of(one),
        devices=sweep.devices,
        width=_planned_width(prepared.folder) if prepared.resumes else None,
    )


def begin(prepared: Prepared, made: Plan) -> None:
    """Makes the folder of a new sweep; leaves that of one that is taken up as it is."""
    folder = prepared.folder
    if not (folder / run_folder.CONFIGURATION).exists():
        run_folder.create(folder)
        configuration = {"sweep": sweep_to_json(prepared.sweep), **run_folder.provenance()}
        run_folder.write_json(folder / run_folder.CONFIGURATION, configuration)
    if not (folder / PLAN).exists():
        run_folder.write_json(folder / PLAN, made.described())


def run_all(prepared: Prepared, made: Plan, shower: Shower, start: float) -> Done:
    """Trains every shard that is not done, on disk epoch by epoch.

    Args:
        prepared: The sweep.
        made: Its plan.
        shower: Shows how it goes on.
        start: When the sweep started, by `time.perf_counter`.
    """
    sweep = prepared.sweep
    epochs = sweep.experiment.config.epochs
    over = OverShards(shower, len(made.shards), epochs)
    outcomes: list[Outcome] = []
    for index in range(len(made.shards)):
        over.begin(index)
        outcomes.append(run_shard(prepared, made, index, over))
        if outcomes[-1].interrupted:
            break
    interrupted = outcomes[-1].interrupted
    histories = [] if interrupted else [outcome.history for outcome in outcomes]
    history = gather(sweep, histories)
    timing = Timing(
        compile_seconds=made.program.compile_seconds,
        initialise_seconds=sum(outcome.initialise_seconds for outcome in outcomes),
        train_seconds=history.seconds[-1] if history.seconds else 0.0,
        steady_steps_per_second=steady_steps_per_second(history),
        wall_seconds=time.perf_counter() - start,
    )
    warnings = [text for outcome in outcomes for text in outcome.warnings]
    return Done(history, timing, interrupted, warnings)


def run_shard(prepared: Prepared, made: Plan, index: int, listener: Listener) -> Outcome:
    """Trains one shard in its folder, from where it was left; of one that is done, nothing.

    Args:
        prepared: The sweep.
        made: Its plan, whose program is used.
        index: Which shard.
        listener: Whom to tell.
    """
    folder = shard_folder(prepared.folder, index)
    run_folder.create(folder)
    job = make_job(prepared, made.shards[index])
    return train_members(job, folder, listener, prepared.sweep.checkpoints, made.program)


def make_job(prepared: Prepared, part: range) -> Job:
    """The job of some members; each is an arm of its own, named after setting and seed."""
    sweep = prepared.sweep
    seeds = sweep.experiment.seeds
    arms = [
        Arm(f"{arm.name} seed={seed}", arm.hyper, arm.agent)
        for arm in sweep.arms
        for seed in range(seeds)
    ]
    keys, hypers = _take(all_members(sweep), part)
    asked = sweep_to_json(sweep)
    return Job(
        prepared.training,
        arms[part.start : part.stop],
        1,
        keys,
        hypers,
        sweep.experiment.config.epochs,
        {"experiment": asked["experiment"], "settings": asked["settings"]},
    )


def gather(sweep: Sweep, histories: Sequence[History]) -> History:
    """The shards' histories as one: an arm for each setting, with all of its seeds.

    Seconds are those of all shards together, as they ran one after another.
    """
    whole = History(sweep.arms, sweep.experiment.seeds)
    for epoch in range(min((len(one.epochs) for one in histories), default=0)):
        metrics = {
            name: np.concatenate([one.epochs[epoch][name].ravel() for one in histories])
            for name in histories[0].names
        }
        whole.add(metrics, sum(one.seconds[epoch] for one in histories))
    return whole


def all_members(sweep: Sweep) -> tuple[jax.Array, Any]:
    """Keys and hyperparameters of all members: settings times seeds, seeds innermost."""
    return members(sweep.arms, sweep.experiment.seeds, sweep.experiment.seed)


def shard_folder(folder: Path, index: int) -> Path:
    """Where a shard trains."""
    return folder / SHARDS / f"{index:03d}"


def _take(tree: Any, part: range | int) -> Any:
    """Some members, or one; beyond the last it is repeated."""
    places = np.asarray(part)
    return jax.tree.map(lambda leaf: leaf[np.minimum(places, len(leaf) - 1)], tree)


def _planned_width(folder: Path) -> int | None:
    try:
        return json.loads((folder / PLAN).read_text())["width"]
    except (OSError, ValueError, KeyError):
        return None
