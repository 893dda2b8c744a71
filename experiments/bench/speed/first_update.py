"""Starts a training up to its first updates; prints the seconds of each phase as JSON.

Run by `experiments.bench.speed.cold_start` in its own process: `... first_update ENVIRONMENT
TIME`, where the time is that of the process's start.
"""

import itertools
import json
import sys
import time
from dataclasses import replace


def main() -> None:
    """Times every phase; the clock starts with the process, before Python's own start."""
    marks = [(float(sys.argv[2]), 0.0)]

    def mark() -> None:
        marks.append((time.time(), time.process_time()))

    import jax
    import jax.numpy as jnp

    import envs
    from experiments.launch.configuration import defaults, variants
    from experiments.launch.program import compiler_options, keys_and_hypers
    from sobolax import make_training

    mark()
    base = defaults(sys.argv[1])
    # Two steps: one of random actions, and the one after which there are updates.
    count = base.config.num_envs
    config = replace(base.config, total_timesteps=2 * count, learning_starts=count, epochs=1)
    training = make_training(envs.make(base.env, **base.env_args), config)
    keys, hypers = keys_and_hypers(variants(base), base.seeds, 0)
    mark()
    index = jnp.int32(0)
    init = jax.jit(jax.vmap(training.init)).lower(keys, hypers)
    learn = jax.jit(jax.vmap(training.learn, in_axes=(0, 0, None)), donate_argnums=0)
    learn = learn.lower(init.out_info, hypers, index)
    mark()
    init, learn = (lowered.compile({**compiler_options()}) for lowered in (init, learn))
    mark()
    jax.block_until_ready(learn(init(keys, hypers), hypers, index))
    mark()
    pairs = itertools.pairwise(marks)
    phases = [[later - now for now, later in zip(*pair, strict=True)] for pair in pairs]
    print(json.dumps(dict(zip(("wall", "processor"), zip(*phases, strict=True), strict=True))))


if __name__ == "__main__":
    main()
