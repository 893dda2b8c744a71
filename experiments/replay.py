"""Rolls trained policies out and writes the page that replays them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.viewer import Episode, write_page


def write_replay(
    path: Path, title: str, environment: Any, training: Any, policies: Any, names: Sequence[str]
) -> None:
    """Writes a page with one deterministic episode per policy, all from the same start.

    Args:
        path: A new file.
        title: What stands above.
        environment: A MuJoCo environment: `mujoco_model`, `dt` and `frame`.
        training: Whose `act` the policies belong to.
        policies: Stacked along the leading axis.
        names: One per policy.
    """
    states, rewards, ended = jax.device_get(
        jax.jit(jax.vmap(lambda policy: rollout(environment, training, policy)))(policies)
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
        if not finite[:frames].all():
            frames = max(1, int(np.argmin(finite)))
        returns = np.concatenate([[0.0], np.cumsum(rewards[index])])[:frames]
        note = "" if frames == positions.shape[1] else f"ended after {frames - 1} steps"
        episodes.append(
            Episode(name, positions[index, :frames], rotations[index, :frames], returns, note)
        )
    write_page(path, title, environment.mujoco_model, environment.dt, episodes)


def rollout(environment: Any, training: Any, policy: Any) -> tuple[Any, jax.Array, jax.Array]:
    """One deterministic episode.

    Returns:
        States (`episode_length + 1` of them, the reset first), rewards and whether each step
        terminated (`episode_length` each). What follows a termination means nothing.
    """
    start = environment.reset(jax.random.key(7))

    def step(state, _):
        following = environment.step(state, training.act(policy, state.observation))
        return following, (following, following.reward, following.terminated)

    _, (states, rewards, ended) = jax.lax.scan(step, start, length=environment.episode_length)
    states = jax.tree.map(lambda one, many: jnp.concatenate([one[None], many]), start, states)
    return states, rewards, ended
