"""The command line: typed flags for every field of an experiment, read by tyro."""

import dataclasses
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import docstring_parser
import tyro

from experiments.launch import run_folder, trackers, tracking
from experiments.launch.configuration import (
    AGENTS,
    DEFAULT_AGENT,
    CheckpointRule,
    Experiment,
    agent_module,
    check_own,
    defaults,
    merge,
    parse_environment_arguments,
    to_json,
    without_idle_weights,
)
from experiments.launch.devices import Devices
from experiments.launch.flags import check_path, given_flags, read_first, read_flags
from experiments.launch.idle_flags import check_idle_flags
from sobolax.agents.config import ValueHyperparameters

DEFAULT_ENVIRONMENT = "chain"


@dataclass(frozen=True)
class _General:
    """Trains an agent and its Sobolev version side by side; leaves a table, plots and a 3D page.

    Both variants and all of their seeds are one compiled program. The defaults shown are the values
    that would run in the environment that --env names.

    Attributes:
        env: One of ant, cartpole, chain, half_cheetah, hopper, humanoid, lqr, pendulum, point_mass,
            pusher, reacher, scalar and walker2d; suite:name of brax, gymnasium, gymnax or
            playground, as in brax:reacher; or package.module:Class for one of your own.
        agent: sac, td3, ddpg, q_learning or shac.
        preset: fast, the defaults of an environment; or best, where a result has confirmed one.
        env_args: Parameters of the environment as name=value, such as joints=8.
        seeds: Seeds per variant; both variants share them.
        seed: Seed of the random keys.
        compare: Run the plain agent (both weights zero) beside the Sobolev variant.
        output: Folder of the run, new or empty; None for a new one under runs/.
        resume: Folder of a run that was stopped or killed: continues from its last good checkpoint,
            with the saved configuration.
        checkpoints: Whether to take checkpoints, which --resume needs.
        checkpoint_seconds: Minimum time between two, 0 for one after every epoch; None for a time
            that keeps their cost under 2 % of the run.
        keep_checkpoints: Checkpoints to keep until the run is complete.
        devices: Devices to train on, or all: several runs are laid out over them; a single one
            (--seeds 1 --no-compare) is split, environments, replay buffer and batches. None for
            as many of a processor as the runs can use, and for one accelerator.
        track: Where epochs, configuration and figures are sent besides the folder: any of
            tensorboard, wandb, mlflow and trackio. A resumed run goes on with its own.
    """

    env: str
    agent: str
    preset: str
    env_args: tuple[str, ...]
    seeds: int
    seed: int
    compare: bool
    output: Path | None
    resume: Path | None
    checkpoints: bool
    checkpoint_seconds: float | None
    keep_checkpoints: int
    devices: Devices
    track: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A parsed command line.

    Attributes:
        experiment: The experiment; with `resume`, its output is the run to continue.
        checkpoints: When to take checkpoints; None for never.
        resume: Whether to continue a run that was stopped.
        devices: Devices to train on; `experiments.launch.devices.lay_out` says what they share.
        track: Names of `experiments.launch.trackers.TRACKERS`; their packages are installed.
    """

    experiment: Experiment
    checkpoints: CheckpointRule | None
    resume: bool
    devices: Devices = None
    track: tuple[str, ...] = ()


def parse(argv: Sequence[str] | None = None) -> Experiment:
    """The experiment of a command line, as `read` reads it."""
    return read(argv).experiment


def read(argv: Sequence[str] | None = None) -> Command:
    """Reads the command line: flags override presets, presets override defaults.

    The environment and the agent are read first, so that `--help` shows the values that would run.

    Raises:
        ValueError: If a value cannot be read, or differs from that of the run to resume.
        SystemExit: With status 2 on an unknown flag, with status 0 after `--help`.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    helps = bool({"-h", "--help"} & set(words))
    given = {} if helps else given_flags(words)
    resume = read_first(argv, "--resume")[0]
    rule: CheckpointRule | None = CheckpointRule()
    devices: Devices = None
    track: tuple[str, ...] = ()
    if resume is None:
        base = named_defaults(argv)
    else:
        folder = check_path("--resume", Path(resume))
        if "preset" in given:
            raise ValueError(
                f"--resume {folder} goes on with what is saved there: leave --preset out"
            )
        base = run_folder.read_experiment(folder)
        check_own(base.env, read_first(argv, "--env")[0], folder)
        rule = run_folder.read_rule(folder)
        devices = run_folder.read_devices(folder)
        track = tracking.saved(folder)
    flags = _flags(base, rule, named_preset(argv), devices, track)
    _check_flags_of(given, base.agent)
    flags = read_flags(type(flags), argv, "python -m experiments.train", flags)
    experiment = _experiment(base, flags)
    check_idle_flags(given, experiment.config, experiment.hyper, flags.checkpoints)
    experiment = without_idle_weights(experiment)
    rule = CheckpointRule(flags.checkpoint_seconds, flags.keep_checkpoints)
    rule.check()
    if flags.resume is not None:
        unlike = run_folder.differences(to_json(base), to_json(experiment))
        if flags.output not in (None, flags.resume):
            unlike.append(f"output: {flags.resume} -> {flags.output}")
        if unlike:
            raise ValueError(
                f"--resume {flags.resume} goes on with what is saved there, but these flags say "
                f"otherwise (saved -> here): {'; '.join(unlike)}. Leave them out, or train anew "
                "without --resume"
            )
        experiment = dataclasses.replace(experiment, output=flags.resume)
    rule = rule if flags.checkpoints else None
    track = trackers.check(flags.track)
    return Command(experiment, rule, flags.resume is not None, flags.devices, track)


