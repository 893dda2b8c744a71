"""Gymnasium's MuJoCo environments on the host: stepped, observed and differenced, on all cores.

All work is NumPy's, MuJoCo's and Gymnasium's: a callback that calls JAX can wait for ever.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from sobolax.mjx.engine import mujoco

# What Gymnasium reads of MuJoCo's data beside positions and velocities. Where bodies are follows
# from the positions, though it lags one physics step behind; forces are what the last step left.
_KINEMATIC = ("xpos", "xipos", "site_xpos", "cinert", "cvel")
_FORCES = ("cfrc_ext", "qfrc_actuator", "qfrc_constraint")
# As in `envs.mujoco.host_engine`, with the same reasons.
_STEP = 1e-6


class Host:
    """Copies of one Gymnasium environment, one for each thread at work.

    A state is `(qpos, qvel, act, qacc_warmstart, lag, forces)`: `lag` is how far the bodies'
    positions that Gymnasium reads are from those that follow from `qpos`. A state so restored goes
    on as if nothing had happened, to the last bit.

    Args:
        make: Makes a Gymnasium environment, unwrapped.
    """

    def __init__(self, make: Callable[[], Any]):
        self._make = make
        first = make()
        self.model = model = first.model
        self.sizes = (model.nq, model.nv, model.na, model.nv, *(
            sum(getattr(first.data, name).size for name in group) for group in (_KINEMATIC, _FORCES)
        ))  # fmt: skip
        space = first.action_space
        self._middle = (space.high.astype(float) + space.low) / 2
        self._half = (space.high.astype(float) - space.low) / 2
        self.speeds, self.state_size = model.nv, 2 * model.nv + model.na
        self._idle = [first]
        first.reset(seed=0)
        self.observation_size = int(first._get_obs().size)

    # ---- each takes arrays with any leading axes, and gives arrays with the same

    def reset(self, seeds: np.ndarray) -> tuple[np.ndarray, ...]:
        """First states and their observations, from seeds `(...)`."""

        def one(environment: Any, seed: np.ndarray):
            observation, _ = environment.reset(seed=int(seed))
            return (*self._stored(environment), observation)

        return self._over(one, [seeds], [0], [*self.sizes, self.observation_size])

    def step(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """States, displacements and actions to next states, observations, rewards and ends."""

        def one(environment: Any, *arguments: np.ndarray):
            *state, displacement, action = arguments
            self._restore(environment, state, displacement)
            observation, reward, terminated, _, _ = environment.step(self._control(action))
            return (*self._stored(environment), observation, [reward], [terminated])

        return self._over(one, arrays, self._ranks(1), [*self.sizes, self.observation_size, 1, 1])

    def step_slopes(self, *arrays: np.ndarray) -> tuple[np.ndarray]:
        """Central differences of a step in local coordinates of state and action.

        Returns:
            `(..., state_size + observation_size + 1, state_size + action_size)`: of the next
            state, the next observation and the reward.
        """
        rows = self.state_size + self.observation_size + 1

        def one(environment: Any, *arguments: np.ndarray):
            *state, displacement, action = arguments

            def end(move: np.ndarray):
                shift, push = np.split(move, [self.state_size])
                self._restore(environment, state, displacement + shift)
                control = self._control(action + push)
                observation, reward, _, _, _ = environment.step(control)
                data = environment.data
                others = np.concatenate([data.qvel, data.act, observation, [reward]])
                return data.qpos.copy(), others

            size = self.state_size + len(action)
            with _Exact(environment.model):
                return (self._differences(end, size, rows),)

        columns = self.state_size + self.model.nu
        (flat,) = self._over(one, arrays, self._ranks(1), [rows * columns])
        return (flat.reshape(*flat.shape[:-1], rows, columns),)

    def observe(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Observations of states after displacements."""

        def one(environment: Any, *arguments: np.ndarray):
            *state, displacement = arguments
            self._restore(environment, state, displacement)
            return (environment._get_obs(),)

        return self._over(one, arrays, self._ranks(0), [self.observation_size])

    def observe_slopes(self, *arrays: np.ndarray) -> tuple[np.ndarray]:
        """Central differences of observations, `(..., observation_size, state_size)`."""

        def one(environment: Any, *arguments: np.ndarray):
            *state, displacement = arguments

            def at(sign: float, shift: np.ndarray) -> np.ndarray:
                self._restore(environment, state, displacement + sign * shift)
                return np.array(environment._get_obs())

            moves = _STEP * np.eye(self.state_size)
            columns = [(at(1, move) - at(-1, move)) / (2 * _STEP) for move in moves]
            return (np.stack(columns, axis=-1),)

        (flat,) = self._over(one, arrays, self._ranks(0), [self.observation_size * self.state_size])
        return (flat.reshape(*flat.shape[:-1], self.observation_size, self.state_size),)

    # ---- one state

    def _ranks(self, others: int) -> list[int]:
        return [1] * (len(self.sizes) + 1 + others)

    def _control(self, action: np.ndarray) -> np.ndarray:
        return self._middle + self._half * action

    def _stored(self, environment: Any) -> tuple[np.ndarray, ...]:
        data = environment.data
        seen = _gathered(data, _KINEMATIC)
        forces = _gathered(data, _FORCES)
        _refresh(environment.model, data)
        lag = seen - _gathered(data, _KINEMATIC)
        _scatter(data, _KINEMATIC, seen)
        return data.qpos, data.qvel, data.act, data.qacc_warmstart, lag, forces

    def _restore(self, environment: Any, state: Sequence[np.ndarray], displacement: np.ndarray):
        model, data = environment.model, environment.data
        qpos, qvel, act, warmstart, lag, forces = state
        position, speed, activation = np.split(displacement, [self.speeds, 2 * self.speeds])
        data.qpos[:], data.qvel[:], data.act[:] = qpos, qvel + speed, act + activation
        data.qacc_warmstart[:] = warmstart
        if np.any(position):
            mujoco.mj_integratePos(model, data.qpos, position, 1.0)
        data.time = 0.0
        _refresh(model, data)
        _scatter(data, _KINEMATIC, _gathered(data, _KINEMATIC) + lag)
        _scatter(data, _FORCES, forces)

    def _differences(self, end: Callable[[np.ndarray], Any], size: int, rows: int) -> np.ndarray:
        slopes, change = np.empty((rows, size)), np.empty(self.speeds)
        for column, move in enumerate(_STEP * np.eye(size)):
            (ahead, others), (behind, opposites) = end(move), end(-move)
            mujoco.mj_differentiatePos(self.model, change, 2 * _STEP, behind, ahead)
            slopes[:, column] = np.concatenate([change, (others - opposites) / (2 * _STEP)])
        return slopes

    # ---- many

    def _over(
        self, one: Callable[..., Any], arrays: Sequence[Any], ranks: list[int], sizes: list[int]
    ) -> tuple[np.ndarray, ...]:
        parts = [np.asarray(array) for array in arrays]
        leading = np.broadcast_shapes(
            *(part.shape[: part.ndim - rank] for part, rank in zip(parts, ranks, strict=True))
        )
        parts = [
            np.broadcast_to(part, (*leading, *part.shape[part.ndim - rank :]))
            for part, rank in zip(parts, ranks, strict=True)
        ]
        results = tuple(np.empty((*leading, size)) for size in sizes)
        items = list(np.ndindex(leading))

        def work(share: Sequence[tuple[int, ...]]) -> None:
            environment = self._taken()
            for item in share:
                arguments = [part[item].astype(np.float64) for part in parts]
                try:
                    found = one(environment, *arguments)
                except mujoco.FatalError:
                    mujoco.mj_resetData(environment.model, environment.data)
                    found = [np.nan] * len(results)
                for result, value in zip(results, found, strict=True):
                    result[item] = np.ravel(value)
            self._idle.append(environment)

        if len(items) == 1 or self._workers == 1:
            work(items)
        else:
            shares = min(len(items), 4 * self._workers)
            list(self._pool.map(work, [items[share::shares] for share in range(shares)]))
        return results

    def _taken(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            environment = self._make()
            environment.reset(seed=0)
            return environment

    @cached_property
    def _workers(self) -> int:
        has = hasattr(os, "sched_getaffinity")
        return len(os.sched_getaffinity(0)) if has else os.cpu_count() or 1

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._workers, thread_name_prefix="gymnasium")


def _gathered(data: Any, names: Sequence[str]) -> np.ndarray:
    return np.concatenate([getattr(data, name).ravel() for name in names])


def _scatter(data: Any, names: Sequence[str], values: np.ndarray) -> None:
    start = 0
    for name in names:
        array = getattr(data, name)
        array[:] = values[start : start + array.size].reshape(array.shape)
        start += array.size


def _refresh(model: Any, data: Any) -> None:
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_comVel(model, data)


class _Exact:
    """The solver iterates until it has converged: differences would show where it stopped."""

    def __init__(self, model: Any):
        options = self._options = model.opt
        self._before = options.tolerance, options.iterations, options.ls_iterations

    def __enter__(self) -> None:
        options = self._options
        options.tolerance, options.iterations, options.ls_iterations = 1e-14, 100, 100

    def __exit__(self, *error: object) -> None:
        options = self._options
        options.tolerance, options.iterations, options.ls_iterations = self._before
