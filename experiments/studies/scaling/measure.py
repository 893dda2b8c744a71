"""Trains all variants of a size and times what a step and an update cost."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import timing
from experiments.launch import run_folder
from experiments.launch.configuration import Variant
from experiments.launch.program import call, compile_program, keys_and_hypers
from experiments.launch.progress import Progress
from experiments.report.rows import Row
from experiments.studies.scaling.families import PLAIN
from experiments.studies.scaling.options import Options
from experiments.studies.scaling.references import References, measure_references
from experiments.studies.scaling.variants import Job, make_config, make_groups, make_hyper
from experiments.studies.selection import make_training
from experiments.studies.study import Done, Plan
from sobolax.environment import Environment

REPETITIONS = 3


def measure(plan: Plan[Options, Job], progress: Progress) -> Iterator[Done]:
    """A row for each seed of each variant; curves go to `curves/` epoch by epoch."""
    options = plan.options
    curves = plan.folder / "curves"
    run_folder.create(curves)
    for n in dict.fromkeys(job.n for job in plan.jobs.values()):
        jobs = {name: job for name, job in plan.jobs.items() if job.n == n}
        environment = next(iter(jobs.values())).environment
        progress.phase(f"n = {n}: references")
        epochs = max(group.config.epochs for group in make_groups(options, n))
        episodes = options.evaluation_episodes
        references = measure_references(options.env, environment, epochs, episodes)
        progress.phase(f"n = {n}: timing")
        costs = measure_costs(options, environment)
        shared = {
            "n": n,
            "nothing": float(references.nothing.mean()),
            "reference": float(references.controller.mean()),
        }
        for name, job in jobs.items():
            path = curves / f"{n:02d}-{job.group.name}.jsonl"
            found = _train(options, name, job, references, path, progress)
            yield Done(
                name,
                [
                    {**shared, **row, **costs["plain" if row["family"] in PLAIN else "gradients"]}
                    for row in found
                ],
            )


def _train(
    options: Options, name: str, job: Job, references: References, path: Any, progress: Progress
) -> list[Row]:
    """Trains the variants of a group, all of their seeds at once."""
    group, seeds = job.group, options.seeds
    training = make_training(
        job.environment, group.config, group.gradient_targets, group.weightings
    )
    keys, hypers = keys_and_hypers(group.variants, seeds, options.seed)
    progress.phase(f"{name}: compiling {len(group.variants)} variants × {seeds} seeds")
    program = call(compile_program, training, keys, hypers)
    state = call(program.initialise, keys, hypers)
    path.unlink(missing_ok=True)  # of a run that was stopped
    returns: list[np.ndarray] = []
    steps = shares = np.zeros(0)
    start = time.perf_counter()
    for epoch in range(group.config.epochs):
        state, metrics = call(program.epoch, state, hypers, jnp.int32(epoch))
        row = np.asarray(metrics["evaluation_return"], np.float64)
        # A frozen run is evaluated as it was before it broke: its return stays finite.
        row = np.where(np.asarray(metrics["frozen"]) > 0, np.nan, row)
        returns.append(row.reshape(len(group.variants), seeds))
        shares = references.shares(np.stack(returns))
        steps = (1 + np.arange(len(returns))) * options.epoch_steps
        lines = [
            {
                "variant": variant.name,
                "steps": steps[-1],
                "returns": np.round(returns[-1][index], 4),
                "shares": np.round(shares[-1, index], 5),
            }
            for index, variant in enumerate(group.variants)
        ]
        run_folder.append_lines(path, lines)
        most = int(np.any(shares >= options.share, axis=0).sum(axis=-1).max())
        progress.phase(
            f"{name}: step {steps[-1]:,} of {group.config.total_timesteps:,}, {most} of {seeds} "
            f"seeds of the best variant there, {time.perf_counter() - start:.0f} s"
        )
        if group.ends_early and steps[-1] >= options.steps_at(job.n) and most == seeds:
            break
    return [
        row
        for at in range(len(group.variants))
        for row in describe(options, job, at, steps, np.stack(returns)[:, at], shares[:, at])
    ]


def describe(
    options: Options, job: Job, at: int, steps: np.ndarray, returns: np.ndarray, shares: np.ndarray
) -> Iterator[Row]:
    """One variant: when its seeds were there, and where they ended.

    Args:
        options: Of the study.
        job: Its job.
        at: Its place in the job's group.
        steps: Environment steps at each evaluation, `(epochs,)`.
        returns: `(epochs, seeds)`; NaN from where a run is frozen.
        shares: `(epochs, seeds)`.
    """
    group = job.group
    shared = max(0, int(np.searchsorted(steps, options.steps_at(job.n), side="right")) - 1)
    best = np.nanmax(np.where(np.isfinite(shares), shares, -np.inf), axis=0)
    for seed, reached in enumerate(reaching(steps, shares, options.share)):
        yield {
            "family": group.families[at],
            "config": group.configs[at],
            "seed": seed,
            "gradient_steps": group.config.gradient_steps / options.num_envs,
            "budget": int(steps[-1]),
            "steps": reached,
            "share_at_shared_steps": shares[shared, seed],
            "return_at_shared_steps": returns[shared, seed],
            "final_share": shares[-1, seed],
            "final_return": returns[-1, seed],
            "best_share": best[seed],
        }


def reaching(steps: np.ndarray, shares: np.ndarray, share: float) -> list[int | None]:
    """Steps at the first evaluation at or above the share, for each seed; None for never."""
    there = shares >= share  # what is not a number is not there
    return [
        int(steps[np.argmax(column)]) if column.any() else None for column in there.swapaxes(0, 1)
    ]


def measure_costs(options: Options, environment: Environment) -> dict[str, Row]:
    """Seconds per environment step and per update of a run, where all seeds run side by side.

    The first epoch of a program only collects, the second updates too; programs are timed in
    turn, so that what else the machine does hits them alike.
    """
    alternatives, sizes = [], {}
    for name, source, weight in (("plain", "off", 0.0), ("gradients", options.source, 1.0)):
        config = make_config(
            options,
            source,
            2 * options.timing_steps,
            epochs=2,
            learning_starts=options.timing_steps,
            evaluation_episodes=1,
        )
        variant = Variant(name, make_hyper(options, options.learning_rate, weight))
        keys, hypers = keys_and_hypers([variant], options.seeds, options.seed)
        program = call(compile_program, make_training(environment, config), keys, hypers)
        sizes[name] = config.gradient_steps * options.timing_steps // options.num_envs
        for index, part in enumerate(("collect", "learn")):
            run = _repeatable(program, keys, hypers, index)
            alternatives.append(timing.Alternative(f"{name} {part}", run, program.compile_seconds))
    found = {one.name: one.seconds for one in call(timing.measure, alternatives, REPETITIONS, 1)}
    return {
        name: {
            "seconds_per_step": found[f"{name} collect"] / options.timing_steps / options.seeds,
            "seconds_per_update": max(0.0, found[f"{name} learn"] - found[f"{name} collect"])
            / updates
            / options.seeds,
        }
        for name, updates in sizes.items()
    }


def _repeatable(program: Any, keys: jax.Array, hypers: Any, index: int) -> Callable[[], Any]:
    """An epoch after another of the same kind; the state is donated, so it is kept here."""
    kept: list[Any] = []

    def run() -> Any:
        if not kept:
            kept.append(program.initialise(keys, hypers))
            # With something in the buffer, whichever epoch is repeated.
            kept[0] = program.epoch(kept[0], hypers, jnp.int32(0))[0]
        kept[0], metrics = program.epoch(kept[0], hypers, jnp.int32(index))
        return metrics

    return run
