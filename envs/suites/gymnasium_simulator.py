"""One MuJoCo environment of Gymnasium: stepped, observed and differenced, a state at a time.

All work is NumPy's, MuJoCo's and Gymnasium's, so that it runs in processes of their own.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from sobolax.mjx.engine import mujoco

INTEGRATORS = {
    "euler": mujoco.mjtIntegrator.mjINT_EULER,
    "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
    "rk4": mujoco.mjtIntegrator.mjINT_RK4,
}
# What Gymnasium reads of MuJoCo's data beside positions and velocities. Where bodies are follows
# from the positions, though it lags one physics step behind; forces are what the last step left.
_KINEMATIC = ("xpos", "xipos", "site_xpos", "cinert", "cvel")
_FORCES = ("cfrc_ext", "qfrc_actuator", "qfrc_constraint")
# As in `envs.mujoco.host_engine`, for the same reasons.
_STEP = 1e-6


def make_environment(name: str, integrator: str | None, parameters: Mapping[str, Any]) -> Any:
    """Gymnasium's environment itself, without its wrappers, as `GymnasiumEnvironment` wants it."""
    with warnings.catch_warnings(), _no_log():
        warnings.simplefilter("ignore")
        made: Any = gymnasium.make(name, **parameters).unwrapped
    made.model.actuator_ctrllimited[:] = False
    # A bad state stays visible and is not replaced.
    made.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    if integrator is not None:
        made.model.opt.integrator = INTEGRATORS[integrator]
    return made


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    # MuJoCo warns of an old attribute in some models, in a file in the working directory.
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


class Simulator:
    """A Gymnasium environment that starts from any state.

    A state is `(qpos, qvel, act, qacc_warmstart, lag, forces)`: `lag` is how far the bodies'
    positions that Gymnasium reads are from those that follow from `qpos`. A state so restored goes
    on as if nothing had happened, to the last bit.

    Args:
        environment: Of `make_environment`.
    """

    def __init__(self, environment: Any):
        self._environment = environment
        self.model, self._data = environment.model, environment.data
        space, model = environment.action_space, self.model
        self._middle = (space.high.astype(float) + space.low) / 2
        self._half = (space.high.astype(float) - space.low) / 2
        self._kinematic = [getattr(self._data, name).reshape(-1) for name in _KINEMATIC]
        self._forces = [getattr(self._data, name).reshape(-1) for name in _FORCES]
        self.sizes = (model.nq, model.nv, model.na, model.nv, *(
            sum(part.size for part in group) for group in (self._kinematic, self._forces)
        ))  # fmt: skip
        self.speeds, self.state_size = model.nv, 2 * model.nv + model.na
        self.dt = float(environment.dt)
        environment.reset(seed=0)
        self.observation_size = int(environment._get_obs().size)

    def reset(self, seed: np.ndarray) -> tuple[Any, ...]:
        """The first state from a seed, and its observation."""
        observation, _ = self._environment.reset(seed=int(seed))
        return (*self._stored(), observation)

    def step(self, *arguments: np.ndarray) -> tuple[Any, ...]:
        """State, displacement and action to the next state, observation, reward and end."""
        *state, displacement, action = arguments
        self._restore(state, displacement)
        observation, reward, terminated, _, _ = self._environment.step(self._control(action))
        return (*self._stored(), observation, reward, terminated)

    def step_gradients(self, *arguments: np.ndarray) -> tuple[np.ndarray]:
        """Central differences of a step in local coordinates of state and action.

        Returns:
            `(state_size + observation_size + 1, state_size + action_size)`: of the next state, the
            next observation and the reward.
        """
        *state, displacement, action = arguments
        split, data = self.state_size, self._data

        def end(move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            self._restore(state, displacement + move[:split])
            control = self._control(action + move[split:])
            observation, reward, _, _, _ = self._environment.step(control)
            return data.qpos.copy(), np.concatenate([data.qvel, data.act, observation, [reward]])

        size = split + len(action)
        gradients = np.empty((split + self.observation_size + 1, size))
        change = np.empty(self.speeds)
        with _Exact(self.model):
            for column, move in enumerate(_STEP * np.eye(size)):
                (ahead, others), (behind, opposites) = end(move), end(-move)
                mujoco.mj_differentiatePos(self.model, change, 2 * _STEP, behind, ahead)
                gradients[: self.speeds, column] = change
                gradients[self.speeds :, column] = (others - opposites) / (2 * _STEP)
        return (gradients,)

    def observe(self, *arguments: np.ndarray) -> tuple[np.ndarray]:
        """The observation of a state after a displacement."""
        *state, displacement = arguments
        self._restore(state, displacement)
        return (self._environment._get_obs(),)

    def observe_gradients(self, *arguments: np.ndarray) -> tuple[np.ndarray]:
        """Central differences of the observation, `(observation_size, state_size)`."""
        *state, displacement = arguments

        def at(displacement: np.ndarray) -> np.ndarray:
            self._restore(state, displacement)
            return np.array(self._environment._get_obs())

        moves = _STEP * np.eye(self.state_size)
        columns = [at(displacement + move) - at(displacement - move) for move in moves]
        return (np.stack(columns, axis=-1) / (2 * _STEP),)

    def over(self, task: str, arrays: Sequence[np.ndarray]) -> list[list[Any]]:
        """One of the above for every item of some arrays.

        Args:
            task: Its name.
            arrays: Its arguments, with one leading axis.

        Returns:
            What it gives, per item; NaN where MuJoCo fails.
        """
        run: Callable[..., tuple[Any, ...]] = getattr(self, task)
        found: list[list[Any]] = []
        for item in zip(*arrays, strict=True):
            try:
                found.append(list(run(*item)))
            except mujoco.FatalError:
                mujoco.mj_resetData(self.model, self._data)
                found.append([np.nan])
        return found

    def _control(self, action: np.ndarray) -> np.ndarray:
        return self._middle + self._half * action

    def _stored(self) -> tuple[np.ndarray, ...]:
        data = self._data
        seen, forces = np.concatenate(self._kinematic), np.concatenate(self._forces)
        self._refresh()
        lag = seen - np.concatenate(self._kinematic)
        _scatter(self._kinematic, seen)
        state = (data.qpos, data.qvel, data.act, data.qacc_warmstart)
        return (*(part.copy() for part in state), lag, forces)

    def _restore(self, state: Sequence[np.ndarray], displacement: np.ndarray) -> None:
        data, speeds = self._data, self.speeds
        qpos, qvel, act, warmstart, lag, forces = state
        position = displacement[:speeds]
        data.qpos[:] = qpos
        data.qvel[:] = qvel + displacement[speeds : 2 * speeds]
        data.act[:] = act + displacement[2 * speeds :]
        data.qacc_warmstart[:] = warmstart
        if position.any():
            mujoco.mj_integratePos(self.model, data.qpos, position, 1.0)
        data.time = 0.0
        self._refresh()
        start = 0
        for part in self._kinematic:
            part += lag[start : start + part.size]
            start += part.size
        _scatter(self._forces, forces)

    def _refresh(self) -> None:
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_comPos(self.model, self._data)
        mujoco.mj_comVel(self.model, self._data)


def _scatter(parts: Sequence[np.ndarray], values: np.ndarray) -> None:
    start = 0
    for part in parts:
        part[:] = values[start : start + part.size]
        start += part.size


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
