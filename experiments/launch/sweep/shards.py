"""Trains the shards of a sweep, each in a folder of its own, and merges what they measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.launch import json_files, provenance, run_folder
from experiments.launch.configuration import Variant
from experiments.launch.history import History
from experiments.launch.job import Job
from experiments.launch.memory import find_budget
from experiments.launch.program import Program, compile_program, keys_and_hypers, size_of
from experiments.launch.progress import Progress
from experiments.launch.runner import train_runs
from experiments.launch.sweep import memory
from experiments.launch.sweep.memory import Plan
from experiments.launch.sweep.progress import Overview
from experiments.launch.sweep.sweep import (
    Part,
    Prepared,
    Sweep,
    check_same,
    part_folders,
    read,
)

PLAN, MEASURED = "plan.json", "measured.json"
_PLAN = {"width": int, "shards": list[tuple[int, int]]}
_MEASURED = {
    "metrics": dict[str, list[list[float | None]]],
    "seconds": list[float],
    "compile_seconds": float,
    "initialise_seconds": float,
    "warnings": list[str],
    "fingerprint?": dict[str, Any],  # older files lack these
    "written_by?": provenance.WRITER,
}


@dataclass(frozen=True)
class Merged:
    """The merged measurements of a sweep's shards.

    Attributes:
        sweep: The sweep.
        folder: The folder of the whole sweep.
        history: Metrics of all configurations whose seeds are complete.
        compile_seconds: Time of the process that took longest to compile.
        initialise_seconds: Time of all shards, divided by how many trained at a time.
        plan: How the sweep was divided.
        warnings: Problems that did not stop it.
        missing: Incomplete shards, whose configurations are left out.
        mixed: A warning, which `warnings` has too, if shards are of different versions, devices
            or commits; else empty.
    """

    sweep: Sweep
    folder: Path
    history: History
    compile_seconds: float
    initialise_seconds: float
    plan: Mapping[str, Any]
    warnings: Sequence[str]
    missing: Sequence[str]
    mixed: str = ""


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
    saved = _read_plan(prepared.runs, prepared.folder) if prepared.resumes else None
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
        "fingerprint": _fingerprint(prepared.sweep, runs),
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


def _fingerprint(sweep: Sweep, runs: range) -> dict[str, Any]:
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
    planned = _read_plan(runs, part.folder(whole)) or {"shards": [[runs.start, runs.stop]]}
    return [
        (range(*ends), shard_folder(part.folder(whole), index))
        for index, ends in enumerate(planned["shards"])
    ]


def collect(sweep: Sweep, whole: Path, part: Part) -> dict[str, Any]:
    """The plan of a part and the measurements of its shards, as JSON."""
    shards = []
    for runs, path in find_shards(sweep, whole, part):
        missing = f"{path} (runs {runs.start + 1} to {runs.stop})"
        found = _read_measured(path, runs, sweep) or {"missing": missing}
        shards.append({"runs": [runs.start, runs.stop], **found})
    return {"plan": _read_plan(part.runs(sweep.runs), part.folder(whole)), "shards": shards}


def missing_in(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The incomplete shards."""
    return [shard["missing"] for part in parts for shard in part["shards"] if "missing" in shard]


def is_merged(whole: Path) -> bool:
    """Whether the results of a whole sweep are written, with nothing left out."""
    results = run_folder.read_results(whole)
    return results is not None and not results.get("missing", ["unknown"])


def merge(
    sweep: Sweep, whole: Path, parts: Sequence[Mapping[str, Any]], at_a_time: int | None = None
) -> Merged:
    """Merges all shards into one history.

    Seconds are the total of all shards, divided by how many trained at a time.

    Args:
        sweep: The sweep.
        whole: Its folder.
        parts: The result of `collect` for each part, in any order.
        at_a_time: Shards that trained at a time; None for one in each part.

    Raises:
        ValueError: If the seeds of no configuration are complete.
    """
    done = [shard for part in parts for shard in part["shards"] if "missing" not in shard]
    at_a_time, seeds = at_a_time or len(parts), sweep.experiment.seeds
    there = np.zeros(sweep.runs, bool)
    for shard in done:
        there[slice(*shard["runs"])] = True
    whole_configs = np.flatnonzero(there.reshape(-1, seeds).all(axis=1))
    missing = missing_in(parts)
    if not whole_configs.size:
        raise ValueError(
            f"{whole}: no configuration is complete; not complete: {'; '.join(missing)}"
        )
    history = History([sweep.variants[index] for index in whole_configs], seeds)
    if any(shard["metrics"].keys() != done[0]["metrics"].keys() for shard in done):
        raise ValueError(f"{whole} has shards that measured different things: train them anew")
    for epoch in range(sweep.experiment.config.epochs):
        metrics = {}
        for name in done[0]["metrics"]:
            row = np.zeros(sweep.runs)
            for shard in done:
                row[slice(*shard["runs"])] = np.array(shard["metrics"][name][epoch], np.float64)
            metrics[name] = row.reshape(-1, seeds)[whole_configs].ravel()
        history.add(metrics, sum(shard["seconds"][epoch] for shard in done) / at_a_time)
    mixed = _mixed(done)
    return Merged(
        sweep,
        whole,
        history,
        compile_seconds=max(shard["compile_seconds"] for shard in done),
        initialise_seconds=sum(shard["initialise_seconds"] for shard in done) / at_a_time,
        plan=parts[0]["plan"] if len(parts) == 1 else {"parts": [part["plan"] for part in parts]},
        warnings=[*filter(None, [mixed]), *(text for shard in done for text in shard["warnings"])],
        missing=missing,
        mixed=mixed,
    )


def _mixed(done: Sequence[Mapping[str, Any]]) -> str:
    writers = [shard["written_by"] for shard in done if "written_by" in shard]
    unlike = dict.fromkeys(
        text for other in writers[1:] for text in provenance.differences(writers[0], other)
    )
    if not unlike:
        return ""
    return (
        f"shards were trained by different versions, devices or commits ({', '.join(unlike)}): "
        "configurations may differ for that reason too"
    )


def _take(tree: Any, places: range | int) -> Any:
    """Selects some runs, or one; indices beyond the last repeat it."""
    index = np.asarray(places)
    return jax.tree.map(lambda leaf: leaf[np.minimum(index, len(leaf) - 1)], tree)


def _read_plan(runs: range, path: Path) -> Any:
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


def _read_measured(path: Path, runs: range, sweep: Sweep) -> Any:
    """The measurements of a shard; None if it is not complete.

    Raises:
        ValueError: If they are damaged, or not of these runs of this sweep.
    """
    epochs = sweep.experiment.config.epochs
    try:
        found = json_files.read(path / MEASURED, _MEASURED)
    except FileNotFoundError:
        return None
    rows = [row for name in found["metrics"] for row in found["metrics"][name]]
    counts = {len(found["seconds"]), *(len(found["metrics"][name]) for name in found["metrics"])}
    if not found["metrics"] or counts != {epochs} or any(len(row) != len(runs) for row in rows):
        raise ValueError(
            f"{path / MEASURED} is damaged: it is not of {epochs} epochs and {len(runs)} runs"
        )
    there = found.pop("fingerprint", {})
    unlike = run_folder.differences(there, _fingerprint(sweep, runs), known=True)
    if unlike:
        raise ValueError(
            f"{path / MEASURED} is of another sweep (there -> here): {'; '.join(unlike[:5])}. Name "
            "another --output"
        )
    return found
