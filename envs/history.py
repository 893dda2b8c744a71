"""The last few observations as one, around any environment: for what a single one does not show.

A policy that sees positions alone cannot know speeds; from two observations it can. Tangents of a
stack are right by construction: a displacement moves the physics, and with it the newest
observation only, for the past has happened; after a step the observation of the state that was
displaced is part of the next stack, and moves with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from envs import parameters
from sobolax.environment import Environment, State, actor_observations
from sobolax.tangents.forward import TangentFunction, transition_to
from sobolax.tangents.methods import own_derivatives
from sobolax.transition import Tangents, Transition

# What commands and controls use beside the protocol, where an environment has it.
_PASSED_ON = (
    "state_names",
    "action_names",
    "mujoco_model",
    "dt",
    "numerical",
    "check_rewards",
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Remembered:
    """The physics of a state with a history.

    Attributes:
        physics: Of the environment itself.
        past: The observations before the newest, the oldest first,
            `(length - 1, observation_size)` with the size of one of them.
    """

    physics: Any
    past: jax.Array


class History:
    """An environment whose observation is its last ones, the oldest first; made by `history`.

    Attributes:
        environment: The environment itself.
        length: How many observations are stacked.
        own_derivatives: Those of the environment, of stacks.
    """

    def __init__(self, environment: Environment, length: int):
        self.environment, self.length = environment, length
        self.name, self.episode_length = environment.name, environment.episode_length
        self.action_size, self.state_size = environment.action_size, environment.state_size
        size = environment.observation_size
        self.observation_size = length * size
        # Of every observation, the policy sees the same part.
        part = actor_observations(environment)
        self.actor_observations = part and tuple(
            start + one for start in range(0, length * size, size) for one in part
        )
        for name in _PASSED_ON:
            if hasattr(environment, name):
                setattr(self, name, getattr(environment, name))
        for name in ("coordinates", "frame"):
            if (function := getattr(environment, name, None)) is not None:
                setattr(self, name, self._of_inner(function))
        self.own_derivatives: Mapping[str, TangentFunction | str] = {
            name: found if isinstance(found, str) else self._of_stacks(found)
            for name, found in own_derivatives(environment).items()
        }

    @property
    def reverse_mode(self) -> bool:
        """Whether `jax.vjp` goes through `step`."""
        return self.environment.reverse_mode

    def reset(self, key: jax.Array) -> State:
        """Draws the first state of an episode; its past is copies of the first observation."""
        state = self.environment.reset(key)
        past = jnp.broadcast_to(state.observation, (self.length - 1, state.observation.size))
        return _stacked(state, past)

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by one step; the oldest observation is dropped."""
        return self._shifted(state, self.environment.step(self.inner(state), action))

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Moves the physics, and the newest observation with it; the past stays."""
        moved = self.environment.perturb(self.inner(state), displacement)
        return self.with_inner(state, moved)

    def inner(self, state: State) -> State:
        """The state of the environment itself; leading axes may be stacked."""
        size = self.environment.observation_size
        newest = state.observation[..., -size:]
        return replace(state, physics=state.physics.physics, observation=newest)

    def with_inner(self, state: State, inner: State) -> State:
        """`inner` with the past of `state`."""
        return _stacked(inner, state.physics.past)

    def _shifted(self, state: State, after: State) -> State:
        seen = state.observation.reshape(self.length, -1)
        return _stacked(after, seen[1:])

    def _of_inner(self, function: Callable[[State], Any]) -> Callable[[State], Any]:
        return lambda state: function(self.inner(state))

    def _of_stacks(self, compute: TangentFunction) -> TangentFunction:
        """Tangents of stacks, from what computes those of single observations."""

        def stacked(key, state, action, state_directions, action_directions):
            _, after, tangents = compute(
                key, self.inner(state), action, state_directions, action_directions
            )
            next_state = self._shifted(state, after)
            transition = transition_to(next_state, state.observation, action)
            along_state = self._moved(transition, tangents.state, state_directions.shape[-1])
            along_action = self._moved(transition, tangents.action, action_directions.shape[-1])
            return transition, next_state, Tangents(along_state, along_action)

        return stacked

    def _moved(self, transition: Transition, tangent: Transition, count: int) -> Transition:
        """A tangent of stacks: zero in the past, the current observation in the next stack."""
        size, dtype = self.environment.observation_size, transition.observation.dtype
        past = jnp.zeros(((self.length - 1) * size, count), dtype)
        still = jnp.zeros((size, count), dtype)
        now, after = (
            still if part is None else part
            for part in (tangent.observation, tangent.next_observation)
        )
        stack = jnp.concatenate([past, now])
        return replace(
            tangent,
            observation=None if tangent.observation is None else stack,
            next_observation=jnp.concatenate([stack[size:], after]),
        )


def history(environment: Environment, length: int) -> History:
    """The same environment, observed by its last `length` observations.

    An observation is `(length * observation_size,)`, the oldest first and the newest last; a reset
    fills it with copies of the first. The past is hidden state: `perturb` leaves it alone, and
    `state_size` is that of the environment. Every way to compute tangents that works for the
    environment works for its stacks.

    Args:
        environment: Any environment; it is not changed. Randomise it before.
        length: How many observations, at least 1.

    Raises:
        ValueError: If the length is no whole number of at least 1, or the environment has a history
            already.

    Example:
        >>> from sobolax.cart import Cart
        >>> remembering = history(Cart(), 2)
        >>> state = remembering.step(remembering.reset(jax.random.key(0)), jnp.ones(1))
        >>> state.observation.shape, state.observation[1::2].tolist()  # speeds, before and after
        ((4,), [0.0, 0.5])
    """
    if isinstance(environment, History):
        raise ValueError(
            f"{environment.name} has a history already, of {environment.length} observations: give "
            "the length once"
        )
    return History(environment, parameters.integer("history", length, 1))


def _stacked(state: State, past: jax.Array) -> State:
    observation = jnp.concatenate([past.ravel(), state.observation])
    return replace(state, physics=Remembered(state.physics, past), observation=observation)
