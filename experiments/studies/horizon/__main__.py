"""Gradients of returns over 1 to 64 steps: `python -m experiments.studies.horizon --help`."""

import functools
from dataclasses import dataclass

from experiments.launch.configuration import make_environment
from experiments.launch.exit_status import leave
from experiments.launch.flags import check_seed
from experiments.studies import command, study
from experiments.studies.horizon.measure import Job, measure
from experiments.studies.horizon.report import figures, tables
from experiments.studies.study import Plan, check_flags, check_rising


@dataclass(frozen=True)
class Options:
    """Compares gradients of an H-step return with differences of the return averaged over noise.

    The policy is SHAC's before any training. At states along its rollouts, derivatives of the
    return along random directions of its parameters: exact ones, those of MJX with one solver
    iteration, and central differences with common noise. A unit of a direction changes actions by
    1 in root mean square.

    Allow hours for the defaults on 2 cores. For a trial: `--tasks pendulum --horizons 1 2 --states
    1 --noises 4 --directions 2`.

    Attributes:
        tasks: Environments; those without MuJoCo physics have no line of one solver iteration.
        horizons: Numbers of steps, rising.
        states: States of each task.
        noises: Sequences of the policy's noise at each state.
        directions: Random directions of the policy's parameters at each state.
        distance: Of the differences, to both sides, in units of a direction.
        steps: States are at most so many steps from the start of an episode.
        discount: The discount factor.
        hidden: Width of the policy's two hidden layers.
        seed: Of states, directions and noise.
    """

    tasks: tuple[str, ...] = ("hopper", "half_cheetah")
    horizons: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    states: int = 4
    noises: int = 16
    directions: int = 8
    distance: float = 0.01
    steps: int = 30
    discount: float = 0.99
    hidden: int = 32
    seed: int = 0


def prepare(options: Options) -> Plan[Options, Job]:
    """Checks the options.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    check_flags(options, ("states", "steps", "hidden"), lambda x: x >= 1, "at least 1")
    check_flags(options, ["noises"], lambda x: x >= 3, "at least 3: fewer have no standard error")
    check_flags(options, ["directions"], lambda x: x >= 2, "at least 2: of one a cosine is a sign")
    check_flags(options, ["distance"], lambda x: 0 < x < 1, "between 0 and 1")
    check_flags(options, ["discount"], lambda x: 0 < x <= 1, "above 0 and at most 1")
    check_seed(options.seed, bits=31)
    check_rising(options, "horizons")
    if not options.tasks:
        raise ValueError("--tasks names none: name environments, such as hopper")
    tasks = tuple(dict.fromkeys(options.tasks))
    for task in tasks:
        environment = make_environment(task)
        if options.horizons[-1] > environment.episode_length:
            raise ValueError(
                f"--horizons {options.horizons[-1]} is longer than an episode of {task}, which has "
                f"{environment.episode_length} steps"
            )
    jobs = {
        f"{task}, state {state}": Job(task, state)
        for task in tasks
        for state in range(options.states)
    }
    return Plan(options, jobs, "-".join(tasks))


STUDY = study.Study(
    "horizon",
    Options,
    prepare,
    measure,
    tables,
    figures,
    fixed=("distance", "noises", "directions", "discount", "hidden"),
)

main = functools.partial(command.main, STUDY)


if __name__ == "__main__":
    leave(main())
