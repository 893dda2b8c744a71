"""A sweep: its definition, its folder, and its checks before compiling."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.launch import json_files, run_folder
from experiments.launch.configuration import (
    CheckpointRule,
    Experiment,
    Variant,
    check_own,
    from_json,
    merge,
    to_json,
)
from experiments.launch.devices import mesh_of_runs
from experiments.launch.job import check_experiment
from experiments.launch.memory import check_fits, check_listed, find_budget
from experiments.launch.sweep.configs import Axis, SweepConfig, name_of
from experiments.launch.sweep.machines import Machines

PROGRAM = "python -m experiments.sweep"


class Stopped(Exception):
    """Ends a sweep's command, with results or without.

    Attributes:
        status: The exit status.
    """

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status


_SHAPE = {
    "experiment": dict[str, Any],
    "axes": list[dict[str, Any]],
    "configs": list[dict[str, str]],
    "drawn": bool,
    "devices": int,
    "memory": int | None,
    "checkpoints": CheckpointRule | None,
}
_AXIS = {"name": str, "values": list[str], "bounds": tuple[float, float] | None}


@dataclass(frozen=True)
class Sweep:
    """The definition of a sweep.

    Attributes:
        experiment: What the configurations have in common, including the hyperparameters that do
            not vary.
        axes: The hyperparameters that vary.
        configs: The configurations, in order.
        drawn: Whether they are random draws, not a grid.
        devices: Devices that runs are laid out over.
        memory: Bytes that it may take, see `find_budget`; None for what is free.
        checkpoints: When to take checkpoints; None for never.
    """

    experiment: Experiment
    axes: tuple[Axis, ...]
    configs: tuple[SweepConfig, ...]
    drawn: bool = False
    devices: int = 1
    memory: int | None = None
    checkpoints: CheckpointRule | None = field(default_factory=CheckpointRule)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """A variant for each configuration."""
        base = self.experiment
        return tuple(
            Variant(name_of(config), merge(base.hyper, config), base.agent)
            for config in self.configs
        )

    @property
    def runs(self) -> int:
        """Configurations times seeds."""
        return len(self.configs) * self.experiment.seeds

    def to_json(self) -> dict[str, Any]:
        """All fields but the output folder, as JSON; numbers as text, for `inf`."""
        return {
            "experiment": to_json(self.experiment),
            "axes": [
                {"name": axis.name, "values": list(map(str, axis.values)), "bounds": axis.bounds}
                for axis in self.axes
            ],
            "configs": [
                {name: str(value) for name, value in config.items()} for config in self.configs
            ],
            "drawn": self.drawn,
            "devices": self.devices,
            "memory": self.memory,
            "checkpoints": self.checkpoints and dataclasses.asdict(self.checkpoints),
        }

    @classmethod
    def from_json(cls, values: Any) -> "Sweep":
        """The inverse of `to_json`; ValueError or TypeError if it is not one."""
        json_files.check(values, _SHAPE, "sweep")
        for index, axis in enumerate(values["axes"]):
            json_files.check(axis, _AXIS, f"sweep.axes[{index}]")
        axes = tuple(
            Axis(
                axis["name"],
                tuple(map(float, axis["values"])),
                axis["bounds"] and tuple(axis["bounds"]),
            )
            for axis in values["axes"]
        )
        configs = tuple(
            {name: float(value) for name, value in config.items()} for config in values["configs"]
        )
        rule = values["checkpoints"]
        names = {axis.name for axis in axes}
        if not configs or any(not names <= config.keys() for config in configs):
            raise ValueError("sweep.configs lack hyperparameters of sweep.axes")
        return cls(
            from_json(values["experiment"]),
            axes,
            configs,
            **{name: values[name] for name in ("drawn", "devices", "memory")},
            checkpoints=None if rule is None else CheckpointRule(**rule),
        )


@dataclass(frozen=True)
class Part:
    """One part of a sweep, which a process trains in a folder of its own.

    Attributes:
        index: From 0.
        count: Number of parts; 1 for a sweep that is not divided.
    """

    index: int = 0
    count: int = 1

    def folder(self, whole: Path) -> Path:
        """Its folder, in the folder of the whole sweep."""
        if self.count == 1:
            return whole
        return whole / f"part-{self.index + 1:04d}-of-{self.count:04d}"

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Parses `2/8`; without a part, all runs."""
        number, count = (text or "1/1").split("/")
        return cls(int(number) - 1, int(count))

    @classmethod
    def of(cls, folder: Path) -> "Part":
        """The inverse of `folder`."""
        _, number, _, count = folder.name.split("-")
        return cls(int(number) - 1, int(count))

    def runs(self, runs: int) -> range:
        """The part's share of `runs` runs."""
        return range(self.index * runs // self.count, (self.index + 1) * runs // self.count)


@dataclass(frozen=True)
class Command:
    """A parsed command line; no device is initialised yet.

    Attributes:
        sweep: The new sweep, with 0 devices for all of a process; None to read it from the folder.
        folder: The sweep to resume or merge; None for a new sweep.
        memory: Memory that it may take now, see `find_budget`.
        machines: The machines that it runs on.
        merge: Whether to train nothing and merge the shards in the folder.
        env: The environment that the command line names, if any.
    """

    sweep: Sweep | None
    folder: Path | None
    memory: int | None
    machines: Machines
    merge: bool = False
    env: str | None = None

    @property
    def part(self) -> "Part":
        """The part that `--part` selects."""
        return Part.parse(self.machines.part)

    @property
    def whole(self) -> Path | None:
        """The folder of the whole sweep, if the command line names it."""
        return self.folder if self.sweep is None else self.sweep.experiment.output


@dataclass(frozen=True)
class Prepared:
    """A sweep that passed its checks; nothing is compiled or written yet.

    Attributes:
        sweep: The sweep.
        training: Its training, not compiled.
        whole: The folder of the whole sweep.
        part: The part that trains here.
        resumes: Whether it continues the sweep in the folder.
    """

    sweep: Sweep
    training: Any
    whole: Path
    part: Part = Part()
    resumes: bool = False

    @property
    def folder(self) -> Path:
        """The folder that it trains in: the whole sweep's, or its part's."""
        return self.part.folder(self.whole)

    @property
    def runs(self) -> range:
        """The runs that it trains."""
        return self.part.runs(self.sweep.runs)


def prepare(command: Command, part: Part = Part(), here: bool = True) -> Prepared:
    """Checks a new sweep, or one to resume.

    A part resumes from its folder, with `--resume` or with the same command as before.

    Args:
        command: The command line.
        part: The part of the sweep.
        here: Whether this process trains.

    Raises:
        ValueError: If the sweep cannot work; the message names the fix.
    """
    sweep, whole = command.sweep, command.whole
    saved = _saved(command, part)
    if sweep is None:
        own = saved.get(part.folder(whole or Path())) or next(iter(saved.values()))
        sweep = dataclasses.replace(own, memory=command.memory)
        assert whole is not None
        check_own(sweep.experiment.env, command.env, whole)
        check_env(command, sweep)
    elif whole is None or (not saved and not part_folders(whole)):
        whole = run_folder.choose(whole, sweep.experiment.env, [sweep.experiment.agent, "sweep"])
    assert whole is not None
    training = _check(sweep, here)
    if sweep.runs < part.count:
        raise ValueError(
            f"{sweep.runs} runs are too few for {part.count} parts: use fewer, or more seeds or "
            "configurations"
        )
    for path, other in saved.items():
        check_same(path, other, sweep)
    return Prepared(sweep, training, whole, part, part.folder(whole) in saved)


def _saved(command: Command, part: Part) -> dict[Path, Sweep]:
    """The sweeps in the folder, by path: of each part that has begun, or the whole."""
    whole = command.whole
    if whole is None:
        return {}
    parts = part_folders(whole)
    if part.count == 1 and not parts:
        return {whole: read(whole)} if command.sweep is None else {}
    if any(Part.of(path).count != part.count for path in parts):
        raise ValueError(
            f"{whole} holds {parts[-1].name}, but this is one of {part.count}: run as many parts, "
            "or processes, as before"
        )
    found = {path: read(path) for path in parts if (path / run_folder.CONFIGURATION).exists()}
    if command.sweep is None and not found:
        raise ValueError(
            f"--resume {whole} holds no {part.folder(whole).name}: run each part, or process, "
            "where its folder is"
        )
    return found


def check_env(command: Command, sweep: Sweep) -> None:
    """Raises ValueError if the command line names another environment than its folder."""
    if command.env not in (None, sweep.experiment.env):
        raise ValueError(
            f"{command.folder} is a sweep of {sweep.experiment.env}, but --env says {command.env}: "
            "leave it out, or start another sweep"
        )


def check_same(path: Path, there: Sweep, here: Sweep) -> None:
    """Compares two sweeps in everything but memory.

    Raises:
        ValueError: If they differ.
    """
    unlike = run_folder.differences(
        there.to_json() | {"memory": None}, here.to_json() | {"memory": None}
    )
    if unlike:
        raise ValueError(
            f"{path} holds another sweep (there -> here): {'; '.join(unlike[:5])}. Start every "
            "part with the same command, or name another --output"
        )


def read(folder: Path) -> Sweep:
    """Reads the sweep of a folder.

    Raises:
        ValueError: If it is not a sweep's folder, or another version wrote it.
    """
    values = run_folder.read_configuration(folder)
    if "sweep" not in values:
        raise ValueError(f"{folder} was not written by experiments.sweep: name such a folder")
    try:
        return Sweep.from_json(values["sweep"])
    except (ValueError, TypeError) as error:
        path = folder / run_folder.CONFIGURATION
        raise ValueError(f"{path} is damaged, or of another version of sobolax: {error}") from error


def part_folders(whole: Path) -> list[Path]:
    """The folders of a sweep's parts on this machine."""
    return sorted(whole.glob("part-*-of-*"))


def _check(sweep: Sweep, here: bool) -> Any:
    """Checks everything but the folder; returns the training."""
    if here:
        mesh_of_runs(sweep.devices)
        if sweep.memory is not None:
            find_budget(sweep.devices, sweep.memory)
    environment, training = check_experiment(sweep.experiment, sweep.checkpoints)
    _ = sweep.variants  # the values of every configuration are within their limits
    check_listed(sweep.runs)
    if here:
        experiment = sweep.experiment
        # One run: how many fit at once is measured from the compiled program.
        check_fits(training.init, environment, experiment.config, experiment.hyper, 1)
    return training
