"""Row `environment_step`: a step of the environments and its way into the buffer."""

from collections.abc import Iterator
from dataclasses import replace

from experiments.bench.speed.options import Bench
from experiments.bench.speed.update import make_setup_of
from experiments.bench.speed.work import Setup, time_epoch, timings
from experiments.bench.timing import measure as measure_times
from experiments.launch.progress import Progress
from experiments.report.table import Table


def prepare(bench: Bench) -> Setup:
    """The environment, with no update; raises ValueError."""
    setup = make_setup_of(bench)
    # Actions are random to the end: learning never starts.
    starts = setup.config.total_timesteps - 1
    return replace(setup, config=replace(setup.config, gradient_steps=0, learning_starts=starts))


def measure(setup: Setup, bench: Bench, progress: Progress) -> Iterator[Table]:
    """Times steps without and with tangents."""
    alternatives = []
    for name, source in (("plain", "off"), ("with tangents", "cached")):
        progress.phase(f"compiling environment steps: {name}")
        config = replace(setup.config, first_order=source)
        alternatives.append(time_epoch(name, replace(setup, config=config)))
    progress.phase("timing environment steps")
    count = setup.config.num_envs
    measured = measure_times(alternatives, bench.repetitions, bench.steps * count)
    title = f"One environment step in {bench.env}, {count} environments side by side"
    yield timings(title, measured, "in plain steps", "steps/s")
