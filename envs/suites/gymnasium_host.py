"""Batches of Gymnasium's states on the host, on all cores.

Most of a step is Gymnasium's own Python, of which one process runs one thread at a time: with two
threads a step took longer than with one. So large batches go to processes. A callback that calls
JAX can deadlock: this module does not call it.
"""

import math
import os
import signal
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from loky import ProcessPoolExecutor

from envs.suites.gymnasium_simulator import Simulator, make_environment

# Batches of so many are handed over. That costs about a millisecond, a third of a Jacobian; of
# plain steps the results weigh more than the work, and 64 of them took longer so on two cores.
_WORTHWHILE = {"step_gradients": 2, "observe_gradients": 4}
_WORTHWHILE_ELSE = 256
_IDLE_SECONDS = 120.0


class Host:
    """Copies of one Gymnasium environment, here and in one process for each core.

    The processes start with the first large batch, and end after two minutes without one.

    Args:
        name: As Gymnasium calls it.
        integrator: Of `INTEGRATORS`; None for the model's own.
        parameters: What Gymnasium's environment takes.
    """

    def __init__(self, name: str, integrator: str | None, parameters: Mapping[str, Any]):
        self._arguments = (name, integrator, dict(parameters))
        first = Simulator(make_environment(*self._arguments))
        self.model, self.dt, self.sizes = first.model, first.dt, first.sizes
        self.state_size, self.observation_size = first.state_size, first.observation_size
        self._idle = [first]

    # ---- each takes arrays with any leading axes, and gives arrays with the same

    def reset(self, seeds: np.ndarray) -> tuple[np.ndarray, ...]:
        """First states and their observations, from seeds `(...)`."""
        return self._over("reset", [seeds], [0], [*self._shapes, (self.observation_size,)])

    def step(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """States, displacements and actions to next states, observations, rewards and ends."""
        shapes = [*self._shapes, (self.observation_size,), (1,), (1,)]
        return self._over("step", arrays, self._ranks(2), shapes)

    def step_gradients(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """`(..., state_size + observation_size + 1, state_size + action_size)`, differences."""
        shape = (self.state_size + self.observation_size + 1, self.state_size + self.model.nu)
        return self._over("step_gradients", arrays, self._ranks(2), [shape])

    def observe(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Observations of states after displacements."""
        return self._over("observe", arrays, self._ranks(1), [(self.observation_size,)])

    def observe_gradients(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Central differences of observations, `(..., observation_size, state_size)`."""
        shape = (self.observation_size, self.state_size)
        return self._over("observe_gradients", arrays, self._ranks(1), [shape])

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        return [(size,) for size in self.sizes]

    def _ranks(self, others: int) -> list[int]:
        return [1] * (len(self.sizes) + others)

    def _over(
        self,
        task: str,
        arrays: Sequence[Any],
        ranks: Sequence[int],
        shapes: Sequence[tuple[int, ...]],
    ) -> tuple[np.ndarray, ...]:
        parts = [np.asarray(array) for array in arrays]
        leading = np.broadcast_shapes(
            *(part.shape[: part.ndim - rank] for part, rank in zip(parts, ranks, strict=True))
        )
        count, flat = math.prod(leading), []
        for part, rank in zip(parts, ranks, strict=True):
            own = part.shape[part.ndim - rank :]
            part = np.broadcast_to(part, (*leading, *own)).reshape(count, *own)
            flat.append(part.astype(np.float64) if rank else part)
        if self._workers == 1 or count < _WORTHWHILE.get(task, _WORTHWHILE_ELSE):
            found = self._here(task, flat)
        else:
            shares = np.array_split(np.arange(count), min(count, 2 * self._workers))
            under_way = [
                self._pool.submit(_in_worker, task, [part[share] for part in flat])
                for share in shares
            ]
            found = [item for share in under_way for item in share.result()]
        results = tuple(np.full((count, *shape), np.nan) for shape in shapes)
        for index, item in enumerate(found):
            if len(item) == len(results):
                for result, value in zip(results, item, strict=True):
                    result[index] = value
        return tuple(result.reshape(*leading, *result.shape[1:]) for result in results)

    def _here(self, task: str, flat: Sequence[np.ndarray]) -> list[list[Any]]:
        try:  # callbacks may come from several threads at once: a check first would be too late
            simulator = self._idle.pop()
        except IndexError:
            simulator = Simulator(make_environment(*self._arguments))
        try:
            return simulator.over(task, flat)
        finally:
            self._idle.append(simulator)

    @cached_property
    def _workers(self) -> int:
        has = hasattr(os, "sched_getaffinity")
        return len(os.sched_getaffinity(0)) if has else os.cpu_count() or 1

    @cached_property
    def _pool(self) -> Any:
        pool = ProcessPoolExecutor(
            self._workers, timeout=_IDLE_SECONDS, initializer=_start, initargs=self._arguments
        )
        # Also at the interpreter's end, while what the pool needs for it is there.
        weakref.finalize(self, pool.shutdown, wait=False, kill_workers=True)
        return pool


_simulator: Simulator | None = None  # a worker's own; None in any other process


def _start(name: str, integrator: str | None, parameters: Mapping[str, Any]) -> None:
    global _simulator
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training loop
    _simulator = Simulator(make_environment(name, integrator, parameters))


def _in_worker(task: str, arrays: Sequence[np.ndarray]) -> list[list[Any]]:
    assert _simulator is not None
    return _simulator.over(task, arrays)
