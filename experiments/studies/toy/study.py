"""All fits of a study: which there are, and how they are run."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.launch import run_folder
from experiments.launch.program import compiler_options
from experiments.studies.toy.critics import CRITICS, MAIN
from experiments.studies.toy.fit import Sizes, make_fit, stack
from experiments.studies.toy.options import Prepared, Toy
from experiments.studies.toy.systems import (
    DISCOUNT,
    MEASURES,
    RESOLUTION,
    Surface,
    System,
    make_systems,
    optimal,
    transitions,
)
from experiments.studies.toy.variants import ARMS, PAIR, Variant

# (what is done, of how many, what was done last)
Tell = Callable[[int, int, str], None]
# Arms in a call of a program: few, so that calls are short and fit into a processor's cache.
_ARMS_PER_CALL = 2
RATES = (0.003, 0.01, 0.03, 0.1)


@dataclass(frozen=True)
class Job:
    """One call of a program.

    Attributes:
        critic: Name of the critic.
        system: Name of the system.
        count: Transitions.
        variants: As many for all jobs.
        gradient_targets: Of the program.
        learning_rate: Adam's at first.
    """

    critic: str
    system: str
    count: int
    variants: tuple[Variant, ...]
    gradient_targets: tuple[str, ...]
    learning_rate: float


@dataclass(frozen=True)
class Outcome:
    """What a study found.

    Attributes:
        results: What the JSON holds.
        optimal: Q* of every system.
        surfaces: What the main critic learnt, `(seeds, points)`, by system and variant (plain and
            Sobolev), at the main number of transitions.
        places: States and actions of these transitions, `(seeds, transitions, 2)`, by system.
    """

    results: dict[str, Any]
    optimal: dict[str, Surface]
    surfaces: dict[tuple[str, str], Surface]
    places: dict[str, np.ndarray]


def plan(toy: Toy) -> list[Job]:
    """All jobs of a study, none twice."""
    jobs = _tuning(toy) if toy.study == "tuning" else _main(toy)
    return list(dict.fromkeys(jobs))


def _main(toy: Toy) -> Iterator[Job]:
    for system in toy.systems:
        yield from _jobs(MAIN, system, toy.transitions, ARMS)
        for critic in toy.critics:
            yield from _jobs(critic, system, toy.transitions, PAIR)
        for count in toy.sizes:
            yield from _jobs(MAIN, system, count, PAIR)


def _tuning(toy: Toy) -> Iterator[Job]:
    controls = tuple(
        Variant(f"{name} {weight:g}", f"{name}, λ = {weight:g}", weight, weight, name)
        for weight in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
        for name in ("zero", "unit_norm", "shuffled", "random")
    )
    others = (
        *(Variant(f"bellman {w:g}", f"Sobolev, λ = {w:g}", w, w) for w in (0.1, 1.0, 10.0)),
        *(
            Variant(f"decay {w:g}", f"weight decay {w:g}", weight_decay=w)
            for w in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
        ),
        *(Variant(f"noise {w:g}", f"action noise {w:g}", action_noise=w) for w in (0.05, 0.1, 0.2)),
    )
    for system in toy.systems:
        yield from _jobs(MAIN, system, toy.transitions, (*others, *controls))
        for critic in toy.critics:
            for rate in RATES:
                yield from _jobs(critic, system, toy.transitions, PAIR, rate)
        for rate in RATES:
            yield from _jobs(MAIN, system, toy.sizes[-1], PAIR, rate)


def _jobs(
    critic: str, system: str, count: int, variants: Sequence[Variant], rate: float | None = None
) -> Iterator[Job]:
    """Arms by twos, those whose gradients are not Bellman's apart: these cost more to compute."""
    rate = CRITICS[critic].learning_rate if rate is None else rate
    bellman = [variant for variant in variants if variant.gradient_target == "bellman"]
    controls = [variant for variant in variants if variant.gradient_target != "bellman"]
    for group in (bellman, controls):
        names = tuple(sorted({variant.gradient_target for variant in group}))
        for start in range(0, len(group), _ARMS_PER_CALL):
            chosen = group[start : start + _ARMS_PER_CALL]
            # One more of the same where one is missing, so that the program is the same.
            chosen = (chosen * _ARMS_PER_CALL)[:_ARMS_PER_CALL]
            yield Job(critic, system, count, tuple(chosen), names, rate)


