"""Training on the C engine beside its MJX twin: `python -m experiments.studies.engine.training`."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from experiments import train
from experiments.launch import run_folder
from experiments.launch.configuration import Experiment, defaults, merge
from experiments.launch.exit_status import INTERRUPTED, bad_input, leave, second_interrupt_quits
from experiments.launch.program import keep_compiled_programs
from experiments.launch.progress import Progress, console_progress
from experiments.report.table import wide_console
from experiments.studies.engine import curves
from experiments.studies.engine.measure import PAIRS

PROGRAM = "python -m experiments.studies.engine.training"


@dataclass(frozen=True)
class EngineTraining:
    """Trains on a task of Gymnasium's, with gradients by differences, and on our MJX twin of it.

    The same agent, settings and seeds; each with and without gradients. Writes to
    runs/...-engine_training-.../: a folder of `experiments.train` for each, and curves of both.

    Attributes:
        task: Which, by our name.
        steps: Environment steps of each seed.
        num_envs: Stepped side by side; None for the task's preset.
        gradient_steps: Updates after every step of all environments; None for the preset.
        epochs: After each of which the policy is evaluated.
        evaluation_episodes: Of an evaluation.
        seeds: Per variant.
        seed: Where the random keys start.
        state_weight: Lambda_s; None for the task's preset.
        action_weight: Lambda_a; None for the task's preset.
        output: Folder, new or empty; None for a new one under runs/.
        resume: Folder of a run that was stopped, to go on with as it was asked for.
    """

    task: str = "reacher"
    steps: int = 12_288
    num_envs: int | None = None
    gradient_steps: int | None = None
    epochs: int = 8
    evaluation_episodes: int = 32
    seeds: int = 5
    seed: int = 0
    state_weight: float | None = None
    action_weight: float | None = None
    output: Path | None = None
    resume: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """What the command runs.

    Returns:
        The exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    asked = tyro.cli(EngineTraining, args=argv, prog=PROGRAM)
    console = Console()
    try:
        asked, folder = prepare(asked)
    except ValueError as error:
        return bad_input(error)
    keep_compiled_programs()
    told = console_progress(console)
    try:
        with second_interrupt_quits():
            done = execute(asked, folder, told)
    except ValueError as error:  # a folder in use, no good checkpoint
        return bad_input(error)
    finally:
        told.close()
    if not done:
        console.print(Text(f"Interrupted. Go on with: {PROGRAM} --resume {folder}"), soft_wrap=True)
        return INTERRUPTED
    table = curves.write(folder, run_folder.read_configuration(folder))
    wide_console(console).print(table.rendered())
    console.print(Text(f"Everything is in {folder}"), soft_wrap=True)
    return 0


def prepare(asked: EngineTraining) -> tuple[EngineTraining, Path]:
    """Checks everything that can be checked; compiles and writes nothing.

    Returns:
        What is asked for, as it was first, and its folder.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    folder = asked.resume
    if folder is not None:
        saved = run_folder.read_configuration(folder)
        if "engine_training" not in saved:
            raise ValueError(f"--resume {folder} was not written by {PROGRAM}")
        asked = EngineTraining(**saved["engine_training"])
    if asked.task not in PAIRS:
        raise ValueError(f"--task {asked.task!r} is unknown: choose from {', '.join(PAIRS)}")
    if folder is None:
        folder = run_folder.choose(asked.output, "engine_training", [asked.task])
    for experiment in experiments(asked, folder).values():
        train.prepare(dataclasses.replace(experiment, output=None))
    return asked, folder


def experiments(asked: EngineTraining, folder: Path) -> dict[str, Experiment]:
    """What is trained on either engine, the same but for the environment."""
    pair, base = PAIRS[asked.task], defaults(asked.task)
    config = {
        "total_timesteps": asked.steps,
        "epochs": asked.epochs,
        "evaluation_episodes": asked.evaluation_episodes,
        "replay_capacity": asked.steps,
        "report_states": 0,
    }
    base = dataclasses.replace(
        base,
        seeds=asked.seeds,
        seed=asked.seed,
        config=merge(base.config, config | _given(asked, "num_envs", "gradient_steps")),
        hyper=merge(base.hyper, _given(asked, "state_weight", "action_weight")),
    )
    theirs = {
        "env": f"gymnasium:{pair.theirs}",
        "env_args": {"integrator": "euler", **pair.parameters},
    }
    return {
        curves.ENGINE: dataclasses.replace(base, **theirs, output=folder / curves.ENGINE),
        curves.TWIN: dataclasses.replace(base, output=folder / curves.TWIN),
    }


def _given(asked: EngineTraining, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(asked, name)) is not None}


def execute(asked: EngineTraining, folder: Path, told: Progress) -> bool:
    """Trains on both, or what is left of that.

    Returns:
        Whether all of it is done.
    """
    run_folder.create(folder)
    if not (folder / run_folder.CONFIGURATION).exists():
        wanted = {
            name: value
            for name, value in dataclasses.asdict(asked).items()
            if name not in ("output", "resume")
        }
        configuration = {"engine_training": wanted, **run_folder.provenance()}
        run_folder.write_json(folder / run_folder.CONFIGURATION, configuration)
    for experiment in experiments(asked, folder).values():
        assert experiment.output is not None
        before: Mapping[str, Any] | None = run_folder.read_results(experiment.output)
        if before is not None and not before["interrupted"]:
            continue
        told.note(f"{experiment.env}:")
        begun = (experiment.output / run_folder.CONFIGURATION).exists()
        if train.run(experiment, told, resume=begun)["interrupted"]:
            return False
    return True


if __name__ == "__main__":
    leave(main())
