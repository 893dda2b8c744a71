"""Derivatives of a transition through an environment.

The transition map of an environment at a state `x` and an action `a` is `(dx, a) -> T`, the whole
transition as a function of a displacement of the state and of the action. Its tangents depend on
physics alone, never on a network: they can be computed once, when a transition is collected, and
kept beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp

from sobolax.environment import Environment, State
from sobolax.transition import Tangents, Transition

#: One step, its transition and its tangents along given directions of the state and of the action:
#: `(key, state, action, state directions, action directions) -> (transition, next state,
#: tangents)`.
TangentFunction = Callable[
    [jax.Array, State, jax.Array, jax.Array, jax.Array], tuple[Transition, State, Tangents]
]


def basis_directions(size: int, dtype: jnp.dtype | None = None) -> jax.Array:
    """All unit directions, `(size, size)`: with these the loss is the paper's, exactly.

    Example:
        >>> basis_directions(2).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return jnp.eye(size, dtype=dtype)


def random_directions(key: jax.Array, count: int, size: int) -> jax.Array:
    """Random orthogonal directions whose squared directional derivatives are unbiased.

    For any gradient `g`, the mean over draws of `sum_i (g . v_i)^2` is `||g||^2`; with
    `count == size` it is `||g||^2` at every draw.

    Args:
        key: A random key.
        count: How many directions, 1 to `size`.
        size: Numbers in a direction.

    Returns:
        `(size, count)`: a uniformly random orthonormal frame times `sqrt(size / count)`.

    Raises:
        ValueError: If `count` is not in 1 to `size`.

    Example:
        >>> direction = random_directions(jax.random.key(0), count=1, size=2)
        >>> round(float(jnp.sum(direction**2)), 3)  # one for two: as long as both
        2.0
    """
    if not 1 <= count <= size:
        raise ValueError(
            f"cannot draw {count} orthogonal directions in {size} dimensions: "
            f"ask for a count from 1 to {size}"
        )
    draws = jax.random.normal(key, (count, size))

    def orthogonalise(index: int, frame: jax.Array) -> jax.Array:
        # Gram and Schmidt, twice for the digits that one pass loses. Not `jnp.linalg.qr`: large
        # batches of LAPACK calls can wait for each other forever on CPUs with few cores
        # (jaxlib 0.10; `sobolax.mjx.cpu` has met it).
        rest = draws[index]
        for _ in range(2):
            along = jnp.matmul(frame, rest, precision="highest")
            rest = rest - jnp.matmul(frame.T, along, precision="highest")
        return frame.at[index].set(rest / jnp.sqrt(jnp.sum(jnp.square(rest))))

    frame = jax.lax.fori_loop(0, count, orthogonalise, jnp.zeros_like(draws))
    return frame.T * jnp.sqrt(size / count).astype(frame.dtype)


def draw_directions(key: jax.Array, count: int | None, size: int) -> jax.Array:
    """The full basis where `count` is None, else `count` random directions; 0 for none.

    Example:
        >>> draw_directions(jax.random.key(0), None, 2).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        >>> draw_directions(jax.random.key(0), 1, 2).shape
        (2, 1)
    """
    if count == 0:
        return jnp.zeros((size, 0))
    return basis_directions(size) if count is None else random_directions(key, count, size)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TransitionMap:
    """A transition as a function of a displacement of the state and of the action.

    `(displacement (state_size,), action (action_size,)) -> (transition, next state)`. Termination
    is a step function of the state: it is a constant of the map, and its tangent is zero.

    Attributes:
        environment: The environment; static.
        state: The unbatched state at which the map is anchored.

    Example:
        >>> from sobolax.cart import Cart
        >>> apply = TransitionMap(Cart(), Cart().at(1.0, 0.0))
        >>> transition, next_state = apply(jnp.array([0.5, 0.0]), jnp.ones(1))
        >>> transition.observation.tolist(), next_state.observation.tolist()
        ([1.5, 0.0], [1.75, 0.5])
    """

    environment: Environment = field(metadata={"static": True})
    state: State

    @property
    def state_size(self) -> int:
        """Numbers in a displacement."""
        return self.environment.state_size

    def __call__(self, displacement: jax.Array, action: jax.Array) -> tuple[Transition, State]:
        """The transition from the moved state, and the state that follows.

        Raises:
            ValueError: If state, displacement or action are batched or of another size than the
                environment's.
        """
        _check_sizes(self.environment, self.state, action)
        _check_shape("displacement", displacement, self.environment, (self.state_size,))
        start = self.environment.perturb(self.state, displacement)
        next_state = self.environment.step(start, action)
        return transition_to(next_state, start.observation, action), next_state


def plain_transition(
    environment: Environment, state: State, action: jax.Array
) -> tuple[Transition, State]:
    """One step and its transition, with nothing differentiated.

    Args:
        environment: The environment.
        state: One unbatched state.
        action: `(action_size,)`.

    Raises:
        ValueError: If state or action are batched or of another size than the environment's.

    Example:
        >>> from sobolax.cart import Cart
        >>> transition, next_state = plain_transition(Cart(), Cart().at(1.0, 0.0), jnp.ones(1))
        >>> float(transition.reward), next_state.observation.tolist()
        (-1.5625, [1.25, 0.5])
    """
    _check_sizes(environment, state, action)
    next_state = environment.step(state, action)
    return transition_to(next_state, state.observation, action), next_state


