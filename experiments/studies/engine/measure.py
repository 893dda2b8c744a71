"""Jacobians of one task by both engines at the same states, and what either costs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from sobolax.environment import State
from sobolax.mjx.engine import mujoco
from sobolax.tangents.methods import Derivatives, make_tangent_function


@dataclass(frozen=True)
class Pair:
    """A task of Gymnasium's and our twin of it.

    Attributes:
        theirs: Gymnasium's name.
        ours: Ours.
        parameters: Of Gymnasium's, for the same observation and reward.
    """

    theirs: str
    ours: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


_NO_FORCES = {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.0}
PAIRS = {
    pair.ours: pair
    for pair in (
        Pair("Ant-v5", "ant", _NO_FORCES),
        Pair("HalfCheetah-v5", "half_cheetah"),
        Pair("Hopper-v5", "hopper"),
        # Gymnasium reads its tip one physics step late: what is seen of it differs by that.
        Pair("Reacher-v5", "reacher"),
        Pair("Walker2d-v5", "walker2d"),
    )
}
PARTS = ("next_observation", "reward")


def measure(pair: Pair, count: int, steps: int, repetitions: int, seed: int) -> dict[str, Any]:
    """Compares Jacobians in float64, and times both in float32's programs' place: the same run.

    Args:
        pair: The task.
        count: At how many states.
        steps: Random actions before the last of them.
        repetitions: Of each timing; the median counts.
        seed: Of states and actions.

    Returns:
        For JSON: agreement `{part: {touching: {...}, apart: {...}}}` and seconds per transition.
    """
    with jax.enable_x64(True):
        theirs: Any = envs.make(f"gymnasium:{pair.theirs}", integrator="euler", **pair.parameters)
        ours: Any = envs.make(pair.ours)
        state, actions = met(theirs, count, steps, seed)
        touching = np.array(
            [_touches(theirs.mujoco_model, *s) for s in zip(*state[:2], strict=True)]
        )
        numerical, seconds = _numerical(theirs, state, actions, repetitions)
        exact, ours_seconds = _exact(ours, state, actions, repetitions)
    agreement = {
        part: {
            name: compared(numerical[part][chosen], exact[part][chosen])
            for name, chosen in (("touching", touching), ("apart", ~touching))
        }
        for part in PARTS
    }
    return {
        "task": pair.ours,
        "theirs": pair.theirs,
        "states": count,
        "touching": int(touching.sum()),
        "directions": int(ours.state_size + ours.action_size),
        "agreement": agreement,
        "seconds": seconds | ours_seconds,
    }


def met(theirs: Any, count: int, steps: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """States along random actions of Gymnasium's own, and one more action at each.

    Returns:
        The host's arrays, `(count, ...)`, and actions, `(count, action_size)`.
    """
    draw, host = np.random.default_rng(seed), theirs._host
    *state, _ = host.reset(np.arange(count) + seed)
    still = np.zeros((count, theirs.state_size))
    ages = draw.integers(0, steps + 1, count)
    for age in range(steps):
        actions = draw.uniform(-0.9, 0.9, (count, theirs.action_size))
        *following, _, _, _ = host.step(*state, still, actions)
        goes_on = (ages > age)[:, None]
        state = [np.where(goes_on, new, old) for new, old in zip(following, state, strict=True)]
    return state, draw.uniform(-0.9, 0.9, (count, theirs.action_size))


def _touches(model: Any, qpos: np.ndarray, qvel: np.ndarray) -> bool:
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)
    return bool(np.any(data.efc_force != 0))


def _numerical(theirs: Any, state: list[np.ndarray], actions: np.ndarray, repetitions: int):
    host, still = theirs._host, np.zeros((len(actions), theirs.state_size))
    found: np.ndarray = host.step_gradients(*state, still, actions)[0]
    seconds = {
        "engine step": _timed(lambda: host.step(*state, still, actions), repetitions),
        "engine Jacobian": _timed(lambda: host.step_gradients(*state, still, actions), repetitions),
    }
    gradients = {"next_observation": found[:, theirs.state_size : -1], "reward": found[:, -1:]}
    return gradients, {name: value / len(actions) for name, value in seconds.items()}


def _exact(ours: Any, state: list[np.ndarray], actions: np.ndarray, repetitions: int):
    compute = make_tangent_function(ours, Derivatives(method="analytic"))
    sizes = ours.state_size, ours.action_size

    def start(qpos: jax.Array, qvel: jax.Array) -> State:
        physics = ours._physics(qpos, qvel)
        state = ours.reset(jax.random.key(0))
        return State(physics, ours._observe(physics), state.reward, state.discount, state.metrics)

    states = jax.jit(jax.vmap(start))(jnp.asarray(state[0]), jnp.asarray(state[1]))
    bases = [jnp.eye(size) for size in sizes]
    tangents = jax.jit(
        jax.vmap(lambda state, action: compute(jax.random.key(0), state, action, *bases)[2])
    )
    step = jax.jit(jax.vmap(ours.step))
    at = jnp.asarray(actions)
    found = jax.device_get(tangents(states, at))
    jax.block_until_ready(step(states, at))
    gradients = {}
    for part in PARTS:
        columns = [np.asarray(getattr(side, part)) for side in (found.state, found.action)]
        both = np.concatenate(columns, axis=-1)
        gradients[part] = both.reshape(len(both), -1, both.shape[-1])
    seconds = {
        "MJX step": _timed(lambda: jax.block_until_ready(step(states, at)), repetitions),
        "MJX Jacobian": _timed(lambda: jax.block_until_ready(tangents(states, at)), repetitions),
    }
    return gradients, {name: value / len(actions) for name, value in seconds.items()}


def compared(found: np.ndarray, expected: np.ndarray) -> dict[str, float] | None:
    """Cosine and relative error of Jacobians, over states.

    Args:
        found: `(states, rows, columns)`.
        expected: The same.

    Returns:
        Median and worst of either, and the share of states whose cosine is above 0.99; None for no
        states.
    """
    if not len(found):
        return None
    a, b = found.reshape(len(found), -1), expected.reshape(len(expected), -1)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    cosine = np.sum(a * b, axis=1) / np.maximum(lengths[0] * lengths[1], 1e-300)
    error = np.linalg.norm(a - b, axis=1) / np.maximum(lengths[1], 1e-300)
    return {
        "states": len(found),
        "cosine median": float(np.median(cosine)),
        "cosine worst": float(np.min(cosine)),
        "cosine above 0.99": float(np.mean(cosine > 0.99)),
        "error median": float(np.median(error)),
        "error 95 %": float(np.quantile(error, 0.95)),
        "error worst": float(np.max(error)),
    }


def _timed(run: Callable[[], Any], repetitions: int) -> float:
    found = []
    for _ in range(repetitions):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return float(np.median(found))
