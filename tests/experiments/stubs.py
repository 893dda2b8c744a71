"""A training of which nothing is compiled: what commands do around it, in a second."""

import jax
import numpy as np

from experiments.launch.program import Memory, Program

EPOCHS, SEEDS = 3, 2
TINY = [
    *("--env", "point_mass", "--env-args", "dimension=2", "--seeds", str(SEEDS)),
    *("--total-timesteps", "96", "--epochs", str(EPOCHS), "--num-envs", "4"),
    *("--gradient-steps", "1", "--learning-starts", "16", "--batch-size", "16"),
    *("--replay-capacity", "64", "--hidden-sizes", "4", "--evaluation-episodes", "2"),
    *("--report-states", "0", "--checkpoint-seconds", "0"),
]


def compile_nothing(training, keys, hypers, devices=1, kept=None, tell=None):
    """A program whose state stays at zero, in place of `compile_program`."""

    def initialise(keys, hypers):
        shapes = jax.eval_shape(jax.vmap(training.init), keys, hypers)
        return jax.tree.map(zeros, shapes)

    def epoch(state, hypers, index, learned=None):
        steps = np.full(len(keys), 8.0 * (int(index) + 1))
        returns = np.arange(len(keys), dtype=float) + int(index)
        return state, {"environment_steps": steps, "evaluation_return": returns}

    return Program(
        initialise, epoch, lambda tree: tree, len(keys), lambda: Memory(1000, 1000, 1000), 0.0
    )


def zeros(shape):
    if jax.dtypes.issubdtype(shape.dtype, jax.dtypes.prng_key):
        data = jax.eval_shape(jax.random.key_data, shape)
        return jax.random.wrap_key_data(np.zeros(data.shape, data.dtype))
    return np.zeros(shape.shape, shape.dtype)
