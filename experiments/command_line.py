"""The command line: typed flags for every field of an experiment, read by tyro."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import docstring_parser
import tyro

import sobolax
from experiments.configuration import (
    Experiment,
    defaults,
    merge,
    parse_environment_arguments,
)

DEFAULT_ENVIRONMENT = "chain"
_ALIASES = {"environment_steps": ("--steps",)}


def parse(argv: Sequence[str] | None = None) -> Experiment:
    """Reads the command line: what it names wins over presets, presets over defaults.

    The environment is read first, so that `--help` shows the values that would run.

    Raises:
        ValueError: If a value cannot be read.
        SystemExit: With status 2 on an unknown flag, with status 0 after `--help`.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--env", nargs="?", default=DEFAULT_ENVIRONMENT)
    try:
        env = first.parse_known_args(argv)[0].env or DEFAULT_ENVIRONMENT
    except argparse.ArgumentError:
        env = DEFAULT_ENVIRONMENT
    base = defaults(env)
    flags = tyro.cli(_flags(base), args=argv, prog="python -m experiments.train")
    return Experiment(
        env=flags.env,
        env_args={**base.env_args, **parse_environment_arguments(flags.env_args)},
        seeds=flags.seeds,
        seed=flags.seed,
        compare=flags.compare,
        output=flags.output,
        config=merge(base.config, dataclasses.asdict(flags.config)),
        hyper=merge(base.hyper, dataclasses.asdict(flags.hyper)),
    )


def _flags(base: Experiment) -> Any:
    """A dataclass for tyro with the values of `base` as defaults and flags without prefixes."""
    config = _mirror(base.config, "The program: sizes and counts. A change compiles anew.")
    hyper = _mirror(base.hyper, "The numbers a sweep may vary; the weights are the Sobolev arm's.")
    env_args = tuple(f"{name}={value!r}" for name, value in base.env_args.items())

    @dataclass(frozen=True)
    class Flags:
        """Trains SAC and Sobolev SAC side by side, and leaves a table, plots and a 3D page.

        Both arms and all seeds are one compiled program. Values shown are the ones that would run
        for the environment named by --env.
        """

        env: str = base.env
        """Name of the environment."""
        env_args: tuple[str, ...] = env_args
        """Parameters of the environment, as name=value, such as joints=8."""
        seeds: int = base.seeds
        """Seeds per arm; both arms share them."""
        seed: int = base.seed
        """Where the random keys start."""
        compare: bool = base.compare
        """Run plain SAC (both weights zero) beside the Sobolev arm."""
        output: Path | None = base.output
        """Folder of the run, new or empty; None for a new one under runs/."""
        config: config = field(default_factory=config)  # type: ignore[valid-type]
        hyper: hyper = field(default_factory=hyper)  # type: ignore[valid-type]

    return Flags


def _mirror(values: Any, description: str | None = None, prefix: str = "") -> Any:
    """A dataclass of the same fields for tyro, with the values as its defaults.

    The library's own classes know nothing of a command line: their fields may be arrays, and
    their flags would carry prefixes (`--config.batch-size`).
    """
    cls = type(values)
    documentation = docstring_parser.parse(cls.__doc__ or "")
    # Inherited fields are described where they are declared.
    parsed = [docstring_parser.parse(base.__doc__ or "") for base in reversed(cls.__mro__[:-1])]
    helps = {entry.arg_name: entry.description for one in parsed for entry in one.params}
    hints = get_type_hints(cls)
    traced = cls is sobolax.sac.Hyperparameters
    fields: list[Any] = []
    for entry in dataclasses.fields(cls):
        value = getattr(values, entry.name)
        if dataclasses.is_dataclass(value):
            nested = _mirror(value, prefix=f"{prefix}{entry.name}.")
            fields.append((entry.name, nested, field(default_factory=nested)))
            continue
        flag = tyro.conf.arg(
            name=f"{prefix}{entry.name}",
            prefix_name=False,
            help=helps.get(entry.name),
            aliases=_ALIASES.get(entry.name),
        )
        hint = float if traced else hints[entry.name]
        fields.append((entry.name, Annotated[hint, flag], field(default=value)))
    mirror = dataclasses.make_dataclass(cls.__name__, fields, frozen=True)
    mirror.__doc__ = description or documentation.short_description
    return mirror
