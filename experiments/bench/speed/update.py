"""Row `update`: an update of the agent by where its gradients come from, and how they are kept."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax

from experiments.bench import timing
from experiments.bench.speed.options import Bench
from experiments.bench.speed.work import (
    FULL_BASIS,
    Setup,
    collect_experience,
    make_setup,
    runs_in_words,
    timings,
    vectorize,
)
from experiments.launch.program import compile_ahead
from experiments.launch.progress import Progress
from experiments.report.table import Table
from sobolax.checks import check_choice
from sobolax.tangents.sources import SOURCES, Experience, make_source
from sobolax.tangents.storage import TANGENT_DTYPES
from sobolax.training import normalization, replay


def prepare(bench: Bench) -> Setup:
    """Checks the flags; compiles nothing.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    for name in bench.sources:
        check_choice("--sources ", name, SOURCES)
    for name in bench.tangent_dtypes:
        check_choice("--tangent-dtypes ", name, TANGENT_DTYPES)
    return make_setup(
        bench.env,
        bench.env_args,
        bench.steps,
        batch_size=bench.batch_size,
        hidden_sizes=bench.hidden_sizes,
        num_envs=bench.num_envs,
        replay_capacity=bench.replay_capacity,
        tangent_dtype="float32",
        **FULL_BASIS,
    )


def alternatives_of(setup: Setup, bench: Bench) -> dict[str, tuple[str, str]]:
    """Their names, "off" first, and of each its source and type of tangents."""
    found = {"off": ("off", "float32")}
    for name in bench.sources:
        if name == "cached":
            several = len(bench.tangent_dtypes) > 1
            for dtype in bench.tangent_dtypes:
                found[f"cached {dtype}" if several else "cached"] = ("cached", dtype)
        elif name != "reverse" or setup.environment.reverse_mode:
            found[name] = (name, "float32")
    return found


def measure(setup: Setup, bench: Bench, progress: Progress) -> Iterator[Table]:
    """Times updates, for every count of runs."""
    environment, config = setup.environment, setup.config
    kinds, experiences = alternatives_of(setup, bench), {}
    for dtype in dict.fromkeys(dtype for _, dtype in kinds.values()):
        progress.phase(f"collecting transitions, {dtype}")
        source = make_source("cached", environment, tangent_dtype=dtype)
        experiences[dtype] = collect_experience(
            environment, source, config.num_envs, bench.steps, bench.replay_capacity
        )
    for count in dict.fromkeys(bench.runs):
        alternatives = []
        for name, (source, dtype) in kinds.items():
            progress.phase(f"compiling updates: {name}, {runs_in_words(count)}")
            run, seconds = _updates(setup, source, experiences[dtype], dtype, bench, count)
            alternatives.append(timing.Alternative(name, run, seconds))
        progress.phase(f"timing updates, {runs_in_words(count)}")
        yield timings(
            f"One update in {bench.env}, {runs_in_words(count)}",
            timing.measure(alternatives, bench.repetitions, bench.updates),
            "over off",
            note=f"Batches of {config.batch_size}, hidden layers {config.hidden_sizes}, "
            f"{environment.state_size} + {environment.action_size} directions, observations of "
            f"{environment.observation_size} numbers.",
        )


def _updates(
    setup: Setup, kind: str, experience: Experience, dtype: str, bench: Bench, runs: int
) -> tuple[Any, float]:
    """Updates of the agent one after the other, each on a batch drawn from the buffer, compiled.

    Args:
        setup: What all alternatives have in common.
        kind: The source of gradients.
        experience: See `collect_experience`; the source takes what it needs.
        dtype: How its tangents are kept.
        bench: How many updates, and from how large a buffer.
        runs: In the program; each has a buffer of its own, as in training.
    """
    environment, config = setup.environment, setup.config
    source = make_source(kind, environment, tangent_dtype=dtype)
    agent = config.make_agent(environment)
    experience = replace(
        experience,
        tangents=experience.tangents if kind == "cached" else None,
        state=experience.state if kind in ("recomputed", "reverse") else None,
    )
    normalizer = normalization.init(environment.observation_size)
    if config.normalize_observations:
        normalizer = normalization.update(normalizer, experience.transition.observation)
    example = jax.tree.map(lambda leaf: leaf[0], experience)
    keys, hypers, over_runs = vectorize(setup, runs)

    def init(key: jax.Array, hyper: Any):
        buffer = replay.add(replay.init(example, bench.replay_capacity), experience)
        return agent.init(key, hyper), buffer

    def updates(state: Any, buffer: Any, key: jax.Array, hyper: Any):
        def one(state: Any, key: jax.Array):
            # Drawn anew each time: of one fixed batch a compiler may compute gradients only once.
            sample_key, update_key = jax.random.split(key)
            batch = replay.sample(buffer, sample_key, config.batch_size)
            return agent.update(state, normalizer, batch, source.tangents, update_key, hyper)

        return jax.lax.scan(one, state, jax.random.split(key, bench.updates))

    state, buffer = jax.jit(over_runs(init))(keys, hypers)
    arguments = state, buffer, keys, hypers
    compiled, seconds = compile_ahead(over_runs(updates), *arguments)
    return lambda: compiled(*arguments), seconds
