"""Brax's environments, on any of its four backends."""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.frames import frames
from envs.parameters import choice, integer
from envs.suites.shared import construct, goes_in_reverse, inside, known, moved_along, strong
from sobolax.environment import State
from sobolax.mjx import integrate_position  # before brax: it drops what MJX prints

with warnings.catch_warnings():
    # It says that it is no longer maintained, to whoever imports it.
    warnings.simplefilter("ignore")
    from brax import envs as brax

BACKENDS = ("generalized", "positional", "spring", "mjx")
# Of mjx: where its solver starts is hidden state.
_HIDDEN = ("qacc_warmstart",)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Physics:
    """Brax's own state of the simulation, and the last action, which some observations show."""

    pipeline: Any
    action: jax.Array


class BraxEnvironment:
    """An environment of `brax.envs`, unmodified: physics, observation, reward and end are Brax's.

    Local coordinates are those of `(q, qd)`, of sizes `nv` and `nv`; a quaternion has three. The
    other numbers of Brax's state move as `pipeline.init(q, qd)` does. On `positional` and `spring`,
    which keep bodies and not joints, what joints are stretched is hidden state, and stays.

    An episode is not cut and nothing is reset: Brax leaves that to wrappers, which are not here.
    Actions are taken a millionth inside their limits, for Brax clips them there.

    Args:
        name: As Brax calls it, say `"reacher"`.
        backend: `"generalized"`, `"positional"`, `"spring"` or `"mjx"`.
        episode_length: Steps after which the caller truncates; 1000 is what Brax trains with.
        **parameters: What the constructor of Brax's environment takes.

    Raises:
        ValueError: If Brax has no such environment or backend.
    """

    def __init__(
        self,
        name: str,
        backend: str = "generalized",
        episode_length: int = 1000,
        **parameters: Any,
    ):
        known("brax", name, set(brax._envs) - {"fast"})
        self.backend = choice("backend", backend, BACKENDS)
        self.episode_length = integer("episode_length", episode_length, 1)
        self.name = f"brax:{name}"
        # Any: its methods for observing are its own.
        self._environment: Any = construct(
            "brax", name, parameters, lambda: _make(name, self.backend, parameters)
        )
        self._system = self._environment.sys
        self.mujoco_model, self.dt = self._system.mj_model, float(self._environment.dt)
        self.action_size = int(self._environment.action_size)
        self.state_size = 2 * int(self._system.qd_size())
        key = jax.eval_shape(lambda: jax.random.key(0))
        first: Any = construct(
            "brax", name, parameters, lambda: jax.eval_shape(self._environment.reset, key)
        )
        self.observation_size = int(first.obs.shape[-1])
        self._dtype = first.obs.dtype

    @cached_property
    def reverse_mode(self) -> bool:
        """Whether `jax.vjp` goes through `step`: found by tracing it."""
        return goes_in_reverse(self)

    def reset(self, key: jax.Array) -> State:
        """Draws the first state of an episode."""
        state = self._environment.reset(key)
        state = self._state(state, jnp.zeros(self.action_size, self._dtype))
        zero = jnp.zeros((), self._dtype)
        return replace(state, reward=zero, discount=zero + 1)

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by one step of Brax's."""
        before = self._brax_state(state)
        return self._state(self._environment.step(before, inside(action)), action)

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Moves `(q, qd)` along its tangent space."""
        still = jnp.all(displacement == 0)
        pipeline = state.physics.pipeline
        before = self._initial(pipeline.q, pipeline.qd)
        after = self._initial(*self._moved(pipeline.q, pipeline.qd, displacement))
        moved = _keeping(pipeline, moved_along(pipeline, before, after, still))
        action = state.physics.action
        observation = moved_along(
            state.observation, self._observe(pipeline, action), self._observe(moved, action), still
        )
        return replace(state, physics=Physics(moved, action), observation=observation)

    def frame(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Where every geom of `mujoco_model` is: `envs.frames.frames`."""
        return frames(self.mujoco_model, state.physics.pipeline.q)

    def _moved(self, q: jax.Array, qd: jax.Array, displacement: jax.Array):
        dq, dqd = jnp.split(displacement, 2)
        return integrate_position(self.mujoco_model, q, dq), qd + dqd

    def _initial(self, q: jax.Array, qd: jax.Array) -> Any:
        return strong(self._environment.pipeline_init(q, qd), self._dtype)

    def _observe(self, pipeline: Any, action: jax.Array) -> jax.Array:
        observe = self._environment._get_obs
        arguments = (pipeline, action)[: observe.__code__.co_argcount - 1]
        return observe(*arguments).astype(self._dtype)

    def _brax_state(self, state: State) -> Any:
        zero = jnp.zeros((), self._dtype)
        return brax.State(
            state.physics.pipeline, state.observation, state.reward, zero, state.metrics, {}
        )

    def _state(self, state: Any, action: jax.Array) -> State:
        return State(
            Physics(strong(state.pipeline_state, self._dtype), action),
            strong(state.obs, self._dtype),
            strong(state.reward, self._dtype),
            1.0 - jnp.asarray(state.done, self._dtype),
            strong(dict(state.metrics), self._dtype),
        )


def _make(name: str, backend: str, parameters: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return brax.get_environment(name, backend=backend, **parameters)


def _keeping(stored: Any, moved: Any) -> Any:
    hidden = {name: getattr(stored, name) for name in _HIDDEN if hasattr(stored, name)}
    return moved.replace(**hidden)
