"""The command line of a sweep: as that of a run, but hyperparameters take several values."""

import dataclasses
import difflib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from experiments.launch.checkpoints import CheckpointRule
from experiments.launch.command_line import mirror, named_defaults
from experiments.launch.configuration import Experiment, merge, parse_environment_arguments
from experiments.launch.sweep.machines import Machines
from experiments.launch.sweep.memory import parse_size
from experiments.launch.sweep.options import PROGRAM, Asked, Prepared, Sweep, prepare_asked
from experiments.launch.sweep.settings import make_settings, parse_axis


@dataclass(frozen=True)
class _General:
    """Trains an agent under many settings at once; leaves a table and a heat map.

    Every hyperparameter takes one value or several (--state-weight 0.1 1 10); the settings are all
    combinations. With --random N they are N draws: log-uniform from a range (--state-weight
    1e-3..10), uniform from a list. All settings and all of their seeds are one compiled program,
    or, where that needs more memory than there is, a few runs of one smaller program.

    Attributes:
        env: Name of the environment.
        agent: sac, td3, ddpg or q_learning.
        env_args: Parameters of the environment as name=value, such as joints=8.
        seeds: Seeds per setting; all settings share them.
        seed: Where the random keys, and the draws of --random, start.
        random: Draw so many settings, instead of trying the whole grid.
        devices: Devices that members are laid out over; None for 1, or with --distributed for all
            that a process has.
        memory: What the sweep may take, such as 4GiB, of the processor's memory or of each other
            device's; None for what is free.
        checkpoint_seconds: Least time between checkpoints; 0 for one after every epoch, None for
            as many as cost no more than 2 % of the time.
        keep_checkpoints: How many are kept of every part of the sweep while it runs.
        checkpoints: Whether there are any. Without them a sweep goes on from parts that are whole.
        output: Folder of the sweep, new or empty; None for a new one under runs/.
        resume: Go on with the sweep in this folder; takes everything else from there.
    """

    env: str
    agent: str
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


def parse(argv: Sequence[str] | None = None) -> Prepared:
    """Reads and checks a command line for this process alone; compiles nothing.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
        SystemExit: With status 2 on what cannot be read, with status 0 after `--help`.
    """
    return prepare_asked(read(argv))


def read(argv: Sequence[str] | None = None) -> Asked:
    """Reads a command line; looks at no device.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
        SystemExit: With status 2 on what cannot be read, with status 0 after `--help`.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    base = named_defaults(argv)
    flags = _flags(base)
    _check_words(argv, flags, base)
    flags = tyro.cli(type(flags), args=argv, default=flags, prog=PROGRAM)
    memory = None if flags.memory is None else parse_size("--memory", flags.memory)
    machines = Machines(**dataclasses.asdict(flags.machines))
    machines.check(flags.devices)
    if flags.resume is not None:
        return Asked(None, flags.resume, memory, machines)
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
    rule = CheckpointRule(flags.checkpoint_seconds, flags.keep_checkpoints)
    sweep = Sweep(
        experiment=experiment,
        axes=varied,
        settings=make_settings(varied, flags.random, flags.seed),
        drawn=flags.random is not None,
        devices=machines.devices if flags.devices is None else flags.devices,
        memory=memory,
        checkpoints=rule if flags.checkpoints else None,
    )
    return Asked(sweep, None, memory, machines)


def _flags(base: Experiment) -> Any:
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
        env_args=tuple(f"{name}={value!r}" for name, value in base.env_args.items()),
        seeds=base.seeds,
        seed=base.seed,
    )


def _check_words(argv: Sequence[str], flags: Any, base: Experiment) -> None:
    """Says what tyro would not: that a flag is static, or which hyperparameter was meant."""
    given = dict(_given(argv))
    hyper = [entry.name for entry in dataclasses.fields(base.hyper)]
    known = dict(_known(flags))
    for flag, words in given.items():
        if flag not in known:
            if flag == "help" or flag.removeprefix("no-") in known:
                continue
            near = difflib.get_close_matches(flag, known, n=1)
            hint = f" (did you mean --{near[0]}?)" if near else ""
            raise ValueError(
                f"there is no flag --{flag}{hint}; hyperparameters of {base.agent} are "
                f"{', '.join(hyper)}"
            )
        takes_several = isinstance(known[flag], tuple)
        if len(words) > 1 and not takes_several:
            raise ValueError(
                f"--{flag} {' '.join(words)}: {flag.replace('-', '_')} is static, it shapes the "
                "compiled program: run one sweep for each value. What may vary is "
                f"{', '.join(hyper)}"
            )
    # What may be another one every time.
    here = {"resume", "memory", "no-distributed", *dict(_known(flags.machines, top=False))}
    others = ", ".join(f"--{flag}" for flag in given if flag not in here)
    if "resume" in given and others:
        raise ValueError(
            f"--resume takes everything but --memory, and where it runs, from the folder: leave "
            f"out {others}, or start another sweep"
        )


def _given(argv: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Flags of a command line, and the words after each."""
    flag, words = None, []
    for word in argv:
        if word.startswith("--"):
            if flag is not None:
                yield flag, words
            name, equals, value = word[2:].partition("=")
            flag, words = name.replace("_", "-"), [value] if equals else []
        else:
            words.append(word)
    if flag is not None:
        yield flag, words


def _known(flags: Any, prefix: str = "", top: bool = True) -> Iterator[tuple[str, Any]]:
    """Every flag there is, and its default."""
    for entry in dataclasses.fields(flags):
        value = getattr(flags, entry.name)
        if dataclasses.is_dataclass(value):
            yield from _known(value, "" if top else f"{prefix}{entry.name}.", top=False)
        else:
            yield f"{prefix}{entry.name}".replace("_", "-"), value
    if top:
        yield "steps", 0
