"""How physics moves on by MuJoCo's own C engine: differences on the host, on all of its cores.

It serves as a comparison and needs none of MJX's derivatives. The engine is the original
of which MJX is a translation; where the two differ (`docs/concepts/contact_derivatives.md`), so do
gradients.
"""

import copy
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.mujoco.physics import Physics
from sobolax.mjx.engine import MjModel, mujoco

# How far to go to both sides (m, rad, per second, units of the control), in float64. A central
# difference is off by about 1e-16 / h of the values by rounding, and by h² of the third derivative,
# which contacts make large: on Ant and Hopper in contact errors grow to both sides of 1e-6, where
# they are 1e-9 to 1e-7 of the largest entry. One-sided differences at half the cost are off by up
# to 1e-3.
_STEP = 1e-6

# A Jacobian of the engine's own costs as much as half of its columns do one by one, for it skips
# what a column does not change (2.0 times on Ant, 2.2 on Hopper, 64 states on two cores).
_WORTH_A_JACOBIAN = 1 / 2

# The engine prints a warning, and writes it into a file, where it has not been counted before.
_COUNTED = 1_000

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class HostEngine:
    """Moves displacements on by an environment step of the C engine, from within JAX programs.

    All work is NumPy's and MuJoCo's, in threads of its own: a callback that calls JAX can wait for
    ever. Threads live with this object, and so do as many `MjData` as there have been at work at
    once.

    Args:
        model: The model; a copy is kept, whose solver iterates until it has converged.
        substeps: Physics steps of an environment step.
    """

    def __init__(self, model: MjModel, substeps: int):
        self._model = copy.copy(model)
        self._model.opt.tolerance = 1e-14
        self._model.opt.iterations = self._model.opt.ls_iterations = 100
        # A bad state stays bad: a reset in its place would give a gradient.
        self._model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self._substeps = substeps
        self._state_size = int(2 * model.nv + model.na)
        # Its differences of one step know the other integrators only.
        self._has_jacobians = model.opt.integrator != mujoco.mjtIntegrator.mjINT_RK4
        self._workers = _usable_cores()
        # Not one per thread in a `threading.local`: XLA's threads are gone for Python after every
        # callback, and MuJoCo's bindings crash when what they made is freed then.
        self._idle: list[Any] = []

    def moved(
        self, physics: Physics, control: jax.Array, start: jax.Array, controls: jax.Array
    ) -> jax.Array:
        """How displacements move on: one callback, for a whole batch under `vmap`.

        Args:
            physics: Where to start, unbatched.
            control: `(nu,)`.
            start: Displacements of the physics, `(state size, n)`.
            controls: Of the control, `(nu, n)`.

        Returns:
            Displacements of the physics at the end, `(state size, n)`, rounded to the dtype of
            `start`. NaN where the engine warns, of a state that is not finite or of any other
            trouble; nothing is raised, printed or written.
        """
        parts = (physics.qpos, physics.qvel, physics.act, physics.qacc_warmstart)
        parts = [*parts, physics.mocap_pos, control, start, controls]
        parts = [part.astype(start.dtype) for part in parts]
        if start.dtype != jnp.float64:
            result = jax.ShapeDtypeStruct(start.shape, start.dtype)
            return jax.pure_callback(self._moved_batch, result, *parts, vmap_method="expand_dims")
        # As bits, because a thread without float64 enabled, as the callback's when
        # `jax.enable_x64` is a context, would round what comes and goes to float32.
        result = jax.ShapeDtypeStruct((*start.shape, 2), jnp.uint32)
        bits = [jax.lax.bitcast_convert_type(part, jnp.uint32) for part in parts]
        moved = jax.pure_callback(self._moved_bits, result, *bits, vmap_method="expand_dims")
        return jax.lax.bitcast_convert_type(moved, start.dtype)

    def _moved_bits(self, *parts: Any) -> np.ndarray:
        doubles = [np.ascontiguousarray(part).view(np.float64)[..., 0] for part in parts]
        return self._moved_batch(*doubles)[..., None].view(np.uint32)

    def _moved_batch(self, *arrays: Any) -> np.ndarray:
        """The callback: the same with leading axes, each of any length or 1."""
        parts = [np.asarray(array) for array in arrays]
        ranks = (1, 1, 1, 1, 2, 1, 2, 2)
        pairs = list(zip(parts, ranks, strict=True))
        leading = np.broadcast_shapes(*(part.shape[: part.ndim - rank] for part, rank in pairs))
        parts = [
            np.broadcast_to(part, (*leading, *part.shape[part.ndim - rank :]))
            for part, rank in pairs
        ]
        moved = np.empty(parts[-2].shape, parts[-2].dtype)
        items = list(np.ndindex(leading))

        def work(items: list[tuple[int, ...]]) -> None:
            for item in items:
                numbers = [part[item].astype(np.float64) for part in parts]
                with np.errstate(over="ignore"):  # in float32: infinite, as it should be
                    moved[item] = self._moved_one(*numbers)

        if self._workers == 1 or len(items) == 1:
            work(items)
        else:
            # Several shares for each: cores may have other work.
            shares = min(len(items), 4 * self._workers)
            list(self._pool.map(work, [items[share::shares] for share in range(shares)]))
        return moved

    def _moved_one(self, *numbers: np.ndarray) -> np.ndarray:
        *state, start, controls = numbers
        nothing = np.full_like(start, np.nan)
        if not all(np.isfinite(part).all() for part in numbers):
            return nothing
        try:
            data = self._idle.pop()
        except IndexError:  # not checked first: another thread may be faster
            data = mujoco.MjData(self._model)
            data.warning.number[:] = _COUNTED
        data.qpos[:], data.qvel[:], data.act[:], data.qacc_warmstart[:] = state[:4]
        data.mocap_pos[:], data.ctrl[:] = state[4:]
        data.time = 0.0
        columns, full = start.shape[1], sum(len(part) for part in (start, controls))
        many = self._has_jacobians and columns > _WORTH_A_JACOBIAN * full
        compute = self._chained if many else self._differences
        try:
            # First without differences: where the engine has trouble, none are taken.
            points = list(self._walk(data))
            moved = nothing if _has_warned(data) else compute(data, points, start, controls)
        except mujoco.FatalError:
            mujoco.mj_resetData(self._model, data)  # its stack, too
            moved = nothing
        if _has_warned(data):
            data.warning.number[:] = _COUNTED
            moved = nothing
        self._idle.append(data)
        return moved

    def _walk(self, data: Any) -> Iterator[np.ndarray]:
        """Moves on, and gives the state before every physics step."""
        for _ in range(self._substeps):
            point = np.empty(mujoco.mj_stateSize(self._model, _STATE))
            mujoco.mj_getState(self._model, data, point, _STATE)
            yield point
            mujoco.mj_step(self._model, data)
            if _has_warned(data):
                return

    def _chained(
        self, data: Any, points: list[np.ndarray], start: np.ndarray, controls: np.ndarray
    ) -> np.ndarray:
        """By the product of the Jacobians of physics steps."""
        model, size = self._model, self._state_size
        by_state, by_control = np.empty((size, size)), np.empty((size, model.nu))
        for point in points:
            mujoco.mj_setState(model, data, point, _STATE)
            mujoco.mjd_transitionFD(model, data, _STEP, True, by_state, by_control, None, None)
            start = by_state @ start + by_control @ controls
        return start

    def _differences(
        self, data: Any, points: list[np.ndarray], start: np.ndarray, controls: np.ndarray
    ) -> np.ndarray:
        """By differences of the whole environment step, column by column."""
        model, speeds = self._model, self._model.nv

        def end(displacement: np.ndarray, move: np.ndarray) -> tuple[np.ndarray, ...]:
            mujoco.mj_setState(model, data, points[0], _STATE)
            mujoco.mj_integratePos(model, data.qpos, displacement[:speeds], 1.0)
            data.qvel += displacement[speeds : 2 * speeds]
            data.act += displacement[2 * speeds :]
            data.ctrl += move
            mujoco.mj_step(model, data, self._substeps)
            return data.qpos.copy(), np.concatenate([data.qvel, data.act])

        moved = np.zeros_like(start)
        for column in range(start.shape[1]):
            along = start[:, column], controls[:, column]
            length = np.sqrt(sum(np.sum(part**2) for part in along))
            if length == 0:
                continue
            # A direction of any length is followed equally far.
            reach = _STEP / length
            position, others = end(*(reach * part for part in along))
            opposite, opposites = end(*(-reach * part for part in along))
            change = np.empty(speeds)
            mujoco.mj_differentiatePos(model, change, 2 * reach, opposite, position)
            moved[:, column] = np.concatenate([change, (others - opposites) / (2 * reach)])
        return moved

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._workers, thread_name_prefix="mujoco")


def _has_warned(data: Any) -> bool:
    return bool((data.warning.number != _COUNTED).any())


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
