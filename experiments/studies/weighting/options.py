"""What a sweep is asked for, and what can be checked before anything compiles."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import envs
from experiments.launch import run_folder
from experiments.studies.weighting.rules import Rule, find_rules
from experiments.studies.weighting.tasks import Task, find_tasks
from sobolax.environment import Environment


@dataclass(frozen=True)
class Sweep:
    """Every rule for weighting gradients beside constant weights, over paired seeds.

    Attributes:
        tasks: Which of toy, pendulum and reacher.
        rules: Which rules, by name; none named: all. The plain agent always takes part.
        seeds: How many seeds each rule gets, the same ones for all.
        seed: The first number that random keys derive from.
        steps: Environment steps, or updates of the toy, of every task; None for what each task
            says.
        output: Folder, new or empty; None for a new one under runs/.
    """

    tasks: tuple[str, ...] = ("toy", "pendulum", "reacher")
    rules: tuple[str, ...] = ()
    seeds: int = 10
    seed: int = 0
    steps: int | None = None
    output: Path | None = None


@dataclass(frozen=True)
class Group:
    """Rules that are one compiled program on one task.

    Attributes:
        name: What its members pay for.
        rules: Its variants.
        weightings: Names that the hyperparameter `weighting` is a place in.
        config: What shapes the program.
        training: The program, with `init` and `epoch`, not compiled yet.
    """

    name: str
    rules: tuple[Rule, ...]
    weightings: tuple[str, ...]
    config: Any
    training: Any


@dataclass(frozen=True)
class Job:
    """A task with its groups."""

    task: Task
    environment: Environment
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Prepared:
    """A sweep that is known to be sound; nothing is compiled and nothing written yet."""

    sweep: Sweep
    jobs: tuple[Job, ...]
    folder: Path


def prepare(sweep: Sweep) -> Prepared:
    """Checks what was asked for; compiles nothing.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    if sweep.seeds < 2:
        raise ValueError(
            f"--seeds {sweep.seeds} must be at least 2: the best constant is chosen on one half of "
            "the seeds and judged on the other"
        )
    if not 0 <= sweep.seed < 2**32:
        raise ValueError(f"--seed {sweep.seed} must be from 0 to 2**32 - 1")
    rules, tasks = find_rules(sweep.rules), find_tasks(sweep.tasks)
    names = [task.name for task in tasks]
    folder = run_folder.choose(sweep.output, "weighting", names)
    return Prepared(sweep, tuple(_job(task, rules, sweep.steps) for task in tasks), folder)


def _job(task: Task, rules: tuple[Rule, ...], steps: int | None) -> Job:
    try:
        environment = envs.make(task.environment, **task.parameters)
    except (TypeError, ImportError) as error:
        raise ValueError(str(error)) from error
    if steps is not None and steps < 1:
        raise ValueError(f"--steps {steps} must be at least 1")
    config = task.config if steps is None else replace(task.config, **{task.steps: steps})
    groups = []
    for name in dict.fromkeys(rule.group for rule in rules):
        own = tuple(rule for rule in rules if rule.group == name)
        weightings = tuple(dict.fromkeys(rule.weighting for rule in own))
        shaped = replace(config, line_search=own[0].line_search)
        training = task.make_training(environment, shaped, weightings)
        groups.append(Group(name, own, weightings, shaped, training))
    return Job(task, environment, tuple(groups))
