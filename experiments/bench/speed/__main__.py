"""Measures speed and memory side by side, as ratios: `python -m experiments.bench.speed --help`.

Programs are compiled without the compilation cache.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.bench import command
from experiments.bench.speed import options
from experiments.bench.speed.options import Bench
from experiments.launch.exit_status import leave
from experiments.launch.progress import Progress
from experiments.report.table import Table


def prepare(bench: Bench) -> dict[str, Any]:
    """What each row needs, by name; compiles no program of a row.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    options.check(bench)
    return {name: _module(name).prepare(bench) for name in dict.fromkeys(bench.rows)}


def measure(
    plan: Mapping[str, Any], bench: Bench, folder: Path, progress: Progress
) -> Iterator[command.Results]:
    """Measures row by row."""
    del folder
    tables: list[Table] = []
    for name, needed in plan.items():
        for table in _module(name).measure(needed, bench, progress):
            tables.append(table)
            yield tables, {}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit status."""
    # A program out of the cache has no compilation to time.
    jax.config.update("jax_enable_compilation_cache", False)
    return command.main("speed", Bench, prepare, measure, argv)


def _module(name: str) -> Any:
    """The module of a row; MuJoCo's only where they are needed."""
    return importlib.import_module(f"experiments.bench.speed.{name}")


if __name__ == "__main__":
    leave(main())
