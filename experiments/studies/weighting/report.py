"""What sweeps leave for people: tables and plots, of one run or of several merged."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from experiments.launch import run_folder
from experiments.studies.weighting import plots, tables
from experiments.studies.weighting.summary import OVER_TRAINING, SCORE, Results
from experiments.studies.weighting.tasks import TASKS

TABLE, PLOT, SPEED = "weighting.md", "weighting.png", "weighting_over_training.png"


@dataclass(frozen=True)
class Report:
    """Draws what runs measured once more, merged into one table and plot.

    Attributes:
        runs: Folders of runs; no two with the same task.
        output: Folder, new or empty.
    """

    runs: tuple[Path, ...]
    output: Path


def read(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """What runs measured, task by task.

    Raises:
        ValueError: If a folder holds no results, or a task comes twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        read_here = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        read_here = [values for values in read_here if {"task", "rules"} <= values.keys()]
        if not read_here:
            raise ValueError(f"{folder} holds no results of a task: name the folder of such a run")
        for values in read_here:
            if values["task"] in found:
                raise ValueError(
                    f"{folder} holds {values['task']!r}, and so does another of the folders: "
                    "name one of them"
                )
            found[values["task"]] = values
    if not found:
        raise ValueError("--runs names no folder of a run")
    order = [task.name for task in TASKS]
    return sorted(found.values(), key=lambda one: order.index(one["task"]))


def write(asked: Report) -> list[dict[str, Any]]:
    """Writes the merged table and plots; gives back what they show.

    Raises:
        ValueError: If there is nothing to show, or the output is taken.
    """
    many = read(asked.runs)
    run_folder.create(run_folder.choose(asked.output, "weighting", ["report"]))
    save(asked.output, many)
    return many


def save(folder: Path, many: Sequence[Results]) -> None:
    """Writes tables and plots into a folder that holds none of them."""
    parts = []
    for listing in tables.listings(many):
        parts.append(f"## {listing.title}\n\n{listing.markdown()}")
    with (folder / TABLE).open("x") as file:
        file.write("\n".join(parts))
    plots.save(folder / PLOT, many, SCORE)
    plots.save(folder / SPEED, many, OVER_TRAINING)


def show(many: Sequence[Results], console: Console) -> None:
    """Prints the tables; where the output is no terminal, as wide as they need."""
    if not console.is_terminal:
        console = Console(file=console.file, width=230)
    for listing in tables.listings(many):
        console.print(listing.rendered())
    for results in many:
        for group, took in results["seconds"].items():
            per_update = took["train"] / max(1, took["members"] * took["updates"])
            console.print(
                Text(
                    f"{results['task']}, {group}: {took['members']} members, compiled in "
                    f"{took['compile']:.0f} s, trained in {took['train']:.0f} s "
                    f"({1e3 * per_update:.2f} ms per update and member, all included)"
                )
            )
