"""Trains an agent and its Sobolev version side by side: `python -m experiments.train --help`."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from experiments.launch import command_line, provenance, run_folder
from experiments.launch.checkpoint_files import CheckpointError
from experiments.launch.configuration import (
    CheckpointRule,
    Experiment,
    environment_title,
    to_json,
    variants,
)
from experiments.launch.devices import Devices, Layout, lay_out, split_processor
from experiments.launch.exit_status import (
    INTERRUPTED,
    bad_input,
    command,
    leave,
    second_interrupt_quits,
)
from experiments.launch.history import History, steady_steps_per_second
from experiments.launch.job import Job, check_experiment, make_job
from experiments.launch.kept_programs import Kept, find
from experiments.launch.memory import check_fits
from experiments.launch.program import (
    begin,
    compile_program,
    keep_compiled_programs,
)
from experiments.launch.progress import Progress, Silent, console_progress
from experiments.launch.runner import train_runs
from experiments.launch.tracking import Tracking, saved
from experiments.report import curves, run_table
from experiments.report.results import Timing, summarise

_AUTOMATIC = CheckpointRule()
_DRAWN = (run_folder.LEARNING_CURVES, run_folder.GRADIENT_ERROR, run_folder.REPLAY)
_FILES = (run_folder.CONFIGURATION, run_folder.METRICS, run_folder.RESULTS, *_DRAWN)


@dataclass(frozen=True)
class Prepared:
    """An experiment that passed its checks; nothing is compiled or written yet.

    Attributes:
        experiment: The experiment.
        environment: Its environment.
        job: All variants and seeds of it.
        folder: The run's folder; of a new run without `--output`, a name that was free.
        checkpoints: When to take checkpoints; None for never.
        resume: Whether the folder holds a run to continue.
        layout: The devices, and what they share.
        devices: How many were asked for; None for as many as are of use.
        kept: Where its compiled programs may lie, or are put; None for nowhere.
        claimed: Whether the folder of a new run is made, with its configuration.
    """

    experiment: Experiment
    environment: Any
    job: Job
    folder: Path
    checkpoints: CheckpointRule | None
    resume: bool
    layout: Layout
    devices: int | None = None
    kept: Kept | None = None
    claimed: bool = False

    @property
    def name(self) -> str:
        """The environment with its arguments."""
        return environment_title(self.experiment.env, self.experiment.env_args)

    @property
    def title(self) -> str:
        """The heading of table and plots: the environment and the seeds."""
        seeds = self.experiment.seeds
        paired = "paired " if len(self.job.variants) > 1 else ""
        over = f"mean and 95 % interval over {seeds} {paired}seeds" if seeds > 1 else "1 seed"
        return f"{self.name}, {over}"


def prepare(
    experiment: Experiment,
    checkpoints: CheckpointRule | None = _AUTOMATIC,
    resume: bool = False,
    devices: Devices = None,
    keep: bool = False,
) -> Prepared:
    """Checks everything that can be checked before anything compiles.

    Args:
        experiment: The experiment.
        checkpoints: When to take checkpoints; None for never.
        resume: Whether to continue the run in the folder `experiment.output`.
        devices: Devices to train on (`experiments.launch.devices.lay_out`).
        keep: Whether compiled programs are kept for later starts, and taken from earlier ones. In
            a process that replaces functions of this project, they would be others.

    Raises:
        ValueError: If the experiment cannot work; the message names the fix.
    """
    members = variants(experiment)
    runs = len(members) * experiment.seeds
    layout = lay_out(devices, runs)
    environment, training = check_experiment(experiment, checkpoints, layout.mesh)
    if resume:
        folder = _to_resume(experiment)
    else:
        folder = run_folder.choose(experiment.output, experiment.env, _names(experiment))
    job = make_job(experiment, training)
    kept = _find_kept(experiment, job, layout) if keep else None
    check_fits(
        training.init,
        environment,
        experiment.config,
        experiment.hyper,
        runs,
        layout,
        None if kept is None else kept.state_bytes,
    )
    asked = None if devices is None else layout.devices
    return Prepared(experiment, environment, job, folder, checkpoints, resume, layout, asked, kept)


def _names(experiment: Experiment) -> list[str]:
    """What the name of a run's folder lists."""
    return [experiment.agent, *(variant.name for variant in variants(experiment))]


def _find_kept(experiment: Experiment, job: Job, layout: Layout) -> Kept | None:
    if layout.mesh is not None:
        return None
    values = to_json(experiment)
    identity = {name: values[name] for name in ("agent", "env_args", "config")}
    return find(experiment.env, identity, (job.keys, job.hypers), layout.runs)


