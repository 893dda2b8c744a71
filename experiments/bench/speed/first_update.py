"""Starts a training up to its first updates; prints seconds as JSON.

Run by `experiments.bench.speed.cold_start` in its own process: `... first_update ENVIRONMENT`.
"""

import itertools
import json
import os
import sys
import time
from dataclasses import replace

from sobolax import make_training


def main() -> None:
    """Times every phase; the clock starts with the process, before Python's own start."""
    marks = [("import", time.perf_counter() - _process_age(), 0.0)]

    def mark(name: str) -> None:
        marks.append((name, time.perf_counter(), time.process_time()))

    import jax
    import jax.numpy as jnp

    import envs
    from experiments.launch.configuration import Variant, defaults
    from experiments.launch.program import compiler_options, keys_and_hypers

    mark("build")
    base = defaults(sys.argv[1])
    environment = envs.make(base.env, **base.env_args)
    # Two steps: one of random actions, and the one after which there are updates.
    config = replace(
        base.config,
        total_timesteps=2 * base.config.num_envs,
        learning_starts=base.config.num_envs,
        epochs=1,
    )
    training = make_training(environment, config)
    keys, hypers = keys_and_hypers(
        [Variant("plain", base.hyper), Variant("sobolev", base.hyper)], base.seeds, 0
    )
    mark("lower")
    init = jax.jit(jax.vmap(training.init)).lower(keys, hypers)
    learn = jax.jit(jax.vmap(training.learn, in_axes=(0, 0, None)), donate_argnums=0).lower(
        init.out_info, hypers, jnp.int32(0)
    )
    mark("compile")
    options = {**compiler_options()}
    begin, go_on = init.compile(options), learn.compile(options)
    mark("run")
    jax.block_until_ready(go_on(begin(keys, hypers), hypers, jnp.int32(0)))
    mark("end")
    phases = {
        name: {"seconds": later[0] - now[0], "processor": later[1] - now[1]}
        for (name, *now), (_, *later) in itertools.pairwise(marks)
    }
    print(json.dumps(phases))


def _process_age() -> float:
    """Seconds since the process was started; 0 where nobody knows."""
    try:
        with open("/proc/self/stat") as file:
            started = float(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        with open("/proc/uptime") as file:
            return float(file.read().split()[0]) - started
    except (OSError, ValueError):
        return 0.0


if __name__ == "__main__":
    main()
