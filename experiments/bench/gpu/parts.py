"""The parts of the GPU benchmark, in order of worth: each is a command of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: `(folder of the part, tiny) -> arguments of python`.
Arguments = Callable[[Path, bool], Sequence[str]]


@dataclass(frozen=True)
class Part:
    """One command and its share of the time.

    Attributes:
        about: For people.
        minutes: It is interrupted after these, or when the whole time is over; what it has measured
            until then is on disk.
        least: Minutes that must be left to begin it.
        arguments: Of python.
    """

    about: str
    minutes: float
    least: float
    arguments: Arguments


def _physics(folder: Path, tiny: bool) -> list[str]:
    sizes = ["--envs", "chain", "--batches", "8", "--transitions", "32", "--compared", "4"]
    return ["-m", "experiments.bench.gpu.physics", *(sizes if tiny else []), *_into(folder)]


def _speed(*rows: str, sizes: Sequence[str], tiny: Sequence[str]) -> Arguments:
    return lambda folder, small: [
        "-m",
        "experiments.bench.speed",
        "--rows",
        *rows,
        *(tiny if small else sizes),
        *_into(folder),
    ]


def _weights(env: str, sizes: Sequence[str]) -> Arguments:
    """A sweep over both weights, plain SAC among them: paired seeds, one program."""
    tiny = ["--seeds", "1", "--state-weight", "0", "0.1", "--action-weight", "0.1"]
    tiny += ["--total-timesteps", "64", "--num-envs", "4", "--epochs", "2", "--gradient-steps", "1"]
    tiny += ["--learning-starts", "16", "--batch-size", "8", "--replay-capacity", "64"]
    tiny += ["--hidden-sizes", "8", "--evaluation-episodes", "1", "--report-states", "0"]
    return lambda folder, small: [
        "-m",
        "experiments.sweep",
        "--env",
        "point_mass" if small else env,
        *(tiny if small else sizes),
        *_into(folder),
    ]


def _into(folder: Path) -> list[str]:
    return ["--output", str(folder)]


_GRID = ["--state-weight", "0", "0.1", "1", "--action-weight", "0", "0.1", "1"]
_NETS = ["--hidden-sizes", "256", "256", "--report-states", "0", "--evaluation-episodes", "16"]
_TINY_STEP = [
    *("--training-step.env", "point_mass", "--training-step.num-envs", "4"),
    *("--training-step.gradient-steps", "1", "--training-step.batch-size", "8"),
    *("--training-step.hidden-sizes", "8", "--training-step.replay-capacity", "64"),
    *("--repetitions", "1"),
]

PARTS: dict[str, Part] = {
    "physics": Part(
        "derivatives beside the CPU's, steps and Jacobians per second, non-finite transitions",
        minutes=4.0,
        least=1.5,
        arguments=_physics,
    ),
    "training_step": Part(
        "what gradients add to a training step of Ant",
        minutes=2.0,
        least=1.0,
        arguments=_speed("training_step", sizes=["--repetitions", "5"], tiny=_TINY_STEP),
    ),
    "sweep": Part(
        "128 runs of hopper as one program, beside one alone",
        minutes=2.0,
        least=1.0,
        arguments=_speed(
            "sweep",
            sizes=["--sweep.env", "hopper", "--sweep.runs", "128", "--repetitions", "5"],
            tiny=["--sweep.env", "point_mass", "--sweep.runs", "2", "--repetitions", "1"],
        ),
    ),
    "hopper": Part(
        "SAC on hopper, 20,480 transitions and 4 updates each, both weights from 0 to 1, 12 seeds",
        minutes=5.0,
        least=2.0,
        arguments=_weights(
            "hopper",
            [
                *_GRID,
                *_NETS,
                *("--seeds", "12", "--total-timesteps", "20480", "--num-envs", "64"),
                *("--gradient-steps", "256", "--learning-starts", "1024", "--epochs", "10"),
                *("--batch-size", "128", "--replay-capacity", "20480"),
            ],
        ),
    ),
    "ant": Part(
        "SAC on Ant, 204,800 transitions, gradients along state and action with and without, "
        "10 seeds",
        minutes=9.0,
        least=3.0,
        arguments=_weights(
            "ant",
            [
                *("--state-weight", "0", "1", "--action-weight", "0", "1", "--seeds", "10"),
                *("--gradient-units", "observation_std", "--trust", "soft"),
                *("--total-timesteps", "204800", "--num-envs", "64", "--epochs", "8"),
                *("--gradient-steps", "32", "--learning-starts", "4096", "--batch-size", "256"),
                *("--replay-capacity", "204800", "--tangent-dtype", "bfloat16"),
                *("--hidden-sizes", "128", "128", "--report-states", "0"),
                *("--evaluation-episodes", "8", "--no-check-tangents"),
            ],
        ),
    ),
}