def _to_resume(experiment: Experiment) -> Path:
    folder = experiment.output
    if folder is None:
        raise ValueError("name the folder of the run to resume")
    folders = run_folder.POLICY, run_folder.CHECKPOINTS, run_folder.TRACKING
    run_folder.check_places(folder, _FILES, folders)
    done = (run_folder.read_results(folder) or {}).get("epochs", 0)
    if 0 < done < experiment.config.epochs and not (folder / run_folder.CHECKPOINTS).exists():
        raise ValueError(
            f"{folder} holds no checkpoint to resume: it was interrupted before the first one, "
            "or trained with --no-checkpoints. Train anew into another folder"
        )
    return folder


def run(
    experiment: Experiment,
    progress: Progress | None = None,
    checkpoints: CheckpointRule | None = _AUTOMATIC,
    resume: bool = False,
    devices: Devices = None,
) -> dict[str, Any]:
    """Runs an experiment and writes its folder.

    Args:
        experiment: The experiment.
        progress: Receives progress; silent by default.
        checkpoints: When to take checkpoints; None for never.
        resume: Whether to continue the run in the folder `experiment.output`.
        devices: Devices to train on (`experiments.launch.devices.lay_out`).

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: If the experiment cannot work, before anything compiles.
    """
    return execute(prepare(experiment, checkpoints, resume, devices), progress or Silent())


def claim(prepared: Prepared) -> Prepared:
    """Makes the folder of a new run, with its configuration, if that is not done.

    Returns:
        The same run, in another folder if a run of the same second took an automatic name.
    """
    if prepared.resume or prepared.claimed:
        return prepared
    experiment, folder, rule = prepared.experiment, prepared.folder, prepared.checkpoints
    if experiment.output is None:
        folder = run_folder.claim(experiment.env, _names(experiment))
    else:
        run_folder.create(folder)
    configuration = {
        "experiment": to_json(experiment),
        "checkpoints": None if rule is None else asdict(rule),
        "devices": prepared.devices,
        **provenance.describe(),
    }
    run_folder.write_json(folder / run_folder.CONFIGURATION, configuration)
    return replace(prepared, folder=folder, claimed=True)


def execute(prepared: Prepared, progress: Progress) -> dict[str, Any]:
    """Trains the agents, then writes results, plots and the page."""
    start = time.perf_counter()
    prepared = claim(prepared)
    folder, job, rule = prepared.folder, prepared.job, prepared.checkpoints
    warnings = _earlier_warnings(prepared) + _warn_of_devices(prepared, progress)
    devices, kept = prepared.layout.runs, prepared.kept
    program = partial(
        compile_program, job.training, job.keys, job.hypers, devices, kept, progress.note
    )
    outcome = train_runs(job, folder, progress, rule, program, True, kept, warnings)
    history = outcome.history
    keeps = bool(history.epochs or not prepared.resume)  # otherwise the old results stay

    def write_results(interrupted: bool) -> dict[str, Any]:
        timing = Timing(
            compile_seconds=outcome.compile_seconds,
            initialise_seconds=outcome.initialise_seconds,
            train_seconds=history.seconds[-1] if history.seconds else 0.0,
            steady_steps_per_second=steady_steps_per_second(history),
            wall_seconds=time.perf_counter() - start,
        )
        results = summarise(history, timing, interrupted) | {
            "resumed_from": outcome.resumed_from,
            "metrics_seconds": outcome.metrics_seconds,
            "checkpoints": outcome.checkpoints,
            "warnings": outcome.warnings,
        }
        if keeps:
            run_folder.replace_json(folder / run_folder.RESULTS, results)
        return results

    drawn: set[str] = set()
    if outcome.policies is not None:
        # Drawing may fail, or be killed: what was measured is on disk then, and resuming draws.
        write_results(interrupted=True)
        progress.phase("drawing plots and the 3D page")
        try:
            # The page needs another compilation, so an interrupt skips it.
            policies = None if outcome.interrupted else outcome.policies
            with run_folder.replacing(folder) as beside:
                draw(prepared, beside, history, policies)
                drawn = {path.name for path in beside.iterdir()}
            progress.figures([folder / name for name in _DRAWN if name in drawn and ".png" in name])
        except KeyboardInterrupt:
            outcome.interrupted = True
    results = write_results(outcome.interrupted)
    if keeps:
        for name in {*_DRAWN} - drawn:  # of before the resume
            (folder / name).unlink(missing_ok=True)
    return results


