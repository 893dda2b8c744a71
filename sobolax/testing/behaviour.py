"""What an environment does, apart from its gradients: purity, first states, rollouts, `perturb`."""

import re
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sobolax.environment import Environment, State
from sobolax.testing.harness import (
    LANES,
    Harness,
    comparable,
    first_departure,
    first_difference,
    first_not_finite,
    is_float,
    on_host,
)
from sobolax.transition import Transition

# So many episodes have to reach the time limit to say what happens there.
ENOUGH_EPISODES = 2


def purity(harness: Harness) -> str | None:
    """Whether `reset`, `step` and `perturb` are the same functions at every call."""
    environment, dtype = harness.environment, harness.precision.dtype
    key = jax.random.key(0)
    state = jax.eval_shape(environment.reset, key)
    action = jax.ShapeDtypeStruct((environment.action_size,), dtype)
    displacement = jax.ShapeDtypeStruct((environment.state_size,), dtype)
    calls: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("reset", (key,)),
        ("step", (state, action)),
        ("perturb", (state, displacement)),
    )
    # What is kept for later (a cached property) is there after the first time.
    first = {name: _traced(environment, name, arguments) for name, arguments in calls}
    before = dict(vars(environment)) if hasattr(environment, "__dict__") else {}
    for name, arguments in calls:
        if _traced(environment, name, arguments) != first[name]:
            return (
                f"{name} is another function at its second call: it reads something that changes, "
                "such as a counter or a random number that is not JAX's. Put it into the state, "
                "and draw from a key"
            )
    changed = [
        name for name, value in vars(environment).items() if before.get(name, before) is not value
    ] if before else []  # fmt: skip
    if changed:
        return (
            f"a call sets the environment's attribute {changed[0]!r}: under jit that happens once, "
            "when it is compiled. Put it into state.physics"
        )
    return None


def _traced(environment: Environment, name: str, arguments: tuple[Any, ...]) -> str:
    # A new function each time, or the tracing itself would be kept.
    closed = jax.make_jaxpr(lambda *inputs: getattr(environment, name)(*inputs))(*arguments)
    constants = [np.asarray(comparable(constant)).tobytes() for constant in closed.consts]
    # Functions are printed with their addresses, which mean nothing.
    return re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr)) + str(constants)


def first_states(harness: Harness) -> str | None:
    """What `reset` gives."""
    states = harness.reset()
    if np.any(states.reward != 0):
        return "reset gives a reward other than 0: state.reward is of the step that led to a state"
    if np.any(states.discount != 1):
        return "reset gives a state whose discount is not 1: draw first states that go on"
    if path := first_not_finite(replace(states, metrics={}), np.ones(LANES, bool)):
        return f"reset gives {path} that is not finite"
    if path := first_difference(states, harness.reset(again=True)):
        return f"reset gives another {path} for the same key"
    return None


def batching(harness: Harness) -> str | None:
    """Whether a step alone is that of a batch."""
    states, actions = harness.reset(), harness.actions()
    _, next_states, _ = harness.step(states, actions)
    alone = jax.jit(harness.environment.step)
    for lane in (0, LANES - 1):
        one = jax.tree.map(lambda leaf, lane=lane: leaf[lane], states)
        end = on_host(alone(one, actions[lane].astype(harness.precision.dtype)))
        batch = jax.tree.map(lambda leaf, lane=lane: leaf[lane], next_states)
        if path := first_departure(end, batch, harness.precision.rounding):
            return (
                f"step gives another {path} under vmap than alone. A callback needs a "
                "vmap_method that fits what it does with leading axes, and a sum over all "
                "axes must not meet the batch"
            )
    return None


@dataclass(frozen=True)
class Rollout:
    """What random actions met.

    Attributes:
        steps: How many.
        terminations: How many episodes ended.
        reached: How many lasted `episode_length` steps.
        states: `(steps since the start, batch of states, lanes that have not terminated (bool))`,
            some of those that were met.
        faults: Of "rollout", "termination", "automatic reset" and "finite tangents".
    """

    steps: int
    terminations: int
    reached: int
    states: list[tuple[int, State, np.ndarray]]
    faults: dict[str, str | None]


