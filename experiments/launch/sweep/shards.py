"""Trains the shards of a sweep, one after another, and puts their members together again."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.launch import run_folder
from experiments.launch.configuration import Variant
from experiments.launch.history import History, steady_steps_per_second
from experiments.launch.job import Job
from experiments.launch.program import Program, compile_program, members, size_of
from experiments.launch.progress import Progress
from experiments.launch.runner import Outcome, train_members
from experiments.launch.sweep import memory
from experiments.launch.sweep.memory import Plan
from experiments.launch.sweep.options import PROCESS_FOLDERS, Prepared, Sweep, sweep_to_json
from experiments.launch.sweep.progress import OverShards
from experiments.report.results import Timing

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


def plan(
    prepared: Prepared,
    part: range | None = None,
    at_most: int | None = None,
    sharers: int = 1,
    limit: int | None = None,
) -> Plan:
    """Compiles a program that fits, and says what it takes; nothing is written.

    A sweep that is taken up again gets the shards that it had.

    Args:
        prepared: The sweep.
        part: Which members; None for all.
        at_most: Members of a shard, whatever fits.
        sharers: How many processes like this one train on this machine.
        limit: Bytes that each of them may hold in all; None for its share of what is free.

    Raises:
        ValueError: If it does not fit.
    """
    sweep, training = prepared.sweep, prepared.training
    keys, hypers = all_members(sweep)
    part = range(len(keys)) if part is None else part

    def need_of(program: Program) -> memory.Need:
        checkpoints = sweep.checkpoints is not None
        return memory.measure(training, program, sweep.devices, checkpoints, hypers)

    one = jax.eval_shape(training.init, *_take((keys, hypers), 0))
    made = memory.make_plan(
        lambda width: compile_for(prepared, width),
        need_of,
        lambda: memory.find_budget(sweep.devices, sweep.memory, sharers, limit),
        members=len(part),
        smallest_state=size_of(one),
        devices=sweep.devices,
        width=_planned_width(prepared.folder) if prepared.resumes else None,
        at_most=at_most,
    )
    return replace(made, shards=tuple(part[one.start : one.stop] for one in made.shards))


def compile_for(prepared: Prepared, width: int) -> Program:
    """The program of so many members."""
    sweep = prepared.sweep
    keys, hypers = _take(all_members(sweep), range(width))
    return compile_program(prepared.training, keys, hypers, sweep.devices)


def begin(prepared: Prepared) -> None:
    """Makes the folder of a new sweep; leaves that of one that is taken up as it is."""
    folder = prepared.folder
    if not (folder / run_folder.CONFIGURATION).exists():
        run_folder.create(folder)
        configuration = {"sweep": sweep_to_json(prepared.sweep), **run_folder.provenance()}
        run_folder.write_json(folder / run_folder.CONFIGURATION, configuration)


def save_plan(folder: Path, described: Mapping[str, Any]) -> None:
    """Keeps the plan of a sweep; one that is kept already stays."""
    if not (folder / PLAN).exists():
        run_folder.write_json(folder / PLAN, described)


def run_all(prepared: Prepared, made: Plan, progress: Progress, start: float) -> Done:
    """Trains every shard that is not done, one after another.

    Args:
        prepared: The sweep.
        made: Its plan.
        progress: Shows how it goes on.
        start: When the sweep started, by `time.perf_counter`.
    """
    outcomes = train_all(prepared, made, progress)
    wall_seconds = time.perf_counter() - start
    return merge_shards(prepared.sweep, outcomes, made.program.compile_seconds, wall_seconds)


def train_all(prepared: Prepared, made: Plan, progress: Progress) -> list[Outcome]:
    """Trains the shards of a plan that are not done, on disk epoch by epoch, until Ctrl-C."""
    over = OverShards(progress, len(made.shards), prepared.sweep.experiment.config.epochs)
    outcomes: list[Outcome] = []
    for index, part in enumerate(made.shards):
        over.begin(index)
        outcomes.append(run_shard(prepared, part, index, made.program, over))
        if outcomes[-1].interrupted:
            break
    return outcomes


def run_shard(
    prepared: Prepared,
    part: range,
    index: int,
    program: Program | Callable[[], Program],
    progress: Progress,
) -> Outcome:
    """Trains one shard in its folder, from where it was left; of one that is done, nothing.

    Args:
        prepared: The sweep.
        part: Its members.
        index: Which shard.
        program: Compiled for as many or more; or what compiles it, where something is left to do.
        progress: Shows how it goes on.
    """
    folder = shard_folder(prepared.folder, index)
    run_folder.create(folder)
    job = make_job(prepared, part)
    return train_members(job, folder, progress, prepared.sweep.checkpoints, program)


def merge_shards(
    sweep: Sweep,
    outcomes: Sequence[Outcome],
    compile_seconds: float,
    wall_seconds: float,
    at_a_time: int = 1,
) -> Done:
    """All shards as one.

    Args:
        sweep: The sweep.
        outcomes: Of its shards, in order.
        compile_seconds: Lowering and compiling.
        wall_seconds: Everything.
        at_a_time: How many shards trained at a time.
    """
    interrupted = any(outcome.interrupted for outcome in outcomes)
    histories = [] if interrupted else [outcome.history for outcome in outcomes]
    history = gather(sweep, histories, at_a_time)
    timing = Timing(
        compile_seconds=compile_seconds,
        initialise_seconds=sum(outcome.initialise_seconds for outcome in outcomes) / at_a_time,
        train_seconds=history.seconds[-1] if history.seconds else 0.0,
        steady_steps_per_second=steady_steps_per_second(history),
        wall_seconds=wall_seconds,
    )
    warnings = [text for outcome in outcomes for text in outcome.warnings]
    return Done(history, timing, interrupted, warnings)


def make_job(prepared: Prepared, part: range) -> Job:
    """The job of some members; each is an arm of its own, named after setting and seed."""
    sweep = prepared.sweep
    seeds = sweep.experiment.seeds
    variants = [
        Variant(f"{variant.name} seed={seed}", variant.hyper, variant.agent)
        for variant in sweep.variants
        for seed in range(seeds)
    ]
    keys, hypers = _take(all_members(sweep), part)
    asked = sweep_to_json(sweep)
    return Job(
        prepared.training,
        variants[part.start : part.stop],
        1,
        keys,
        hypers,
        sweep.experiment.config.epochs,
        {"experiment": asked["experiment"], "settings": asked["settings"]},
    )


def gather(sweep: Sweep, histories: Sequence[History], at_a_time: int = 1) -> History:
    """The shards' histories as one: an arm for each setting, with all of its seeds.

    Seconds are those of all shards together, by how many of them trained at a time.
    """
    whole = History(sweep.variants, sweep.experiment.seeds)
    for epoch in range(min((len(one.epochs) for one in histories), default=0)):
        metrics = {
            name: np.concatenate([one.epochs[epoch][name].ravel() for one in histories])
            for name in histories[0].names
        }
        whole.add(metrics, sum(one.seconds[epoch] for one in histories) / at_a_time)
    return whole


def all_members(sweep: Sweep) -> tuple[jax.Array, Any]:
    """Keys and hyperparameters of all members: settings times seeds, seeds innermost."""
    return members(sweep.variants, sweep.experiment.seeds, sweep.experiment.seed)


def shard_folder(folder: Path, index: int) -> Path:
    """Where a shard trains."""
    return folder / SHARDS / f"{index:03d}"


def _take(tree: Any, part: range | int) -> Any:
    """Some members, or one; beyond the last it is repeated."""
    places = np.asarray(part)
    return jax.tree.map(lambda leaf: leaf[np.minimum(places, len(leaf) - 1)], tree)


def find_shards(folder: Path) -> list[tuple[range, Path]]:
    """The members of each shard of a sweep that began, and where it trains.

    Of a sweep of several processes, those are found whose folders are here.

    Raises:
        ValueError: If it did not begin.
    """
    found = []
    for own in sorted(folder.glob(PROCESS_FOLDERS)) or [folder]:
        try:
            parts = json.loads((own / PLAN).read_text())["shards"]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{own} holds no {PLAN}: the sweep has not begun to train") from error
        found += [(range(*ends), shard_folder(own, index)) for index, ends in enumerate(parts)]
    return found


def _planned_width(folder: Path) -> int | None:
    try:
        return json.loads((folder / PLAN).read_text())["width"]
    except (OSError, ValueError, KeyError):
        return None
