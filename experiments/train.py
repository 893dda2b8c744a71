"""Trains an agent and its Sobolev version side by side: `python -m experiments.train --help`."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.text import Text

import envs
from experiments import command_line, plots, run_folder, table
from experiments.configuration import Arm, Experiment, agent_module, arms, to_json
from experiments.members import Job, train_members
from experiments.policy import save_policies
from experiments.program import call, members
from experiments.progress import Listener, Silent, listener
from experiments.results import Timing, steady_steps_per_second, summarise

INTERRUPTED = 130  # as a shell counts Ctrl-C
BAD_INPUT = 2


@dataclass(frozen=True)
class Prepared:
    """An experiment that is known to be sound; nothing is compiled and nothing written yet."""

    experiment: Experiment
    arms: tuple[Arm, ...]
    environment: Any
    training: Any
    folder: Path


def prepare(experiment: Experiment) -> Prepared:
    """Checks everything that can be checked before anything compiles.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    if experiment.seeds < 1:
        raise ValueError(f"--seeds {experiment.seeds} must be at least 1 (3 for an interval)")
    if not 0 <= experiment.seed < 2**32:
        raise ValueError(f"--seed {experiment.seed} must be from 0 to 2**32 - 1")
    try:
        environment = envs.make(experiment.env, **experiment.env_args)
    except (TypeError, ImportError) as error:
        raise ValueError(str(error)) from error
    training = agent_module(experiment.agent).make_training(environment, experiment.config)
    chosen = arms(experiment)
    folder = run_folder.choose(
        experiment.output, experiment.env, [experiment.agent, *(arm.name for arm in chosen)]
    )
    return Prepared(experiment, chosen, environment, training, folder)


def run(experiment: Experiment, listener: Listener | None = None) -> dict[str, Any]:
    """Runs an experiment and writes its folder.

    Args:
        experiment: What to run.
        listener: Whom to tell; nobody if left out.

    Returns:
        What `results.json` holds.

    Raises:
        ValueError: If the experiment cannot work, before anything compiles.
    """
    return execute(prepare(experiment), listener or Silent())


def execute(prepared: Prepared, listener: Listener) -> dict[str, Any]:
    """Trains, then writes policies, results, plots and the page."""
    start = time.perf_counter()
    folder = prepared.folder
    run_folder.create(folder)
    configuration = {"experiment": to_json(prepared.experiment), **run_folder.provenance()}
    run_folder.write_json(folder / run_folder.CONFIGURATION, configuration)

    keys, hypers = members(prepared.arms, prepared.experiment.seeds, prepared.experiment.seed)
    job = Job(
        prepared.training,
        prepared.arms,
        prepared.experiment.seeds,
        keys,
        hypers,
        prepared.experiment.config.epochs,
        configuration["experiment"],
    )
    outcome = train_members(job, folder, listener)
    history = outcome.history
    title = title_of(prepared)
    try:
        if outcome.policies is not None:
            listener.phase("saving policies")
            save_policies(folder / run_folder.POLICY, outcome.policies)
            listener.phase("drawing")
            plots.save_learning_curves(folder / run_folder.LEARNING_CURVES, history, title)
            plots.save_slope_error(folder / run_folder.SLOPE_ERROR, history, title)
        # An interrupt means to be done soon, and the page needs another compilation.
        if outcome.policies is not None and not outcome.interrupted:
            replay(prepared, outcome.policies, listener)
    except KeyboardInterrupt:
        outcome.interrupted = True
    timing = Timing(
        compile_seconds=outcome.compile_seconds,
        initialise_seconds=outcome.initialise_seconds,
        train_seconds=history.seconds[-1] if history.seconds else 0.0,
        steady_steps_per_second=steady_steps_per_second(history),
        wall_seconds=time.perf_counter() - start,
    )
    results = summarise(history, timing, outcome.interrupted)
    run_folder.write_json(folder / run_folder.RESULTS, results)
    return results


def replay(prepared: Prepared, policies: Any, listener: Listener) -> None:
    """Writes the 3D page: the first seed of every arm, from the same start."""
    if getattr(prepared.environment, "mujoco_model", None) is None:
        return
    # MuJoCo is needed here alone; an analytic environment does without.
    from experiments.replay import write_replay

    listener.phase("rolling policies out for the 3D page")
    firsts = [index * prepared.experiment.seeds for index in range(len(prepared.arms))]
    chosen = jax.tree.map(lambda leaf: leaf[jnp.array(firsts)], policies)
    names = [f"{arm.label}, seed 0" for arm in prepared.arms]
    call(
        write_replay,
        prepared.folder / run_folder.REPLAY,
        environment_title(prepared.experiment),
        prepared.environment,
        prepared.training,
        chosen,
        names,
    )


def environment_title(experiment: Experiment) -> str:
    """The environment and its parameters."""
    parameters = ", ".join(f"{name} = {value}" for name, value in experiment.env_args.items())
    return f"{experiment.env} ({parameters})" if parameters else experiment.env


def title_of(prepared: Prepared) -> str:
    """What stands above table and plots: the environment and the seeds."""
    seeds = prepared.experiment.seeds
    paired = "paired " if len(prepared.arms) > 1 else ""
    over = f"mean and 95 % interval over {seeds} {paired}seeds" if seeds > 1 else "1 seed"
    return f"{environment_title(prepared.experiment)}, {over}"


def main(argv: Sequence[str] | None = None) -> int:
    """What the command runs.

    Returns:
        The exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    console = Console()
    try:
        prepared = prepare(command_line.parse(argv))
    except ValueError as error:
        text = " ".join(str(error).split())
        Console(stderr=True, soft_wrap=True).print(Text(f"error: {text}", style="red"))
        return BAD_INPUT
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(".cache/jax").absolute()))
    told = listener(console)
    with second_interrupt_quits():
        try:
            results = execute(prepared, told)
        finally:
            told.close()
    console.print()
    table.show(results, title_of(prepared), console)
    if getattr(prepared.environment, "mujoco_model", None) is None:
        console.print(f"No {run_folder.REPLAY}: {prepared.experiment.env} has no bodies to draw.")
    console.print(Text(f"Everything is in {prepared.folder}"), soft_wrap=True)
    return INTERRUPTED if results["interrupted"] else 0


@contextmanager
def second_interrupt_quits():
    """Lets the first Ctrl-C raise `KeyboardInterrupt`, and the second end the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals can be handled in the main thread alone
        return

    def second(*_: Any) -> None:
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # the bar hid the cursor
        os._exit(INTERRUPTED)

    def first(*_: Any) -> None:
        signal.signal(signal.SIGINT, second)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    if status == INTERRUPTED:
        # The epoch that was cut off still computes in a thread, for nobody.
        os._exit(status)
    sys.exit(status)
