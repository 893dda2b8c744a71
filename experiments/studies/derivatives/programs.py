"""Compiled programs of one environment in one precision, called with NumPy's arrays."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.timing import without_cache
from experiments.launch.program import compiler_options
from experiments.studies.derivatives.exposed import frame, local, make_exposed
from sobolax.environment import State
from sobolax.tangents.forward import TransitionMap, plain_transition
from sobolax.tangents.methods import Derivatives, make_tangent_function

T = TypeVar("T")


class DirectionalDerivatives(NamedTuple):
    """Derivatives of a batch of whole transitions; directions are those of state and action.

    Attributes:
        state: Of the next state, `(batch, state_size, directions)`.
        observation: Of its observation, `(batch, observation_size, directions)`.
        reward: Of the reward, `(batch, 1, directions)`.
    """

    state: np.ndarray
    observation: np.ndarray
    reward: np.ndarray

    def finite(self) -> np.ndarray:
        """Where every number is finite, `(batch,)`."""
        return np.all([np.isfinite(part).all((1, 2)) for part in self], axis=0)


def take(states: Any, chosen: Any) -> Any:
    """Some items of a batch."""
    return jax.tree.map(lambda leaf: leaf[chosen], states)


def where(condition: np.ndarray, new: T, old: T) -> T:
    """Items of one batch where a condition holds, `(batch,)`, and of another elsewhere."""

    def choose(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return np.where(condition.reshape(-1, *[1] * (np.ndim(old) - 1)), new, old)

    return jax.tree.map(choose, new, old)


def length(states: Any) -> int:
    """Items of a batch."""
    return jax.tree.leaves(states)[0].shape[0]


class Programs:
    """Programs of one environment, each compiled when it is first needed.

    Args:
        name: Of the environment.
        parameters: Of the environment.
        batch: Items of a call; more are computed in several calls, fewer are repeated.
        double: Whether in float64. The environment is made in it too: its constants are part of
            the programs.
    """

    def __init__(self, name: str, parameters: Mapping[str, Any], batch: int, double: bool = False):
        self.batch, self.double = batch, double
        with self.precision():
            self.environment = make_exposed(name, parameters)
            numbers = jax.eval_shape(
                lambda: frame(self.environment, self.environment.reset(jax.random.key(0)))
            ).shape[0]
        self.observation_size = self.environment.observation_size - numbers
        self.compile_seconds: dict[str, float] = {}
        self._compiled: dict[str, Callable[..., Any]] = {}

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """In which everything is traced, compiled and called."""
        return jax.enable_x64(self.double)

    def convert(self, tree: Any) -> Any:
        """Real numbers in the precision of these programs."""
        dtype = np.float64 if self.double else np.float32

        def one(leaf: Any) -> np.ndarray:
            leaf = np.asarray(leaf)
            return leaf.astype(dtype) if np.issubdtype(leaf.dtype, np.floating) else leaf

        return jax.tree.map(one, tree)

    def compile(
        self, name: str, function: Callable[..., Any], *arguments: Any, timed: bool = False
    ) -> Callable[..., Any]:
        """The program of that name, compiled when it is first requested.

        Args:
            name: Its name; the same name has to mean the same function.
            function: What to compile, of a batch.
            *arguments: Examples of `batch` items.
            timed: Whether `compile_seconds` are wanted: then not from JAX's cache on disk.
        """
        if name not in self._compiled:
            start = time.perf_counter()
            with self.precision(), without_cache() if timed else contextlib.nullcontext():
                lowered = jax.jit(function).lower(*arguments)
                self._compiled[name] = lowered.compile(compiler_options(quickly=not timed))
            self.compile_seconds[name] = time.perf_counter() - start
        return self._compiled[name]

    def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a program, compiled where needed, on any number of items; copies to the host."""
        count, found = length(arguments), []
        for start in range(0, count, self.batch):
            block = take(arguments, np.arange(start, start + self.batch) % count)
            program = self.compile(name, function, *block)
            with self.precision():
                result = jax.device_get(program(*block))
            found.append(take(result, slice(count - start)))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)

    # ---- what is called

    def reset(self, count: int, seed: int) -> State:
        """First states."""
        seeds = np.arange(count, dtype=np.uint32) + np.uint32(1000003 * seed % 2**31)
        reset = self.environment.reset
        return self.call("reset", jax.vmap(lambda one: reset(jax.random.key(one))), seeds)

    def step(self, states: State, actions: np.ndarray) -> State:
        """The next states."""
        return self.call("step", self.plain, states, self.convert(actions))[1]

    def plain(self, states: State, actions: jax.Array) -> Any:
        """Transitions of a batch, for `compile`."""
        return jax.vmap(lambda *pair: plain_transition(self.environment, *pair))(states, actions)

    def derive(self, method: str) -> Callable[[State, jax.Array], Any]:
        """The function of a batch that computes derivatives by a method, for `compile`.

        Returns:
            `(states, actions) -> (transitions, next states, tangents)`.
        """
        compute = make_tangent_function(self.environment, Derivatives(method=method))

        def one(state: State, action: jax.Array):
            directions = (
                jnp.eye(size, dtype=state.observation.dtype)
                for size in (self.environment.state_size, self.environment.action_size)
            )
            return compute(jax.random.key(0), state, action, *directions)

        return jax.vmap(one)

    def derivatives(
        self, method: str, states: State, actions: np.ndarray
    ) -> tuple[State, DirectionalDerivatives]:
        """The next states, and the derivatives of the transitions."""
        _, ends, tangents = self.call(method, self.derive(method), states, self.convert(actions))

        def both(part: str) -> np.ndarray:
            along = getattr(tangents.state, part), getattr(tangents.action, part)
            return np.concatenate(along, axis=-1)

        return ends, self._split(ends, both("next_observation"), both("reward"))

    def _split(self, ends: State, seen: np.ndarray, reward: np.ndarray) -> DirectionalDerivatives:
        size = self.observation_size
        frames = self.call("frame", jax.vmap(lambda state: frame(self.environment, state)), ends)
        return DirectionalDerivatives(
            local(seen[:, size:], frames), seen[:, :size], reward[:, None]
        )

    def differences(
        self, states: State, actions: np.ndarray, ends: State, steps: Sequence[float]
    ) -> list[DirectionalDerivatives]:
        """Central differences of transitions, with steps of several sizes.

        Args:
            states: A batch.
            actions: `(batch, action_size)`.
            ends: The next states.
            steps: To both sides, in the units of state and action.

        Returns:
            Derivatives for each size.
        """
        size, total = self.environment.state_size, self.environment.state_size + actions.shape[1]
        basis = np.concatenate([sign * step * np.eye(total) for step in steps for sign in (1, -1)])

        def one(state: State, action: jax.Array):
            apply = TransitionMap(self.environment, state)
            moves = jnp.asarray(basis[:, :size]), action + jnp.asarray(basis[:, size:])
            moved = jax.vmap(lambda *move: apply(*move)[0])(*moves)
            return moved.next_observation, moved.reward

        arguments = self.convert((states, actions))
        found = self.call("differences", jax.vmap(one), *arguments)
        several = []
        for index, step in enumerate(steps):

            def difference(values: np.ndarray, index: int = index, step: float = step):
                up, down = np.split(values[:, 2 * index * total :][:, : 2 * total], 2, axis=1)
                return np.moveaxis((up - down) / (2 * step), 1, -1)

            several.append(self._split(ends, *map(difference, found)))
        return several
