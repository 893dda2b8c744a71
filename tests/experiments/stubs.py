"""What tests of trainings share; one of which nothing is compiled takes a second."""

import json

import jax
import numpy as np

from experiments.launch import run_folder
from experiments.launch.program import Memory, Program
from experiments.launch.progress import Silent

EPOCHS, SEEDS = 3, 2
TINY = [
    *("--env", "point_mass", "--env-args", "dimension=2", "--seeds", str(SEEDS)),
    *("--total-timesteps", "96", "--epochs", str(EPOCHS), "--num-envs", "4"),
    *("--gradient-steps", "1", "--learning-starts", "16", "--batch-size", "16"),
    *("--replay-capacity", "64", "--hidden-sizes", "4", "--evaluation-episodes", "2"),
    *("--report-states", "0", "--checkpoint-seconds", "0"),
]


def small_training(epochs):
    """Flags of one that learns: two variants, two seeds, 64 steps an epoch."""
    return [
        *("--env", "point_mass", "--env-args", "dimension=2", "--seeds", "2"),
        *("--total-timesteps", str(64 * epochs), "--epochs", str(epochs), "--num-envs", "4"),
        *("--gradient-steps", "1", "--learning-starts", "16", "--batch-size", "16"),
        *("--replay-capacity", "128", "--hidden-sizes", "16", "--evaluation-episodes", "4"),
    ]


# Of the program that test_train.py, test_resume.py and test_checkpoints.py share: its state holds
# windows, and tangents in bfloat16.
TRAINED_EPOCHS = 4
WITH_REPORT = ["--report-states", "4", "--report-horizon", "5"]
TRAINED = [
    *small_training(TRAINED_EPOCHS),
    *WITH_REPORT,
    *("--n-step", "2", "--tangent-dtype", "bfloat16"),
]


class Interrupting(Silent):
    """Records messages, and interrupts after some epochs."""

    def __init__(self, after=None):
        self.after, self.notes, self.warnings = after, [], []

    def epoch(self, history, epochs):
        if len(history.epochs) == self.after:
            raise KeyboardInterrupt

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)


def read_lines(path):
    """The rows of a file that `run_folder.append_lines` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def lines(folder):
    """Metrics without their times, which no two runs share."""
    rows = read_lines(folder / run_folder.METRICS)
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def outcome(folder):
    """What a sweep measured, without its times."""
    return json.loads((folder / run_folder.RESULTS).read_text())["variants"], lines(folder)


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