class Programs:
    """Compiled programs, each made once, from whatever thread asks first."""

    def __init__(self, sizes: Sizes):
        self._sizes = sizes
        self._lock = threading.Lock()
        self._locks: dict[Any, threading.Lock] = {}
        self._compiled: dict[Any, Any] = {}
        self.compile_seconds = 0.0

    def run(self, job: Job, arguments: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """What the members of a job learnt: values and gradients on the grid."""
        name = job.critic, job.gradient_targets
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._compiled:
                start = time.perf_counter()
                fit = make_fit(CRITICS[job.critic].module, self._sizes, job.gradient_targets)
                lowered = jax.jit(fit).lower(*arguments)
                self._compiled[name] = lowered.compile(compiler_options())
                self.compile_seconds += time.perf_counter() - start
        return jax.device_get(self._compiled[name](*arguments))


def execute(prepared: Prepared, tell: Tell = lambda done, total, text: None) -> Outcome:
    """Runs a study.

    Args:
        prepared: What to do.
        tell: Is told how far it is.

    Returns:
        Everything.
    """
    toy, begin = prepared.toy, time.perf_counter()
    jobs = plan(toy)
    tell(0, len(jobs), "Q* and transitions")
    systems = {name: system for name, system in make_systems().items() if name in toy.systems}
    network_key, data_key = jax.random.split(jax.random.key(toy.seed))
    keys, data_keys = (jax.random.split(key, toy.seeds) for key in (network_key, data_key))
    references = {name: optimal(system) for name, system in systems.items()}
    data = {
        name: transitions(system, data_keys, toy.shape.capacity) for name, system in systems.items()
    }
    programs = Programs(toy.shape)

    def run(job: Job) -> list[Surface]:
        members = stack(job.variants, job.gradient_targets, keys, data[job.system], job.count)
        arguments = members, jnp.float32(job.learning_rate), jnp.float32(DISCOUNT)
        found = programs.run(job, arguments)
        shape = len(job.variants), toy.seeds, -1
        parts = [np.asarray(part, np.float64).reshape(shape) for part in found]
        return [Surface(*each) for each in zip(*parts, strict=True)]

    rows: dict[int, list[dict[str, Any]]] = {}
    surfaces: dict[tuple[str, str], Surface] = {}
    # On a CPU a program runs on one core, more or less: as many at a time as there are.
    workers = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    pool = ThreadPoolExecutor(workers)
    try:
        under_way = {pool.submit(run, job): index for index, job in enumerate(jobs)}
        for done, future in enumerate(as_completed(under_way), start=1):
            index = under_way[future]
            job, found = jobs[index], future.result()
            rows[index] = _rows(job, found, references[job.system])
            if (job.critic, job.count) == (MAIN, toy.transitions) and toy.study == "main":
                surfaces |= {
                    (job.system, variant.name): surface
                    for variant, surface in zip(job.variants, found, strict=True)
                    if variant in PAIR
                }
            label = CRITICS[job.critic].label
            tell(done, len(jobs), f"{label}, {systems[job.system].label}, {job.count} transitions")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    results = {
        "toy": {name: value for name, value in asdict(toy).items() if name != "output"},
        **run_folder.provenance(),
        "programs": asdict(toy.shape) | {"discount": DISCOUNT, "resolution": RESOLUTION},
        "systems": {name: _describe(system, references[name]) for name, system in systems.items()},
        "critics": {
            name: {"label": critic.label, "learning_rate": critic.learning_rate}
            for name, critic in CRITICS.items()
            if name in (MAIN, *toy.critics)
        },
        "variants": {variant.name: asdict(variant) for job in jobs for variant in job.variants},
        "fits": [row for index in sorted(rows) for row in rows[index]],
        "compile_seconds": programs.compile_seconds,
        "seconds": time.perf_counter() - begin,
    }
    places = {
        name: np.concatenate([found.observation, found.action], axis=-1)[:, : toy.transitions]
        for name, (found, _) in data.items()
    }
    return Outcome(results, references, surfaces, places)


def _rows(job: Job, found: Sequence[Surface], reference: Surface) -> list[dict[str, Any]]:
    """One row for each arm of a job; an arm that only fills up is left out."""
    return [
        {
            "critic": job.critic,
            "system": job.system,
            "transitions": job.count,
            "variant": variant.name,
            "learning_rate": job.learning_rate,
            "errors": surface.errors(reference),
        }
        for variant, surface in dict(zip(job.variants, found, strict=True)).items()
    ]


def _describe(system: System, reference: Surface) -> dict[str, Any]:
    """What an error has to be compared with."""
    return {
        "label": system.label,
        "optimal_value_error": system.environment.optimal_value_error,
        "mean_square": {
            name: float(np.mean(np.square(getattr(reference, name)))) for name in MEASURES
        },
        "variance": {name: float(np.var(getattr(reference, name))) for name in MEASURES},
    }


def pick(results: Mapping[str, Any], **chosen: Any) -> list[dict[str, Any]]:
    """The fits with these entries."""
    return [
        fit for fit in results["fits"] if all(fit[name] == value for name, value in chosen.items())
    ]
