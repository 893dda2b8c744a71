"""Which environments work: `python -m experiments.studies.suites --help`."""

import functools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from experiments.launch.exit_status import leave
from experiments.launch.progress import Progress
from experiments.report.rows import Rows
from experiments.report.table import Table
from experiments.studies import command, study
from experiments.studies.study import Done, Plan, check_flags
from experiments.studies.suites import catalogue, trial
from experiments.studies.suites.catalogue import Candidate

_LONGEST = 160  # of a reason in the table


@dataclass(frozen=True)
class Options:
    """Checks environments of this repository and of other suites against the protocol.

    Each runs in a process of its own. One whose suite is not installed, or that takes too long, is
    named and left for `--resume`, which may run where that suite is installed.

    Allow hours for all of them on 2 cores. For a trial: `--names lqr scalar`.

    Attributes:
        names: Environments, or parts of their names; all by default.
        steps: Steps of each rollout.
        states: States at which tangents are compared with differences.
        timeout: Seconds that one environment may take.
        processes: How many run side by side; each takes one core and up to 4 GB.
    """

    names: tuple[str, ...] = ()
    steps: int = 10
    states: int = 1
    timeout: float = 1800.0
    processes: int = 1


def prepare(options: Options) -> Plan[Options, Candidate]:
    """Checks the options; see `experiments.studies.study.Study.prepare`."""
    check_flags(options, ("steps", "states", "processes"), lambda x: x >= 1, "at least 1")
    check_flags(options, ["timeout"], lambda x: x > 0, "above 0")
    chosen = catalogue.chosen(options.names)
    return Plan(options, {candidate.label: candidate for candidate in chosen}, "environments")


def measure(plan: Plan[Options, Candidate], progress: Progress) -> Iterator[Done]:
    """A row for each environment; see `experiments.studies.study.Study.measure`."""
    options = plan.options
    pool = ThreadPoolExecutor(options.processes)
    try:
        futures = [
            pool.submit(trial.run, candidate, options.steps, options.states, options.timeout)
            for candidate in plan.jobs.values()
        ]
        for future in as_completed(futures):
            row = future.result()
            text = f"{row['environment']}: {row['verdict']}"
            if row["verdict"] == trial.NOT_TRIED:
                progress.warn(f"{text}: {row['why']}")
                continue
            progress.note(text)
            yield Done(row["environment"], [row])
    finally:  # after Ctrl-C nothing is waited for
        pool.shutdown(wait=False, cancel_futures=True)


def tables(rows: Rows) -> list[Table]:
    """A row for each environment."""
    columns = ("verdict", "tangent_error", "judged", "precision", "reverse_mode", "why")
    lines = []
    for row in rows:
        cells = [f"`{row['environment']}`", *(row[name] for name in columns)]
        cells[-2] = {True: "yes", False: "no", None: None}[row["reverse_mode"]]
        why = " ".join(str(row["why"] or "").replace("|", "/").split())
        cells[-1] = why[:_LONGEST] + ("..." if len(why) > _LONGEST else "")
        lines.append(cells)
    headings = ("environment", "verdict", "tangents' error", "judged", "in", "reverse mode", "why")
    counts = Counter(row["verdict"] for row in rows)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    packages = dict.fromkeys(name for row in rows for name in (row["packages"] or "").split(", "))
    note = (
        f"{counted}. Versions: {', '.join(sorted(filter(None, packages)))}. Each environment ran "
        "through `sobolax.testing.check_environment`, with rollouts of "
        f"{rows.options['steps']} random actions. *Error* is the largest difference between a "
        "tangent and its central difference, relative to the largest entry of its part of the "
        "transition. *Judged* is the share of entries for which differences at two distances "
        "agree, so that they can be judged."
    )
    return [Table("Which environments work", headings, lines, names=2, note=note)]


STUDY = study.Study("suites", Options, prepare, measure, tables, fixed=("steps", "states"))

main = functools.partial(command.main, STUDY)


if __name__ == "__main__":
    leave(main())
