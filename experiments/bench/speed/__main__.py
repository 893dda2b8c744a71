"""Measures speed and memory side by side, as ratios: `python -m experiments.bench.speed --help`.

Programs are compiled without the compilation cache.
"""

import datetime
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import tyro
from rich.console import Console, Group, RenderableType
from rich.text import Text

from experiments.bench.speed import options
from experiments.bench.speed.options import Bench
from experiments.bench.speed.work import Tell
from experiments.launch import run_folder
from experiments.launch.exit_status import bad_input
from experiments.launch.program import compiler_options


def prepare(bench: Bench) -> dict[str, Any]:
    """Checks what was asked for, row by row; compiles no program of a row.

    Returns:
        What each row needs, by name.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    options.check(bench)
    return {name: _module(name).prepare(bench) for name in dict.fromkeys(bench.rows)}


def run(bench: Bench, tell: Tell = lambda text: None) -> dict[str, Any]:
    """Measures every row.

    Args:
        bench: What to measure.
        tell: Is told what is under way.

    Returns:
        What the file of results holds.

    Raises:
        ValueError: If it cannot work, before anything compiles.
    """
    prepared = prepare(bench)
    found = {name: _module(name).run(needed, bench, tell) for name, needed in prepared.items()}
    return {
        "bench": {name: value for name, value in asdict(bench).items() if name != "output"},
        **run_folder.provenance(),
        "compiler_options": compiler_options(),
        "rows": found,
    }


def render(results: Mapping[str, Any]) -> RenderableType:
    """The tables of a measurement."""
    parts = [
        part for name, found in results["rows"].items() for part in _module(name).render(found)
    ]
    return Group(*parts)


def main(argv: Sequence[str] | None = None) -> int:
    """What the command runs.

    Returns:
        The exit status: 0, 2 for bad input.
    """
    bench = tyro.cli(Bench, args=argv, prog="python -m experiments.bench.speed")
    # A program out of the cache has no compilation to time.
    jax.config.update("jax_enable_compilation_cache", False)
    console = Console()
    try:
        with console.status("") as status:
            results = run(bench, lambda text: status.update(f"{text} ..."))
    except ValueError as error:
        return bad_input(error)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = bench.output or Path("runs") / f"bench-{stamp}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(path, results)
    if not console.is_terminal:
        console = Console(width=100)
    console.print(render(results))
    console.print(Text(f"Written to {path}"), soft_wrap=True)
    return 0


def _module(name: str) -> Any:
    """The module of a row; MuJoCo's only where they are asked for."""
    return importlib.import_module(f"experiments.bench.speed.{name}")


if __name__ == "__main__":
    sys.exit(main())
