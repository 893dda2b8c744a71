"""The command line of a sweep: as that of a run, but hyperparameters take several values."""

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.launch.command_line import mirror, named_defaults, named_preset
from experiments.launch.configuration import (
    CheckpointRule,
    Experiment,
    merge,
    parse_environment_arguments,
    without_idle_weights,
)
from experiments.launch.flags import given_flags, read_flags
from experiments.launch.idle_flags import check_idle_flags
from experiments.launch.memory import parse_size
from experiments.launch.sweep.configs import make_configs, parse_axis
from experiments.launch.sweep.definition import PROGRAM, Command, Sweep
from experiments.launch.sweep.machines import Machines
from sobolax.checks import suggestion


@dataclass(frozen=True)
class _General:
    """Trains an agent with many configurations at once; leaves a table and a heat map.

    Every hyperparameter takes one value or several (--state-weight 0.1 1 10); the configurations
    are all combinations. With --random N they are N draws: log-uniform from a range (--state-weight
    1e-3..10), uniform from a list. A run is a configuration with one seed. All runs are one
    compiled program or, if memory is short, several executions of a smaller one.

    Attributes:
        env: One of ant, cartpole, chain, half_cheetah, hopper, humanoid, lqr, pendulum, point_mass,
            pusher, reacher, scalar and walker2d; suite:name of brax, gymnasium, gymnax or
            playground, as in brax:reacher; or package.module:Class for one of your own.
        agent: sac, td3, ddpg, q_learning or shac.
        preset: fast, the defaults of an environment; or best, where a result has confirmed one.
        env_args: Parameters of the environment as name=value, such as joints=8.
        seeds: Seeds per configuration; all configurations share them.
        seed: Seed of the random keys and of the draws of --random.
        random: Number of configurations to draw, instead of the whole grid.
        devices: Devices that runs are laid out over; None for 1, or with --distributed for all
            devices of a process.
        memory: Memory that the sweep may take, such as 4GiB, on the host or on each accelerator;
            None for what is free.
        checkpoint_seconds: Minimum time between checkpoints; 0 for one after every epoch, None
            keeps their cost under 2 % of the time.
        keep_checkpoints: Checkpoints to keep of every part of the sweep while it runs.
        checkpoints: Whether to take checkpoints. Without them a sweep resumes after its last
            complete shard.
        output: Folder of the sweep, new or empty; None for a new one under runs/.
        resume: Folder of a sweep to continue; everything else comes from there.
        merge: Folder of a sweep; trains nothing, and writes results of what is complete there.
    """

    env: str
    agent: str
    preset: str
    env_args: tuple[str, ...]
    seeds: int
    seed: int
    random: int | None = None
    devices: int | None = None
    memory: str | None = None
    checkpoint_seconds: float | None = None
    keep_checkpoints: int = 1
    checkpoints: bool = True
    output: Path | None = None
    resume: Path | None = None
    merge: Path | None = None


