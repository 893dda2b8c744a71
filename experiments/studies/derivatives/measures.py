"""What is measured of derivatives: finiteness, error, spectral norms, growth and price."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.bench.timing import Alternative, measure
from experiments.studies.derivatives.programs import (
    DirectionalDerivatives,
    Programs,
    join,
    length,
    take,
)
from experiments.studies.derivatives.states import Act, Kind, begin_anew

# Central differences in float64 go this far, and twice as far to see how right they are.
STEPS = (1e-6, 2e-6)
# An error is relative to the largest entry of its part, and to no less than this.
_SMALLEST = 1e-2
# Steps of a rollout that turn a random direction towards the fastest growing one.
_TURNING = 5


def derived(
    programs: Programs, method: str, kind: Kind, batch: int
) -> tuple[Any, DirectionalDerivatives]:
    """Gradients at all states of a kind, by the program of that batch."""
    count = length(kind.states)
    ends, gradients = [], []
    for start in range(0, count, batch):
        chosen = np.arange(start, start + batch) % count
        end, gradient = programs.gradients(method, take(kind.states, chosen), kind.actions[chosen])
        few = slice(min(batch, count - start))
        ends.append(take(end, few))
        gradients.append([part[few] for part in gradient.parts()])
    return join(ends), DirectionalDerivatives(
        *(np.concatenate(parts) for parts in zip(*gradients, strict=True))
    )


def soundness(gradients: DirectionalDerivatives, state_size: int, states: Any) -> dict[str, Any]:
    """Shares of states where derivatives are finite, and where they are not zero."""
    count = len(gradients.state)
    result: dict[str, Any] = {"states": count, "nonfinite_states": int(np.sum(~sound(states)))}
    columns = {"state": slice(None, state_size), "action": slice(state_size, None)}
    for name, chosen in columns.items():
        parts = [part[:, :, chosen] for part in gradients.parts()]
        finite = np.all([np.isfinite(part).all((1, 2)) for part in parts], axis=0)
        moves = np.any([(part != 0).any((1, 2)) for part in parts], axis=0)
        idle = ~np.any([(part != 0).any(1) for part in parts], axis=0)
        result[f"{name}_finite"] = float(finite.mean())
        result[f"{name}_nonfinite_count"] = int(np.sum(~finite))
        result[f"{name}_nonzero"] = float((finite & moves).mean())
        # A direction that moves nothing at all, say a motor that acts on nothing.
        result[f"{name}_zero_directions"] = float(idle.mean())
    return result


def sound(states: Any) -> np.ndarray:
    """Where every number of a state is finite, `(batch,)`."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(states.physics)]
    return np.all([np.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in leaves], axis=0)


