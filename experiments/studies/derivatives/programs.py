"""Compiled programs of one environment in one precision; what goes in and comes out is NumPy."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from experiments.launch.program import compiler_options
from experiments.studies.derivatives.exposed import frame, local, make_exposed, vector
from sobolax.environment import State
from sobolax.tangents.forward import TransitionMap, plain_transition
from sobolax.tangents.methods import Derivatives, make_tangent_function


@dataclass(frozen=True)
class DirectionalDerivatives:
    """Derivatives of whole transitions, a state each; columns are directions of state and action.

    Attributes:
        state: Of the state that follows, `(batch, state_size, directions)`.
        observation: Of its observation, `(batch, observation_size, directions)`.
        reward: Of the reward, `(batch, 1, directions)`.
    """

    state: np.ndarray
    observation: np.ndarray
    reward: np.ndarray

    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All three."""
        return self.state, self.observation, self.reward

    def finite(self) -> np.ndarray:
        """Where every number is finite, `(batch,)`."""
        return np.all([np.isfinite(part).all((1, 2)) for part in self.parts()], axis=0)


def select(gradients: DirectionalDerivatives, chosen: Any) -> DirectionalDerivatives:
    """Some states of them."""
    return DirectionalDerivatives(*(part[chosen] for part in gradients.parts()))


def join(many: Sequence[Any]) -> Any:
    """Batches one after the other."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *many)


def take(states: Any, chosen: Any) -> Any:
    """Some items of a batch."""
    return jax.tree.map(lambda leaf: leaf[chosen], states)


def length(states: Any) -> int:
    """Items of a batch."""
    return jax.tree.leaves(states)[0].shape[0]


class Programs:
    """Programs of one environment, each compiled when it is first needed.

    Args:
        name: Of the environment.
        parameters: Of the environment.
        double: Whether in float64. The environment is made in it too: its constants are part of
            the programs.
    """

    def __init__(self, name: str, parameters: Mapping[str, Any], double: bool = False):
        self.double = double
        with self.precision():
            self.environment = make_exposed(name, parameters)
            self._numbers = jax.eval_shape(
                lambda: frame(self.environment, self.environment.reset(jax.random.key(0)))
            ).shape[0]
        self.observation_size = self.environment.observation_size - self._numbers
        self.compile_seconds: dict[str, float] = {}
        self._compiled: dict[Any, Callable[..., Any]] = {}

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
        """The program of that name for arguments of these shapes, out of here if it is there.

        Args:
            name: What it is called; the same name has to mean the same function.
            function: What to compile.
            *arguments: Examples.
            timed: Whether `compile_seconds` are wanted: then not out of JAX's cache on disk.
        """
        shapes = tuple(np.shape(leaf) for leaf in jax.tree.leaves(arguments))
        if (name, shapes) not in self._compiled:
            start = time.perf_counter()
            with self.precision(), without_cache() if timed else contextlib.nullcontext():
                lowered = jax.jit(function).lower(*arguments)
                self._compiled[name, shapes] = lowered.compile(_options(timed))
            self.compile_seconds[name] = time.perf_counter() - start
        return self._compiled[name, shapes]

    def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Compiles where needed, calls, and copies to the host."""
        program = self.compile(name, function, *arguments)
        with self.precision():
            return jax.device_get(program(*arguments))

    # ---- what is called

    def reset(self, count: int, seed: int) -> State:
        """First states."""
        seeds = np.arange(count, dtype=np.uint32) + np.uint32(1000003 * seed % 2**31)
        reset = self.environment.reset
        return self.call("reset", jax.vmap(lambda one: reset(jax.random.key(one))), seeds)

    def step(self, states: State, actions: np.ndarray) -> State:
        """The states that follow."""
        return self.call("step", self.plain, states, self.convert(actions))[1]

    def plain(self, states: State, actions: jax.Array) -> Any:
        """Transitions of a batch, for `compile`."""
        return jax.vmap(lambda *pair: plain_transition(self.environment, *pair))(states, actions)

    def derive(self, method: str) -> Callable[[State, jax.Array], Any]:
        """The function of a batch that a method differentiates, for `compile`.

        Returns:
            `(states, actions) -> (transitions, following states, tangents)`.
        """
        compute = make_tangent_function(self.environment, Derivatives(method=method))

        def one(state: State, action: jax.Array):
            directions = (
                jnp.eye(size, dtype=state.observation.dtype)
                for size in (self.environment.state_size, self.environment.action_size)
            )
            return compute(jax.random.key(0), state, action, *directions)

        return jax.vmap(one)

    def gradients(
        self, method: str, states: State, actions: np.ndarray
    ) -> tuple[State, DirectionalDerivatives]:
        """The states that follow, and the derivatives of the transitions."""
        _, ends, tangents = self.call(method, self.derive(method), states, self.convert(actions))

        def both(part: str) -> np.ndarray:
            along = getattr(tangents.state, part), getattr(tangents.action, part)
            return np.concatenate(along, axis=-1)

        return ends, self._gradients(ends, both("next_observation"), both("reward"))

    def _gradients(
        self, ends: State, seen: np.ndarray, reward: np.ndarray
    ) -> DirectionalDerivatives:
        size = self.observation_size
        physics = local(seen[:, size:], self.frames(ends))
        return DirectionalDerivatives(physics, seen[:, :size], reward[:, None])

    def frames(self, states: State) -> np.ndarray:
        """`frame` of each state."""
        return self.call("frame", jax.vmap(lambda state: frame(self.environment, state)), states)

    def differences(
        self, state: State, action: np.ndarray, end: State, steps: Sequence[float]
    ) -> list[DirectionalDerivatives]:
        """Central differences at one state, with steps of several sizes.

        Args:
            state: Not batched.
            action: `(action_size,)`.
            end: The state that follows, not batched.
            steps: To both sides, in the units of state and action.

        Returns:
            A batch of one for each size.
        """
        size, total = self.environment.state_size, self.environment.state_size + len(action)
        basis = np.concatenate([sign * step * np.eye(total) for step in steps for sign in (1, -1)])

        def ends(state: State, moves: jax.Array, actions: jax.Array):
            apply = TransitionMap(self.environment, state)
            return jax.vmap(lambda *move: apply(*move)[0])(moves, actions)

        arguments = self.convert((state, basis[:, :size], action + basis[:, size:]))
        found = self.call("differences", ends, *arguments)
        ended = jax.tree.map(lambda leaf: np.asarray(leaf)[None], end)
        both = []
        for index, step in enumerate(steps):
            at = 2 * index * total

            def difference(values: np.ndarray, at: int = at, step: float = step) -> np.ndarray:
                sides = values[at : at + total], values[at + total : at + 2 * total]
                return np.moveaxis((sides[0] - sides[1]) / (2 * step), 0, -1)[None]

            seen = difference(found.next_observation)
            both.append(self._gradients(ended, seen, difference(found.reward)))
        return both


