"""Row `window`: an iteration of SHAC by environments and horizon: steps/s, memory, compilation.

A window is collected, the actor's gradient goes back through it, and the critic is fitted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

import envs
from experiments.bench import timing
from experiments.bench.speed.options import Bench, WindowRow
from experiments.launch.progress import Progress
from experiments.report.table import Table
from sobolax import make_training
from sobolax.agents import shac
from sobolax.training.loop import Training

MIB = 2**20


@dataclass(frozen=True)
class Window:
    """A training whose epoch is one iteration.

    Attributes:
        name: For the table.
        config: Its sizes.
        training: The program, not compiled yet.
    """

    name: str
    config: shac.Config
    training: Training


def prepare(bench: Bench) -> list[Window]:
    """The trainings, the reference first; raises ValueError."""
    sizes = bench.window
    environment = envs.make(sizes.env)
    found = []
    for name, changes in alternatives(sizes).items():
        config = shac.Config(
            **{"epochs": 1, "report_states": 0, "hidden_sizes": sizes.hidden_sizes, **changes},
            total_timesteps=changes["num_envs"] * changes["horizon"],
        )
        config.check(environment)
        found.append(Window(name, config, make_training(environment, config)))
    return found


def alternatives(sizes: WindowRow) -> dict[str, Mapping[str, Any]]:
    """What differs, by name: the first number of each flag, then one change at a time."""
    count, horizon = sizes.num_envs[0], sizes.horizons[0]
    pairs = [(count, horizon)]
    pairs += [(other, horizon) for other in sizes.num_envs[1:]]
    pairs += [(count, other) for other in sizes.horizons[1:]]
    found: dict[str, Mapping[str, Any]] = {
        f"{many} environments, {long} steps": {
            "num_envs": many,
            "horizon": long,
            "first_order": "off",
        }
        for many, long in pairs
    }
    first = next(iter(found))
    return found | {f"{first}, gradients": {**found[first], "first_order": "reverse"}}


def measure(windows: list[Window], bench: Bench, progress: Progress) -> Iterator[Table]:
    """Times iterations in turns; memory is what XLA sets aside beside the state."""
    made, memory = [], []
    for window in windows:
        progress.phase(f"compiling {window.name}")
        alternative, scratch = compile_window(window)
        made.append(alternative)
        memory.append(scratch)
    progress.phase("timing windows")
    rows = []
    for window, one, scratch in zip(
        windows, timing.measure(made, bench.repetitions, 1), memory, strict=True
    ):
        steps = window.config.stored_states
        time = one.seconds
        rows.append((window.name, time, steps / time, scratch / MIB, one.compile_seconds))
    title = f"An iteration of SHAC in {bench.window.env}"
    headings = ("", "s", "steps/s", "scratch memory, MiB", "compile s")
    note = f"{windows[0].config.updates_per_iteration} updates of the critic in each iteration."
    yield Table(title, headings, rows, note=note)


def compile_window(window: Window) -> tuple[timing.Alternative, int]:
    """The iteration, on a state that is handed on, and bytes that it needs beside its state."""
    hyper = shac.Hyperparameters()
    held = [jax.jit(window.training.init)(jax.random.key(0), hyper)]
    compiled, seconds = timing.compile_ahead(
        window.training.learn, held[0], hyper, jnp.int32(0), donate=(0,)
    )

    def once() -> Any:
        held[0], metrics = compiled(held[0], hyper, jnp.int32(0))
        return metrics

    program: Any = compiled
    return timing.Alternative(window.name, once, seconds), scratch_bytes(program)


def scratch_bytes(compiled: Any) -> int:
    """Temporary memory of a compiled program, as its backend states it."""
    return int(compiled.memory_analysis().temp_size_in_bytes)
