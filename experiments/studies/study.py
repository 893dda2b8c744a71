"""What a study is: its options, its jobs, what it measures, its tables and figures.

`experiments.studies.command` runs it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from matplotlib.figure import Figure

from experiments.launch.progress import Progress
from experiments.report.rows import Row, Rows
from experiments.report.table import Table
from sobolax.checks import check_choice

Options = TypeVar("Options", bound=Any)
Job = TypeVar("Job")


@dataclass(frozen=True)
class Plan(Generic[Options, Job]):
    """What a study will measure.

    Attributes:
        options: Known to be sound.
        jobs: By name, in the order of their rows. `main` leaves out those that are done.
        label: Part of the name of a new folder.
        folder: Of the run; `main` sets it.
    """

    options: Options
    jobs: Mapping[str, Job]
    label: str = ""
    folder: Path = Path()


@dataclass(frozen=True)
class Done:
    """The result of one job; it is on disk before the next job is requested.

    Attributes:
        job: Its name.
        rows: Names and numbers.
        arrays: What does not fit into rows; `Rows.arrays` reads them.
    """

    job: str
    rows: Sequence[Row]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Study(Generic[Options]):
    """A study, as functions.

    Attributes:
        name: Of its command.
        options: A dataclass whose fields are the flags.
        prepare: Checks options and plans jobs; a ValueError names the fix. Compiles
            nothing and writes nothing.
        measure: Measures every job of the plan, in any order. Whatever takes long runs by
            `experiments.launch.program.call`, so that Ctrl-C gets through.
        tables: Of rows, which may be those of an interrupted run or of several merged.
        figures: Of the same, each with its file's name without an ending.
        identity: Columns that identify a row among those of merged runs.
        fixed: Options that merged runs must have in common.
        merges: Other studies with rows of the same kind, by name, and their types of options:
            `--report` takes their runs as well.
        selects: Options that choose rows under `--report`, and how each does.
        draws: Options that tables and figures read, which `--report` takes as well, and of which
            rows each speaks.
        columns: Of rows that `--report` takes from a file alone, with the values that a column may
            have, `int`, `float` (which may be missing) or None; empty where tables need more than
            rows.
        about: What `--help` says above the flags, where it is not the beginning of the options'
            docstring.
        unique: Columns that no two rows of a source have the same of; empty where rows may repeat.
    """

    name: str
    options: type[Options]
    prepare: Callable[[Options], Plan[Options, Any]]
    measure: Callable[[Plan[Options, Any], Progress], Iterator[Done]]
    tables: Callable[[Rows], list[Table]]
    figures: Callable[[Rows], Iterator[tuple[str, Figure]]] = lambda rows: iter(())
    identity: Sequence[str] = ("job",)
    fixed: Sequence[str] = ()
    merges: Mapping[str, type] = field(default_factory=dict)
    selects: Mapping[str, Callable[[Row, Options], bool]] = field(default_factory=dict)
    draws: Mapping[str, Callable[[Row, Options], bool]] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Any] | type | None] = field(default_factory=dict)
    about: str = ""
    unique: Sequence[str] = ()


def check_flags(
    options: Any, names: Sequence[str], sound: Callable[[Any], bool], rule: str
) -> None:
    """Checks options by a rule.

    Raises:
        ValueError: With the flag, its value and the rule, if an option is not sound.
    """
    for name in names:
        value = getattr(options, name)
        if not sound(value):
            text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            raise ValueError(f"--{name.replace('_', '-')} {text} must be {rule}")


def check_rising(options: Any, name: str, largest: int | None = None) -> None:
    """Checks that an option is one or more rising numbers from 1 on.

    Raises:
        ValueError: If it is not; see `check_flags`.
    """

    def sound(numbers: Sequence[int]) -> bool:
        allowed = numbers and numbers[0] >= 1 and (largest is None or numbers[-1] <= largest)
        return bool(allowed) and list(numbers) == sorted(set(numbers))

    end = "on" if largest is None else f"to {largest}"
    check_flags(options, [name], sound, f"rising numbers from 1 {end}, such as 1 2 4 8")


def check_names(flag: str, names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Names without repetitions.

    Raises:
        ValueError: If none is given, or one is unknown.
    """
    if not names:
        raise ValueError(f"--{flag} names none: choose from {', '.join(known)}")
    for name in names:
        check_choice(f"--{flag} ", name, known)
    return tuple(dict.fromkeys(names))