def _experiment(base: Experiment, flags: Any) -> Experiment:
    return Experiment(
        env=flags.env,
        agent=flags.agent,
        env_args={**base.env_args, **parse_environment_arguments(flags.env_args)},
        seeds=flags.seeds,
        seed=flags.seed,
        compare=flags.compare,
        output=flags.output,
        config=merge(base.config, dataclasses.asdict(flags.program)),
        hyper=merge(base.hyper, dataclasses.asdict(flags.hyperparameters)),
    )


def named_defaults(argv: Sequence[str] | None = None) -> Experiment:
    """The defaults of the environment and the agent that a command line names.

    Raises:
        ValueError: If there is no such agent or preset.
    """
    env, agent, first_order = read_first(argv, "--env", "--agent", "--first-order")
    return defaults(
        env or DEFAULT_ENVIRONMENT,
        agent=agent or DEFAULT_AGENT,
        kind=named_preset(argv),
        first_order=first_order,
    )


def _check_flags_of(given: Collection[str], agent: str) -> None:
    """Checks that no flag is given that only other agents have.

    Args:
        given: Names of the flags on the command line.
        agent: Name of the agent that the command line names.

    Raises:
        ValueError: Naming the flag and whose it is.
    """
    own = _flags_of(agent) | {entry.name for entry in dataclasses.fields(_General)}
    for flag in given:
        name = flag.replace("-", "_")
        if name in own:
            continue
        if others := [AGENTS[other] for other in AGENTS if name in _flags_of(other)]:
            raise ValueError(
                f"--{flag} is a flag of {', '.join(others)}, and not of {AGENTS[agent]}: leave it "
                f"out, or choose another --agent; --agent {agent} --help lists those of "
                f"{AGENTS[agent]}"
            )


def _flags_of(agent: str) -> set[str]:
    module = agent_module(agent)
    both = module.Config, module.Hyperparameters
    return {entry.name for cls in both for entry in dataclasses.fields(cls)}


def named_preset(argv: Sequence[str] | None = None) -> str:
    """The preset that a command line names: "fast" if none."""
    return read_first(argv, "--preset")[0] or "fast"


def _flags(
    base: Experiment,
    rule: CheckpointRule | None,
    kind: str,
    devices: Devices,
    track: tuple[str, ...],
) -> Any:
    """An object for tyro whose class has a flag for every field, with the values of `base`."""
    groups = {
        "program": mirror(base.config, "Sizes and counts. A change compiles anew."),
        "hyperparameters": mirror(
            base.hyper, "What a sweep may vary; the weights are those of the Sobolev variant."
        ),
    }
    fields: list[Any] = [(name, cls, field(default_factory=cls)) for name, cls in groups.items()]
    flags = dataclasses.make_dataclass("Flags", fields, bases=(_General,), frozen=True)
    flags.__doc__ = _General.__doc__
    return flags(
        env=base.env,
        agent=base.agent,
        preset=kind,
        env_args=tuple(f"{name}={value!r}" for name, value in base.env_args.items()),
        seeds=base.seeds,
        seed=base.seed,
        compare=base.compare,
        output=base.output,
        resume=None,
        checkpoints=rule is not None,
        checkpoint_seconds=rule.seconds if rule else None,
        keep_checkpoints=rule.keep if rule else CheckpointRule().keep,
        devices=devices,
        track=track,
    )


def mirror(
    values: Any, description: str | None = None, prefix: str = "", several: bool = False
) -> Any:
    """A dataclass of the same fields for tyro, with the values as its defaults.

    The library's classes are not made for a command line: their fields may be arrays, and their
    flags would carry prefixes (`--config.batch-size`).

    Args:
        values: Configuration or hyperparameters.
        description: The heading above the flags; by default the class's docstring.
        prefix: Prefix of the flags' names.
        several: Whether a hyperparameter takes any number of words, which the caller parses.
    """
    cls = type(values)
    documentation = docstring_parser.parse(cls.__doc__ or "")
    # Inherited fields are described where they are declared.
    parsed = [docstring_parser.parse(base.__doc__ or "") for base in reversed(cls.__mro__[:-1])]
    helps = {
        entry.arg_name: " ".join((entry.description or "").split())
        for one in parsed
        for entry in one.params
    }
    hints = get_type_hints(cls)
    traced = issubclass(cls, ValueHyperparameters)
    fields: list[Any] = []
    for entry in dataclasses.fields(cls):
        value = getattr(values, entry.name)
        if dataclasses.is_dataclass(value):
            nested = mirror(value, prefix=f"{prefix}{entry.name}.")
            fields.append((entry.name, nested, field(default_factory=nested)))
            continue
        flag = tyro.conf.arg(
            name=f"{prefix}{entry.name}",
            prefix_name=False,
            help=helps.get(entry.name),
        )
        # Fields that may also hold a user's function take a name here.
        named = isinstance(value, str)
        hint = float if traced else str if named else hints[entry.name]
        if traced and several:
            hint, value = tuple[str, ...], (str(value),)
        fields.append((entry.name, Annotated[hint, flag], field(default=value)))
    made = dataclasses.make_dataclass(cls.__name__, fields, frozen=True)
    made.__doc__ = description or documentation.short_description
    return made
