"""Training on the C engine beside its MJX twin: `python -m experiments.studies.engine.training`."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from experiments import train
from experiments.launch import run_folder
from experiments.launch.configuration import Experiment, defaults, merge
from experiments.launch.exit_status import leave
from experiments.launch.history import RETURN
from experiments.launch.progress import Progress
from experiments.report.figure import band, color, legend_below, panels
from experiments.report.intervals import Estimate, estimate, paired_difference
from experiments.report.rows import Rows
from experiments.report.table import Cell, Table
from experiments.studies import command, study
from experiments.studies.engine.measure import PAIRS
from experiments.studies.study import Done, Plan, TrainingProgress, check_names

ENGINE, TWIN = "mujoco_fd", "mjx"
_NAMES = {ENGINE: "C engine, differences", TWIN: "MJX, exact"}
_STYLES: dict[str, Literal["-", "--"]] = {ENGINE: "-", TWIN: "--"}
_LABELS = {"plain": "plain", "sobolev": "with gradients"}


@dataclass(frozen=True)
class Options:
    """Trains on a task of Gymnasium's, with gradients by differences, and on our MJX twin of it.

    The same agent, configuration and seeds; each with and without gradients. Each is also a run of
    `experiments.train`, in a folder within.

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


def prepare(options: Options) -> Plan[Options, Experiment]:
    """Checks the options.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    check_names("task", (options.task,), tuple(PAIRS))
    jobs = experiments(options)
    for experiment in jobs.values():
        train.prepare(experiment)
    return Plan(options, jobs, options.task)


def experiments(options: Options) -> dict[str, Experiment]:
    """What is trained on either engine, the same but for the environment."""
    pair, base = PAIRS[options.task], defaults(options.task)
    config = {
        "total_timesteps": options.steps,
        "epochs": options.epochs,
        "evaluation_episodes": options.evaluation_episodes,
        "replay_capacity": options.steps,
        "report_states": 0,
    }
    base = dataclasses.replace(
        base,
        seeds=options.seeds,
        seed=options.seed,
        config=merge(base.config, config | _given(options, "num_envs", "gradient_steps")),
        hyper=merge(base.hyper, _given(options, "state_weight", "action_weight")),
    )
    theirs = {
        "env": f"gymnasium:{pair.theirs}",
        "env_args": {"integrator": "euler", **pair.parameters},
    }
    return {ENGINE: dataclasses.replace(base, **theirs), TWIN: base}


def _given(options: Options, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def measure(plan: Plan[Options, Experiment], progress: Progress) -> Iterator[Done]:
    """A row for each epoch of each seed, as in the run's `metrics.jsonl`."""
    for side, experiment in plan.jobs.items():
        folder = plan.folder / side
        begun = (folder / run_folder.CONFIGURATION).exists()
        experiment = dataclasses.replace(experiment, output=folder)
        shown = TrainingProgress(progress, experiment.env)
        if train.run(experiment, shown, resume=begun)["interrupted"]:
            raise KeyboardInterrupt
        found = run_folder.read_lines(folder / run_folder.METRICS)
        yield Done(side, [{"side": side, **row} for row in found])


def tables(rows: Rows) -> list[Table]:
    """Returns, what gradients gain on either, and how fast it went."""
    lines: list[Sequence[Cell]] = []
    for (side, variant), own in rows.groups("side", "variant"):
        cells: list[Cell] = [estimate(_returns(own, last)) for last in (True, False)]
        plain = rows.where(side=side, variant="plain")
        for last in (True, False):
            gain = paired_difference(_returns(own, last), _returns(plain, last)) if plain else None
            cells.append(None if variant == "plain" else gain)
        dropped = own.column("gradients_dropped")[own.column("frozen") == 0]
        cells += [float(dropped.mean()) if dropped.size else None, _speed(rows.where(side=side))]
        lines.append((_NAMES[side], _LABELS.get(variant, variant), *cells))
    signed = ("gain, at the end", "gain, all epochs")
    headings = ("gradients from", "agent", "return, at the end", "return, all epochs", *signed)
    headings += ("gradients, dropped", "steps/s, all runs")
    note = "*Gain*: over the plain agent on the same engine, paired by seed. [95 % interval]"
    return [Table(rows.options["task"], headings, lines, 2, note, signed)]


def figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Returns over environment steps and over time."""
    figure, ((*axes,),) = panels(1, 2, 9.0, 4.0)
    handles: list[Line2D] = []
    labels = {"environment_steps": "environment steps per seed", "seconds": "seconds"}
    for panel, (across, label) in zip(axes, labels.items(), strict=True):
        panel.set(xlabel=label, ylabel="undiscounted return per episode")
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        for (side, variant), own in rows.groups("side", "variant"):
            places, found = [], list[Estimate]()
            for _, some in own.groups("epoch"):
                places.append(float(np.mean(some.column(across))))
                found.append(estimate(some.sound(RETURN)))
            band(panel, places, found, color(variant), linestyle=_STYLES[side])
            if panel is axes[0]:
                panel.lines[-1].set_label(f"{_LABELS.get(variant, variant)} · {_NAMES[side]}")
                handles.append(panel.lines[-1])
    legend_below(figure, handles, 2)
    figure.suptitle(f"{rows.options['task']}: mean and 95 % interval over seeds")
    yield "curves", figure


def _returns(rows: Rows, last: bool) -> np.ndarray:
    """Of each seed: at the last epoch, or the mean of all."""
    found = [some.sound(RETURN) for _, some in rows.groups("seed")]
    return np.array([values[-1] if last else values.mean() for values in found])


def _speed(rows: Rows) -> float | None:
    """Environment steps of all runs per second, without the first epoch."""
    epochs = [some for _, some in rows.groups("epoch")]
    first, last = epochs[0], epochs[-1]
    passed = last.column("seconds")[0] - first.column("seconds")[0]
    steps = last.column("environment_steps").sum() - first.column("environment_steps").sum()
    return float(steps / passed) if passed > 0 else None


STUDY = study.Study("engine.training", Options, prepare, measure, tables, figures)

main = functools.partial(command.main, STUDY)


if __name__ == "__main__":
    leave(main())
