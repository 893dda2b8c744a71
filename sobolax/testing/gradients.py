"""Whether an environment's gradients are those of what it does."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sobolax.environment import State
from sobolax.tangents.forward import TransitionMap, basis_directions, forward_tangents
from sobolax.tangents.methods import own_derivatives as own_derivatives_of
from sobolax.testing.harness import LANES, Harness, first_departure, lane_of, leaves_of, on_host
from sobolax.transition import Transition

_PARTS = ("observation", "reward", "next_observation")
# Of the tangents' entries, so many have to be judged.
_ENOUGH = 0.5
# Parts that hardly move at all are measured against this, in their own units.
_SMALLEST_SCALE = 1e-2

Met = list[tuple[int, State, np.ndarray]]


@dataclass(frozen=True)
class Judgement:
    """Tangents beside central differences.

    Attributes:
        error: The largest difference that could be judged, relative to its part's largest entry.
        judged: The share of entries that could be judged.
        fault: What is wrong.
    """

    error: float
    judged: float
    fault: str | None


def judge(harness: Harness, met: Met, count: int) -> Judgement:
    """Holds tangents along all directions to central differences, at some of the states met.

    A difference is taken at two distances. Where the two do not agree to the tolerance, by
    curvature, rounding or a kink between, nothing is judged.
    """
    errors, faults, judged = [0.0], [], []
    tolerance = harness.precision.tolerance
    for step, states, live in _spread(met, count):
        at = lane_of(states, int(np.argmax(live)))
        action = np.repeat(harness.actions()[:1], LANES, axis=0)
        tangent, near, far = _gradients(harness, at, action)
        for part in _PARTS:
            computed, one, other = (getattr(tree, part) for tree in (tangent, near, far))
            scale = max(float(np.max(np.abs(one), initial=0)), _SMALLEST_SCALE)
            error, doubt = np.abs(computed - one) / scale, np.abs(one - other) / scale
            certain = doubt <= tolerance
            judged.append(certain.ravel())
            worst = np.where(certain, error, 0.0)
            errors.append(float(np.max(worst, initial=0)))
            if errors[-1] > tolerance:
                where = np.unravel_index(int(np.argmax(worst)), worst.shape)
                faults.append(_described(harness, part, where, one, computed, step))
    share = float(np.mean(np.concatenate(judged)))
    fault = faults[0] if faults else None
    if fault is None and share < _ENOUGH:
        fault = (
            f"central differences at two distances agree in only {share:.0%} of the entries, so "
            "that nothing can be said of the tangents: the transition is not smooth (numbers that "
            "are rounded, kinks everywhere)" + _in_single(harness)
        )
    return Judgement(max(errors), share, fault)


def _in_single(harness: Harness) -> str:
    if harness.precision.dtype == np.float64:
        return ", or computes in float32 inside: hand over a function that makes the environment"
    return ", or too steep for float32: let the environment compute in jnp.result_type(float)"


def _described(harness: Harness, part: str, where: Any, one: Any, computed: Any, step: int):
    split = harness.environment.state_size
    *entry, direction = (int(index) for index in where)
    along = f"state direction {direction}" if direction < split else (
        f"action[{direction - split}]"
    )  # fmt: skip
    name = part + "".join(f"[{index}]" for index in entry)
    found, said = float(one[where]), float(computed[where])
    fix = (
        "gradients are stopped or rounded away between them"
        if said == 0
        else "a derivative rule, a stop_gradient or a solver that has not converged is in between"
    )
    return (
        f"transition.{name} moves by {found:.6g} per unit of {along}, but its tangent says "
        f"{said:.6g} ({step} steps after a reset): {fix}. If the simulator cannot do better, "
        "take Derivatives(method='differences')"
    )


def _spread(met: Met, count: int) -> Met:
    """The latest states first: they have met most."""
    picks = np.linspace(len(met) - 1, min(1, len(met) - 1), count).round().astype(int)
    return [met[pick] for pick in dict.fromkeys(picks.tolist())]


def _gradients(harness: Harness, states: State, actions: np.ndarray):
    """Tangents along all unit directions, and central differences at two distances of the same."""

    def difference(along: np.ndarray, reach: float) -> Transition:
        ahead, behind = (
            harness.push(states, sign * reach * along, actions, along)[0] for sign in (1.0, -1.0)
        )
        return jax.tree.map(lambda a, b: (a.astype(np.float64) - b) / (2 * reach), ahead, behind)

    h, parts = harness.precision.step, []
    for count, along in harness.unit_directions():
        tangent = harness.push(states, 0 * along, actions, along)[2]
        both = difference(along, h), difference(along, 2 * h)
        parts.append(jax.tree.map(lambda leaf, count=count: leaf[:count], (tangent, *both)))
    return jax.tree.map(lambda *lanes: np.moveaxis(np.concatenate(lanes), 0, -1), *parts)


def at_the_limits(harness: Harness, states: State) -> str | None:
    """Whether gradients at actions of exactly ±1 are those just inside."""
    corner = np.repeat(np.sign(harness.actions()[:1]), LANES, axis=0)
    at, first = lane_of(states, 0), harness.environment.state_size
    for count, along in harness.unit_directions(first):
        here, inside = (
            harness.push(at, 0 * along, scale * corner, along)[2] for scale in (1.0, 1.0 - 1e-3)
        )
        for part in ("next_observation", "reward"):
            limit, within = (
                np.reshape(getattr(tangent, part), (LANES, -1))[:count]
                for tangent in (here, inside)
            )
            lanes = np.flatnonzero(_halved(limit, within, harness.precision.rounding))
            if len(lanes):
                action = int(np.argmax(along[lanes[0]])) - first
                return (
                    f"the tangent of transition.{part} along action[{action}] is halved at "
                    "exactly ±1: step clips this action, and a clip has half a derivative at its "
                    "edge, where a saturated policy sits. Leave the clip out: actions are in "
                    "[-1, 1] already"
                )
    return None


def _halved(limit: np.ndarray, within: np.ndarray, rounding: float) -> np.ndarray:
    """The rows in which every number that counts is half of the one within, `(rows,)` bool."""
    sizes = np.abs(within)
    # Of an action that moves nothing there is rounding only.
    smallest = max(1e-6, rounding * float(np.max(sizes)))
    counts = sizes > 0.1 * np.maximum(np.max(sizes, axis=1, keepdims=True), smallest)
    halved = np.abs(limit - 0.5 * within) < 0.02 * sizes
    return np.any(counts, axis=1) & np.all(halved | ~counts, axis=1)


def reverse(harness: Harness, states: State) -> str | None:
    """Whether reverse mode, where it is said to go through, gives what forward mode gives."""
    environment, dtype = harness.environment, harness.precision.dtype
    state = jax.tree.map(lambda leaf: leaf[0], states)
    action = harness.actions()[0].astype(dtype)
    weights = harness.random.normal(size=(environment.observation_size + 1,)).astype(dtype)

    def total(displacement: jax.Array, action: jax.Array, state: State) -> jax.Array:
        transition, _ = TransitionMap(environment, state)(displacement, action)
        return jnp.dot(weights[1:], transition.next_observation) + weights[0] * transition.reward

    zero = np.zeros(environment.state_size, dtype)
    try:
        found = jax.device_get(jax.jit(jax.grad(total, argnums=(0, 1)))(zero, action, state))
    except Exception as error:
        return (
            f"reverse_mode is True, but reverse mode fails: {' '.join(str(error).split())[:300]}. "
            "Set reverse_mode = False, or take while loops out of step"
        )
    tangent, _, _ = _gradients(harness, lane_of(states, 0), np.repeat(action[None], LANES, axis=0))
    expected = weights[1:] @ tangent.next_observation + weights[0] * tangent.reward
    gap = np.max(np.abs(np.concatenate(found) - expected)) / max(np.max(np.abs(expected)), 1e-2)
    if not gap < harness.precision.tolerance:
        return f"reverse and forward mode differ by {gap:.2g} of the largest gradient"
    return None


def own_derivatives(harness: Harness, states: State) -> Iterator[tuple[str, str | None]]:
    """Whether ways of its own give transition, next state and tangents, or their structure.

    The C engine's are those of another simulator: only their structure is looked at.
    """
    environment, dtype = harness.environment, harness.precision.dtype
    state = jax.tree.map(lambda leaf: leaf[0], states)
    arguments = (
        state,
        harness.actions()[0].astype(dtype),
        basis_directions(environment.state_size, dtype),
        basis_directions(environment.action_size, dtype),
    )

    def forward(*arguments: Any):
        return forward_tangents(environment, *arguments)

    for name, compute in own_derivatives_of(environment).items():
        if isinstance(compute, str):
            continue  # the reason why there is none
        key = jax.random.key(0)
        check = f"own derivatives: {name}"
        expected, found = (
            jax.eval_shape(forward, *arguments),
            jax.eval_shape(compute, key, *arguments),
        )
        fault = _structure_fault(expected, found)
        if fault is None and name != "mujoco_fd":
            expected, found = (
                on_host(jax.jit(forward)(*arguments)),
                on_host(jax.jit(compute)(key, *arguments)),
            )
            fault = _step_fault(harness, expected, found) or _tangent_fault(
                harness, expected[2], found[2]
            )
        yield check, fault


def _step_fault(harness: Harness, expected: Any, found: Any) -> str | None:
    for at, name in enumerate(("transition", "state")):
        if path := first_departure(expected[at], found[at], harness.precision.rounding, name):
            return (
                f"{path} is not that of step: training learns from the transition and goes on from "
                "the state that it returns"
            )
    return None


def _tangent_fault(harness: Harness, expected: Any, found: Any) -> str | None:
    pairs = zip(leaves_of(expected, "tangents"), leaves_of(found, "tangents"), strict=True)
    for (path, leaf), (_, other) in pairs:
        gap = np.max(np.abs(leaf - other), initial=0)
        scale = max(float(np.max(np.abs(leaf), initial=0)), _SMALLEST_SCALE)
        if not gap <= harness.precision.tolerance * scale:
            return f"{path} differs by {gap / scale:.2g} of its largest entry from forward mode"
    return None


def _structure_fault(expected: Any, found: Any) -> str | None:
    if jax.tree.structure(expected) != jax.tree.structure(found):
        return (
            "it must give (transition, next state, tangents) with the structure of "
            f"sobolax.tangents.forward.forward_tangents:\n  "
            f"{jax.tree.structure(expected)}\nbut gives\n  "
            f"{jax.tree.structure(found)}\nwhere None marks parts that cannot move "
            "(tangents_of_block makes them)"
        )
    names = ("transition", "state", "tangents")
    for name, want, have in zip(names, expected, found, strict=True):
        for (path, a), (_, b) in zip(leaves_of(want, name), leaves_of(have, name), strict=True):
            if (a.shape, a.dtype) != (b.shape, b.dtype):
                return (
                    f"{path} has shape {b.shape} and type {b.dtype}, but must have {a.shape} and "
                    f"{a.dtype}: directions are the last axis"
                )
    return None
