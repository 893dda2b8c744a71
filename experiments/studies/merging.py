"""What `--report` draws: rows of several runs, or of files of rows, and a choice among them."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.launch import json_files, run_folder
from experiments.report import rows
from experiments.report.rows import Row, Rows
from experiments.studies.study import Study


def merge(study: Study[Any], sources: Sequence[Path]) -> list[Row]:
    """The rows of several runs of a study.

    Args:
        study: The study.
        sources: Folders of runs, and files of rows where the study says what columns those have.

    Raises:
        ValueError: If a source holds no rows or those of another study, two hold the same, or their
            options do not fit.
    """
    found: dict[tuple[Any, ...], list[Row]] = {}
    first: tuple[Path, dict[str, Any]] | None = None
    for source in sources:
        if not source.exists():
            raise ValueError(
                f"--report {source} does not exist: name the folder of a run, or a file of its rows"
            )
        if source.is_file():
            here = _file(study, source)
        else:
            here, fixed = _folder(study, source)
            if first is None:
                first = source, fixed
            if unlike := run_folder.differences(first[1], fixed):
                raise ValueError(
                    f"{first[0]} and {source} differ in {'; '.join(unlike)}: report them apart"
                )
        for key, some in here.groups(*study.identity):
            if key in found:
                what = ", ".join(map(str, key))
                raise ValueError(
                    f"{source} holds {what!r}, and so does another of those named: name one of them"
                )
            found[key] = list(some)
    return [row for some in found.values() for row in some]


def choose(
    study: Study[Any], options: Any, given: Collection[str], merged: Sequence[Row]
) -> list[Row]:
    """Those of merged rows that options choose.

    Args:
        study: The study.
        options: Of the command line.
        given: Names of those that it names.
        merged: All rows.

    Raises:
        ValueError: If an option is given that would change nothing, or a value chooses no row.
    """
    used = {**study.selects, **study.draws}
    names = [entry.name for entry in dataclasses.fields(study.options) if entry.name in given]
    if idle := [name for name in names if name not in used]:
        takes = ", ".join(map(_flag, used)) or "no options of the study"
        raise ValueError(
            f"{_flag(idle[0])} says how to measure, and --report measures nothing (it takes "
            f"{takes}): leave it out"
        )
    chosen = list(merged)
    for name in names:
        speaks, value = used[name], getattr(options, name)
        for one in value if isinstance(value, tuple) else (value,):
            alone = (one,) if isinstance(value, tuple) else one
            asked = dataclasses.replace(options, **{name: alone})
            if not any(speaks(row, asked) for row in chosen):
                raise ValueError(f"{_flag(name)} {one} leaves no row of those that --report names")
        if name in study.selects:
            chosen = [row for row in chosen if speaks(row, options)]
    return chosen


def configuration(
    study: Study[Any], sources: Sequence[Path], options: Any, given: Collection[str]
) -> dict[str, Any]:
    """What `configuration.json` of a report holds: the sources, and how it was drawn."""
    folders = [source for source in sources if not source.is_file()]
    saved = [run_folder.read_configuration(folder) for folder in folders]
    own = [one for one in saved if one["study"] == study.name]
    base = dict((own or saved)[0]["options"] if saved else asdict(options))
    drawn = [name for name in study.draws if name in given or name not in base]
    base |= {name: getattr(options, name) for name in drawn}
    chosen = {name: getattr(options, name) for name in study.selects if name in given}
    merged = {"merged": [str(source) for source in sources], "chosen": chosen, "runs": saved}
    return {"study": study.name, "options": run_folder.plain(base), **merged}


def read_configuration(
    study: Study[Any], folder: Path, flag: str = "", merging: bool = False
) -> dict[str, Any]:
    """The configuration of a run of this study; `merging`, or of one that merges with it.

    Raises:
        ValueError: If the folder holds none, it is damaged, or it is another study's.
    """
    saved = run_folder.read_configuration(folder)
    known = {study.name: study.options, **(study.merges if merging else {})}
    name = saved.get("study")
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"{flag}{folder} is no run of python -m experiments.studies.{study.name}: name such "
            "a run's folder"
        )
    schema: dict[str, Any] = {"options": known[name]}
    if "jobs" in saved:
        schema["jobs"] = list[str]
    json_files.check(saved, schema, str(folder / run_folder.CONFIGURATION))
    return saved


def check_jobs(folder: Path, found: Iterable[Any], jobs: Collection[str]) -> None:
    """Checks that the jobs of a folder's rows are those that its options plan.

    Raises:
        ValueError: If one is not.
    """
    if foreign := [job for job in found if job not in jobs]:
        planned = ", ".join(map(repr, [*jobs][:3])) + (", ..." if len(jobs) > 3 else "")
        raise ValueError(
            f"{folder / rows.ROWS} has rows of {foreign[0]!r}, which is no job of this run (those "
            f"are {planned}): the file belongs to another study or other options; move it away"
        )


def _folder(study: Study[Any], folder: Path) -> tuple[Rows, dict[str, Any]]:
    """The rows of a run, and those of its options that merged runs have in common."""
    path = folder / rows.ROWS
    lines = rows.read_lines(path) if path.exists() else []
    here = Rows([row for _, row in lines])
    if not here:
        raise ValueError(f"{folder} holds no {rows.ROWS} of a study: name the folder of a run")
    saved = read_configuration(study, folder, merging=True)
    if (jobs := saved.get("jobs")) is not None:
        check_jobs(folder, dict.fromkeys(row.get("job", "") for row in here), jobs)
    _check_lines(study, path, lines)
    return here, {name: saved["options"].get(name) for name in study.fixed}


def _file(study: Study[Any], path: Path) -> Rows:
    """The rows of a file, which nothing beside it says anything of."""
    if not study.columns:
        raise ValueError(
            f"{path} is a file, and what python -m experiments.studies.{study.name} draws needs "
            "more than rows: name the folder of a run"
        )
    lines = rows.read_lines(path)
    here = Rows([row for _, row in lines])
    if missing := [name for name in study.columns if not here.has(name)]:
        raise ValueError(f"{path} has no column {missing[0]!r}: it is no {rows.ROWS} of this study")
    _check_lines(study, path, lines)
    for name, known in study.columns.items():
        if isinstance(known, Mapping):
            _check_known(path, name, here.distinct(name), known)
    return here


def _check_known(path: Path, name: str, values: Sequence[Any], known: Mapping[str, Any]) -> None:
    if unknown := [value for value in values if value not in known]:
        raise ValueError(
            f"{path} has rows whose {name} is {unknown[0]!r}, which this study does not know: "
            f"it knows {', '.join(map(str, known))}"
        )


def _check_lines(study: Study[Any], path: Path, lines: Sequence[tuple[int, Row]]) -> None:
    """Checks that numbers are numbers, and that no two rows measure the same."""
    first: dict[tuple[Any, ...], int] = {}
    for line, row in lines:
        for name, kind in study.columns.items():
            if isinstance(kind, type) and name in row and not _is_number(row[name], kind):
                wanted = "a whole number" if kind is int else "a number"
                found = "empty" if row[name] is None else repr(row[name])
                raise ValueError(
                    f"{path}, line {line}: {name} is {found}, and not {wanted}. Correct it, take "
                    "the line out, or name the file as the run wrote it"
                )
        key = tuple(row.get(name) for name in study.unique)
        if key and first.setdefault(key, line) != line:
            raise ValueError(
                f"{path}, line {line}: {', '.join(map(str, key))} is on line {first[key]} already "
                f"(the same {', '.join(study.unique)}). Take one of them out"
            )


def _is_number(value: Any, kind: type) -> bool:
    """Whether a column of a kind may hold it; what was not measured is empty."""
    allowed = int if kind is int else int | float | None
    return isinstance(value, allowed) and not isinstance(value, bool)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
