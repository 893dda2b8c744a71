"""MuJoCo Playground's environments on MJX, differentiated through our implicit step."""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.frames import frames
from envs.parameters import integer
from envs.suites.shared import construct, goes_in_reverse, inside, known, moved_along, strong
from sobolax.environment import State
from sobolax.mjx import for_cpu, integrate_position, reason_against, step
from sobolax.mjx.engine import mjx

with contextlib.redirect_stdout(None), warnings.catch_warnings():
    # It prints what it could not import, and what it imports warns that it is no longer maintained.
    warnings.simplefilter("ignore")
    from mujoco_playground import registry
    from mujoco_playground._src import mjx_env

_REPLACING = threading.Lock()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Physics:
    """MJX's data and Playground's `info`, which holds keys, commands and last actions."""

    data: Any
    info: Any


class PlaygroundEnvironment:
    """An environment of `mujoco_playground`, with `impl="jax"`, behind our protocol.

    Its own code computes everything; only `mjx_env.step`, which all of its environments call, is
    replaced by the same loop over `sobolax.mjx.step` while one of them is traced, so that both
    modes of autodiff are exact at the solver's optimum. Where that does not cover the model
    (`derivatives_by` says so), it is MJX's own step, in forward mode.

    Local coordinates are `(dq, dv, d_activation)`. `perturb` computes positions, velocities and
    sensors of them anew; forces that sensors show are hidden state, like `info`. Actions are taken
    a millionth inside [-1, 1], for MuJoCo clamps controls at their limits.

    Args:
        name: As Playground calls it, say `"CartpoleBalance"`.
        iterations: Solver iterations, at most. Playground sets 1 to 4, which for some models
            is another map than the physics, with other derivatives; None leaves them, and MJX's own
            derivatives of that map.
        ls_iterations: Line-search iterations of each of them, at most.
        observation: Which of several observations the policy sees.
        **overrides: Of Playground's configuration, say `ctrl_dt=0.02`.

    Raises:
        ValueError: If Playground has no such environment, or needs to download models for it.
    """

    def __init__(
        self,
        name: str,
        iterations: int | None = 8,
        ls_iterations: int = 8,
        observation: str = "state",
        **overrides: Any,
    ):
        known("playground", name, registry.ALL_ENVS)
        downloads = name not in registry.dm_control_suite.ALL_ENVS
        if downloads and not mjx_env.MENAGERIE_PATH.exists():
            raise ValueError(
                f"Playground downloads the robots of {name!r} (mujoco_menagerie) when it is first "
                "loaded: where there is a network, call "
                "mujoco_playground._src.mjx_env.ensure_menagerie_exists() once"
            )
        overrides = {"impl": "jax", **overrides}
        self._environment: Any = construct(
            "playground",
            name,
            overrides,
            lambda: registry.load(name, config_overrides=overrides),
        )
        self.name = f"playground:{name}"
        self.mujoco_model = model = self._environment.mj_model
        if iterations is not None:
            self._set_solver(
                integer("iterations", iterations, 1), integer("ls_iterations", ls_iterations, 1)
            )
        self._model = self._environment.mjx_model
        reason = reason_against(self._model)
        converged = iterations is not None
        self.derivatives_by = "implicit" if reason is None and converged else "forward"
        self.dt = float(self._environment.dt)
        self.episode_length = int(self._environment._config.episode_length)
        self.action_size = int(self._environment.action_size)
        self.state_size = int(2 * model.nv + model.na)
        self._part = observation
        keys = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
        first = jax.eval_shape(self._environment.reset, keys)
        self.observation_size = int(self._observed(first.obs).shape[-1])

    @cached_property
    def reverse_mode(self) -> bool:
        """Whether `jax.vjp` goes through `step`: found by tracing it."""
        return goes_in_reverse(self)

    def reset(self, key: jax.Array) -> State:
        """Draws the first state of an episode."""
        # As Playground has its keys: plain numbers.
        state = self._state(self._environment.reset(jax.random.key_data(key)))
        zero = jnp.zeros_like(state.reward)
        return replace(state, reward=zero, discount=zero + 1)

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by one step of Playground's."""
        zero = jnp.zeros((), state.reward.dtype)
        before = mjx_env.State(
            state.physics.data, state.observation, state.reward, zero, state.metrics,
            state.physics.info,
        )  # fmt: skip
        with self._stepping():
            return self._state(self._environment.step(before, inside(action)))

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Moves positions, velocities and activations along the tangent space."""
        data, still = state.physics.data, jnp.all(displacement == 0)
        speeds = self.mujoco_model.nv
        dq, dv, da = jnp.split(displacement, (speeds, 2 * speeds))
        shifted = data.replace(
            qpos=integrate_position(self.mujoco_model, data.qpos, dq),
            qvel=data.qvel + dv,
            act=data.act + da,
        )
        moved = moved_along(data, self._anew(data), self._anew(shifted), still)
        moved = moved.replace(qacc_warmstart=data.qacc_warmstart)
        observation = moved_along(
            state.observation,
            self._observe(data, state.physics.info),
            self._observe(moved, state.physics.info),
            still,
        )
        return replace(state, physics=Physics(moved, state.physics.info), observation=observation)

    def frame(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Where every geom of `mujoco_model` is: `envs.frames.frames`."""
        return frames(self.mujoco_model, state.physics.data.qpos, state.physics.data.mocap_pos)

    def _anew(self, data: Any) -> Any:
        """What follows from positions and velocities."""

        def compute(data: Any) -> Any:
            for move in (mjx.fwd_position, mjx.sensor_pos, mjx.fwd_velocity, mjx.sensor_vel):
                data = move(self._model, data)
            return data

        return for_cpu(compute)(data)

    def _observe(self, data: Any, info: Any) -> jax.Array:
        return strong(
            self._observed(self._environment._get_obs(data, info)), jnp.result_type(float)
        )

    def _observed(self, observation: Any) -> Any:
        if not isinstance(observation, dict):
            return observation
        if self._part not in observation:
            raise ValueError(
                f"{self.name} has no observation {self._part!r}, but {', '.join(observation)}"
            )
        return observation[self._part]

    def _state(self, state: Any) -> State:
        dtype = jnp.result_type(float)
        return State(
            Physics(strong(state.data, dtype), strong(state.info, dtype)),
            strong(self._observed(state.obs), dtype),
            strong(state.reward, dtype).reshape(()),
            1.0 - jnp.asarray(state.done, dtype).reshape(()),
            strong(dict(state.metrics), dtype),
        )

    def _set_solver(self, iterations: int, ls_iterations: int) -> None:
        model = self._environment.mjx_model
        options = model.opt.replace(iterations=iterations, ls_iterations=ls_iterations)
        self._environment._mjx_model = model.replace(opt=options)

    @contextlib.contextmanager
    def _stepping(self) -> Iterator[None]:
        """`mjx_env.step` by our implicit step, for as long as something is traced."""
        if self.derivatives_by != "implicit":
            yield
            return

        def implicit(model: Any, data: Any, action: jax.Array, n_substeps: int = 1) -> Any:
            one = for_cpu(lambda data: step(model, data.replace(ctrl=action)))
            return jax.lax.scan(lambda carry, _: (one(carry), None), data, (), n_substeps)[0]

        with _REPLACING:
            original, mjx_env.step = mjx_env.step, implicit
            try:
                yield
            finally:
                mjx_env.step = original
