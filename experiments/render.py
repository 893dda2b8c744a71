"""Rolls trained policies out and writes the page that replays them, or a video.

`python -m experiments.render RUN` also works on running and killed runs, from a checkpoint.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.text import Text

from experiments.launch import run_folder
from experiments.launch.configuration import environment_title
from experiments.launch.exit_status import bad_input, command, leave
from experiments.launch.flags import read_flags
from experiments.launch.job import Job
from experiments.launch.policy import TrainedRun, load_run
from experiments.launch.program import call, keep_compiled_programs
from experiments.report.viewer import Episode, is_drawn, write_page

#: `(policy, observation) -> action`.
Act = Callable[[Any, jax.Array], jax.Array]


@dataclass(frozen=True)
class Replay:
    """Writes a page that shows trained policies in 3D: of a run complete, still running or killed.

    Attributes:
        run: Folder of the run.
        variant: The variant to show, plain or sobolev; all variants by default.
        seed: The seed to show, from 0.
        output: A new file; by default replay.html in the run's folder, or the next free name there.
        video: A new file, .mp4 or .gif, in the place of the page: an episode of the variant and
            seed, of the run's last variant by default.
        env: The run's environment, needed if it is a class of your own.
    """

    run: tyro.conf.Positional[Path]
    variant: str | None = None
    seed: int = 0
    output: Path | None = None
    video: Path | None = None
    env: str | None = None


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0, or 2 for bad input.
    """
    console = Console()
    try:
        args = read_flags(Replay, argv, "python -m experiments.render")
        path = args.video or args.output or run_folder.free_path(args.run / run_folder.REPLAY)
        found = load_run(args.run, args.env)
        variant = args.variant
        if args.video is not None:
            if args.output is not None:
                raise ValueError("--video and --output are two files: choose one")
            variant = variant or found.job.variants[-1].name
        chosen = found.indices(variant, args.seed)
        check(found, path, args.video is not None)
    except (ValueError, OSError) as error:
        return bad_input(error)
    keep_compiled_programs()
    title = environment_title(found.experiment.env, found.experiment.env_args)
    write = write_clip if args.video else render_runs
    call(write, path, title, found.environment, found.job, found.policies, chosen)
    console.print(
        Text(f"{path} shows what {found.source} learned in {found.epochs} epochs"), soft_wrap=True
    )
    return 0


def check(found: TrainedRun, path: Path, video: bool = False) -> None:
    """Raises ValueError that names the fix if no page, or no video, can be written."""
    if not hasattr(found.environment, "frame"):
        what = "video" if video else "page"
        raise ValueError(f"there is no {what} for {found.experiment.env}: it has no bodies to draw")
    if not is_drawn(found.environment.mujoco_model):
        raise ValueError(
            f"there is nothing to draw of {found.experiment.env}: all geoms of its model are "
            "transparent or in the groups 3 to 5, which are hidden. Put one into group 0 to 2"
        )
    if video:
        from experiments.report.video import check_video

        check_video(path, found.environment.mujoco_model)
    else:
        run_folder.check_new_file(path)


def render_runs(
    path: Path, title: str, environment: Any, job: Job, policies: Any, chosen: Sequence[int]
) -> None:
    """Writes the page of the chosen runs of a job, by index."""
    episodes = run_episodes(environment, job, policies, chosen)
    write_page(path, title, environment.mujoco_model, environment.dt, episodes)


def write_clip(
    path: Path, title: str, environment: Any, job: Job, policies: Any, chosen: Sequence[int]
) -> None:
    """Writes a video of the first of the chosen runs."""
    from experiments.report.video import write_video

    [episode] = run_episodes(environment, job, policies, chosen[:1])
    write_video(path, environment.mujoco_model, environment.dt, episode)


def run_episodes(environment: Any, job: Job, policies: Any, chosen: Sequence[int]) -> list[Episode]:
    """An episode of each of the chosen runs of a job, by index."""
    some = jax.tree.map(lambda leaf: leaf[np.array(chosen)], policies)
    names = [
        f"{job.variants[index // job.seeds].label}, seed {index % job.seeds}" for index in chosen
    ]
    return record(environment, job.training.act, some, names)


def record(environment: Any, act: Act, policies: Any, names: Sequence[str]) -> list[Episode]:
    """One deterministic episode per policy, all from the same start.

    Args:
        environment: A MuJoCo environment: `mujoco_model`, `dt` and `frame`.
        act: `(policy, observation) -> action`.
        policies: The policies, stacked along the leading axis.
        names: One per policy.
    """
    states, rewards, ended = jax.device_get(
        jax.jit(jax.vmap(lambda policy: rollout(environment, act, policy)))(policies)
    )
    positions, rotations = environment.frame(states)
    episodes = []
    for index, name in enumerate(names):
        # `ended` counts from the first step; the frame before it is the reset.
        stops = np.flatnonzero(ended[index])
        frames = int(stops[0]) + 2 if stops.size else positions.shape[1]
        finite = np.isfinite(positions[index]).all(axis=(1, 2)) & np.isfinite(rotations[index]).all(
            axis=(1, 2, 3)
        )
        finite[1:] &= np.isfinite(rewards[index])
        if not finite[:frames].all():
            frames = max(1, int(np.argmin(finite)))
        returns = np.concatenate([[0.0], np.cumsum(rewards[index])])[:frames]
        note = "" if frames == positions.shape[1] else f"ended after {frames - 1} steps"
        episodes.append(
            Episode(name, positions[index, :frames], rotations[index, :frames], returns, note)
        )
    return episodes


def rollout(environment: Any, act: Act, policy: Any) -> tuple[Any, jax.Array, jax.Array]:
    """One deterministic episode.

    Returns:
        States (`episode_length + 1` of them, the reset first), rewards and whether each step
        terminated (`episode_length` each). Entries after a termination are meaningless.
    """
    start = environment.reset(jax.random.key(7))

    def step(state, _):
        next_state = environment.step(state, act(policy, state.observation))
        return next_state, (next_state, next_state.reward, next_state.discount == 0)

    _, (states, rewards, ended) = jax.lax.scan(step, start, length=environment.episode_length)
    states = jax.tree.map(lambda one, many: jnp.concatenate([one[None], many]), start, states)
    return states, rewards, ended


if __name__ == "__main__":
    leave(main())
