"""What a sweep leaves for people and programs: results, table and plots."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from experiments.launch import run_folder
from experiments.launch.sweep.options import Sweep
from experiments.launch.sweep.shards import Done
from experiments.sweep import plots, tables
from experiments.sweep.summary import make_results


def write(folder: Path, sweep: Sweep, done: Done, plan: Mapping[str, Any]) -> None:
    """Writes everything, over what a killed process may have left half done.

    Args:
        folder: Of the sweep.
        sweep: What was asked for.
        done: What came out.
        plan: How it was split, for `results.json`.
    """
    results, history = make_results(sweep, done, plan), done.history
    for path in (folder / tables.TABLE, *folder.glob("*.png")):
        path.unlink(missing_ok=True)
    rows = [row for epoch in range(len(history.epochs)) for row in history.rows(epoch)]
    run_folder.replace_lines(folder / run_folder.METRICS, rows)
    tables.save(folder, results)
    plots.save(folder, results)
    # Last: a folder with results is complete.
    run_folder.write_json(folder / run_folder.RESULTS, results)


def show(folder: Path, console: Console) -> None:
    """Prints the table of a complete sweep and where everything is."""
    results = json.loads((folder / run_folder.RESULTS).read_text())
    console.print()
    tables.show(results, console)
    console.print(Text(f"Everything is in {folder}"), soft_wrap=True)
