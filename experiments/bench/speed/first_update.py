"""Starts a training up to its first updates; prints the seconds of each phase as JSON.

Run by `experiments.bench.speed.cold_start` in its own process: `... first_update ENVIRONMENT
TIME`, where the time is that of the process's start.
"""

import itertools
import json
import sys
import time
from dataclasses import replace
from typing import Any


class _WithoutEvaluation:
    """A training whose epochs only learn."""

    def __init__(self, training: Any):
        self.init, self.epoch = training.init, training.learn


def main() -> None:
    """Times every phase; the clock starts with the process, before Python's own start."""
    marks = [(float(sys.argv[2]), 0.0)]

    def mark() -> None:
        marks.append((time.time(), time.process_time()))

    import jax
    import jax.numpy as jnp

    import envs
    from experiments.launch import kept_programs
    from experiments.launch.configuration import defaults, to_json, variants
    from experiments.launch.program import compile_program, keys_and_hypers
    from sobolax import make_training

    mark()
    base = defaults(sys.argv[1])
    # Two steps: one of random actions, and the one after which there are updates.
    count = base.config.num_envs
    config = replace(base.config, total_timesteps=2 * count, learning_starts=count, epochs=1)
    training = make_training(envs.make(base.env, **base.env_args), config)
    keys, hypers = keys_and_hypers(variants(base), base.seeds, 0)
    mark()
    identity = to_json(replace(base, config=config))
    kept = kept_programs.find(base.env, identity, (keys, hypers), 1)
    program = compile_program(_WithoutEvaluation(training), keys, hypers, 1, kept)
    mark()
    state = program.initialise(keys, hypers)
    jax.block_until_ready(program.epoch(state, hypers, jnp.int32(0)))
    mark()
    program.wait_until_kept()
    pairs = itertools.pairwise(marks)
    phases = [[later - now for now, later in zip(*pair, strict=True)] for pair in pairs]
    print(json.dumps(dict(zip(("wall", "processor"), zip(*phases, strict=True), strict=True))))


if __name__ == "__main__":
    main()
