"""A trained policy as a file for other programs: `python -m experiments.export RUN`.

The file is checked: what it computes is compared with what the policy itself does.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.text import Text

from envs.history import History
from experiments.export.files import FORMATS
from experiments.export.network import check_agent, read_network
from experiments.launch import run_folder
from experiments.launch.exit_status import FAILED, bad_input, command, leave
from experiments.launch.flags import read_flags
from experiments.launch.policy import TrainedPolicy, TrainedRun, load_run
from experiments.launch.program import call, keep_compiled_programs
from sobolax.checks import check_choice
from sobolax.environment import actor_observations
from sobolax.training import normalization

_STATES = 256  # observations that the file is checked on
# Actions are in -1 to 1; float32 sums in another order differ by some 1e-7 in every layer.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Export:
    """Writes a trained policy, its normalisation of observations included, as one file.

    Attributes:
        run: Folder of the run.
        format: "onnx", or "numpy" for a file that experiments/export/numpy_policy.py runs without
            JAX.
        variant: The variant, plain or sobolev; by default the run's last one.
        seed: The seed, from 0.
        output: A new file; by default policy.onnx or policy.npz in the run's folder.
        env: The run's environment, needed if it is a class of your own.
    """

    run: tyro.conf.Positional[Path]
    format: str = "onnx"
    variant: str | None = None
    seed: int = 0
    output: Path | None = None
    env: str | None = None


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0, 2 for bad input, or 1 if the file does not compute the policy.
    """
    console = Console()
    try:
        args = read_flags(Export, argv, "python -m experiments.export")
        check_format(args.format, args.output)
        found = load_run(args.run, args.env)
        check_agent(found.experiment.agent)
        path = args.output or args.run / f"policy{FORMATS[args.format][1]}"
        run_folder.check_new_file(path)
        name = found.job.variants[-1].name if args.variant is None else args.variant
        [index] = found.indices(name, args.seed)
    except (ValueError, OSError) as error:
        return bad_input(error)
    keep_compiled_programs()
    worst = call(export, found, index, args.format, path)
    text = (
        f"{path} holds {name}, seed {args.seed}, after {found.epochs} epochs; its actions differ "
    )
    text += f"by at most {worst:.1e} from the policy's, on {_STATES} observations"
    if not worst <= _TOLERANCE:
        path.unlink()
        text = text.replace(" holds ", " is removed: as ", 1)
    console.print(Text(text), soft_wrap=True)
    return 0 if worst <= _TOLERANCE else FAILED


def check_format(name: str, output: Path | None = None) -> None:
    """Raises ValueError if the format is unknown or lacks a package, or the file has another's."""
    check_choice("--format ", name, tuple(FORMATS))
    for other, (_, ending) in FORMATS.items():
        if other != name and output is not None and output.suffix.lower() == ending:
            raise ValueError(
                f"--output {output} ends as a file of --format {other} does, and --format {name} "
                f"writes {FORMATS[name][1]}: change one of them"
            )
    missing = [
        package
        for package in ("onnx", "onnxruntime")
        if name == "onnx" and importlib.util.find_spec(package) is None
    ]
    if missing:
        raise ValueError(
            f"--format onnx needs {' and '.join(missing)}: install the extra 'export', or choose "
            "--format numpy"
        )


def export(found: TrainedRun, index: int, name: str, path: Path) -> float:
    """Writes the file and compares what it computes with the policy.

    Args:
        found: The run.
        index: Which of its policies.
        name: Of the format.
        path: Of the file.

    Returns:
        The largest difference of an action.
    """
    environment, training = found.environment, found.job.training
    parameters = jax.tree.map(lambda leaf: leaf[index], found.policies)
    policy = TrainedPolicy(environment, parameters, training.act)
    experiment = found.experiment
    activation = experiment.config.activation
    inputs = actor_observations(environment)
    size = environment.action_size
    network = read_network(parameters, experiment.agent, activation, size, inputs)
    compute = FORMATS[name][0](path, network, describe(found, index))
    # Spread as in training, and beyond.
    mean = np.asarray(parameters.normalizer.mean)
    spread = np.random.default_rng(0).normal(size=(_STATES, len(mean)))
    deviation = np.asarray(normalization.deviation(parameters.normalizer))
    observations = (mean + 2.0 * deviation * spread).astype(mean.dtype)
    expected = np.asarray(jax.jit(jax.vmap(policy))(observations))
    seen = observations if inputs is None else observations[:, inputs]
    difference = np.abs(compute(seen) - expected)
    return float(np.max(np.nan_to_num(difference, nan=np.inf)))


def describe(found: TrainedRun, index: int) -> dict[str, Any]:
    """What a file says about one of a run's policies."""
    environment, experiment = found.environment, found.experiment
    inputs = actor_observations(environment)
    return {
        "environment": experiment.env,
        "agent": experiment.agent,
        "observation_size": environment.observation_size if inputs is None else len(inputs),
        # Which numbers of the environment's observation the policy sees, where not all.
        **({} if inputs is None else {"actor_observations": list(inputs)}),
        # Observations that one input stacks, the oldest first.
        "history": environment.length if isinstance(environment, History) else 1,
        "action_size": environment.action_size,
        "epochs": found.epochs,
        "variant": found.job.variants[index // found.job.seeds].name,
        "seed": index % found.job.seeds,
    }


if __name__ == "__main__":
    leave(main())
