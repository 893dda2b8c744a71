"""Gymnasium's MuJoCo environments: the C engine, with derivatives by central differences."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from envs.frames import frames
from envs.parameters import choice, integer
from envs.suites.gymnasium_host import Host
from envs.suites.gymnasium_simulator import INTEGRATORS
from envs.suites.shared import construct, known
from sobolax.environment import State, anchored


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Physics:
    """The host's state, and its displacement before the next step, `(state_size,)`.

    The displacement is zero but after `perturb`; gradients in local coordinates are its tangents.
    """

    host: tuple[jax.Array, ...]
    displacement: jax.Array


class GymnasiumEnvironment:
    """A MuJoCo environment of Gymnasium, unmodified: its `step`, `_get_obs` and `reset_model`.

    The host steps and differences it in float64, on all cores; compiled programs call it. Gradients
    are central differences of the whole step, so that `jax.jvp`, `jax.vjp` and every way to compute
    tangents go through it: any of them costs a Jacobian, `2 (state_size + action_size)` steps.
    Their solver iterates until it has converged. Local coordinates are `(dq, dv, d_activation)`.

    What observations show of forces of the last step is held fixed under `perturb`. Actions in
    [-1, 1] are scaled to Gymnasium's box; MuJoCo's own clamp of the control, at the same place, is
    taken off, for a difference across it is half the gradient. The time limit becomes
    `episode_length`.

    Args:
        name: As Gymnasium calls it, say `"Ant-v5"`.
        integrator: `"euler"`, `"implicitfast"` or `"rk4"`; None for the model's own.
        **parameters: What Gymnasium's environment takes; `max_episode_steps` as in
            `gymnasium.make`, which is the time limit.

    Raises:
        ValueError: If Gymnasium has no such environment, it is not one of MuJoCo's, or a parameter
            cannot be.
    """

    reverse_mode = True
    numerical = True  # gradients are differences

    def __init__(self, name: str, integrator: str | None = None, **parameters: Any):
        known("gymnasium", name, mujoco_names())
        if integrator is not None:
            choice("integrator", integrator, tuple(INTEGRATORS))
        self.name = f"gymnasium:{name}"
        limit = parameters.pop("max_episode_steps", None)
        if limit is None:
            limit = gymnasium.spec(name).max_episode_steps or 1000
        self.episode_length = integer("max_episode_steps", limit, 1)
        make = functools.partial(Host, name, integrator, parameters)
        self._host = construct("gymnasium", name, parameters, make)
        self.mujoco_model, self.dt = self._host.model, self._host.dt
        self.observation_size = self._host.observation_size
        self.action_size = int(self._host.model.nu)
        self.state_size = int(self._host.state_size)

    def reset(self, key: jax.Array) -> State:
        """Draws the first state of an episode, by Gymnasium's own generator."""
        dtype = jnp.result_type(float)
        sizes = (*self._host.sizes, self.observation_size)
        # Gymnasium's seeds are not negative.
        seed = jax.random.bits(key, dtype=jnp.uint32)
        *host, observation = _call(self._host.reset, [(size,) for size in sizes], dtype, seed)
        physics = Physics(tuple(host), jnp.zeros(self.state_size, dtype))
        zero = jnp.zeros((), dtype)
        return State(physics, observation, zero, zero + 1, {})

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by one step of Gymnasium's."""
        physics, dtype = state.physics, state.observation.dtype
        shapes = [(size,) for size in (*self._host.sizes, self.observation_size, 1, 1)]
        held = jax.lax.stop_gradient((*physics.host, physics.displacement, action))
        *host, observation, reward, terminated = _call(self._host.step, shapes, dtype, *held)
        values = jnp.concatenate([jnp.zeros(self.state_size, dtype), observation, reward])
        inputs = jnp.concatenate([physics.displacement, action.astype(dtype)])
        moved = _with_jacobian(self._host.step_gradients, values, inputs, held)
        displacement, observation, reward = jnp.split(moved, [self.state_size, moved.size - 1])
        # Not 1 - terminated: NaN, where the simulator failed, does not end an episode for good.
        discount = jnp.where(terminated[0] > 0, 0.0, jnp.ones_like(reward[0]))
        return State(Physics(tuple(host), displacement), observation, reward[0], discount, {})

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Displaces positions (along their tangent space), velocities and activations."""
        physics, dtype = state.physics, state.observation.dtype
        moved = physics.displacement + displacement.astype(dtype)
        held = jax.lax.stop_gradient((*physics.host, moved))
        (value,) = _call(self._host.observe, [(self.observation_size,)], dtype, *held)
        observation = _with_jacobian(self._host.observe_gradients, value, moved, held)
        observation = anchored(observation, state, displacement)
        return replace(state, physics=Physics(physics.host, moved), observation=observation)

    def frame(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Where every geom of `mujoco_model` is: `envs.frames.frames`."""
        return frames(self.mujoco_model, state.physics.host[0])


def mujoco_names() -> tuple[str, ...]:
    """Gymnasium's MuJoCo environments that run on MuJoCo's own bindings."""
    return tuple(
        name
        for name, spec in gymnasium.registry.items()
        if str(spec.entry_point).startswith("gymnasium.envs.mujoco") and spec.version in (4, 5)
    )


def _call(
    function: Callable[..., tuple[np.ndarray, ...]],
    shapes: Sequence[tuple[int, ...]],
    dtype: Any,
    *arguments: jax.Array,
) -> list[jax.Array]:
    """One callback, for a whole batch under `vmap`.

    Float64 travels as bits: a thread without it enabled, as the callback's when
    `jax.enable_x64` is a context, would round what comes and goes to float32.
    """
    double = dtype == jnp.float64
    floats = [jnp.issubdtype(argument.dtype, jnp.floating) for argument in arguments]

    def host(*arguments: Any) -> tuple[np.ndarray, ...]:
        numbers = [np.asarray(argument) for argument in arguments]
        if double:
            numbers = [
                np.ascontiguousarray(part).view(np.float64)[..., 0] if is_float else part
                for part, is_float in zip(numbers, floats, strict=True)
            ]
        with np.errstate(over="ignore"):  # in float32: infinite, as it should be
            found = [part.astype(dtype) for part in function(*numbers)]
        return tuple(part[..., None].view(np.uint32) if double else part for part in found)

    if not double:
        results = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
        return list(jax.pure_callback(host, results, *arguments, vmap_method="expand_dims"))
    results = tuple(jax.ShapeDtypeStruct((*shape, 2), jnp.uint32) for shape in shapes)
    bits = [
        jax.lax.bitcast_convert_type(argument, jnp.uint32) if is_float else argument
        for argument, is_float in zip(arguments, floats, strict=True)
    ]
    found = jax.pure_callback(host, results, *bits, vmap_method="expand_dims")
    return [jax.lax.bitcast_convert_type(part, dtype) for part in found]


def _with_jacobian(
    gradients: Callable[..., tuple[np.ndarray, ...]],
    values: jax.Array,
    inputs: jax.Array,
    held: tuple[jax.Array, ...],
) -> jax.Array:
    """`values`, with the Jacobian `gradients(held)` with respect to `inputs`."""
    shape = (values.size, inputs.size)

    @jax.custom_jvp
    def attach(values: jax.Array, inputs: jax.Array, held: tuple[jax.Array, ...]) -> jax.Array:
        return values

    @attach.defjvp
    def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        values, _, held = primals
        [jacobian] = _call(gradients, [shape], values.dtype, *held)
        # In full precision: accelerators would round to 10 bits by default.
        return values, jnp.matmul(jacobian, tangents[1], precision="highest")

    return attach(values, inputs, held)
