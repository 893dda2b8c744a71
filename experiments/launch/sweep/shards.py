"""Divides a sweep into shards and trains them, each in a folder of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.launch import json_files, provenance, run_folder
from experiments.launch.configuration import Variant
from experiments.launch.job import Job
from experiments.launch.memory import find_budget
from experiments.launch.program import Program, compile_program, keys_and_hypers, size_of
from experiments.launch.progress import Progress
from experiments.launch.runner import train_runs
from experiments.launch.sweep import memory
from experiments.launch.sweep.definition import (
    Part,
    Prepared,
    Sweep,
    check_same,
    part_folders,
    read,
)
from experiments.launch.sweep.memory import Plan
from experiments.launch.sweep.progress import Overview

PLAN, MEASURED = "plan.json", "measured.json"
_PLAN = {"width": int, "shards": list[tuple[int, int]]}


def plan(
    prepared: Prepared, at_most: int | None = None, sharers: int = 1, limit: int | None = None
) -> Plan:
    """Compiles a program that fits, and measures its memory; writes nothing.

    An interrupted sweep keeps its division into shards.

    Args:
        prepared: The sweep.
        at_most: Upper limit of the runs in a shard.
        sharers: Processes like this one that train on this machine.
        limit: Bytes that each of them may hold in all; None for its share of the free memory.

    Raises:
        ValueError: If it does not fit.
    """
    sweep, training = prepared.sweep, prepared.training
    keys, hypers = all_runs(sweep)
    checkpoints = sweep.checkpoints is not None
    saved = read_plan(prepared.runs, prepared.folder) if prepared.resumes else None
    return memory.make_plan(
        lambda width: compile_for(prepared, width),
        lambda program: memory.measure(training, program, sweep.devices, checkpoints, hypers),
        lambda: find_budget(sweep.devices, sweep.memory, sharers, limit),
        prepared.runs,
        smallest_state=size_of(jax.eval_shape(training.init, *_take((keys, hypers), 0))),
        devices=sweep.devices,
        width=saved and saved["width"],
        at_most=at_most,
    )


def compile_for(prepared: Prepared, width: int) -> Program:
    """Compiles the program of `width` runs."""
    sweep = prepared.sweep
    keys, hypers = _take(all_runs(sweep), range(width))
    return compile_program(prepared.training, keys, hypers, sweep.devices)


def begin(folder: Path, sweep: Sweep, planned: Mapping[str, Any] | None = None) -> None:
    """Writes configuration and plan into the locked folder of a sweep; keeps existing files.

    Raises:
        ValueError: If they are of another sweep, or of other shards: a process that started at the
            same time may have written them since the checks.
    """
    run_folder.check_places(folder, [run_folder.CONFIGURATION, PLAN])
    if (folder / run_folder.CONFIGURATION).exists():
        check_same(folder, read(folder), sweep)
    else:
        configuration = {"sweep": sweep.to_json(), **provenance.describe()}
        run_folder.write_json(folder / run_folder.CONFIGURATION, configuration)
    if planned is None:
        return
    if not (folder / PLAN).exists():
        run_folder.write_json(folder / PLAN, planned)
    elif json_files.read(folder / PLAN, _PLAN)["shards"] != planned["shards"]:
        raise ValueError(
            f"another process divided the sweep in {folder} into other shards: continue it with "
            "--resume"
        )


def train_all(prepared: Prepared, made: Plan, overview: Overview) -> bool:
    """Trains the incomplete shards, one after another.

    Returns:
        Whether all are complete; False after Ctrl-C.
    """
    run_folder.create(prepared.folder)
    with overview, run_folder.locked(prepared.folder):
        begin(prepared.folder, prepared.sweep, made.to_json())
        for index, runs in enumerate(made.shards):
            progress = overview.shard(index)
            if not train_shard(prepared, runs, index, made.program, progress):
                return False
            overview.over(index)
    return True


def train_shard(
    prepared: Prepared,
    runs: range,
    index: int,
    program: Program | Callable[[], Program],
    progress: Progress,
) -> bool:
    """Trains the remaining epochs of one shard in its folder.

    Args:
        prepared: The sweep.
        runs: Runs of the shard.
        index: Index of the shard.
        program: A program for at least as many runs, or a function that compiles it when needed.
        progress: Receives progress.

    Returns:
        Whether it is complete; False after Ctrl-C.
    """
    folder = shard_folder(prepared.folder, index)
    run_folder.check_places(folder, [MEASURED])
    if (folder / MEASURED).exists():
        return True
    run_folder.create(folder)
    job = make_job(prepared.sweep, prepared.training, runs)
    # One sample speaks for all shards: they have one environment.
    check = index == 0
    outcome = train_runs(job, folder, progress, prepared.sweep.checkpoints, program, check)
    if outcome.interrupted:
        return False
    history = outcome.history
    measured = {
        "metrics": {
            name: values.reshape(len(values), -1)
            for name in history.names
            if (values := history.values(name)) is not None
        },
        "seconds": history.seconds,
        "compile_seconds": outcome.compile_seconds,
        "initialise_seconds": outcome.initialise_seconds,
        "warnings": outcome.warnings,
        "fingerprint": fingerprint(prepared.sweep, runs),
        "written_by": provenance.describe(),
    }
    run_folder.write_json(folder / MEASURED, measured)
    return True


def make_job(sweep: Sweep, training: Any, runs: range) -> Job:
    """The job of some runs; each is a variant of its own, named after configuration and seed."""
    variants = [
        Variant(f"{variant.name} seed={seed}", variant.hyper, variant.agent)
        for variant in sweep.variants
        for seed in range(sweep.experiment.seeds)
    ]
    keys, hypers = _take(all_runs(sweep), runs)
    return Job(
        training,
        variants[runs.start : runs.stop],
        1,
        keys,
        hypers,
        sweep.experiment.config.epochs,
        _identity(sweep),
    )


def _identity(sweep: Sweep) -> dict[str, Any]:
    values = sweep.to_json()
    return {name: values[name] for name in ("experiment", "configs")}


def fingerprint(sweep: Sweep, runs: range) -> dict[str, Any]:
    """Tells the measurements of some runs from those of others, without a device."""
    return run_folder.plain(_identity(sweep) | {"runs": [runs.start, runs.stop]})


def all_runs(sweep: Sweep) -> tuple[jax.Array, Any]:
    """Keys and hyperparameters of all runs: configurations times seeds, seeds innermost."""
    return keys_and_hypers(sweep.variants, sweep.experiment.seeds, sweep.experiment.seed)


def shard_folder(folder: Path, index: int) -> Path:
    """The folder of a shard."""
    return folder / "shards" / f"{index:03d}"


def parts_of(whole: Path) -> list[Part]:
    """The parts of a sweep, including those elsewhere; one part if it is not divided."""
    there = part_folders(whole)
    count = Part.of(there[0]).count if there else 1
    return [Part(index, count) for index in range(count)]


def find_shards(sweep: Sweep, whole: Path, part: Part) -> list[tuple[range, Path]]:
    """The runs and folder of each shard of a part; one shard before there is a plan."""
    runs = part.runs(sweep.runs)
    planned = read_plan(runs, part.folder(whole)) or {"shards": [[runs.start, runs.stop]]}
    return [
        (range(*ends), shard_folder(part.folder(whole), index))
        for index, ends in enumerate(planned["shards"])
    ]


def _take(tree: Any, places: range | int) -> Any:
    """Selects some runs, or one; indices beyond the last repeat it."""
    index = np.asarray(places)
    return jax.tree.map(lambda leaf: leaf[np.minimum(index, len(leaf) - 1)], tree)


def read_plan(runs: range, path: Path) -> Any:
    """The plan of some runs; None if there is none.

    Raises:
        ValueError: If it is damaged, or its shards are not those runs.
    """
    try:
        planned = json_files.read(path / PLAN, _PLAN)
    except FileNotFoundError:
        return None
    ends = [runs.start, *(stop for _, stop in planned["shards"])]
    starts = [start for start, _ in planned["shards"]]
    lengths = [stop - start for start, stop in planned["shards"]]
    if starts != ends[:-1] or ends[-1] != runs.stop or min(lengths, default=0) < 1:
        raise ValueError(f"{path / PLAN} is damaged: its shards are not the runs of the sweep")
    if max(lengths) > planned["width"]:
        raise ValueError(f"{path / PLAN} is damaged: a shard has more runs than its width")
    return planned