def errors(computed: DirectionalDerivatives, reference: DirectionalDerivatives) -> np.ndarray:
    """Relative errors, `(batch,)`: the largest entry's, in the worst of the three parts.

    What is not finite is infinitely wrong.
    """
    worst = np.zeros(len(computed.state))
    for found, right in zip(computed.parts(), reference.parts(), strict=True):
        found, right = np.asarray(found, np.float64), np.asarray(right, np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            scale = np.maximum(np.abs(right).max((1, 2)), _SMALLEST)
            error = np.abs(found - right).max((1, 2)) / scale
        worst = np.maximum(worst, np.where(np.isfinite(error), error, np.inf))
    return worst


def references(
    double: Programs, kind: Kind, ends: Any
) -> tuple[DirectionalDerivatives, np.ndarray]:
    """Central differences in float64 at the same states, and by how much they are unsure.

    Args:
        double: Programs in float64.
        kind: States and actions of float32.
        ends: The states that follow.
    """
    found = []
    for index in range(length(kind.states)):
        state, end = double.convert((take(kind.states, index), take(ends, index)))
        found.append(double.differences(state, kind.actions[index].astype(np.float64), end, STEPS))
    nearest, further = (
        DirectionalDerivatives(
            *(np.concatenate(parts) for parts in zip(*(s.parts() for s in each), strict=True))
        )
        for each in zip(*found, strict=True)
    )
    return nearest, errors(further, nearest)


def spread(values: np.ndarray, bound: float | None = None) -> dict[str, Any]:
    """A distribution: percentiles, and shares that are above a bound or not finite."""
    values = np.asarray(values, np.float64)
    result: dict[str, Any] = {"count": len(values)}
    if not len(values):
        return result
    infinite = np.where(np.isfinite(values), values, np.inf)
    for name, rank in (("median", 50), ("p90", 90), ("p99", 99), ("largest", 100)):
        result[name] = float(np.percentile(infinite, rank, method="higher"))
    result["nonfinite"] = int(np.sum(~np.isfinite(values)))
    if bound is not None:
        result["extreme_share"] = float(np.mean(infinite > bound))
    result["values"] = values
    return result


def without_values(found: dict[str, Any]) -> dict[str, Any]:
    """A distribution by `spread`, without the values themselves."""
    return {name: value for name, value in found.items() if name != "values"}


def norms(matrices: np.ndarray) -> np.ndarray:
    """Spectral norms, `(batch,)`; infinite for a matrix that is not finite."""
    matrices = np.asarray(matrices, np.float64)
    finite = np.asarray(np.isfinite(matrices).all(axis=(1, 2)))
    safe = np.where(finite[:, None, None], matrices, 0.0)
    return np.where(finite, np.linalg.norm(safe, 2, axis=(1, 2)), np.inf)


def rollout(
    programs: Programs,
    method: str,
    act: Act,
    batch: int,
    states: int,
    chain: Sequence[int],
    bound: float,
    seed: int,
) -> dict[str, Any]:
    """Rollouts with tangents: what is not finite, and how products of Jacobians grow.

    A chain starts with an episode, or where the last one ended; it ends with the episode. The
    exponent is that of one direction that is pushed along, from its fifth step on.

    Args:
        programs: Of the environment.
        method: Of the derivatives.
        act: What is done.
        batch: Rollouts side by side.
        states: How many states altogether, at least.
        chain: Lengths of chains whose norms are wanted.
        bound: Norms above it count as extreme.
        seed: Where random numbers start.
    """
    size = programs.environment.state_size
    draw = np.random.default_rng(seed)
    current = programs.reset(batch, seed)
    product = np.tile(np.eye(size), (batch, 1, 1))
    direction = _unit(draw.normal(size=(batch, size)))
    age, turned = np.zeros(batch, int), np.zeros(batch, int)
    growth: dict[int, list[np.ndarray]] = {steps: [] for steps in chain}
    rates, single = [[] for _ in range(batch)], []
    bad_states = bad_gradients = ended = count = 0
    for _ in range(-(-states // batch)):
        bad_states += int(np.sum(~sound(current)))
        following, gradients = programs.gradients(method, current, act(current))
        finite = gradients.finite()
        bad_gradients += int(np.sum(~finite))
        count += batch
        jacobian = np.asarray(gradients.state[:, :, :size], np.float64)
        single.append(norms(jacobian))
        with np.errstate(invalid="ignore", over="ignore"):
            product = jacobian @ product
            moved = (jacobian @ direction[:, :, None])[:, :, 0]
        age, turned = age + 1, turned + 1
        for steps in chain:
            if np.any(age == steps):
                growth[steps].append(norms(product[age == steps]))
        long = np.linalg.norm(moved, axis=1)
        for lane in range(batch):
            if turned[lane] > _TURNING and np.isfinite(long[lane]) and long[lane] > 0:
                rates[lane].append(math.log(long[lane]))
        over = (np.asarray(following.discount) == 0) | ~finite | ~sound(following)
        ended += int(np.sum(over))
        current = begin_anew(programs, following, over, int(draw.integers(2**31)))
        again = over | (age >= max(chain))
        product[again], age[again] = np.eye(size), 0
        lost = over | ~(long > 0)
        direction = np.where(lost[:, None], draw.normal(size=moved.shape), moved)
        direction, turned = _unit(direction), np.where(lost, 0, turned)
    pooled = np.array([rate for lane in rates for rate in lane])
    each = [float(np.mean(lane)) for lane in rates if len(lane) >= _TURNING]
    return {
        "states": count,
        "nonfinite_states": bad_states,
        "nonfinite_gradients": bad_gradients,
        "episodes_ended": ended,
        "norm": without_values(spread(np.concatenate(single), bound)),
        "chain": [
            {
                "steps": steps,
                **without_values(spread(np.concatenate(found) if found else np.zeros(0))),
            }
            for steps, found in growth.items()
        ],
        "exponent": {
            "per_step": float(pooled.mean()) if len(pooled) else None,
            "steps": len(pooled),
            "p10": float(np.percentile(each, 10)) if each else None,
            "p90": float(np.percentile(each, 90)) if each else None,
        },
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def price(
    programs: Programs, methods: Sequence[str], kind: Kind, batch: int, repetitions: int
) -> list[dict[str, Any]]:
    """Seconds of a plain step and of each method, per state, interleaved; and of compiling."""
    chosen = np.arange(batch) % length(kind.states)
    arguments = take(kind.states, chosen), programs.convert(kind.actions[chosen])
    alternatives = []
    for name in ("step", *methods):
        function = programs.plain if name == "step" else programs.derive(name)
        compiled = programs.compile(name, function, *arguments, timed=True)
        with programs.precision():
            placed = jax.device_put(arguments)
        seconds = programs.compile_seconds[name]
        label = "plain step" if name == "step" else name
        alternatives.append(
            Alternative(label, lambda run=compiled, placed=placed: run(*placed), seconds)
        )
    return [vars(entry) for entry in measure(alternatives, repetitions, batch)]
