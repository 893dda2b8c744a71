"""What is measured of derivatives: finiteness, error, spectral norms, growth and cost."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from experiments.bench.timing import Alternative, measure
from experiments.report.rows import Row
from experiments.studies.derivatives.options import Options
from experiments.studies.derivatives.programs import DirectionalDerivatives, Programs, take
from experiments.studies.derivatives.states import Act, Kind, begin_anew

# Steps of the central differences in float64, the second to see how right the first is.
STEPS = (1e-6, 2e-6)
# An error is relative to the largest entry of its part, and to no less than this.
_SMALLEST = 1e-2
# Steps of a rollout that turn a random direction towards the fastest growing one.
_TURNING = 5


def soundness(
    derivatives: DirectionalDerivatives, state_size: int, states: Any
) -> dict[str, np.ndarray]:
    """For every state, `(batch,)`: what is finite, what is not zero, and the spectral norm."""
    found = {"finite": sound(states), "norm": norms(derivatives.state[:, :, :state_size])}
    columns = {"state": slice(None, state_size), "action": slice(state_size, None)}
    for name, chosen in columns.items():
        parts = DirectionalDerivatives(*(part[:, :, chosen] for part in derivatives))
        moves = np.any([(part != 0).any(1) for part in parts], axis=0)
        found[f"{name}_finite"] = parts.finite()
        found[f"{name}_nonzero"] = parts.finite() & moves.any(1)
        # Directions that move nothing at all, say a motor that acts on nothing.
        found[f"{name}_idle_directions"] = np.mean(~moves, axis=1)
    return found


def sound(states: Any) -> np.ndarray:
    """Where every number of a state is finite, `(batch,)`."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(states.physics)]
    return np.all([np.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in leaves], axis=0)