def roll(harness: Harness, limit: int) -> Rollout:
    """Random actions, from first states on. Half of the lanes start anew where they terminate.

    The others go on, to where a step might reset by itself; their numbers are not checked.
    """
    restarting = np.arange(LANES) < LANES // 2
    kept = {1, 2, limit // 8, limit // 3, limit - 1}
    states = harness.reset()
    live, ages = np.ones(LANES, bool), np.zeros(LANES, int)
    found, terminations = [], 0
    faults: dict[str, str | None] = {}
    forgets: list[np.ndarray] = []
    length = harness.environment.episode_length
    ended, went_on = 0, 0  # lanes, at the age of `length`
    for step in range(limit):
        if step in kept or step == 0:
            found.append((step, states, live.copy()))
        _, next_states, tangent = harness.step(states, harness.actions())
        ages += 1
        if path := first_not_finite(replace(next_states, metrics={}), live):
            faults.setdefault(
                "rollout",
                f"{path} is not finite after {step + 1} steps of random actions: terminate "
                "before that, or take smaller physics steps",
            )
        if path := first_not_finite(tangent, live, "transition"):
            faults.setdefault(
                "finite tangents",
                f"the tangent of {path} is not finite after {step + 1} steps of random actions: a "
                "norm, a square root or an angle at zero, or the branch of jnp.where that is not "
                "taken? Keep the input away from there, in both branches",
            )
        if np.any(tangent.discount):
            faults.setdefault(
                "termination",
                "state.discount moves with the state or the action: an episode ends or goes on, so "
                "it is 0 or 1; give 1.0 - done.astype(observation.dtype)",
            )
        if (discount := _neither_zero_nor_one(np.asarray(next_states.discount)[live])) is not None:
            faults.setdefault(
                "termination",
                f"state.discount is {discount:.6g} after {step + 1} steps, but it is 0 where an "
                "episode ended for good and 1 elsewhere: the discount factor belongs to the agent",
            )
        forgets.append(_forgotten(tangent) & np.all(np.isfinite(next_states.observation), axis=1))
        over = (np.asarray(next_states.discount) == 0) & live
        ended += int(np.sum(live & over & (ages == length)))
        went_on += int(np.sum(live & ~over & (ages == length)))
        terminations += int(np.sum(over))
        live = live & ~over
        anew = over & restarting
        if np.any(anew):
            next_states = _chosen(anew, harness.reset(), next_states)
            live, ages = live | anew, np.where(anew, 0, ages)
        states = next_states
    if ended + went_on < ENOUGH_EPISODES and limit > length:
        more = _gentle_ends(harness, length)
        ended, went_on = ended + more[0], went_on + more[1]
    faults.setdefault("termination", _time_limit(length, ended, went_on))
    faults["automatic reset"] = _automatic_reset(np.array(forgets))
    kept_states = [entry for entry in found if np.any(entry[2])]
    return Rollout(limit, terminations, ended + went_on, kept_states, faults)


def _chosen(lanes: np.ndarray, new: State, old: State) -> State:
    def select(a: Any, b: Any) -> Any:
        return jnp.where(lanes.reshape((LANES,) + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(select, new, old)


def _forgotten(tangent: Transition) -> np.ndarray:
    """The lanes whose next observation depends neither on the state nor on the action."""
    return np.all(np.asarray(tangent.next_observation) == 0, axis=1)


def _neither_zero_nor_one(discount: np.ndarray) -> float | None:
    # What is not finite is a fault of the rollout.
    others = discount[np.isfinite(discount) & (discount != 0) & (discount != 1)]
    return float(others[0]) if len(others) else None


def _time_limit(length: int, ended: int, went_on: int) -> str | None:
    # A single episode may end there by chance.
    if ended >= ENOUGH_EPISODES and went_on == 0:
        return (
            f"every episode that reaches step {length} terminates there, which is episode_length: "
            "a time limit is no termination, or the value of what comes after would be lost. Leave "
            "it to the caller, which truncates: drop the counter, or set max_steps far beyond"
        )
    return None


def _gentle_ends(harness: Harness, length: int) -> tuple[int, int]:
    """How many episodes of small actions end at `length` steps, and how many go on from there."""
    states, live, over = harness.reset(), np.ones(LANES, bool), np.zeros(LANES, bool)
    sizes = np.linspace(0, 0.5, LANES)[:, None]
    for _ in range(length):
        live = live & ~over
        _, states, _ = harness.step(states, sizes * harness.actions())
        over = (np.asarray(states.discount) == 0) & live
    return int(np.sum(over)), int(np.sum(live & ~over))


def _automatic_reset(forgets: np.ndarray) -> str | None:
    if not forgets.any() or forgets.mean() > 0.5:
        return None  # what never moves is no matter of resets: tangents are judged elsewhere
    step = int(np.argmax(forgets.any(axis=1)))
    return (
        f"at step {step + 1} state.observation depends neither on the state before nor on the "
        "action, though at other steps it does: step starts a new episode by itself, which "
        "overwrites the last observation and its gradients. Take the reset out (Brax, Playground: "
        "no training wrapper; gymnax: step_env); the training loop resets"
    )


def perturbation(harness: Harness, states: State, live: np.ndarray) -> str | None:
    """Whether `perturb` moves the physics state, observes it anew, and moves nothing else.

    Args:
        harness: Of the environment.
        states: A batch.
        live: The lanes that have not terminated (bool); observations of the others do not count.
    """
    size = harness.environment.state_size
    still = harness.perturb(states, np.zeros((LANES, size)))
    if path := first_difference(states, still):
        return (
            f"perturb(state, zeros) changes {path}: it must equal the state to the last bit. "
            "Compute nothing anew that zero does not change: observation = where(all(displacement "
            "== 0), state.observation, new)"
        )
    # Not the same along all directions: an observed difference of two would not move.
    moved = harness.perturb(states, np.tile(1e-2 * np.linspace(1, 2, size), (LANES, 1)))
    for part in ("reward", "discount", "metrics"):
        if path := first_difference(getattr(states, part), getattr(moved, part), f"state.{part}"):
            return f"perturb changes {path}: it belongs to the step that led here; leave it alone"
    finite = live & np.all(np.isfinite(states.observation), axis=1)
    return _observed_anew(harness, states, moved, finite) or _dependence(harness, states)


def _observed_anew(harness: Harness, states: State, moved: State, lanes: np.ndarray) -> str | None:
    """Whether `perturb` observes what it has moved, as `reset` and `step` do."""
    if not lanes.any():
        return None
    seen = states.observation[lanes]
    if np.array_equal(moved.observation[lanes], seen):
        return (
            "perturb moves no number of state.observation: compute the observation from the "
            "moved physics, as reset and step do"
        )
    # Too small to move anything, but not zero, where the stored observation is kept.
    tiny = 1e-15
    displaced = harness.perturb(states, np.full((LANES, harness.environment.state_size), tiny))
    jump = np.max(np.abs(displaced.observation[lanes] - seen))
    if not jump <= 10 * harness.precision.rounding * max(1.0, np.max(np.abs(seen))):
        return (
            f"perturb moves state.observation by {jump:.2g} for a displacement of {tiny:g}: it "
            "observes by another formula than reset and step. Let all three call one function"
        )
    return None


def _dependence(harness: Harness, states: State) -> str | None:
    """Whether `perturb` moves the physics state in as many directions as `state_size` says."""
    size = harness.environment.state_size
    one = jax.tree.map(lambda leaf: leaf[0], states)

    def physics_at(state: State, displacement: jax.Array) -> list[jax.Array]:
        moved = harness.environment.perturb(state, displacement)
        floats = [leaf for leaf in jax.tree.leaves(moved.physics) if is_float(leaf)]
        # Real and imaginary parts are two freedoms.
        return [part for leaf in floats for part in (jnp.real(leaf), jnp.imag(leaf))]

    moves = jax.jit(jax.jacfwd(physics_at, argnums=1))
    columns = jax.device_get(moves(one, np.zeros(size, harness.precision.dtype)))
    if not columns:
        return (
            "state.physics holds no floating-point number that perturb could move: what a step "
            "goes on from belongs there, not into the observation alone"
        )
    matrix = np.concatenate([np.reshape(leaf, (-1, size)) for leaf in columns])
    still_directions = np.flatnonzero(np.all(matrix == 0, axis=0))
    if len(still_directions):
        return (
            f"direction {still_directions[0]} of perturb moves nothing in state.physics: "
            f"state_size={size} is too large, or gradients are stopped inside perturb"
        )
    rank = int(np.linalg.matrix_rank(matrix))
    if rank < size:
        return (
            f"perturb moves state.physics in {rank} independent directions, but state_size is "
            f"{size}: local coordinates count each freedom once (a quaternion has three)"
        )
    return None
