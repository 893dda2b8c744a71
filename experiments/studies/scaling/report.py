"""What a measurement leaves for people, drawn from the sizes that are done."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.launch import run_folder
from experiments.studies.scaling import tables

PAGE, PLOT, SIZES = "scaling.md", "scaling.png", "size-*.json"


@dataclass(frozen=True)
class Report:
    """Draws measurements anew, killed ones too, and merges those of one environment.

    Attributes:
        runs: Folders of measurements of one environment; where two have the same variant at the
            same size, the later one's is taken.
        output: Folder, new or empty, of scaling.md and scaling.png.
    """

    runs: tuple[Path, ...]
    output: Path


def size_path(folder: Path, size: int) -> Path:
    """Where the result of a size lies."""
    return folder / f"size-{size:02d}.json"


def read(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The sizes of some measurements, by size.

    Raises:
        ValueError: If a folder holds none, or they are of different environments.
    """
    found: dict[int, dict[str, Any]] = {}
    names: set[tuple[str, float]] = set()
    for folder in folders:
        paths = sorted(folder.glob(SIZES))
        if not paths:
            raise ValueError(f"{folder} holds no {SIZES}: name the folders of measurements")
        for path in paths:
            size = json.loads(path.read_text())
            names.add((size["env"], size["share"]))
            found[size["n"]] = _merged(found.get(size["n"]), size)
    if len(names) > 1:
        raise ValueError(
            f"these measurements are of {', '.join(f'{env} at {s:g}' for env, s in sorted(names))}"
            ": report one environment and one stated return at a time"
        )
    return [found[n] for n in sorted(found)]


def _merged(before: dict[str, Any] | None, size: dict[str, Any]) -> dict[str, Any]:
    """A size with the variants of both measurements; prices and references are the first one's."""
    if before is None:
        return size
    for name in ("shared_steps", "learning_starts"):
        if before[name] != size[name]:
            raise ValueError(
                f"n = {size['n']}: {name} is {before[name]} in one measurement and {size[name]} in "
                "another: report them apart"
            )
    variants = {
        (variant["family"], variant["setting"]): variant
        for variant in (*before["variants"], *size["variants"])
    }
    return {**before, "variants": list(variants.values())}


def merge(report: Report) -> Path:
    """Writes the page of some measurements.

    Raises:
        ValueError: If there is nothing to report or something lies in the way.
    """
    if not report.runs:
        raise ValueError("--runs names no measurement: name their folders")
    sizes = read(report.runs)
    folder = run_folder.choose(report.output, "scaling", [])
    run_folder.create(folder)
    write(folder, sizes)
    return folder


def write(folder: Path, sizes: Sequence[dict[str, Any]]) -> None:
    """Writes tables and plot."""
    from experiments.studies.scaling import plots  # Matplotlib takes a second to import

    parts = [f"# {title(sizes)}\n"]
    for listing in tables.listings(sizes):
        parts.append(f"## {listing.title}\n\n{listing.markdown()}")
    with (folder / PAGE).open("x") as file:
        file.write("\n".join(parts))
    plots.save_plot(folder / PLOT, sizes, title(sizes))


def show(sizes: Sequence[dict[str, Any]], console: Console) -> None:
    """Prints all tables; where the output is no terminal, as wide as they need."""
    if not console.is_terminal:
        console = Console(file=console.file, width=220)
    for listing in tables.listings(sizes):
        console.print(listing.rendered())


def title(sizes: Sequence[dict[str, Any]]) -> str:
    """The environment, what is reached, and the seeds."""
    seeds = len(sizes[0]["variants"][0]["steps"])
    return (
        f"{sizes[0]['env']}: to {100 * sizes[0]['share']:g} % of the way from doing nothing to "
        f"the reference controller, {seeds} seeds"
    )
