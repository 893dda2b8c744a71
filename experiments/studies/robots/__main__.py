"""Derivatives of four robots: `python -m experiments.studies.robots --help`."""

import functools
from dataclasses import dataclass

from experiments.launch.exit_status import leave
from experiments.launch.flags import check_seed
from experiments.studies import command, study
from experiments.studies.robots.measure import ROBOTS, measure
from experiments.studies.robots.report import figures, tables
from experiments.studies.study import Plan, check_flags, check_names


@dataclass(frozen=True)
class Options:
    """Compares derivatives of a step in contact with differences of MuJoCo's C engine.

    An arm of 7 joints whose tip touches a table, a quadruped with 12, a hand of 16 that holds a
    ball, and a humanoid with 29, standing: `experiments/studies/robots/*.xml`.

    The defaults take a quarter of an hour on 2 cores. For a trial: `--robots arm --states 2
    --repetitions 1`.

    Attributes:
        robots: Which.
        states: States of each, along motions by random controls, all in contact.
        batch: States side by side when time is taken.
        repetitions: Timed calls of each program, after one that is not timed.
        seed: Of the controls and of the gradients' directions.
    """

    robots: tuple[str, ...] = ROBOTS
    states: int = 16
    batch: int = 64
    repetitions: int = 5
    seed: int = 0


def prepare(options: Options) -> Plan[Options, None]:
    """Checks the options.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    robots = check_names("robots", options.robots, ROBOTS)
    check_flags(options, ("states", "batch", "repetitions"), lambda x: x >= 1, "at least 1")
    check_seed(options.seed, bits=31)
    return Plan(options, dict.fromkeys(robots), "-".join(robots))


STUDY = study.Study(
    "robots", Options, prepare, measure, tables, figures, identity=("robot", "state")
)

main = functools.partial(command.main, STUDY)


if __name__ == "__main__":
    leave(main())