def transition_to(next_state: State, observation: jax.Array, action: jax.Array) -> Transition:
    """The transition of a step, from what was seen, what was done and the state that followed.

    Example:
        >>> from sobolax.cart import Cart
        >>> next_state = Cart().step(Cart().at(7.9, 1.0), jnp.zeros(1))  # beyond the track
        >>> float(transition_to(next_state, jnp.array([7.9, 1.0]), jnp.zeros(1)).discount)
        0.0
    """
    return Transition(
        observation, action, next_state.reward, next_state.discount, next_state.observation
    )


def direction_block(
    state_directions: jax.Array, action_directions: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """All directions as one batch: those of the state first, each at rest in the other's part.

    One batch, not two: the simulator is compiled and evaluated once.

    Args:
        state_directions: `(state_size, number of state directions)`.
        action_directions: `(action_size, number of action directions)`.

    Returns:
        Displacements `(state_size, number of both)` and moves `(action_size, number of both)`.

    Example:
        >>> displacements, moves = direction_block(jnp.eye(2), jnp.eye(1))
        >>> displacements.tolist(), moves.tolist()
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    """
    states, actions = state_directions.shape[-1], action_directions.shape[-1]
    return (
        jnp.pad(state_directions, ((0, 0), (0, actions))),
        jnp.pad(action_directions, ((0, 0), (states, 0))),
    )


def tangents_of_block(tangent: Transition, state_count: int) -> Tangents:
    """Tangents from those along a `direction_block`, without the parts that cannot move.

    Args:
        tangent: Along the directions of the block.
        state_count: How many of them, the first ones, are directions of the state.

    Returns:
        Tangents with `None` for the action along a state direction, for the first observation
        along an action direction, and for the discount along both.

    Example:
        >>> seen, done, none = jnp.zeros((2, 3)), jnp.zeros((1, 3)), jnp.zeros(3)
        >>> block = Transition(seen, done, jnp.arange(3.0), none, seen)
        >>> tangents = tangents_of_block(block, state_count=2)
        >>> tangents.state.reward.tolist(), tangents.action.reward.tolist()
        ([0.0, 1.0], [2.0])
    """
    along_state, along_action = (
        jax.tree.map(lambda leaf, columns=columns: leaf[..., columns], tangent)
        for columns in (slice(None, state_count), slice(state_count, None))
    )
    return Tangents(
        state=replace(along_state, action=None, discount=None),
        action=replace(along_action, observation=None, discount=None),
    )


def forward_tangents(
    environment: Environment,
    state: State,
    action: jax.Array,
    state_directions: jax.Array,
    action_directions: jax.Array,
) -> tuple[Transition, State, Tangents]:
    """One step, its transition and the tangents of it, by forward mode through the simulator.

    Args:
        environment: The environment.
        state: One unbatched state.
        action: `(action_size,)`.
        state_directions: `(state_size, number of state directions)`.
        action_directions: `(action_size, number of action directions)`.

    Returns:
        The transition, the state that follows, and the tangents. Parts that cannot move are
        `None` (`tangents_of_block`).

    Raises:
        ValueError: If state, action or directions are batched or of another size than the
            environment's, or the action is no floating-point number.

    Example:
        >>> from sobolax.cart import Cart
        >>> where = Cart().at(1.0, 0.0), jnp.ones(1)
        >>> directions = basis_directions(2), basis_directions(1)
        >>> _, _, tangents = forward_tangents(Cart(), *where, *directions)
        >>> tangents.state.reward.tolist(), tangents.action.reward.tolist()
        ([-2.5, -1.25], [-0.625])
    """
    _check_sizes(environment, state, action)
    if not jnp.issubdtype(jnp.result_type(action), jnp.floating):
        raise ValueError(
            f"action is {jnp.result_type(action)}, which has no gradients: give floating-point "
            "numbers, say with action.astype(jnp.float32); discrete actions have no tangents"
        )
    for what, directions, size in (
        ("state_directions", state_directions, environment.state_size),
        ("action_directions", action_directions, environment.action_size),
    ):
        _check_shape(what, directions, environment, (size, "directions"))
    apply = TransitionMap(environment, state)
    zero = jnp.zeros(environment.state_size, state.observation.dtype)
    displacements, actions = direction_block(
        state_directions.astype(zero.dtype), action_directions.astype(action.dtype)
    )

    def push(displacement: jax.Array, action_tangent: jax.Array):
        return jax.jvp(apply, (zero, action), (displacement, action_tangent))

    (transition, next_state), (tangent, _) = jax.vmap(push, in_axes=-1, out_axes=(None, -1))(
        displacements, actions
    )
    return transition, next_state, tangents_of_block(tangent, state_directions.shape[-1])


def _check_sizes(environment: Environment, state: State, action: jax.Array) -> None:
    """Raises ValueError for a state or an action that is none of this environment."""
    _check_shape(
        "state.observation", state.observation, environment, (environment.observation_size,)
    )
    _check_shape("action", action, environment, (environment.action_size,))


def _check_shape(
    what: str, value: jax.Array, environment: Environment, wanted: tuple[int | str, ...]
) -> None:
    """Raises ValueError for another shape; a name stands for any size."""
    shape = jnp.shape(value)
    if len(shape) != len(wanted) or any(
        isinstance(size, int) and size != own for size, own in zip(wanted, shape, strict=True)
    ):
        expected = f"({', '.join(map(str, wanted))}{',' * (len(wanted) == 1)})"
        raise ValueError(
            f"{what} has shape {shape}, but environment {environment.name!r} takes {expected}, "
            "unbatched: jax.vmap over a batch"
        )
