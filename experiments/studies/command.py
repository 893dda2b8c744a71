"""The command of a study: options, a folder, rows on disk as they come, resuming, merging, drawing.

What every run leaves:

- `configuration.json`: the options, versions and commit;
- `rows.csv`: everything measured, raw, written anew after every job;
- `arrays/`: what does not fit into rows, where a study has it;
- `results.json`, `table.md`, `tables/*.csv` and `*.png`: drawn from these.
"""

import dataclasses
import functools
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.text import Text

from experiments.launch import provenance, run_folder
from experiments.launch.configuration import check_own
from experiments.launch.exit_status import INTERRUPTED, bad_input, command, second_interrupt_quits
from experiments.launch.flags import given_flags, read_flags
from experiments.launch.program import keep_compiled_programs
from experiments.launch.progress import (
    Step,
    console_progress,
)
from experiments.report import figure, rows, table
from experiments.report.rows import Row, Rows
from experiments.studies import merging
from experiments.studies.study import Done, Options, Plan, Study


@command
def main(
    study: Study[Options],
    argv: Sequence[str] | None = None,
    default: Options | None = None,
) -> int:
    """Runs the command of a study.

    Args:
        study: The study.
        argv: The command line; None for the process's own.
        default: The options' defaults, where they are not those of the type.

    Returns:
        The exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    console = Console()
    try:
        options, flags = _read(study, argv, default)
        if flags.report:
            folder = run_folder.choose(flags.output, study.name, ["report"])
            given = [
                name.replace("-", "_")
                for name in given_flags(sys.argv[1:] if argv is None else argv)
            ]
            chosen = merging.choose(study, options, given, merging.merge(study, flags.report))
            values = merging.configuration(study, flags.report, options, given)
            run_folder.create(folder)
            try:
                _write_report(folder, flags.report, values, chosen)
                console.print(f"Drawing {len(chosen):,} rows ...")
                _draw(study, folder, console)
            except BaseException:  # the same command shall find its place free again
                shutil.rmtree(folder, ignore_errors=True)
                raise
            return 0
        plan = study.prepare(options)
        folder = flags.resume or run_folder.choose(flags.output, study.name, [plan.label])
        done = _rows_by_job(rows.read(folder)) if flags.resume else {}
        merging.check_jobs(folder, done, plan.jobs)
    except (ValueError, OSError) as error:
        return bad_input(error)
    keep_compiled_programs()
    if not flags.resume:
        run_folder.create(folder)
        _write_configuration(study, folder, options, list(plan.jobs))
    try:
        with run_folder.locked(folder):
            interrupted = _measure(study, dataclasses.replace(plan, folder=folder), done, console)
            _draw(study, folder, console, interrupted)
    except run_folder.FolderError as error:
        return bad_input(error)
    return INTERRUPTED if interrupted else 0


@dataclass(frozen=True)
class _Flags:
    output: Path | None
    resume: Path | None
    report: tuple[Path, ...]


_HELP = {
    "output": "Folder, new or empty; None for a new one under runs/.",
    "resume": "Folder of a run that was stopped or killed: measures what is missing there, with "
    "the options saved there.",
    "report": "Folders of runs, or files of their rows: measures nothing, merges rows, and draws "
    "them, or those that other flags choose, into --output.",
}


def _read(
    study: Study[Options],
    argv: Sequence[str] | None,
    default: Options | None,
) -> tuple[Options, _Flags]:
    """The options, and the flags that all studies have."""
    program = f"python -m experiments.studies.{study.name}"
    own = [
        (entry.name, Annotated[entry.type, tyro.conf.arg(help=_HELP[entry.name])], default)
        for entry, default in zip(dataclasses.fields(_Flags), (None, None, ()), strict=True)
    ]
    made = dataclasses.make_dataclass(
        "Flags",
        own,
        bases=(study.options,),
        frozen=True,  # fields after the study's
    )
    documentation = study.options.__doc__ or ""
    first = documentation.partition("Attributes:")[0] if study.about else ""
    made.__doc__ = study.about + documentation.removeprefix(first)
    parse = functools.partial(read_flags, made, argv, program)
    given: Any = parse(None if default is None else made(**asdict(default)))
    flags = _Flags(given.output, given.resume, tuple(given.report))
    names = [entry.name for entry in dataclasses.fields(study.options)]
    if flags.resume is None:
        return study.options(**{name: getattr(given, name) for name in names}), flags
    if flags.report:
        raise ValueError("--resume and --report exclude each other: give one of them")
    saved = merging.read_configuration(study, flags.resume, "--resume ")
    try:
        options = study.options(
            **{name: _tuples(value) for name, value in saved["options"].items()}
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{flags.resume} was written by another version: {error}") from error
    _check_folder(flags.resume)
    if isinstance(env := getattr(options, "env", None), str):
        named = given_flags(sys.argv[1:] if argv is None else argv).get("env", [])
        check_own(env, " ".join(named), flags.resume)
    given = parse(made(**asdict(options), resume=flags.resume))
    unlike = run_folder.differences(
        run_folder.plain(asdict(options)),
        run_folder.plain({name: getattr(given, name) for name in names}),
    )
    if flags.output not in (None, flags.resume):
        unlike.append(f"output: {flags.resume} -> {flags.output}")
    if unlike:
        raise ValueError(
            f"--resume {flags.resume} goes on with the options saved there, but these flags differ "
            f"(saved -> given): {'; '.join(unlike)}. Leave them out, or start anew without --resume"
        )
    return options, flags


def _check_folder(folder: Path) -> None:
    files = (run_folder.CONFIGURATION, rows.ROWS, run_folder.RESULTS, "table.md")
    run_folder.check_places(folder, files, (rows.ARRAYS, "tables"))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _write_configuration(
    study: Study[Any], folder: Path, options: Any, jobs: Sequence[str]
) -> None:
    values = {
        "study": study.name,
        "options": asdict(options),
        "jobs": jobs,
        **provenance.describe(),
    }
    run_folder.write_json(folder / run_folder.CONFIGURATION, values)


def _measure(
    study: Study[Any], plan: Plan[Any, Any], done: dict[str, list[Row]], console: Console
) -> bool:
    """Measures what is missing; says whether Ctrl-C cut it short."""
    missing = {name: job for name, job in plan.jobs.items() if name not in done}
    count, begin = len(done), time.monotonic()
    with second_interrupt_quits(), console_progress(console, interval=10.0) as progress:
        if done:
            progress.note(f"{count} of {len(plan.jobs)} jobs are done in {plan.folder}")
        try:
            for found in study.measure(dataclasses.replace(plan, jobs=missing), progress):
                _save(plan, found, done)
                new = len(done) - count
                left = (time.monotonic() - begin) / new * (len(missing) - new)
                progress.step(Step(len(done), len(plan.jobs), (found.job,), left, "job"))
        except KeyboardInterrupt:
            return True
    return False


def _save(plan: Plan[Any, Any], found: Done, done: dict[str, list[Row]]) -> None:
    if found.arrays:
        path = rows.arrays_path(plan.folder, found.job)
        path.parent.mkdir(exist_ok=True)
        beside = path.with_name(f"new-{path.name}")
        np.savez_compressed(beside, **found.arrays)  # pyright: ignore[reportArgumentType]
        beside.replace(path)
    done[found.job] = [{"job": found.job, **row} for row in found.rows]
    # In the plan's order, whatever order they came in.
    order = [name for name in plan.jobs if name in done]
    rows.write(plan.folder, [row for name in order for row in done[name]])


def _write_report(
    folder: Path, sources: Sequence[Path], values: dict[str, Any], chosen: list[Row]
) -> None:
    run_folder.write_json(folder / run_folder.CONFIGURATION, values)
    for source in sources:
        if (source / rows.ARRAYS).exists():
            shutil.copytree(source / rows.ARRAYS, folder / rows.ARRAYS, dirs_exist_ok=True)
    rows.write(folder, chosen)


def _draw(study: Study[Any], folder: Path, console: Console, interrupted: bool = False) -> None:
    """Tables and figures of what the folder holds, and `results.json`; replaces older ones."""
    configuration = run_folder.read_configuration(folder)
    measured = Rows(rows.read(folder), configuration["options"], folder)
    if len(measured):
        tables = study.tables(measured)
        with figure.style(), run_folder.replacing(folder) as beside:
            for name, drawn in study.figures(measured):
                figure.save(drawn, beside / f"{name}.png")
        table.save(folder, tables)
        results = {**configuration, "interrupted": interrupted, "rows": len(measured)}
        results.pop("jobs", None)  # the rows name those that were measured
        results["tables"] = [one.to_json() for one in tables]
        run_folder.replace_json(folder / run_folder.RESULTS, results)
        table.show(tables, console)
    if interrupted:
        console.print("Interrupted: what was done is kept, and --resume goes on with it.")
    console.print(Text(f"Everything is in {folder}"), soft_wrap=True)


def _rows_by_job(found: Sequence[Row]) -> dict[str, list[Row]]:
    by_job: dict[str, list[Row]] = {}
    for row in found:
        by_job.setdefault(row.get("job", ""), []).append(row)
    return by_job
