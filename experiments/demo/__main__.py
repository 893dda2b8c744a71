"""A trained policy at work, without training: `make demo`.

`experiments/demo/policies` holds policies as `experiments.export --format numpy` writes them, and a
row for each in `policies.csv`: the command that trained it, its return over 100 episodes, and what
it does.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.text import Text

from experiments.export import numpy_policy
from experiments.launch import run_folder
from experiments.launch.configuration import make_environment
from experiments.launch.exit_status import bad_input, command, leave
from experiments.launch.flags import check_evaluation, read_flags
from experiments.launch.memory import check_episodes
from experiments.launch.program import call, keep_compiled_programs
from experiments.render import record
from experiments.report.intervals import estimate
from experiments.report.table import Table, show
from experiments.report.video import check_video, write_video
from experiments.report.viewer import write_page
from sobolax.checks import check_choice
from sobolax.training.evaluation import evaluate

POLICIES = Path(__file__).parent / "policies"
VIDEO = "episode.mp4"

#: `observation -> action`.
Policy = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class Demo:
    """Runs a trained policy that comes with the repository.

    Attributes:
        env: Which: ant, chain, hopper, pusher or reacher.
        episodes: Episodes that its return is measured over.
        seed: Seed of their initial states.
        output: Folder of the page and the video; by default a new one in runs/.
    """

    env: str = "hopper"
    episodes: int = 16
    seed: int = 1
    output: Path | None = None


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0, or 2 for bad input.
    """
    console = Console()
    try:
        args = read_flags(Demo, argv, "python -m experiments.demo")
        about = {row["environment"]: row for row in read_policies()}
        check_choice("--env ", args.env, tuple(about))
        check_evaluation(args.episodes, args.seed)
        environment: Any = make_environment(args.env)
        check_episodes(environment, 1, args.episodes)
        folder = run_folder.choose(args.output, args.env, ["demo"])
        run_folder.create(folder)
    except (ValueError, OSError) as error:
        return bad_input(error)
    keep_compiled_programs()
    policy = numpy_policy.load(POLICIES / f"{args.env}.npz", jnp)
    returns = call(run, environment, policy, args)
    show([table(about[args.env], returns)], console)
    made = call(draw, folder, environment, policy, args.env)
    console.print(Text(f"What it does: {about[args.env]['behavior']}"), soft_wrap=True)
    console.print(Text(f"Trained by: {about[args.env]['command']}"), soft_wrap=True)
    console.print(Text(f"Open {' and '.join(map(str, made))}"), soft_wrap=True)
    return 0


def read_policies() -> list[dict[str, str]]:
    """The rows of `policies.csv`."""
    with (POLICIES / "policies.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(environment: Any, policy: Policy, args: Demo) -> np.ndarray:
    """Returns of episodes, `(episodes,)`."""
    key = jax.random.key(args.seed)
    found = jax.jit(lambda key: evaluate(environment, policy, key, args.episodes).returns)(key)
    return np.asarray(found, np.float64)


def draw(folder: Path, environment: Any, policy: Policy, name: str) -> list[Path]:
    """Writes the page and, where MuJoCo can draw, a video; gives what was written."""
    # One policy, as a stack of one.
    [episode] = record(environment, lambda _, o: policy(o), jnp.zeros(1), [name])
    made = [folder / run_folder.REPLAY]
    write_page(made[0], name, environment.mujoco_model, environment.dt, [episode])
    video = folder / VIDEO
    try:
        check_video(video, environment.mujoco_model)
    except ValueError:
        return made  # the page shows the same
    write_video(video, environment.mujoco_model, environment.dt, episode)
    return [*made, video]


def table(about: Mapping[str, str], returns: np.ndarray) -> Table:
    """The return measured here, beside that of the row."""
    listed = f"{float(about['return']):,.1f} [{float(about['low']):,.1f}, "
    listed += f"{float(about['high']):,.1f}]"
    row = (about["environment"], about["agent"], int(about["environment_steps"]))
    caption = f"{len(returns)} episodes here, 100 when it was trained: mean and 95 % interval"
    headings = ("environment", "agent", "steps of training", "return here", "return then")
    return Table(caption, headings, [(*row, estimate(list(returns)), listed)])


if __name__ == "__main__":
    leave(main())
