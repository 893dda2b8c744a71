"""Which environments work: `python -m experiments.studies.suites --help`."""

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from experiments.launch import run_folder
from experiments.launch.exit_status import bad_input
from experiments.report.table import wide_console
from experiments.studies.suites import catalogue, report, trial
from experiments.studies.suites.catalogue import Candidate

PROGRAM = "python -m experiments.studies.suites"
TRIALS = "trials.jsonl"  # a line for each environment, as it goes


@dataclass(frozen=True)
class Suites:
    """Holds environments to the protocol, and writes a table to runs/suites-.../.

    Each runs in a process of its own. Of one whose extra is not installed, or that takes too long,
    the table says so.

    Attributes:
        names: Parts of the names of environments to try; none for all.
        add: Folders of earlier runs whose trials also count, where this one has none.
        steps: Of the rollouts of random actions.
        states: At how many states tangents are held to differences.
        timeout: Seconds that an environment may take.
        processes: How many are tried side by side; each takes one core and up to 4 GB.
        page: Where the table is also written, say docs/results/suites.md; replaced if there.
        output: Folder, new or empty; None for a new one under runs/.
    """

    names: tuple[str, ...] = ()
    add: tuple[Path, ...] = ()
    steps: int = 10
    states: int = 1
    timeout: float = 1800.0
    processes: int = 1
    page: Path | None = None
    output: Path | None = None


def prepare(suites: Suites) -> tuple[list[Candidate], list[Mapping[str, Any]], Path]:
    """Checks what was asked for; runs nothing.

    Returns:
        The environments, the trials of earlier runs, and the folder for what comes out.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    for name in ("steps", "states", "processes"):
        if getattr(suites, name) < 1:
            raise ValueError(f"--{name} {getattr(suites, name)} must be at least 1")
    if not suites.timeout > 0:
        raise ValueError(f"--timeout {suites.timeout:g} must be above 0")
    if suites.page is not None and not suites.page.parent.is_dir():
        raise ValueError(f"--page {suites.page}: there is no folder {suites.page.parent}")
    earlier: list[Mapping[str, Any]] = []
    for folder in suites.add:
        earlier = report.merged(earlier, _earlier(folder), ())
    folder = run_folder.choose(suites.output, "suites", ["environments"])
    return catalogue.chosen(suites.names), earlier, folder


def _earlier(folder: Path) -> list[dict[str, Any]]:
    """The trials of a run, also of one that was stopped."""
    try:
        return [json.loads(line) for line in (folder / TRIALS).read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise ValueError(f"--add {folder} holds no {TRIALS} of {PROGRAM}: {error}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """What the command runs.

    Returns:
        The exit status: 0, or 2 for bad input.
    """
    suites = tyro.cli(Suites, args=argv, prog=PROGRAM)
    console = Console()
    try:
        candidates, trials, folder = prepare(suites)
    except ValueError as error:
        return bad_input(error)
    run_folder.create(folder)
    order = list(catalogue.candidates())
    with ThreadPoolExecutor(suites.processes) as pool:
        under_way = [
            pool.submit(trial.run, candidate, suites.steps, suites.states, suites.timeout)
            for candidate in candidates
        ]
        try:
            for index, done in enumerate(as_completed(under_way)):
                one = done.result()
                told = f"{index + 1} of {len(candidates)}: {one['label']}: {trial.verdict(one)[0]}"
                console.print(Text(told), soft_wrap=True)
                run_folder.append_lines(folder / TRIALS, [one])
                trials = report.merged(trials, [one], order)
        finally:  # stopped: what has not begun is not waited for
            pool.shutdown(wait=False, cancel_futures=True)
    asked = json.loads(json.dumps(asdict(suites), default=str))
    results = {"suites": asked, **run_folder.provenance(), "trials": trials}
    run_folder.write_json(folder / run_folder.RESULTS, results)
    page = report.page(trials, f"{PROGRAM} --page docs/results/suites.md")
    run_folder.write_whole(folder / "table.md", page)
    if suites.page is not None:
        run_folder.write_whole(suites.page, page)
    wide_console(console).print(report.listing(trials, short=True).rendered())
    console.print(Text(f"Written to {folder}"), soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
