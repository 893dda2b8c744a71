"""A process to be killed: trains, and says by a file when it is inside a write.

`python killed_training.py MARKER toy FOLDER [EPOCHS]` or `... MARKER train FLAGS`. It sleeps inside
every write, between Orbax's files and the rename that makes a checkpoint of them. `MARKER pair PORT
INDEX FOLDER EPOCHS` is one of two processes of a multi-controller run.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

import sobolax
from experiments import train
from experiments.launch import checkpoint_files
from experiments.launch.configuration import CheckpointRule, Variant
from experiments.launch.job import Job
from experiments.launch.progress import Silent
from experiments.launch.runner import train_runs

EPOCHS = 30


@dataclass(frozen=True)
class Toy:
    """A training that compiles at once, with what is hard to save: keys, bfloat16, a ring."""

    def init(self, key, hyper):
        buffer = jnp.zeros((64, 16), jnp.bfloat16)
        weights = jax.random.normal(jax.random.fold_in(key, 1), (16,)) * hyper.state_weight
        return {"key": key, "weights": weights, "buffer": buffer, "at": jnp.int32(0)}

    def epoch(self, state, hyper, index):
        key, draw = jax.random.split(state["key"])
        noise = jax.random.normal(draw, (16,))
        weights = 0.9 * state["weights"] + jnp.sin(noise) + state["buffer"].mean(0).astype(float)
        buffer = state["buffer"].at[state["at"]].set(weights.astype(jnp.bfloat16))
        state = {"key": key, "weights": weights, "buffer": buffer, "at": (state["at"] + 1) % 64}
        return state, {"evaluation_return": weights.sum(), "total_timesteps": 8 * (index + 1)}

    def policy(self, state):
        return {"weights": state["weights"]}


def toy_job() -> Job:
    hyper = sobolax.agents.sac.Hyperparameters()
    keys = jax.random.split(jax.random.key(3), 2)
    hypers = jax.tree.map(lambda value: jnp.full(2, value, jnp.float32), hyper)
    return Job(Toy(), [Variant("plain", hyper)], 2, keys, hypers, EPOCHS)


class Slow(Silent):
    """Makes an epoch last, and interrupts after some."""

    def __init__(self, stop_after: int):
        self.stop_after = stop_after

    def epoch(self, history, epochs):
        time.sleep(0.02)
        if len(history.epochs) == self.stop_after:
            raise KeyboardInterrupt


def slow_writes(marker: Path, seconds: float) -> None:
    original = checkpoint_files.write_arrays

    def write(path, arrays):
        marker.touch()
        original(path, arrays)
        time.sleep(seconds)
        marker.unlink()

    checkpoint_files.write_arrays = write


def main() -> int:
    marker, what, *rest = sys.argv[1:]
    slow_writes(Path(marker), 0.1)
    if what == "train":
        return train.main(rest)
    if what == "pair":
        port, index, *rest = rest
        jax.distributed.initialize(f"localhost:{port}", 2, int(index))
    folder, stop_after = Path(rest[0]), int(rest[1]) if len(rest) > 1 else EPOCHS + 1
    folder.mkdir(exist_ok=True)
    rule = CheckpointRule(seconds=0)
    outcome = train_runs(toy_job(), folder, Slow(stop_after), rule)
    if outcome.interrupted:
        outcome = train_runs(toy_job(), folder, Silent(), rule)
        print(f"resumed from {outcome.resumed_from}, warnings: {outcome.warnings}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
