"""Jacobians of one task by both engines at the same states, and what either costs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from experiments.bench import timing
from experiments.launch.program import call
from experiments.launch.progress import Progress
from experiments.report.rows import Row
from experiments.studies.study import Done, Plan
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


def measure(plan: Plan[Any, Pair], progress: Progress) -> Iterator[Done]:
    """A row for each state and part of a task; what a transition costs stands in each."""
    options = plan.options
    for name, pair in plan.jobs.items():
        progress.phase(name)
        yield Done(name, call(compare, pair, options))


def compare(pair: Pair, options: Any) -> list[Row]:
    """Compares Jacobians at the same states in float64, and times both."""
    with jax.enable_x64(True):
        theirs: Any = envs.make(f"gymnasium:{pair.theirs}", integrator="euler", **pair.parameters)
        ours: Any = envs.make(pair.ours)
        state, actions = met(theirs, options.states, options.steps, options.seed)
        touching = [_touches(theirs.mujoco_model, *s) for s in zip(*state[:2], strict=True)]
        numerical, seconds = _numerical(theirs, state, actions, options.repetitions)
        exact, ours_seconds = _exact(ours, state, actions, options.repetitions)
    return [
        {
            "task": pair.theirs,
            "part": part,
            "constraints": "touching" if touching[at] else "apart",
            "state": at,
            "cosine": cosine,
            "error": error,
            "directions": int(ours.state_size + ours.action_size),
            **seconds,
            **ours_seconds,
        }
        for part in PARTS
        for at, (cosine, error) in enumerate(compared(numerical[part], exact[part]))
    ]


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
        *next_state, _, _, _ = host.step(*state, still, actions)
        goes_on = (ages > age)[:, None]
        state = [np.where(goes_on, new, old) for new, old in zip(next_state, state, strict=True)]
    return state, draw.uniform(-0.9, 0.9, (count, theirs.action_size))


def _touches(model: Any, qpos: np.ndarray, qvel: np.ndarray) -> bool:
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)
    return bool(np.any(data.efc_force != 0))


def _numerical(theirs: Any, state: list[np.ndarray], actions: np.ndarray, repetitions: int):
    host, still = theirs._host, np.zeros((len(actions), theirs.state_size))
    found: np.ndarray = host.step_gradients(*state, still, actions)[0]
    functions = {
        "engine step": lambda: host.step(*state, still, actions),
        "engine Jacobian": lambda: host.step_gradients(*state, still, actions),
    }
    gradients = {"next_observation": found[:, theirs.state_size : -1], "reward": found[:, -1:]}
    return gradients, _timed(functions, repetitions, len(actions))


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
    gradients = {}
    for part in PARTS:
        columns = [np.asarray(getattr(side, part)) for side in (found.state, found.action)]
        both = np.concatenate(columns, axis=-1)
        gradients[part] = both.reshape(len(both), -1, both.shape[-1])
    functions = {
        "MJX step": lambda: step(states, at),
        "MJX Jacobian": lambda: tangents(states, at),
    }
    return gradients, _timed(functions, repetitions, len(actions))


def compared(found: np.ndarray, expected: np.ndarray) -> list[tuple[float, float]]:
    """Cosine and relative error of the Jacobian of each state, both `(states, rows, columns)`."""
    a, b = found.reshape(len(found), -1), expected.reshape(len(expected), -1)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    cosines = np.sum(a * b, axis=1) / np.maximum(lengths[0] * lengths[1], 1e-300)
    errors = np.linalg.norm(a - b, axis=1) / np.maximum(lengths[1], 1e-300)
    return list(zip(cosines.tolist(), errors.tolist(), strict=True))


def _timed(
    functions: Mapping[str, Callable[[], Any]], repetitions: int, states: int
) -> dict[str, float]:
    """Seconds of one of the states, by name."""
    alternatives = [timing.Alternative(name, run) for name, run in functions.items()]
    return {one.name: one.seconds for one in timing.measure(alternatives, repetitions, states)}
