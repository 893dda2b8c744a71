"""Row `training_step`: a step of all environments and the updates after it, as training does them.

With gradients and without.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from experiments.bench.speed.options import Bench
from experiments.bench.speed.work import FULL_BASIS, Setup, make_setup, time_sources, timings
from experiments.launch.progress import Progress
from experiments.report.table import Table


def prepare(bench: Bench) -> Setup:
    """The training whose epoch is one step; raises ValueError."""
    return make_setup(**asdict(bench.training_step), **FULL_BASIS)


def measure(setup: Setup, bench: Bench, progress: Progress) -> Iterator[Table]:
    """Times both."""
    sizes = bench.training_step
    title = (
        f"A training step in {sizes.env}: {sizes.num_envs} environments, then "
        f"{sizes.gradient_steps} updates of {sizes.batch_size}"
    )
    kinds: dict[str, dict[str, Any]] = {
        "plain": {"first_order": "off"},
        "Sobolev": {"first_order": "cached"},
        "Sobolev, action alone": {"first_order": "cached", "state_directions": 0},
    }
    note = ""
    if sizes.num_envs % 4 == sizes.batch_size % 4 == 0:
        kinds["Sobolev, a quarter"] = {"first_order": "cached", "gradient_fraction": 0.25}
        note = "A quarter of the environments and of every batch with gradients."
    yield timings(title, time_sources(setup, kinds, bench, 1, progress), "over plain", note=note)
