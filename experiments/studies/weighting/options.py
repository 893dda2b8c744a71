"""What the comparison of weightings varies, and the trainings that this comes to."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from experiments.launch.configuration import make_environment
from experiments.launch.flags import check_seed
from experiments.studies.study import Plan, check_flags, check_names
from experiments.studies.weighting.rules import PLAIN, RULES, Rule
from experiments.studies.weighting.tasks import TASKS, Task


@dataclass(frozen=True)
class Options:
    """Every rule for weighting gradients beside constant weights, over paired seeds.

    The defaults took 85 minutes on 2 cores. For a trial: `--tasks toy --seeds 2`.

    Attributes:
        tasks: Which of toy, pendulum and reacher.
        rules: Which rules, by name; none named: all. The plain agent always takes part.
        seeds: How many seeds each rule gets, the same ones for all.
        seed: The first number that random keys derive from.
        steps: Environment steps, or updates of the toy, of every task; None for what each task
            says.
        gradient_units: What gradients are measured in: raw, observation_std or state_std.
        trust: How far they are trusted where a step stretches: full, soft or hard.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    rules: tuple[str, ...] = ()
    seeds: int = 10
    seed: int = 0
    steps: int | None = None
    gradient_units: str = "raw"
    trust: str = "full"


@dataclass(frozen=True)
class Job:
    """Rules that are one compiled program on one task.

    Attributes:
        task: The task.
        group: What all of them pay for.
        rules: Its variants.
        weightings: Names that the hyperparameter `weighting` is a place in.
        config: Static configuration of the program.
        training: The program, with `init` and `epoch`, not compiled yet.
    """

    task: Task
    group: str
    rules: tuple[Rule, ...]
    weightings: tuple[str, ...]
    config: Any
    training: Any


def prepare(options: Options) -> Plan[Options, Job]:
    """Checks the options.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    check_flags(
        options,
        ["seeds"],
        lambda x: x >= 2,
        "at least 2: the best constant is chosen on one half of the seeds and judged on the other",
    )
    check_seed(options.seed)
    check_flags(options, ["steps"], lambda x: x is None or x >= 1, "at least 1")
    names = check_names("tasks", options.tasks, tuple(TASKS))
    if (changes := _loss_options(options)) and "toy" in names:
        flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in changes.items())
        raise ValueError(
            f"{flags} needs observations that training normalises, and the toy has 32 transitions "
            "and no training loop: leave it out, --tasks pendulum reacher"
        )
    chosen = check_names("rules", (PLAIN, *(options.rules or RULES)), tuple(RULES))
    rules = [rule for rule in RULES.values() if rule.name in chosen]
    jobs = [
        job for task in TASKS.values() if task.name in names for job in _jobs(task, rules, options)
    ]
    return Plan(options, {f"{job.task.name}, {job.group}": job for job in jobs}, "-".join(names))


def _loss_options(options: Options) -> dict[str, str]:
    """Options of the gradient loss that are not the plain ones."""
    plain = {"gradient_units": "raw", "trust": "full"}
    chosen = {name: getattr(options, name) for name in plain}
    return {name: value for name, value in chosen.items() if value != plain[name]}


def _jobs(task: Task, rules: list[Rule], options: Options) -> Iterator[Job]:
    environment = make_environment(task.environment, task.parameters)
    for group in dict.fromkeys(rule.group for rule in rules):
        own = tuple(rule for rule in rules if rule.group == group)
        weightings = tuple(dict.fromkeys(rule.weighting for rule in own))
        config = replace(task.sized(options.steps), line_search=own[0].line_search)
        if changes := _loss_options(options):
            config = replace(config, **changes)
        training = task.make_training(environment, config, weightings)
        yield Job(task, group, own, weightings, config, training)
