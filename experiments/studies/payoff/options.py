"""What the comparison varies, and the trainings that this comes to."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from experiments.launch.configuration import agent_module, make_environment, merge
from experiments.launch.flags import check_seed
from experiments.studies.one_iteration import evaluated_in, make_one_iteration
from experiments.studies.payoff.tasks import REGIMES, TASKS
from experiments.studies.payoff.variants import CHOICES, MAIN, ONE_ITERATION, PLAIN
from experiments.studies.study import Plan, check_flags, check_names
from sobolax import make_training
from sobolax.agents.config import ValueHyperparameters
from sobolax.checks import check_choice
from sobolax.environment import Environment
from sobolax.training.base_config import TrainingConfig


@dataclass(frozen=True)
class Options:
    """SAC with gradients of several kinds beside plain SAC and controls, on MuJoCo tasks.

    Seeds are paired: the same number starts the same networks and environments in every variant.
    More seeds of the same can run later, with another `--first-seed`, into another folder, and
    `--report` merges folders, or files of rows such as those below docs/results; there `--tasks`,
    `--regimes`, `--variants`, `--seeds` and `--first-seed` choose among the rows.

    The defaults take some ten hours on 2 cores, and `--resume` goes on with what was stopped. For a
    trial of minutes: `--tasks reacher --seeds 2 --shrink 100`.

    Attributes:
        tasks: Which, of reacher, hopper, walker2d, pusher, ant, half_cheetah, humanoid, chain,
            pendulum.
        regimes: How much data and how many updates: few, few_1, few_16, many, long, long_64.
        variants: Which; docs/results/payoff.md and shac.md describe them, and an unknown name lists
            all.
        seeds: How many seeds each variant gets.
        first_seed: The first of them.
        seeds_per_program: How many are trained together as one program.
        shrink: Divides steps, updates and evaluations, for a trial.
        baseline: The variant that tables compare the others with.
    """

    tasks: tuple[str, ...] = ("reacher", "hopper", "walker2d", "pusher", "ant")
    regimes: tuple[str, ...] = ("few",)
    variants: tuple[str, ...] = (PLAIN, "raw", MAIN, "soft_shuffled")
    seeds: int = 10
    first_seed: int = 0
    seeds_per_program: int = 5
    shrink: int = 1
    baseline: str = PLAIN


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
    config: TrainingConfig
    hyper: ValueHyperparameters
    training: Any


def prepare(options: Options) -> Plan[Options, Job]:
    """Checks the options.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    tasks = check_names("tasks", options.tasks, tuple(TASKS))
    regimes = check_names("regimes", options.regimes, tuple(REGIMES))
    variants = check_names("variants", options.variants, tuple(CHOICES))
    check_choice("--baseline ", options.baseline, tuple(CHOICES))
    if options.baseline not in (*variants, PLAIN):
        raise ValueError(
            f"--baseline {options.baseline} is none of --variants {' '.join(variants)}: add it"
        )
    counts = ("seeds", "seeds_per_program", "shrink")
    check_flags(options, counts, lambda x: x >= 1, "at least 1")
    check_seed(options.first_seed, "--first-seed", bits=31)
    everything = range(options.first_seed, options.first_seed + options.seeds)
    wanted = {(task, CHOICES[variant].physics) for task in tasks for variant in variants}
    wanted |= {(task, "converged") for task in tasks}
    environments = {(task, physics): _make(task, physics) for task, physics in wanted}
    programs = []
    for task, regime, variant in itertools.product(tasks, regimes, variants):
        config, hyper = configure(task, regime, variant, options.shrink)
        training = make_training(environments[task, "converged"], config)
        if (physics := CHOICES[variant].physics) != "converged":
            learning = make_training(environments[task, physics], config)
            training = evaluated_in(learning, training, config.epochs)
        programs.append((task, regime, variant, config, hyper, training))
    jobs: dict[str, Job] = {}
    # Blocks of seeds outermost: what is cut short has whole pairs.
    for at in range(0, options.seeds, options.seeds_per_program):
        seeds = everything[at : at + options.seeds_per_program]
        for task, regime, variant, *program in programs:
            name = f"{task} {regime} {variant} {seeds[0]}-{seeds[-1]}"
            jobs[name] = Job(task, regime, variant, seeds, *program)
    return Plan(options, jobs, "-".join(tasks))


def _make(task: str, physics: str) -> Environment:
    name = TASKS[task].env
    if physics == "converged":
        return make_environment(name)
    return make_one_iteration(name, **ONE_ITERATION[physics])


def configure(
    task: str, regime: str, variant: str, shrink: int = 1
) -> tuple[TrainingConfig, ValueHyperparameters]:
    """Configuration and hyperparameters of one variant."""
    own, choice = TASKS[task], CHOICES[variant]
    agent = agent_module(choice.agent)
    sizes = {**REGIMES[regime].config, **own.config, **choice.config}
    steps = int(sizes["total_timesteps"] * choice.steps)
    sizes |= {
        "total_timesteps": steps,
        "replay_capacity": steps,
        "gradient_steps": int(sizes["gradient_steps"] * choice.updates),
    }
    if shrink > 1:
        sizes |= _smaller(sizes, shrink)
    # Sizes of a replay buffer are not for an agent without one.
    known = {entry.name for entry in fields(agent.Config)}
    own_sizes = {name: value for name, value in sizes.items() if name in known}
    hyper = merge(agent.Hyperparameters(), {**own.hyper, **choice.hyper})
    return merge(agent.Config(), own_sizes), hyper


def _smaller(sizes: Mapping[str, Any], shrink: int) -> dict[str, Any]:
    """Sizes of a training of fewer steps, updates and evaluations."""
    epochs, num_envs = min(2, sizes["epochs"]), min(8, sizes["num_envs"])
    steps = max(4, sizes["total_timesteps"] // (num_envs * epochs * shrink))
    smaller = {"horizon": 2} if "horizon" in sizes else {}
    total = (steps - steps % 2) * num_envs * epochs
    return smaller | {
        "num_envs": num_envs,
        "epochs": epochs,
        "total_timesteps": total,
        "replay_capacity": total,
        "learning_starts": num_envs,
        "gradient_steps": max(1, sizes["gradient_steps"] // shrink),
        "batch_size": min(16, sizes["batch_size"]),
        "hidden_sizes": (8, 8),
        "evaluation_episodes": 2,
        "report_states": min(2, sizes.get("report_states", 0)),
        "report_horizon": 2,
    }