def _options(timed: bool) -> dict[str, Any]:
    """What is called a few times only is compiled in half the time, and runs slower."""
    options: dict[str, Any] = {**compiler_options()}
    if not timed and jax.default_backend() == "cpu":
        options["xla_backend_optimization_level"] = 0
    return options


@contextlib.contextmanager
def without_cache() -> Iterator[None]:
    """Compiles anew: a program out of the cache on disk has no compilation to time."""
    configuration: Any = jax.config
    before = configuration.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def state_jacobian(
    name: str,
    parameters: Mapping[str, Any],
    state: State,
    action: np.ndarray,
    method: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """How the state that follows moves with a state and an action, in local coordinates.

    Args:
        name: Of the environment.
        parameters: Of the environment.
        state: One state of it.
        action: `(action_size,)`.
        method: How derivatives are computed.

    Returns:
        `(state_size, state_size)` and `(state_size, action_size)`.
    """
    programs = Programs(name, parameters)
    observation = jnp.concatenate([state.observation, vector(state.physics)])
    state = replace(state, observation=observation)
    states, actions = jax.tree.map(lambda leaf: np.asarray(leaf)[None], (state, action))
    _, gradients = programs.gradients(method, programs.convert(states), actions)
    size = programs.environment.state_size
    return gradients.state[0, :, :size], gradients.state[0, :, size:]
