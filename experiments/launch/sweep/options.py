"""What a sweep is asked for, and everything that can be checked before anything compiles."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments import train
from experiments.launch import run_folder
from experiments.launch.checkpoints import CheckpointRule
from experiments.launch.configuration import Experiment, Variant, from_json, merge, to_json
from experiments.launch.program import make_mesh
from experiments.launch.sweep.machines import Machines
from experiments.launch.sweep.memory import find_budget
from experiments.launch.sweep.settings import Axis, Setting, name_of

PROGRAM = "python -m experiments.sweep"
PROCESS_FOLDERS = "process-*-of-*"  # of a sweep of several processes, in its folder
_WEIGHTS = ("state_weight", "action_weight")


@dataclass(frozen=True)
class Sweep:
    """What was asked for.

    Attributes:
        experiment: The settings' common part; its hyperparameters are those that do not vary.
        axes: The hyperparameters that vary.
        settings: The settings, in order.
        drawn: Whether they are draws, not a grid.
        devices: Devices that members are laid out over.
        memory: Bytes that it may take, see `find_budget`; None for what is free.
        checkpoints: When checkpoints are taken; None for never.
    """

    experiment: Experiment
    axes: tuple[Axis, ...]
    settings: tuple[Setting, ...]
    drawn: bool = False
    devices: int = 1
    memory: int | None = None
    checkpoints: CheckpointRule | None = field(default_factory=CheckpointRule)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """An variant for each setting."""
        base = self.experiment
        return tuple(
            Variant(name_of(setting), merge(base.hyper, setting), base.agent)
            for setting in self.settings
        )


@dataclass(frozen=True)
class Asked:
    """What a command line says; no device is known yet.

    Attributes:
        sweep: What to run; None where one is to be taken up. Devices are 0 for all of a process.
        folder: The folder of that one.
        memory: What it may take now, see `find_budget`.
        machines: Where it runs.
    """

    sweep: Sweep | None
    folder: Path | None
    memory: int | None
    machines: Machines


@dataclass(frozen=True)
class Prepared:
    """A sweep that is known to be sound; nothing is compiled and nothing written yet.

    Attributes:
        sweep: What was asked for.
        training: The program, not compiled.
        folder: Where everything goes.
        resumes: Whether it goes on with a sweep that lies there.
    """

    sweep: Sweep
    training: Any
    folder: Path
    resumes: bool = False


def prepare_asked(asked: Asked, here: bool = True) -> Prepared:
    """Checks what a command line says.

    Args:
        asked: What it says.
        here: Whether it is this process that trains.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    if asked.sweep is None:
        assert asked.folder is not None
        return resume(asked.folder, asked.memory, here)
    return prepare(asked.sweep, here)


def prepare(sweep: Sweep, here: bool = True) -> Prepared:
    """Checks a sweep that is to be run anew.

    Args:
        sweep: The sweep.
        here: Whether it is this process that trains.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    training = _check(sweep, here)
    experiment = sweep.experiment
    folder = run_folder.choose(experiment.output, experiment.env, [experiment.agent, "sweep"])
    return Prepared(sweep, training, folder)


def resume(folder: Path, memory: int | None = None, here: bool = True) -> Prepared:
    """Takes up the sweep of a folder.

    Args:
        folder: Of the sweep.
        memory: What it may take now; None for what is free.
        here: Whether it is this process that trains.

    Raises:
        ValueError: If there is none, or it was written by another version.
    """
    of_processes = sorted(folder.glob(PROCESS_FOLDERS))
    if of_processes:
        raise ValueError(
            f"--resume {folder} is of several processes ({of_processes[-1].name}): add "
            "--distributed, and start as many"
        )
    sweep = dataclasses.replace(read(folder), memory=memory)
    return Prepared(sweep, _check(sweep, here), folder, resumes=True)


def read(folder: Path) -> Sweep:
    """The sweep that a folder belongs to.

    Raises:
        ValueError: If there is none, or it was written by another version.
    """
    values = run_folder.read_configuration(folder)
    if "sweep" not in values:
        raise ValueError(f"{folder} was not written by experiments.sweep: name such a folder")
    try:
        return sweep_from_json(values["sweep"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder} was written by another version of sobolax: {error}") from error


def sweep_to_json(sweep: Sweep) -> dict[str, Any]:
    """Everything but the place of the output, as JSON holds it."""
    axes = [
        {"name": axis.name, "values": list(map(str, axis.values)), "bounds": axis.bounds}
        for axis in sweep.axes
    ]
    return {
        "experiment": to_json(sweep.experiment),
        "axes": axes,
        # As text: JSON knows no infinity.
        "settings": [
            {name: str(value) for name, value in setting.items()} for setting in sweep.settings
        ],
        "drawn": sweep.drawn,
        "devices": sweep.devices,
        "memory": sweep.memory,
        "checkpoints": None if sweep.checkpoints is None else dataclasses.asdict(sweep.checkpoints),
    }


def sweep_from_json(values: Any) -> Sweep:
    """The inverse of `sweep_to_json`."""
    rule = values["checkpoints"]
    return Sweep(
        experiment=from_json(values["experiment"]),
        axes=tuple(
            Axis(
                axis["name"],
                tuple(map(float, axis["values"])),
                axis["bounds"] and tuple(axis["bounds"]),
            )
            for axis in values["axes"]
        ),
        settings=tuple(
            {name: float(value) for name, value in setting.items()}
            for setting in values["settings"]
        ),
        drawn=values["drawn"],
        devices=values["devices"],
        memory=values["memory"],
        checkpoints=None if rule is None else CheckpointRule(**rule),
    )


def _check(sweep: Sweep, here: bool) -> Any:
    """Checks everything but the folder; gives back the training."""
    if here:
        make_mesh(sweep.devices)
    if here and sweep.memory is not None:
        find_budget(sweep.devices, sweep.memory)
    if sweep.checkpoints is not None:
        sweep.checkpoints.check()
    if sweep.experiment.config.first_order == "off":
        for axis in sweep.axes:
            if axis.name in _WEIGHTS:
                raise ValueError(
                    f"--{axis.name.replace('_', '-')} varies, but --first-order off has no "
                    "gradients "
                    "to weight: all settings would be the same"
                )
    # Without an output: a sweep's folder is checked, and named, otherwise than a run's.
    checked = train.prepare(dataclasses.replace(sweep.experiment, output=None))
    _ = sweep.variants  # every setting's values are within their limits
    return checked.job.training
