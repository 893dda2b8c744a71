"""Writes what a sweep found: results, table and plots."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from experiments.launch import json_files, run_folder
from experiments.launch.sweep import shards
from experiments.launch.sweep.merging import Merged
from experiments.report import table
from experiments.sweep import plots, tables
from experiments.sweep.summary import make_results


def write(merged: Merged, start: float) -> None:
    """Writes everything; replaces results of an earlier or interrupted merge.

    Args:
        merged: The merged measurements.
        start: When the sweep started, by `time.perf_counter`.

    Raises:
        FolderInUseError: If another process writes there.
    """
    results, history, folder = make_results(merged, start), merged.history, merged.folder
    run_folder.check_places(folder, (run_folder.RESULTS, run_folder.METRICS, tables.TABLE))
    run_folder.create(folder)
    with run_folder.locked(folder):
        shards.begin(folder, merged.sweep)
        rows = [row for epoch in range(len(history.epochs)) for row in history.rows(epoch)]
        run_folder.replace_lines(folder / run_folder.METRICS, rows)
        table.save(folder, [tables.make_table(results)], tables.TABLE)
        with run_folder.replacing(folder) as beside:
            plots.save(beside, results)
        # Last: a folder with results is complete.
        run_folder.replace_json(folder / run_folder.RESULTS, results)


def show(folder: Path, console: Console) -> None:
    """Prints the table of a complete sweep and its folder."""
    results = json_files.read(folder / run_folder.RESULTS)
    console.print()
    tables.show(results, console)
    console.print(Text(f"Everything is in {folder}"), soft_wrap=True)
