"""Row `training_step`: a step of all environments and the updates after it, as training does them.

With gradients and without.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace

from experiments.bench.speed.options import Bench
from experiments.bench.speed.work import FULL_BASIS, Setup, make_setup, time_epoch, timings
from experiments.bench.timing import measure as measure_times
from experiments.launch.progress import Progress
from experiments.report.table import Table


def prepare(bench: Bench) -> Setup:
    """The training whose epoch is one step; raises ValueError."""
    return make_setup(**asdict(bench.training_step), **FULL_BASIS)


def measure(setup: Setup, bench: Bench, progress: Progress) -> Iterator[Table]:
    """Times both."""
    sizes, alternatives = bench.training_step, []
    for name, source in (("plain", "off"), ("Sobolev", "cached")):
        progress.phase(f"compiling a training step of {sizes.env}: {name}")
        config = replace(setup.config, first_order=source)
        alternatives.append(time_epoch(name, replace(setup, config=config)))
    progress.phase("timing training steps")
    title = (
        f"A training step in {sizes.env}: {sizes.num_envs} environments, then "
        f"{sizes.gradient_steps} updates of {sizes.batch_size}"
    )
    yield timings(title, measure_times(alternatives, bench.repetitions, 1), "over plain")
