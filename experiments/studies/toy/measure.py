"""Runs the fits: several at a time on a CPU, each compared with Q* over all states and actions."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.launch.program import compile_ahead
from experiments.launch.progress import Progress
from experiments.report.rows import Row, Rows
from experiments.studies.study import Done, Plan
from experiments.studies.toy.critics import CRITICS, MAIN
from experiments.studies.toy.fit import Sizes, make_fit, stack
from experiments.studies.toy.options import Job, Options
from experiments.studies.toy.systems import (
    DISCOUNT,
    MEASURES,
    RESOLUTION,
    Surface,
    grid,
    make_systems,
    optimal,
    transitions,
)
from experiments.studies.toy.variants import PAIR, PLAIN


def measure(plan: Plan[Options, Job], progress: Progress) -> Iterator[Done]:
    """A row for each seed of each variant of a job; surfaces where figures show them."""
    options = plan.options
    progress.phase("Q* and transitions")
    names = {job.system for job in plan.jobs.values()}
    systems = {name: system for name, system in make_systems().items() if name in names}
    network_key, data_key = jax.random.split(jax.random.key(options.seed))
    keys, data_keys = (jax.random.split(key, options.seeds) for key in (network_key, data_key))
    references = {name: optimal(system) for name, system in systems.items()}
    capacity = options.shape.capacity
    data = {name: transitions(system, data_keys, capacity) for name, system in systems.items()}
    programs = _Programs(options.shape)

    def run(job: Job) -> list[Surface]:
        runs = stack(job.variants, job.gradient_targets, keys, data[job.system], job.transitions)
        arguments = runs, jnp.float32(job.learning_rate), jnp.float32(DISCOUNT)
        found = programs.run(job, arguments)
        shape = len(job.variants), options.seeds, -1
        parts = [np.asarray(part, np.float64).reshape(shape) for part in found]
        return [Surface(*each) for each in zip(*parts, strict=True)]

    # On a CPU a program runs on one core, more or less: as many at a time as there are.
    workers = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    pool = ThreadPoolExecutor(workers)
    progress.phase("compiling and fitting")
    try:
        running = {pool.submit(run, job): job for job in plan.jobs.values()}
        for future in as_completed(running):
            job, found = running[future], future.result()
            reference = references[job.system]
            arrays = {}
            if options.study == "main" and _is_shown(job, options.transitions):
                arrays = _arrays(found, reference, data[job.system][0], job.transitions)
            yield Done(job.name, _rows(job, found, reference), arrays)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    progress.note(f"{programs.count} programs, compiled in {programs.compile_seconds:.0f} s")


class _Programs:
    """Compiled programs, each made once, from whatever thread asks first."""

    def __init__(self, sizes: Sizes):
        self._sizes = sizes
        self._lock = threading.Lock()
        self._locks: dict[Any, threading.Lock] = {}
        self._compiled: dict[Any, Any] = {}
        self.compile_seconds = 0.0

    @property
    def count(self) -> int:
        return len(self._compiled)

    def run(self, job: Job, arguments: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """What the runs of a job learnt: values and gradients on the grid."""
        name = job.critic, job.gradient_targets
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._compiled:
                fit = make_fit(CRITICS[job.critic].module, self._sizes, job.gradient_targets)
                self._compiled[name], seconds = compile_ahead(fit, *arguments)
                self.compile_seconds += seconds
        return jax.device_get(self._compiled[name](*arguments))


def _rows(job: Job, found: list[Surface], reference: Surface) -> list[Row]:
    """Squared errors; of a variant that only fills up there is one row per seed all the same."""
    return [
        {
            "system": job.system,
            "critic": job.critic,
            "transitions": job.transitions,
            "variant": variant.name,
            "learning_rate": job.learning_rate,
            "seed": seed,
            **{name: values[seed] for name, values in errors.items()},
        }
        for variant, surface in dict(zip(job.variants, found, strict=True)).items()
        for errors in [surface.errors(reference)]
        for seed in range(len(surface.value))
    ]


def _arrays(
    found: list[Surface], reference: Surface, data: Any, transitions: int
) -> dict[str, np.ndarray]:
    """What figures show of plain and Sobolev learning, axes `(measures, variants or Q*, ...)`.

    All seeds along the state at one action (`cuts`; `cut`: Q*), and everywhere the seed whose
    plain error is the median (`surfaces`, Q* first), with its transitions (`places`).
    """
    here = grid()[1] == grid()[1][RESOLUTION // 2]
    errors = found[0].errors(reference)["value"]
    seed = int(np.argsort(errors)[len(errors) // 2])

    def all_of(part: Any) -> np.ndarray:
        return np.array([[part(getattr(each, name)) for each in found] for name in MEASURES])

    true = np.array([getattr(reference, name) for name in MEASURES])
    places = np.concatenate([data.observation, data.action], axis=-1)[seed, :transitions]
    return {
        "cuts": all_of(lambda values: values[:, here]),
        "cut": true[:, here],
        "surfaces": np.concatenate([true[:, None], all_of(lambda values: values[seed])], axis=1),
        "places": places,
    }


def _is_shown(job: Job, transitions: int) -> bool:
    return (job.critic, job.transitions, job.variants) == (MAIN, transitions, PAIR)


def shown_arrays(rows: Rows, system: str) -> dict[str, np.ndarray]:
    """What `measure` left for the figures of a system; nothing where it was not fitted."""
    chosen = {"critic": MAIN, "transitions": rows.options["transitions"], "system": system}
    for job in rows.where(**chosen, variant=PLAIN.name).distinct("job"):
        return rows.arrays(job)
    return {}
