"""Optimal values of systems of one state and one action, both in [-1, 1], with a stated error.

Whatever function `V` comes out, the Bellman operator `T` is a contraction by the discount `γ`, so
that `|V - V*| <= |T V - V| / (1 - γ)`, the largest over all states. That is the stated error, with
`T` evaluated on finer grids of states and of actions than `V` was computed on. It is a bound but
for what happens between the points of the finer grid.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

# (states, actions) -> (states that follow, rewards), element by element, in NumPy and float64.
Move = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

_ACTIONS = 33
_ZOOMS = 5  # each divides the reach of an action by four
_SWEEPS = 40
_TOLERANCE = 1e-11  # of values, at the last maximisation


@dataclass(frozen=True)
class Optimum:
    """Optimal values as a piecewise cubic function of the state in [-1, 1].

    Attributes:
        coefficients: Of each piece in the distance from its left end, highest power first,
            `(4, pieces)`; the pieces are of one length.
        error: The largest distance from the true optimal value, by the Bellman residual.
        iterations: How many improvements of the policy it took.
    """

    coefficients: np.ndarray
    error: float
    iterations: int

    def evaluate(self, state: jax.Array) -> jax.Array:
        """The value of a state, `()`, differentiable by JAX, in the dtype of the state."""
        pieces = self.coefficients.shape[1]
        place = (jax.lax.stop_gradient(state) + 1.0) * (pieces / 2)
        piece = jnp.clip(jnp.floor(place), 0, pieces - 1)
        distance = state - (piece * (2 / pieces) - 1.0)
        table = jnp.asarray(self.coefficients, distance.dtype)
        cubic, square, gradient, value = table[:, piece.astype(int)]
        return value + distance * (gradient + distance * (square + distance * cubic))


def iterate_values(move: Move, discount: float, points: int = 4001) -> Optimum:
    """Value iteration on a grid of states with monotone cubic interpolation (Fritsch, Carlson).

    Every maximisation over the action is followed by some sweeps that leave the actions as they
    are (modified policy iteration), which saves most maximisations.

    Args:
        move: The system; it must stay in [-1, 1].
        discount: The discount factor.
        points: States of the grid, both ends included.

    Returns:
        The values and their error.
    """
    # Imported here: it is slow to import and only needed here.
    from scipy.interpolate import PchipInterpolator

    states = np.linspace(-1.0, 1.0, points)
    values, change, iterations = np.zeros(points), np.inf, 0
    while change > _TOLERANCE:
        interpolate = PchipInterpolator(states, values)
        actions, best = _maximise(move, discount, interpolate, states, _ACTIONS)
        change = float(np.max(np.abs(best - values)))
        values, iterations = best, iterations + 1
        next_state, rewards = move(states, actions)
        for _ in range(_SWEEPS):
            values = rewards + discount * PchipInterpolator(states, values)(next_state)
        if iterations > 1_000:
            raise ValueError("value iteration did not converge: does the system stay in [-1, 1]?")
    interpolate = PchipInterpolator(states, values)
    finer = np.linspace(-1.0, 1.0, 4 * (points - 1) + 1)
    _, best = _maximise(move, discount, interpolate, finer, 8 * (_ACTIONS - 1) + 1)
    residual = float(np.max(np.abs(best - interpolate(finer))))
    return Optimum(interpolate.c, residual / (1 - discount), iterations)


def _maximise(
    move: Move,
    discount: float,
    value: Callable[[np.ndarray], np.ndarray],
    states: np.ndarray,
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The best action of each state and its value: the best of a grid, then ever closer around."""

    def evaluate(actions: np.ndarray) -> np.ndarray:
        next_state, rewards = move(states[:, None], actions)
        return rewards + discount * value(next_state)

    rows, reach = np.arange(states.size), 2.0 / (count - 1)
    actions = np.broadcast_to(np.linspace(-1.0, 1.0, count), (states.size, count))
    values = evaluate(actions)
    for _ in range(_ZOOMS):
        best = actions[rows, np.argmax(values, axis=1)]
        actions = np.clip(best[:, None] + reach * np.linspace(-1.0, 1.0, 9), -1.0, 1.0)
        values, reach = evaluate(actions), reach / 4
    best = np.argmax(values, axis=1)
    return actions[rows, best], values[rows, best]
