"""Row `sweep`: many runs as one program, per run, beside one run alone."""

from collections.abc import Iterator

from experiments.bench import timing
from experiments.bench.speed.options import Bench
from experiments.bench.speed.work import Setup, make_setup, runs_in_words, time_epoch, timings
from experiments.launch.progress import Progress
from experiments.report.table import Table


def prepare(bench: Bench) -> Setup:
    """The training of each run; raises ValueError."""
    return make_setup(bench.sweep.env, steps=bench.sweep.steps)


def measure(setup: Setup, bench: Bench, progress: Progress) -> Iterator[Table]:
    """Times both; of many runs, seconds and ratio are those of one."""
    alternatives = []
    for count in (1, bench.sweep.runs):
        name = runs_in_words(count)
        progress.phase(f"compiling {name}")
        alternatives.append(time_epoch(name, setup, count))
    progress.phase("timing sweeps")
    measured = timing.measure(alternatives, bench.repetitions, bench.sweep.steps)
    cheaper = 1 / measured[1].ratio
    title = f"A training step in {bench.sweep.env}, per run"
    note = f"A run of the sweep costs {cheaper:.3g} times less than one run alone."
    yield timings(title, measured, "over alone", note=note)
