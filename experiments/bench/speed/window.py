"""Row `window`: an iteration of SHAC by environments and horizon: steps/s, memory, compilation.

A window is collected, the actor's gradient goes back through it, and the critic is fitted.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.bench import timing
from experiments.bench.speed.options import Bench, WindowRow
from experiments.bench.speed.work import Setup, time_epoch
from experiments.launch.configuration import make_environment
from experiments.launch.progress import Progress
from experiments.report.table import Table
from sobolax.agents import shac

MIB = 2**20


def prepare(bench: Bench) -> dict[str, Setup]:
    """Trainings whose epoch is one iteration, the reference first; raises ValueError."""
    sizes = bench.window
    environment = make_environment(sizes.env)
    found = {}
    for name, changes in alternatives(sizes).items():
        config: Any = shac.Config(
            **{"epochs": 1, "report_states": 0, "hidden_sizes": sizes.hidden_sizes, **changes},
            total_timesteps=changes["num_envs"] * changes["horizon"],
        )
        config.check(environment)
        found[name] = Setup(environment, config, shac.Hyperparameters())
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


def measure(setups: Mapping[str, Setup], bench: Bench, progress: Progress) -> Iterator[Table]:
    """Times iterations in turns; memory is what XLA sets aside beside the state."""
    made = []
    for name, setup in setups.items():
        progress.phase(f"compiling {name}")
        made.append(time_epoch(name, setup, warm_up=0))
    progress.phase("timing windows")
    configs: list[Any] = [setup.config for setup in setups.values()]
    timed = timing.measure(made, bench.repetitions, 1)
    rows = [
        (
            one.name,
            one.seconds,
            config.stored_states / one.seconds,
            alternative.scratch_bytes / MIB,
            one.compile_seconds,
        )
        for config, alternative, one in zip(configs, made, timed, strict=True)
    ]
    title = f"An iteration of SHAC in {bench.window.env}"
    headings = ("", "s", "steps/s", "scratch memory, MiB", "compile s")
    note = f"{configs[0].updates_per_iteration} updates of the critic in each iteration."
    yield Table(title, headings, rows, note=note)
