"""The environments of gymnax that declare their transitions differentiable."""

from dataclasses import replace
from typing import Any

import gymnax
import jax
import jax.numpy as jnp

from envs.parameters import integer
from envs.suites.shared import construct, inside, known, strong
from sobolax.environment import State, anchored

_UNLIMITED = 2**30  # steps; a time limit is the caller's


class GymnaxEnvironment:
    """An environment of gymnax, unmodified, with its transition gradients switched on.

    Local coordinates are the floating-point numbers of gymnax's state in its own order, without
    what it only keeps for pictures (`last_...`). Actions in [-1, 1] are scaled to gymnax's box and
    taken a millionth inside it, for gymnax clips them there. `step_env` is called, which resets
    nothing; the time limit becomes `episode_length`.

    Args:
        name: As gymnax calls it, say `"Pendulum-v1"`.
        **parameters: Fields of its `EnvParams`, say `g=9.81`.

    Raises:
        ValueError: If gymnax has no such environment, if it declares no differentiable
            transitions, or if a parameter is unknown.
    """

    reverse_mode = True

    def __init__(self, name: str, **parameters: Any):
        known("gymnax", name, gymnax.registered_envs)
        environment, options = gymnax.make(name)
        if not environment.supports_transition_gradients:
            raise ValueError(
                f"gymnax declares no differentiable transitions for {name!r}: take one "
                f"that it does, {', '.join(differentiable())}"
            )
        unknown = sorted(set(parameters) - set(vars(options)))
        if unknown:
            raise ValueError(
                f"gymnax's {name!r} has no parameter {unknown[0]!r}; it takes "
                f"{', '.join(sorted(vars(options)))}"
            )
        options = options.replace(**parameters)
        self.name = f"gymnax:{name}"
        self.episode_length = integer("max_steps_in_episode", options.max_steps_in_episode, 1)
        self._options = options.replace(max_steps_in_episode=_UNLIMITED)
        self._environment: Any = environment.with_transition_gradients()
        box = self._environment.action_space(options)
        self.action_size = int(jnp.prod(jnp.asarray(box.shape or (1,))))
        self._shape = box.shape
        self._middle = (jnp.asarray(box.high) + jnp.asarray(box.low)) / 2
        self._half = (jnp.asarray(box.high) - jnp.asarray(box.low)) / 2
        observation, state = construct(
            "gymnax",
            name,
            parameters,
            lambda: jax.eval_shape(
                lambda: self._environment.reset_env(jax.random.key(0), self._options)
            ),
        )
        self.observation_size = int(observation.size)
        self.state_size = sum(leaf.size for path, leaf in _leaves(state) if _moves(path, leaf))

    def reset(self, key: jax.Array) -> State:
        """Draws the first state of an episode."""
        observation, state = self._environment.reset_env(key, self._options)
        return self._state(observation, state, 0.0, False)

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by one step of gymnax's, with the same key every time."""
        scaled = self._middle + self._half * inside(action).reshape(self._shape)
        observation, next_state, reward, done, _ = self._environment.step_env(
            jax.random.key(0), state.physics, scaled, self._options
        )
        return self._state(observation, next_state, reward, done)

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Adds to the floating-point numbers of gymnax's state."""
        flat, structure = jax.tree_util.tree_flatten_with_path(state.physics)
        moved, start = [], 0
        for path, leaf in flat:
            if _moves(path, leaf):
                change = displacement[start : start + leaf.size].reshape(leaf.shape)
                leaf, start = leaf + change.astype(leaf.dtype), start + leaf.size
            moved.append(leaf)
        physics = jax.tree_util.tree_unflatten(structure, moved)
        observation = self._environment.observe(
            jax.random.key(0), physics, None, self._options
        ).reshape(-1)
        observation = observation.astype(state.observation.dtype)
        return replace(
            state, physics=physics, observation=anchored(observation, state, displacement)
        )

    def _state(self, observation: Any, state: Any, reward: Any, done: Any) -> State:
        dtype = jnp.result_type(float)
        return State(
            strong(state, dtype),
            strong(observation, dtype).reshape(-1),
            strong(reward, dtype).reshape(()),
            1.0 - jnp.asarray(done, dtype).reshape(()),
            {},
        )


def differentiable() -> tuple[str, ...]:
    """The environments that gymnax declares differentiable."""
    return tuple(
        name
        for name in sorted(gymnax.registered_envs)
        # These have no continuous state, and one of them downloads its images when it is made.
        if not name.endswith("-bsuite") and gymnax.make(name)[0].supports_transition_gradients
    )


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(tree)[0]


def _moves(path: Any, leaf: Any) -> bool:
    # Numbers that the next state does not depend on: only for pictures.
    hidden = str(getattr(path[-1], "name", "")).startswith("last_")
    return not hidden and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
