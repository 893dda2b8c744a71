"""What the comparison varies, and the trainings that this comes to."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import envs
from experiments.launch.configuration import merge
from experiments.studies.payoff.tasks import REGIMES, TASKS
from experiments.studies.payoff.variants import CHOICES, PLAIN
from experiments.studies.study import Plan, check_flags, check_names
from sobolax import make_training
from sobolax.agents import sac


@dataclass(frozen=True)
class Options:
    """SAC with gradients of several kinds beside plain SAC and controls, on MuJoCo tasks.

    Seeds are paired: the same number starts the same networks and environments in every variant.
    More seeds of the same can run later, with another `--first-seed`, into another folder, and
    `--report` merges folders.

    Attributes:
        tasks: Which, of reacher, hopper, walker2d, pusher, ant, half_cheetah, humanoid.
        regimes: How much data and how many updates: few, many, long.
        variants: Which.
        seeds: How many seeds each variant gets.
        first_seed: The first of them.
        seeds_per_program: How many are trained together as one program.
        shrink: Divides steps, updates and evaluations, for a trial.
    """

    tasks: tuple[str, ...] = ("reacher", "hopper", "walker2d", "pusher", "ant")
    regimes: tuple[str, ...] = ("few",)
    variants: tuple[str, ...] = (PLAIN, "raw", "shuffled")
    seeds: int = 10
    first_seed: int = 0
    seeds_per_program: int = 5
    shrink: int = 1


@dataclass(frozen=True)
class Job:
    """Seeds of one variant on one task: one program.

    Attributes:
        task: Name of the task.
        regime: Name of the regime.
        variant: Name of the variant.
        seeds: Which.
        config: Static configuration.
        hyper: Hyperparameters of all seeds.
        training: The program, not compiled yet.
    """

    task: str
    regime: str
    variant: str
    seeds: range
    config: sac.Config
    hyper: sac.Hyperparameters
    training: Any


def prepare(options: Options) -> Plan[Options, Job]:
    """Checks the options.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    tasks = check_names("tasks", options.tasks, tuple(TASKS))
    regimes = check_names("regimes", options.regimes, tuple(REGIMES))
    variants = check_names("variants", options.variants, tuple(CHOICES))
    counts = ("seeds", "seeds_per_program", "shrink")
    check_flags(options, counts, lambda x: x >= 1, "at least 1")
    check_flags(options, ["first_seed"], lambda x: 0 <= x < 2**31, "from 0 to 2**31 - 1")
    everything = range(options.first_seed, options.first_seed + options.seeds)
    environments = {task: envs.make(TASKS[task].env) for task in tasks}
    programs = []
    for task, regime, variant in itertools.product(tasks, regimes, variants):
        config, hyper = configure(task, regime, variant, options.shrink)
        training = make_training(environments[task], config)
        programs.append((task, regime, variant, config, hyper, training))
    jobs: dict[str, Job] = {}
    # Blocks of seeds outermost: what is cut short has whole pairs.
    for at in range(0, options.seeds, options.seeds_per_program):
        seeds = everything[at : at + options.seeds_per_program]
        for task, regime, variant, *program in programs:
            name = f"{task} {regime} {variant} {seeds[0]}-{seeds[-1]}"
            jobs[name] = Job(task, regime, variant, seeds, *program)
    return Plan(options, jobs, "-".join(tasks))


def configure(
    task: str, regime: str, variant: str, shrink: int = 1
) -> tuple[sac.Config, sac.Hyperparameters]:
    """Configuration and hyperparameters of one variant."""
    own, choice = TASKS[task], CHOICES[variant]
    config = merge(sac.Config(), {**REGIMES[regime].config, **own.config, **choice.config})
    steps = int(config.total_timesteps * choice.steps)
    config = replace(
        config,
        total_timesteps=steps,
        replay_capacity=steps,
        gradient_steps=int(config.gradient_steps * choice.updates),
    )
    if shrink > 1:
        config = _smaller(config, shrink)
    hyper = merge(sac.Hyperparameters(), {**own.hyper, **choice.hyper})
    return config, hyper


def _smaller(config: sac.Config, shrink: int) -> sac.Config:
    """A training of fewer steps, updates and evaluations."""
    epochs = min(2, config.epochs)
    steps = max(4, config.total_timesteps // (config.num_envs * epochs * shrink))
    total = steps * config.num_envs * epochs
    return replace(
        config,
        epochs=epochs,
        total_timesteps=total,
        replay_capacity=total,
        learning_starts=config.num_envs,
        gradient_steps=max(1, config.gradient_steps // shrink),
        batch_size=min(16, config.batch_size),
        hidden_sizes=(8, 8),
        evaluation_episodes=1,
        report_states=min(1, config.report_states),
        report_horizon=2,
    )
