"""What an environment offers so that its transitions can be differentiated."""

import operator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """The state of one environment.

    Attributes:
        physics: Whatever the environment needs to go on, any pytree of arrays.
        observation: What the agent sees, `(observation_size,)`; its policy may see a part of it
            (`actor_observations`).
        reward: The reward of the step that led here, `()`; 0 after a reset.
        discount: 1, or 0 where the episode ended here for good, `()`, of the observation's type. A
            time limit leaves it at 1: truncation is not termination.
        metrics: Named scalars of the step, for people (say a distance to a target).

    Example:
        >>> from sobolax.cart import Cart
        >>> state = Cart().at(1.0, 0.0)
        >>> state.observation.tolist(), float(state.reward), float(state.discount)
        ([1.0, 0.0], 0.0, 1.0)
    """

    physics: Any
    observation: jax.Array
    reward: jax.Array
    discount: jax.Array
    metrics: dict[str, jax.Array]


@runtime_checkable
class Environment(Protocol):
    """A differentiable environment: pure functions of one unbatched state; the caller `vmap`s.

    Attributes:
        name: What people call it.
        observation_size: Numbers in an observation.
        action_size: Numbers in an action; every action lies in [-1, 1].
        state_size: Directions in which the physics state can move (its local coordinates).
        episode_length: Steps after which an episode is truncated, by the caller: `step` counts
            nothing and resets nothing.
        reverse_mode: Whether `jax.vjp` goes through `step`; forward mode always does.

    Example:
        >>> from sobolax.cart import Cart
        >>> isinstance(Cart(), Environment)  # it has every part of the protocol
        True
    """

    name: str
    observation_size: int
    action_size: int
    state_size: int
    episode_length: int
    reverse_mode: bool

    def reset(self, key: jax.Array) -> State:
        """Draws the first state of an episode."""
        ...

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by one step, without any automatic reset; `action` in [-1, 1]."""
        ...

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Moves the physics state along its tangent space and observes it anew.

        `perturb(state, zeros)` equals `state` to the last bit in `physics` and `observation`.
        Only what belongs to the physics state moves: hidden state (a solver's warm start, a
        command) stays as it is. `reward`, `discount` and `metrics` are left alone.

        Args:
            state: Where to start.
            displacement: How far to move, `(state_size,)`; for MuJoCo `(dq, dv, d_activation)`
                of sizes `nv`, `nv` and `na`, with `dq` in the tangent space of `qpos`.
        """
        ...


def coordinate_names(environment: Environment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What people call the coordinates of a displacement and of an action.

    An environment may name them in `state_names` and `action_names`, tuples of different names; the
    others' are numbered.

    Returns:
        `state_size` names and `action_size` names.

    Raises:
        ValueError: If there are more or fewer names than that, or some are the same.

    Example:
        >>> from sobolax.cart import Cart
        >>> coordinate_names(Cart())
        (('position', 'speed'), ('action 0',))
    """
    return _names(environment, "state"), _names(environment, "action")


def _names(environment: Environment, kind: str) -> tuple[str, ...]:
    attribute, counted = f"{kind}_names", f"{kind}_size"
    size, given = getattr(environment, counted), getattr(environment, attribute, None)
    if given is None:
        return tuple(f"{kind} {i}" for i in range(size))
    names = tuple(given) if isinstance(given, tuple | list) else ()
    if len(names) != size or len(set(names)) < size:
        raise ValueError(
            f"environment {environment.name!r}: {attribute} is {given!r}, but must be {size} "
            f"different names, as {counted} says: name every one, or leave {attribute} out"
        )
    return names


def actor_observations(environment: Environment) -> tuple[int, ...] | None:
    """Which numbers of an observation the policy sees; critics see all of them.

    An environment may say it in `actor_observations`, different indices of numbers of its
    observation. None, or no such attribute, stands for all.

    Raises:
        ValueError: If they are no such indices.

    Example:
        >>> from sobolax.cart import Cart
        >>> cart = Cart()
        >>> cart.actor_observations = (0,)  # the position; the speed is for the critics
        >>> actor_observations(cart), actor_observations(Cart())
        ((0,), None)
    """
    given: Any = getattr(environment, "actor_observations", None)
    what = f"environment {environment.name!r}: actor_observations"
    return None if given is None else seen_indices(what, given, environment.observation_size)


def seen_indices(what: str, given: Any, size: int) -> tuple[int, ...]:
    """Checks indices of numbers of an observation of that size; JAX would read others instead.

    Raises:
        ValueError: If there are none, two are the same, or one is out of range.

    Example:
        >>> seen_indices("mine: inputs", (0, 2), size=2)
        Traceback (most recent call last):
        ValueError: mine: inputs is (0, 2), but must be one or more different indices from 0 ...
    """
    try:
        chosen = tuple(operator.index(one) for one in given)
    except TypeError:
        chosen = ()
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(size)):
        raise ValueError(
            f"{what} is {given!r}, but must be one or more different indices from 0 to "
            f"{size - 1}, of the numbers of the observation that the policy sees; None for all"
        )
    return chosen


def anchored(observation: jax.Array, state: State, displacement: jax.Array) -> jax.Array:
    """The observation of `state` moved by `displacement`; at zero, `state.observation` itself.

    The same formula, compiled into two programs, may differ in its last bit (the compiler fuses and
    vectorises as it likes), so recomputing an observation is not enough for `perturb(state, 0)`
    to equal `state`. Here the value at zero is the stored one, and the derivative is that of
    `observation`.

    Args:
        observation: The observation computed from the moved physics.
        state: The state before the move.
        displacement: The move.

    Returns:
        The observation, of the shape of `observation`.

    Example:
        >>> from sobolax.cart import Cart
        >>> state = Cart().at(1.0, 0.0)
        >>> anew = state.observation + 1e-7  # computed again, rounded differently
        >>> anchored(anew, state, jnp.zeros(2)).tolist(), anchored(anew, state, jnp.ones(2)).dtype
        ([1.0, 0.0], dtype('float32'))
    """
    stay = jax.lax.stop_gradient(state.observation) + (
        observation - jax.lax.stop_gradient(observation)
    )
    return jnp.where(jnp.all(displacement == 0), stay, observation)
