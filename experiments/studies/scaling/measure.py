"""Trains all variants of a size and times what a step and an update cost."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.timing import Alternative, measure
from experiments.launch import run_folder
from experiments.launch.configuration import Variant
from experiments.launch.program import call, compile_program, keys_and_hypers
from experiments.studies.scaling.options import Prepared, Scaling
from experiments.studies.scaling.references import TASKS, References, measure_references
from experiments.studies.scaling.variants import Group, make_config, make_hyper
from experiments.studies.selection import make_training
from sobolax.environment import Environment

Tell = Callable[[str], None]
REPETITIONS = 3


def measure_size(prepared: Prepared, size: int, folder: Path, tell: Tell) -> dict[str, Any]:
    """Everything about one number of dimensions; curves go to disk epoch by epoch.

    Args:
        prepared: What to measure.
        size: The n.
        folder: Where curves go.
        tell: Is told what is under way.

    Returns:
        What the size's JSON holds.
    """
    start = time.perf_counter()
    scaling, environment = prepared.scaling, prepared.environments[size]
    groups = prepared.groups(size)
    tell(f"n = {size}: references")
    references = measure_references(
        scaling.env,
        environment,
        max(group.config.epochs for group in groups),
        scaling.evaluation_episodes,
    )
    variants: list[dict[str, Any]] = []
    programs: dict[str, Any] = {}
    for group in groups:
        found = train(
            scaling, environment, group, references, folder / f"curves-{size:02d}.jsonl", tell
        )
        variants += found["variants"]
        programs[group.name] = found["program"]
    tell(f"n = {size}: timing")
    return {
        "env": scaling.env,
        "n": size,
        "share": scaling.share,
        "controller": TASKS[scaling.env].controller,
        "nothing": float(references.nothing.mean()),
        "reference": float(references.controller.mean()),
        "learning_starts": scaling.learning_starts,
        "num_envs": scaling.num_envs,
        "shared_steps": scaling.steps_at(size),
        "variants": variants,
        "programs": programs,
        "prices": measure_prices(scaling, environment),
        "seconds": time.perf_counter() - start,
    }


def train(
    scaling: Scaling,
    environment: Environment,
    group: Group,
    references: References,
    curves: Path,
    tell: Tell,
) -> dict[str, Any]:
    """Trains the variants of a group, all of their seeds at once."""
    training = make_training(environment, group.config, group.gradient_targets, group.weightings)
    keys, hypers = keys_and_hypers(group.variants, scaling.seeds, scaling.seed)
    size = environment.action_size
    tell(
        f"n = {size}, {group.name}: compiling {len(group.variants)} variants × "
        f"{scaling.seeds} seeds"
    )
    program = call(compile_program, training, keys, hypers)
    state = call(program.initialise, keys, hypers)
    returns: list[np.ndarray] = []
    steps = shares = np.zeros(0)
    start = time.perf_counter()
    for epoch in range(group.config.epochs):
        state, metrics = call(program.epoch, state, hypers, jnp.int32(epoch))
        row = np.asarray(metrics["evaluation_return"], np.float64)
        returns.append(row.reshape(len(group.variants), scaling.seeds))
        shares = references.shares(np.stack(returns))
        steps = (1 + np.arange(len(returns))) * scaling.epoch_steps
        run_folder.append_lines(
            curves,
            [
                {
                    "variant": variant.name,
                    "steps": steps[-1],
                    "returns": np.round(returns[-1][index], 4),
                    "shares": np.round(shares[-1, index], 5),
                }
                for index, variant in enumerate(group.variants)
            ],
        )
        there = np.any(shares >= scaling.share, axis=0).sum(axis=-1)
        seconds = time.perf_counter() - start
        tell(
            f"n = {size}, {group.name}: step {steps[-1]:,} of {group.config.total_timesteps:,}, "
            f"{there.max()} of {scaling.seeds} seeds of the best variant there, {seconds:.0f} s"
        )
        if (
            group.ends_early
            and steps[-1] >= scaling.steps_at(size)
            and there.max() == scaling.seeds
        ):
            break
    return {
        "variants": [
            describe(
                scaling, size, group, index, steps, np.stack(returns)[:, index], shares[:, index]
            )
            for index in range(len(group.variants))
        ],
        "program": {
            "runs": len(group.variants) * scaling.seeds,
            "compile_seconds": program.compile_seconds,
            "train_seconds": time.perf_counter() - start,
        },
    }


def describe(
    scaling: Scaling,
    size: int,
    group: Group,
    index: int,
    steps: np.ndarray,
    returns: np.ndarray,
    shares: np.ndarray,
) -> dict[str, Any]:
    """One variant: when its seeds were there, and where they ended.

    Args:
        scaling: What was asked for.
        size: The n.
        group: Its group.
        index: Its place in it.
        steps: Environment steps at each evaluation, `(epochs,)`.
        returns: `(epochs, seeds)`.
        shares: `(epochs, seeds)`.
    """
    shared = max(0, int(np.searchsorted(steps, scaling.steps_at(size), side="right")) - 1)
    return {
        "family": group.families[index],
        "setting": group.settings[index],
        "hyper": asdict(group.variants[index].hyper),
        "gradient_steps": group.config.gradient_steps / scaling.num_envs,
        "budget": int(steps[-1]),
        "steps": reaching(steps, shares, scaling.share),
        "shares_at_shared_steps": shares[shared],
        "returns_at_shared_steps": returns[shared],
        "final_shares": shares[-1],
        "final_returns": returns[-1],
        "best_shares": np.nanmax(np.where(np.isfinite(shares), shares, -np.inf), axis=0),
    }


def reaching(steps: np.ndarray, shares: np.ndarray, share: float) -> list[int | None]:
    """Steps at the first evaluation at or above the share, for each seed; None for never."""
    there = shares >= share  # what is not a number is not there
    return [
        int(steps[np.argmax(column)]) if column.any() else None for column in there.swapaxes(0, 1)
    ]


def measure_prices(scaling: Scaling, environment: Environment) -> dict[str, Any]:
    """Seconds per environment step and per update of a run, where all seeds run side by side.

    The first epoch of a program only collects, the second updates too; programs are timed in
    turn, so that what else the machine does hits them alike.
    """
    alternatives, sizes = [], {}
    for name, source, weight in (("plain", "off", 0.0), ("gradients", scaling.source, 1.0)):
        config = make_config(
            scaling,
            source,
            2 * scaling.timing_steps,
            epochs=2,
            learning_starts=scaling.timing_steps,
            evaluation_episodes=1,
        )
        variant = Variant(name, make_hyper(scaling, scaling.learning_rate, weight))
        keys, hypers = keys_and_hypers([variant], scaling.seeds, scaling.seed)
        program = call(compile_program, make_training(environment, config), keys, hypers)
        sizes[name] = config.gradient_steps * scaling.timing_steps // scaling.num_envs
        for index, part in enumerate(("collect", "learn")):
            run = _repeatable(program, keys, hypers, index)
            alternatives.append(Alternative(f"{name} {part}", run, program.compile_seconds))
    found = {one.name: one.seconds for one in call(measure, alternatives, REPETITIONS, 1)}
    return {
        name: {
            "seconds_per_step": found[f"{name} collect"] / scaling.timing_steps / scaling.seeds,
            "seconds_per_update": max(0.0, found[f"{name} learn"] - found[f"{name} collect"])
            / updates
            / scaling.seeds,
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