def read(argv: Sequence[str] | None = None) -> Command:
    """Reads a command line without initialising devices.

    Raises:
        ValueError: If the sweep cannot work; the message names the fix.
        SystemExit: With status 2 on unreadable flags, with status 0 after `--help`.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    given = {} if {"-h", "--help"} & set(argv) else given_flags(argv)
    base = named_defaults(argv)
    flags = _flags(base, named_preset(argv))
    _check_words(argv, flags, base)
    flags = read_flags(type(flags), argv, PROGRAM, flags)
    memory = None if flags.memory is None else parse_size("--memory", flags.memory)
    machines = Machines(**dataclasses.asdict(flags.machines))
    folder = flags.merge or flags.resume
    machines.check(flags.devices, bool(folder or flags.output))
    if folder is not None:
        [env] = given.get("env") or [None]
        return Command(None, folder, memory, machines, flags.merge is not None, env)
    hyper = dataclasses.asdict(flags.hyperparameters)
    axes = [parse_axis(name, words) for name, words in hyper.items()]
    fixed = {axis.name: axis.values[0] for axis in axes if not axis.varies}
    varied = tuple(axis for axis in axes if axis.varies)
    experiment = Experiment(
        env=flags.env,
        agent=flags.agent,
        env_args={**base.env_args, **parse_environment_arguments(flags.env_args)},
        seeds=flags.seeds,
        seed=flags.seed,
        compare=False,
        output=flags.output,
        config=merge(base.config, dataclasses.asdict(flags.program)),
        hyper=merge(base.hyper, fixed),
    )
    largest = {axis.name: max(axis.bounds or axis.values) for axis in varied}
    hyper_with_all = merge(experiment.hyper, largest)
    check_idle_flags(given, experiment.config, hyper_with_all, flags.checkpoints)
    rule = CheckpointRule(flags.checkpoint_seconds, flags.keep_checkpoints)
    sweep = Sweep(
        experiment=without_idle_weights(experiment),
        axes=varied,
        configs=make_configs(varied, flags.random, flags.seed),
        drawn=flags.random is not None,
        devices=machines.devices if flags.devices is None else flags.devices,
        memory=memory,
        checkpoints=rule if flags.checkpoints else None,
    )
    return Command(sweep, None, memory, machines)


def _flags(base: Experiment, preset: str) -> Any:
    """An object for tyro: as in `experiments.train`, but hyperparameters take several values."""
    groups = {
        "program": mirror(base.config, "Sizes and counts: one value each. A change compiles anew."),
        "hyperparameters": mirror(
            base.hyper, "What may vary: one value, several, or a range LOW..HIGH.", several=True
        ),
        "machines": mirror(
            Machines(), "Several machines: docs/guides/clusters.md says what to type."
        ),
    }
    fields: list[Any] = [(name, cls, field(default_factory=cls)) for name, cls in groups.items()]
    flags = dataclasses.make_dataclass(
        "Flags", fields, bases=(_General,), frozen=True, kw_only=True
    )
    flags.__doc__ = _General.__doc__
    return flags(
        env=base.env,
        agent=base.agent,
        preset=preset,
        env_args=tuple(f"{name}={value!r}" for name, value in base.env_args.items()),
        seeds=base.seeds,
        seed=base.seed,
    )


def _check_words(argv: Sequence[str], flags: Any, base: Experiment) -> None:
    """Rejects errors that tyro would not explain: static flags that vary, misspelt names."""
    given, words = {}, list[str]()
    for word in itertools.dropwhile(lambda word: not word.startswith("--"), argv):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            words = given[name.replace("_", "-")] = [value] if equals else []
        else:
            words.append(word)
    if "track" in given:
        raise ValueError(
            "--track is for experiments.train: a sweep's runs are too many for a tracker, and are "
            "all in its metrics.jsonl; examples/optuna_weights.py tracks a search of runs"
        )
    hyper = ", ".join(entry.name for entry in dataclasses.fields(base.hyper))
    known = dict(_known(flags))
    for flag, words in given.items():
        if flag not in known:
            if flag == "help" or flag.removeprefix("no-") in known:
                continue
            hint = suggestion(f"--{flag}", [f"--{name}" for name in known])
            raise ValueError(
                f"there is no flag --{flag}{hint}; hyperparameters of {base.agent} are {hyper}"
            )
        if len(words) > 1 and not isinstance(known[flag], tuple):
            raise ValueError(
                f"--{flag} {' '.join(words)}: {flag.replace('-', '_')} is static, it shapes the "
                f"compiled program: run one sweep for each value. What may vary is {hyper}"
            )
    if {"resume", "merge"} <= given.keys():
        raise ValueError("--resume and --merge exclude each other: give one of them")
    # Flags that may change on resuming.
    free = {"resume", "memory", "env", "no-distributed", *dict(_known(flags.machines))}
    others = ", ".join(f"--{flag}" for flag in given if flag not in free)
    if "resume" in given and others:
        raise ValueError(
            "--resume takes everything but --memory, and where it runs, from the folder: leave "
            f"out {others}, or start another sweep"
        )
    others = ", ".join(f"--{flag}" for flag in given if flag not in ("merge", "env"))
    if "merge" in given and others:
        raise ValueError(
            f"--merge trains nothing and takes everything from the folder: leave out {others}"
        )


def _known(flags: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every flag and its default."""
    for entry in dataclasses.fields(flags):
        value = getattr(flags, entry.name)
        if not dataclasses.is_dataclass(value):
            yield f"{prefix}{entry.name}".replace("_", "-"), value
        else:  # flags of a group have no prefix, those of a group in a group do
            grouped = entry.name in ("program", "hyperparameters", "machines")
            yield from _known(value, "" if grouped else f"{prefix}{entry.name}.")
