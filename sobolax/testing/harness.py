"""The few compiled programs that all checks of an environment share."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sobolax.environment import Environment, State
from sobolax.tangents.forward import TransitionMap
from sobolax.transition import Transition

# Few enough for physics to compile and run fast, enough for a rollout to meet something.
LANES = 8


@dataclass(frozen=True)
class Precision:
    """How fine differences are.

    Attributes:
        dtype: Of states and actions.
        step: How far a central difference goes to both sides.
        tolerance: The largest difference between a tangent and a central difference, relative to
            the largest entry of its part of the transition. In float64 rounding leaves 1e-10 of
            the values, and contacts, whose third derivatives are large, up to 4e-7 of the entries.
            In float32 rounding leaves 2e-5 of the values, which may be a hundred times the
            gradients.
        rounding: How far two programs for the same formula may come apart, relative to the
            largest number.
    """

    dtype: Any
    step: float
    tolerance: float
    rounding: float


DOUBLE = Precision(np.float64, 1e-6, 1e-5, 1e-7)
SINGLE = Precision(np.float32, 5e-3, 2e-2, 1e-3)


class Harness:
    """An environment, its programs over a batch of `LANES`, and random numbers for them.

    Results are NumPy arrays.

    Args:
        environment: What is looked at.
        precision: Of what it computes.
        seed: Of keys, actions and directions.
    """

    def __init__(self, environment: Environment, precision: Precision, seed: int):
        self.environment, self.precision, self.seed = environment, precision, seed
        self.directions = environment.state_size + environment.action_size
        self.random = np.random.default_rng(seed)
        self._resets = 0
        self._reset = jax.jit(jax.vmap(environment.reset))
        self._perturb = jax.jit(jax.vmap(environment.perturb))
        self._push = jax.jit(jax.vmap(self._pushed))

    def reset(self, again: bool = False) -> State:
        """First states, other ones at every call unless the last are wanted `again`."""
        self._resets += not again
        keys = jax.random.split(jax.random.key(self.seed + self._resets), LANES)
        return on_host(self._reset(keys))

    def perturb(self, states: State, displacements: np.ndarray) -> State:
        """States moved by `(LANES, state_size)`."""
        return on_host(self._perturb(states, displacements.astype(self.precision.dtype)))

    def push(
        self, states: State, moves: np.ndarray, actions: np.ndarray, directions: np.ndarray
    ) -> tuple[Transition, State, Transition]:
        """Steps from states and actions that are moved, and their tangents along one direction.

        Args:
            states: A batch.
            moves: Of state and action together, `(LANES, state_size + action_size)`.
            actions: `(LANES, action_size)`.
            directions: Of the tangents, shaped like `moves`.

        Returns:
            Transitions, the states that follow, and tangents of the transitions.
        """
        dtype, split = self.precision.dtype, [self.environment.state_size]
        displacement, shift = np.split(moves.astype(dtype), split, axis=1)
        along_state, along_action = np.split(directions.astype(dtype), split, axis=1)
        at = (displacement, actions.astype(dtype) + shift)
        return on_host(self._push(states, at, (along_state, along_action)))

    def step(self, states: State, actions: np.ndarray) -> tuple[Transition, State, Transition]:
        """Plain steps, with tangents along random directions of state and action."""
        still = np.zeros((LANES, self.directions))
        return self.push(states, still, actions, self.random.normal(size=still.shape))

    def actions(self) -> np.ndarray:
        """Random actions, away from their limits."""
        return self.random.uniform(-0.9, 0.9, (LANES, self.environment.action_size))

    def unit_directions(self, first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Unit directions of state and action from `first` on, one per lane, a batch at a time.

        Yields:
            How many lanes have one, and directions, `(LANES, state_size + action_size)`.
        """
        for start in range(first, self.directions, LANES):
            some = np.eye(self.directions)[start : start + LANES]
            yield len(some), np.pad(some, ((0, LANES - len(some)), (0, 0)))

    def _pushed(self, state: State, at: Any, along: Any):
        apply = TransitionMap(self.environment, state)
        (transition, next_state), (tangent, _) = jax.jvp(apply, at, along)
        return transition, next_state, tangent


def leaves_of(tree: Any, name: str = "state") -> list[tuple[str, Any]]:
    """The leaves of a pytree, each with what a person would write to get it."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(name + jax.tree_util.keystr(path), leaf) for path, leaf in flat]


def is_float(leaf: Any) -> bool:
    """Whether a leaf holds floating-point numbers, real or complex."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def lane_of(tree: Any, lane: int) -> Any:
    """One lane of a batch, in all lanes."""
    return jax.tree.map(lambda leaf: leaf[np.full(LANES, lane)], tree)


def on_host(tree: Any) -> Any:
    """Arrays as NumPy's; random keys stay JAX's."""
    return jax.tree.map(lambda leaf: leaf if _is_key(leaf) else np.asarray(leaf), tree)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def comparable(leaf: Any) -> Any:
    """A leaf as numbers: random keys are no array of NumPy's."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def first_difference(one: Any, other: Any, name: str = "state") -> str | None:
    """The first leaf in which two pytrees of one structure are not equal bit for bit."""
    for (path, a), (_, b) in zip(leaves_of(one, name), leaves_of(other, name), strict=True):
        if not np.array_equal(comparable(a), comparable(b), equal_nan=is_float(a)):
            return path
    return None


def first_departure(expected: Any, found: Any, rounding: float, name: str = "state") -> str | None:
    """The first leaf in which two programs for the same formula come apart.

    Floating-point numbers may differ by `rounding` relative to the largest of their leaf, at least
    1; everything else must be equal.
    """
    for (path, a), (_, b) in zip(leaves_of(expected, name), leaves_of(found, name), strict=True):
        one, other = np.asarray(comparable(a)), np.asarray(comparable(b))
        if not (_close(one, other, rounding) if is_float(a) else np.array_equal(one, other)):
            return path
    return None


def _close(one: np.ndarray, other: np.ndarray, rounding: float) -> bool:
    scale = np.max(np.abs(one), initial=1.0, where=np.isfinite(one))
    return np.allclose(one, other, rtol=0, atol=scale * rounding, equal_nan=True)


def first_not_finite(tree: Any, lanes: np.ndarray, name: str = "state") -> str | None:
    """The first leaf with a number in one of the `lanes` (bool) that is not finite."""
    for path, leaf in leaves_of(tree, name):
        if is_float(leaf) and not np.all(np.isfinite(leaf[lanes])):
            return path
    return None