def errors(computed: DirectionalDerivatives, reference: DirectionalDerivatives) -> np.ndarray:
    """Relative errors, `(batch,)`: the largest entry's, in the worst of the three parts.

    Infinite where a derivative is not finite.
    """
    worst = np.zeros(len(computed.state))
    for found, right in zip(computed, reference, strict=True):
        found, right = np.asarray(found, np.float64), np.asarray(right, np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            scale = np.maximum(np.abs(right).max((1, 2)), _SMALLEST)
            error = np.abs(found - right).max((1, 2)) / scale
        worst = np.maximum(worst, np.where(np.isfinite(error), error, np.inf))
    return worst


def percentile(values: np.ndarray, rank: float) -> float | None:
    """The median at rank 50, one of the values at other ranks; None without values.

    What is not finite counts as the largest.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        return None
    infinite = np.where(np.isfinite(values), values, np.inf)
    if rank == 50:
        return float(np.median(infinite))
    return float(np.percentile(infinite, rank, method="higher"))


def spread(values: np.ndarray) -> dict[str, float | None]:
    """Median, 90th and 99th percentile and the largest of a distribution, for a row."""
    ranks = {"median": 50, "p90": 90, "p99": 99, "largest": 100}
    return {name: percentile(values, rank) for name, rank in ranks.items()}


def norms(matrices: np.ndarray) -> np.ndarray:
    """Spectral norms, `(batch,)`; infinite for a matrix that is not finite."""
    matrices = np.asarray(matrices, np.float64)
    finite = np.asarray(np.isfinite(matrices).all(axis=(1, 2)))
    safe = np.where(finite[:, None, None], matrices, 0.0)
    return np.where(finite, np.linalg.norm(safe, 2, axis=(1, 2)), np.inf)


def rollout(programs: Programs, method: str, act: Act, options: Options) -> Iterator[Row]:
    """Rollouts with tangents: what is not finite, and how products of Jacobians grow.

    A chain starts with an episode, or where the last one ended; it ends with the episode. The
    exponent is that of one direction that is pushed along, from its fifth step on.

    Args:
        programs: Of the environment; a batch of rollouts side by side.
        method: Of the derivatives.
        act: The policy.
        options: How many states, the lengths of chains and the bound of norms.
    """
    batch, size, seed = programs.batch, programs.environment.state_size, options.seed + 1
    draw = np.random.default_rng(seed)
    states = programs.reset(batch, seed)
    product = np.tile(np.eye(size), (batch, 1, 1))
    direction = _unit(draw.normal(size=(batch, size)))
    age, turned = np.zeros(batch, int), np.zeros(batch, int)
    growth: dict[int, list[np.ndarray]] = {steps: [np.zeros(0)] for steps in options.chain}
    rates, single = [], []
    counts = dict.fromkeys(("nonfinite_states", "nonfinite_derivatives", "episodes_ended"), 0)
    for _ in range(-(-options.rollout_states // batch)):
        ends, derivatives = programs.derivatives(method, states, act(states))
        finite = derivatives.finite()
        jacobian = np.asarray(derivatives.state[:, :, :size], np.float64)
        single.append(norms(jacobian))
        with np.errstate(invalid="ignore", over="ignore"):
            product = jacobian @ product
            moved = (jacobian @ direction[:, :, None])[:, :, 0]
        age, turned = age + 1, turned + 1
        for steps, found in growth.items():
            found.append(norms(product[age == steps]))
        stretch = np.linalg.norm(moved, axis=1)
        counted = (turned > _TURNING) & np.isfinite(stretch) & (stretch > 0)
        rates.append(np.log(stretch, out=np.full(batch, np.nan), where=counted))
        over = (np.asarray(ends.discount) == 0) | ~finite | ~sound(ends)
        for name, bad in zip(counts, (~sound(states), ~finite, over), strict=True):
            counts[name] += int(np.sum(bad))
        states = begin_anew(programs, ends, over, int(draw.integers(2**31)))
        again = over | (age >= max(options.chain))
        product[again], age[again] = np.eye(size), 0
        lost = over | ~(stretch > 0)
        direction = _unit(np.where(lost[:, None], draw.normal(size=moved.shape), moved))
        turned = np.where(lost, 0, turned)
    pooled = [rate[np.isfinite(rate)] for rate in np.transpose(rates)]
    each = [rate.mean() for rate in pooled if len(rate) >= _TURNING]
    every, single = np.concatenate(pooled), np.concatenate(single)
    yield {
        "measure": "rollouts",
        "states": len(single),
        **counts,
        **spread(single),
        "extreme": float(np.mean(single > options.bound)),
        "exponent": float(every.mean()) if len(every) else None,
        "exponent_low": float(np.percentile(each, 10)) if each else None,
        "exponent_high": float(np.percentile(each, 90)) if each else None,
    }
    for steps, found in growth.items():
        yield {"measure": "growth", "steps": steps, **spread(np.concatenate(found))}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def costs(
    programs: Programs, methods: Sequence[str], kind: Kind, repetitions: int
) -> Iterator[Row]:
    """Seconds of a plain step and of each method, per state, interleaved; and of compiling.

    Args:
        programs: Of the environment. Nothing is compiled yet.
        methods: Of the derivatives.
        kind: A batch.
        repetitions: Timed calls of each.
    """
    arguments = take(kind.states, slice(programs.batch)), programs.convert(kind.actions)
    alternatives = []
    for name in ("step", *methods):
        function = programs.plain if name == "step" else programs.derive(name)
        compiled = programs.compile(name, function, *arguments, timed=True)
        with programs.precision():
            placed = jax.device_put(arguments)
        label = "plain step" if name == "step" else name
        alternatives.append(
            Alternative(
                label,
                lambda run=compiled, placed=placed: run(*placed),
                programs.compile_seconds[name],
            )
        )
    environment = programs.environment
    directions = f"{environment.state_size} + {environment.action_size}"
    for found in measure(alternatives, repetitions, programs.batch):
        values = {"method" if name == "name" else name: v for name, v in vars(found).items()}
        yield {"measure": "cost", "directions": directions, "batch": programs.batch, **values}
