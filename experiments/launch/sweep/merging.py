"""Merges what the shards of a sweep measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.launch import json_files, provenance, run_folder
from experiments.launch.history import History
from experiments.launch.sweep.definition import Part, Sweep
from experiments.launch.sweep.shards import MEASURED, find_shards, fingerprint, read_plan

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


def collect(sweep: Sweep, whole: Path, part: Part) -> dict[str, Any]:
    """The plan of a part and the measurements of its shards, as JSON."""
    shards = []
    for runs, path in find_shards(sweep, whole, part):
        missing = f"{path} (runs {runs.start + 1} to {runs.stop})"
        found = _read_measured(path, runs, sweep) or {"missing": missing}
        shards.append({"runs": [runs.start, runs.stop], **found})
    return {"plan": read_plan(part.runs(sweep.runs), part.folder(whole)), "shards": shards}


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
    unlike = run_folder.differences(there, fingerprint(sweep, runs), known=True)
    if unlike:
        raise ValueError(
            f"{path / MEASURED} is of another sweep (there -> here): {'; '.join(unlike[:5])}. Name "
            "another --output"
        )
    return found