def _earlier_warnings(prepared: Prepared) -> list[str]:
    """Those that a run ended with before its resume; a killed one's are in its checkpoints."""
    if not prepared.resume:
        return []
    return (run_folder.read_results(prepared.folder) or {}).get("warnings", [])


def _warn_of_devices(prepared: Prepared, progress: Progress) -> list[str]:
    """Warns where a run is resumed on another number of devices than it was begun on."""
    if not prepared.resume:
        return []
    begun = run_folder.read_devices(prepared.folder)
    if begun == prepared.devices:
        return []
    told = "no --devices" if begun is None else f"--devices {begun}"
    text = (
        f"{prepared.folder} was begun with {told}, and goes on with --devices {prepared.devices}: "
        "the last bits may differ from those of a run that was never stopped"
    )
    progress.warn(text)
    return [text]


def tracked(prepared: Prepared, progress: Progress, names: Sequence[str]) -> Progress:
    """Progress that also goes to trackers, each variant as a run of its own.

    Args:
        prepared: The experiment.
        progress: Shows it; closed with the trackers.
        names: Of `experiments.launch.trackers.TRACKERS`; none leaves `progress` as it is.

    Raises:
        ValueError: If there is no such tracker, or its package is not installed.
    """
    if not names:
        return progress
    about = to_json(prepared.experiment) | provenance.describe()
    configurations = {
        variant.name: run_folder.plain(
            about | {"variant": variant.name, "hyper": asdict(variant.hyper)}
        )
        for variant in prepared.job.variants
    }
    return Tracking(progress, names, prepared.folder, configurations)


def has_page(environment: Any) -> bool:
    """Whether there are bodies to draw."""
    if not hasattr(environment, "frame"):
        return False
    from experiments.report.viewer import is_drawn

    return is_drawn(environment.mujoco_model)


def draw(prepared: Prepared, folder: Path, history: History, policies: Any) -> None:
    """Writes the plots and, if the environment has bodies, the 3D page into a folder.

    The page shows the first seed of every variant, from the same start.
    """
    job, page = prepared.job, None
    if policies is not None and has_page(prepared.environment):
        # Imports MuJoCo, which analytic environments do not need.
        from experiments.render import render_runs

        firsts = [index * job.seeds for index in range(len(job.variants))]
        path = folder / run_folder.REPLAY
        page = begin(render_runs, path, prepared.name, prepared.environment, job, policies, firsts)
    curves.save_learning_curves(folder / run_folder.LEARNING_CURVES, history, prepared.title)
    curves.save_gradient_error(folder / run_folder.GRADIENT_ERROR, history, prepared.title)
    if page is not None:
        page()


@command
def main(argv: Sequence[str] | None = None, keep: bool = False) -> int:
    """Runs the command.

    Args:
        argv: The command line; None for the process's own.
        keep: See `prepare`.

    Returns:
        The exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    console = Console()
    try:
        given = command_line.read(argv)
        keep_compiled_programs()
        prepared = prepare(given.experiment, given.checkpoints, given.resume, given.devices, keep)
    except (ValueError, OSError) as error:
        return bad_input(error)
    results = run_folder.read_results(prepared.folder)
    if prepared.resume and results is not None and not results.get("interrupted", True):
        if new := set(given.track) - set(saved(prepared.folder)):
            named, lines = " ".join(sorted(new)), prepared.folder / run_folder.METRICS
            return bad_input(
                ValueError(
                    f"--track {named} cannot be added to {prepared.folder}, which is complete: "
                    f"{lines} has all of its epochs"
                )
            )
        epochs = results.get("epochs", 0)
        text = f"{prepared.folder} is complete, with {epochs} epochs: nothing is left"
        console.print(Text(text), soft_wrap=True)
        return 0
    try:
        prepared = claim(prepared)
    except run_folder.FolderError as error:
        return bad_input(error)
    progress = tracked(prepared, console_progress(console), given.track)
    with second_interrupt_quits():
        try:
            results = execute(prepared, progress)
        except (CheckpointError, run_folder.FolderError) as error:
            return bad_input(error)
        finally:
            progress.close()
    if results["epochs"]:
        console.print()
        run_table.show(results, prepared.title, console)
        if not has_page(prepared.environment):
            console.print(f"No {run_folder.REPLAY}: {prepared.experiment.env} has nothing to draw.")
    else:
        console.print("No epoch was finished: --resume goes on.")
    console.print(Text(f"Everything is in {prepared.folder}"), soft_wrap=True)
    return INTERRUPTED if results["interrupted"] else 0


if __name__ == "__main__":
    split_processor()
    leave(main(keep=True))
