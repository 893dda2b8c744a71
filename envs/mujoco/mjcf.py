"""A robot of your own: an MJCF model and a reward function are an environment."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import parameters
from envs.mujoco.base import MujocoEnvironment
from envs.mujoco.left_out import reason_left_out
from envs.mujoco.physics import Physics
from sobolax.mjx import for_cpu, integrate_position
from sobolax.mjx.engine import MjModel, mjx, mujoco


class MjcfEnvironment(MujocoEnvironment):
    """An environment from an MJCF model: a subclass sets `xml` and defines `reward`.

    Actions in [-1, 1] span each actuator's `ctrlrange`; where it has none, the control is the
    action. An episode starts at the model's first keyframe, or at `qpos0` at rest, moved by uniform
    noise in local coordinates.

    Attributes:
        xml: The MJCF as text, or the path of a file; a relative one starts at the folder of the
            file whose class sets it, for subclasses of that class too.
        frame_skip: Physics steps per environment step.
        episode_length: Environment steps after which an episode is truncated.
        reset_noise: Largest displacement of the first positions and velocities, in m, rad and per
            second.
        name: What people call it; the name of the class in lower case if left out.

    Args:
        integrator: `"euler"`, `"implicitfast"` or `"rk4"`; None for the model's own.
        iterations: Solver iterations, at most; they replace the model's.
        ls_iterations: Line-search iterations of each of them, at most.

    Raises:
        ValueError: If the model cannot be read, MJX cannot simulate it, its own integrator has no
            implicit derivatives, or it has no degrees of freedom or no actuators.
    """

    xml: str | Path
    frame_skip: int = 1
    episode_length: int = 1000
    reset_noise: float = 0.01
    sees_geometry = True

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = cls.__name__.lower()

    def __init__(self, integrator: str | None = None, iterations: int = 8, ls_iterations: int = 8):
        frame_skip = parameters.integer(f"{self.name}: frame_skip", self.frame_skip, 1)
        parameters.at_least(f"{self.name}: reset_noise", self.reset_noise, 0.0)
        model = self._load()
        for count, part, add in (
            (model.nv, "degrees of freedom", "a <joint> or a <freejoint/>"),
            (model.nu, "actuators, and so no actions", "a <motor> to its <actuator>"),
        ):
            if count == 0:
                raise ValueError(f"{self.name}: the model has no {part}: add {add}")
        if (reason := reason_left_out(model)) is not None:
            raise ValueError(f"{self.name}: {reason}")
        limited = model.actuator_ctrllimited.astype(bool)
        low, high = np.where(limited[:, None], model.actuator_ctrlrange, [-1.0, 1.0]).T
        self._middle, self._half_range = (low + high) / 2, (high - low) / 2
        start = mujoco.MjData(model)
        if model.nkey:
            mujoco.mj_resetDataKeyframe(model, start, 0)
        if not np.array_equal(start.mocap_quat, mujoco.MjData(model).mocap_quat):
            raise ValueError(
                f"{self.name}: the first keyframe turns a mocap body (mquat), and a state keeps "
                "their places alone: turn the body in the model instead"
            )
        self._first = tuple(
            part.copy() for part in (start.qpos, start.qvel, start.act, start.mocap_pos)
        )
        try:
            super().__init__(model, frame_skip, integrator, iterations, ls_iterations)
        except NotImplementedError as error:
            raise ValueError(f"{self.name}: MJX cannot simulate this model: {error}") from error

    # ---- what a subclass defines

    def reward(self, before: Physics, action: jax.Array, after: Physics) -> jax.Array:
        """The reward of a step from `before` to `after`, `()`; `action` is `(action_size,)`."""
        raise ValueError(f"{self.name}: define reward(self, before, action, after)")

    def observation(self, physics: Physics) -> jax.Array:
        """What the policy sees, `(observation_size,)`: all positions and velocities."""
        return jnp.concatenate([physics.qpos, physics.qvel])

    def terminated(self, physics: Physics) -> jax.Array:
        """Whether the episode ends here for good, `()` bool: never."""
        return jnp.zeros((), bool)

    # ---- tools for it

    def check_rewards(self, gradients: bool) -> None:
        """Refuses rewards and observations that are not finite where an episode begins.

        A reward and an observation are computed, and differentiated if they have to be, around one
        first state, and the observation there as well. What goes wrong only elsewhere is not found.

        Args:
            gradients: Whether their derivatives, in forward mode, are used.

        Raises:
            ValueError: If a number, or a derivative that is used, is not finite or does not exist.
        """
        state_key, move_key, action_key = jax.random.split(jax.random.key(0), 3)

        def numbers(
            before: jax.Array, after: jax.Array, action: jax.Array
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            physics = self._start(state_key).physics
            earlier, later = (self._perturb_physics(physics, part) for part in (before, after))
            reward = self._assess(earlier, action, later)[0]
            return reward, self.observe(later), self.observe(earlier)

        still = jnp.zeros(self.state_size)
        # As far as a step may go; two equal states have a distance without a derivative.
        moved = 0.01 * jax.random.normal(move_key, still.shape)
        action = jax.random.uniform(action_key, (self.action_size,), minval=-1.0)
        at = still, moved, action
        found: list[tuple[str, Any]] = [("", jax.jit(numbers)(*at))]
        if gradients:
            # Along a direction that has a part in every number.
            direction = jnp.ones_like(still), jnp.ones_like(still), jnp.ones_like(action)
            try:
                slopes = jax.jit(lambda at, along: jax.jvp(numbers, at, along)[1])(at, direction)
            except Exception as error:  # of any class: it is other people's code
                text = str(error).partition("\n")[0]
                raise ValueError(
                    f"{self.name}: reward and observation cannot be differentiated in forward "
                    f"mode: {type(error).__name__}: {text} Write them in jax.numpy, or train "
                    "without gradients: --first-order off"
                ) from error
            found.append(("the derivative of ", slopes))
        names = ("reward", "observation", "observation")
        for of, numbers_found in found:
            for what, value in zip(names, numbers_found, strict=True):
                if not np.isfinite(value).all():
                    raise ValueError(
                        f"{self.name}: {of}{what} is not finite where an episode begins: "
                        f"{_first_bad(np.asarray(value))}. {_REMEDY if of else _CAUSE}"
                    )

    def site(self, physics: Physics, name: str) -> jax.Array:
        """Where a site of the model is in the world (m), `(3,)`."""
        return self._kinematics(physics).site_xpos[self.mujoco_model.site(name).id]

    def body(self, physics: Physics, name: str) -> jax.Array:
        """Where the frame of a body of the model is in the world (m), `(3,)`."""
        return self._kinematics(physics).xpos[self.mujoco_model.body(name).id]

    # ---- the rest

    def _load(self) -> MjModel:
        if not hasattr(self, "xml"):
            raise ValueError(f"{self.name}: set xml to the MJCF, as text or as the path of a file")
        text = str(self.xml)
        try:
            if text.lstrip().startswith("<"):
                return mujoco.MjModel.from_xml_string(text)
            return mujoco.MjModel.from_xml_path(str(_folder_of(self._owner_of_xml()) / text))
        except ValueError as error:
            raise ValueError(f"{self.name}: MuJoCo cannot read the model: {error}") from error

    def _owner_of_xml(self) -> type:
        owners = (cls for cls in type(self).__mro__ if "xml" in vars(cls))
        return type(self) if "xml" in vars(self) else next(owners, type(self))

    def _kinematics(self, physics: Physics) -> mjx.Data:
        data = self._data.replace(qpos=physics.qpos, mocap_pos=physics.mocap_pos)
        model = self._model_of(physics)
        return for_cpu(lambda data: mjx.kinematics(model, data))(data)

    def _control(self, action: jax.Array) -> jax.Array:
        middle, half_range = (
            jnp.asarray(part, action.dtype) for part in (self._middle, self._half_range)
        )
        return middle + half_range * action

    def _reset_physics(self, key: jax.Array) -> Physics:
        count = 2 * self.mujoco_model.nv
        limit = self.reset_noise
        noise = jax.random.uniform(key, (count,), jnp.result_type(float), -limit, limit)
        moved, faster = jnp.split(noise, 2)
        qpos, qvel, act, mocap_pos = (jnp.asarray(part, noise.dtype) for part in self._first)
        qpos = integrate_position(self.mujoco_model, qpos, moved)
        return replace(self._physics(qpos, qvel + faster, mocap_pos), act=act)

    def _observe(self, physics: Physics) -> jax.Array:
        return self.observation(physics)

    def _assess(
        self, before: Physics, action: jax.Array, after: Physics
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        reward = self.reward(before, action, after)
        if reward is None:
            raise ValueError(f"{self.name}: reward(self, before, action, after) returns nothing")
        return jnp.asarray(reward), jnp.asarray(self.terminated(after)), {}


_CAUSE = "Look for a division by zero, or a root or logarithm of a negative number"
_REMEDY = (
    "A square root or a norm has none at zero: write sqrt(x + 1e-6), or train without gradients: "
    "--first-order off"
)


def _first_bad(value: np.ndarray) -> str:
    """The first number that is not finite, and where it stands in a vector."""
    [place, *_] = np.flatnonzero(~np.isfinite(value))
    return f"{value.ravel()[place]}" + (f" at index {place}" if value.ndim else "")


def _folder_of(cls: type) -> Path:
    try:
        return Path(inspect.getfile(cls)).parent
    except (TypeError, OSError):  # typed into a console
        return Path()
