"""Row `environment_step`: a step of the environments and its way into the buffer."""

from collections.abc import Iterator
from dataclasses import replace

from experiments.bench.speed import update
from experiments.bench.speed.options import Bench
from experiments.bench.speed.work import Setup, time_sources, timings
from experiments.launch.progress import Progress
from experiments.report.table import Table


def prepare(bench: Bench) -> Setup:
    """The environment, with no update; raises ValueError."""
    setup = update.prepare(bench)
    steps = setup.config.total_timesteps
    # Actions are random: learning starts with a second epoch, which is not run.
    changes = {"epochs": 2, "total_timesteps": 2 * steps, "learning_starts": steps}
    config = replace(setup.config, gradient_steps=0, **changes)
    config.check(setup.environment)
    return replace(setup, config=config)


def measure(setup: Setup, bench: Bench, progress: Progress) -> Iterator[Table]:
    """Times steps without and with tangents."""
    count = setup.config.num_envs
    kinds = {"plain": {"first_order": "off"}, "with tangents": {"first_order": "cached"}}
    measured = time_sources(setup, kinds, bench, bench.steps * count, progress)
    title = f"One environment step in {bench.env}, {count} environments side by side"
    yield timings(title, measured, "in plain steps", "steps/s")
