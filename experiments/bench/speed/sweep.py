"""Row `sweep`: many runs as one program, per run, beside one run alone."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import RenderableType

from experiments.bench.speed.options import Bench
from experiments.bench.speed.tables import heading, timings
from experiments.bench.speed.training_step import Setting
from experiments.bench.speed.work import Tell, make_environment
from experiments.bench.timing import Alternative, Measurement, compile_ahead, measure
from experiments.launch.configuration import Variant, defaults
from experiments.launch.program import keys_and_hypers
from sobolax import make_training


def prepare(bench: Bench) -> Setting:
    """Checks what was asked for; raises ValueError."""
    asked = bench.sweep
    base = defaults(asked.env)
    environment = make_environment(asked.env, base.env_args)
    config = replace(
        base.config,
        total_timesteps=base.config.num_envs * asked.steps,
        epochs=1,
        learning_starts=0,
        report_states=0,
    )
    config.check(environment)
    return Setting(environment, config, base.hyper)


def run(setting: Setting, bench: Bench, tell: Tell) -> dict[str, Any]:
    """Times both; of the sweep, seconds and ratio are those of one of its runs."""
    runs = bench.sweep.runs
    alternatives = []
    for count in (1, runs):
        tell(f"compiling a sweep of {count}")
        alternatives.append(_alternative(setting, count))
    tell("timing sweeps")
    alone, together = measure(alternatives, bench.repetitions, bench.sweep.steps)
    return {
        "sizes": asdict(bench.sweep),
        "measured": [asdict(alone), asdict(_per_run(together, runs))],
    }


def _alternative(setting: Setting, count: int) -> Alternative:
    training = make_training(setting.environment, setting.config)
    keys, hypers = keys_and_hypers([Variant("bench", setting.hyper)], count, 0)
    init, learn = training.init, training.learn
    if count == 1:
        keys, hypers = jax.tree.map(lambda leaf: leaf[0], (keys, hypers))
        name = "one run alone"
    else:
        init, learn = jax.vmap(init), jax.vmap(learn, in_axes=(0, 0, None))
        name = f"one of {count} runs in one program"
    held = [jax.jit(init)(keys, hypers)]
    compiled, seconds = compile_ahead(learn, held[0], hypers, jnp.int32(0), donate=(0,))

    def once():
        held[0], metrics = compiled(held[0], hypers, jnp.int32(0))
        return metrics

    return Alternative(name, once, seconds)


def _per_run(whole: Measurement, runs: int) -> Measurement:
    return replace(
        whole,
        seconds=whole.seconds / runs,
        ratio=whole.ratio / runs,
        smallest_ratio=whole.smallest_ratio / runs,
        largest_ratio=whole.largest_ratio / runs,
    )


def render(found: Mapping[str, Any]) -> list[RenderableType]:
    """One table, and how many times cheaper it is."""
    sizes, measured = found["sizes"], found["measured"]
    title = (
        f"A training step in {sizes['env']} of one run: a sweep is "
        f"{1 / measured[1]['ratio']:.3g} times cheaper"
    )
    return [heading(title), timings("", "ms", "over alone", measured)]
