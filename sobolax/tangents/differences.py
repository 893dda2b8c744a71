"""Tangents by central differences: for any environment, differentiable or not."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp

from sobolax.environment import Environment, State
from sobolax.tangents.forward import (
    TransitionMap,
    direction_block,
    plain_transition,
    tangents_of_block,
)
from sobolax.transition import Tangents, Transition


def default_step(dtype: jax.typing.DTypeLike) -> float:
    """The step that balances both errors of a central difference, if all scales are near one.

    With rounding `e` of the values and a step `h`, a central difference is off by about `e / h`
    of the values by rounding and by `h^2` of the third derivative by curvature. Both are equal
    near the cube root of `e`: 5e-3 in float32, 6e-6 in float64, in the units of the state and of
    the action (m, rad, per second). In contact third derivatives are much larger than one, and a
    smaller step may be better.

    Example:
        >>> round(default_step(jnp.float32), 4)
        0.0049
    """
    return float(jnp.finfo(dtype).eps ** (1 / 3))


def difference_tangents(
    environment: Environment,
    state: State,
    action: jax.Array,
    state_directions: jax.Array,
    action_directions: jax.Array,
    step: float | None = None,
) -> tuple[Transition, State, Tangents]:
    """One step, its transition and tangents of it by central differences.

    Two steps per direction, all of them `vmap`ped. Values and shapes are those of
    `sobolax.tangents.forward.forward_tangents`.

    Args:
        environment: The environment; only its values are used.
        state: One unbatched state.
        action: `(action_size,)`; the differences reach `step` beyond it.
        state_directions: `(state_size, number of state directions)`.
        action_directions: `(action_size, number of action directions)`.
        step: How far to go to both sides; None for `default_step`.

    Returns:
        The transition, the state that follows, and the tangents.

    Example:
        >>> from sobolax.cart import Cart
        >>> where = Cart().at(1.0, 0.0), jnp.ones(1)
        >>> compute = jax.jit(lambda *where: difference_tangents(Cart(), *where, step=0.25))
        >>> _, _, tangents = compute(*where, jnp.eye(2), jnp.eye(1))
        >>> tangents.state.reward.tolist(), tangents.action.reward.tolist()  # exact for a square
        ([-2.5, -1.25], [-0.625])
    """
    apply = TransitionMap(environment, state)
    dtype = state.observation.dtype
    size = default_step(dtype) if step is None else step
    transition, next_state = plain_transition(environment, state, action)
    displacements, moves = direction_block(
        state_directions.astype(dtype), action_directions.astype(action.dtype)
    )
    tangent = jax.vmap(
        lambda displacement, move: central_difference(apply, action, displacement, move, size),
        in_axes=-1,
        out_axes=-1,
    )(displacements, moves)
    # How the action moves is known, and free of rounding.
    tangent = replace(tangent, action=moves)
    return transition, next_state, tangents_of_block(tangent, state_directions.shape[-1])


def central_difference(
    apply: TransitionMap,
    action: jax.Array,
    displacement: jax.Array,
    move: jax.Array,
    step: float,
) -> Transition:
    """The tangent of a transition along one direction, from a step to either side.

    Args:
        apply: Of `sobolax.tangents.forward.TransitionMap`.
        action: Where the map is differentiated, `(action_size,)`.
        displacement: The direction's part in the state, `(state_size,)`.
        move: Its part in the action, `(action_size,)`.
        step: How far to go; a direction of any length is followed equally far.

    Example:
        >>> from sobolax.cart import Cart
        >>> apply = TransitionMap(Cart(), Cart().at(1.0, 0.0))
        >>> along_position = jnp.array([1.0, 0.0]), jnp.zeros(1)
        >>> float(central_difference(apply, jnp.ones(1), *along_position, step=0.25).reward)
        -2.5
    """
    sides, reach = transitions_along(apply, action, displacement, move, step, (1, -1))
    return jax.tree.map(lambda side: (side[0] - side[1]) / (2 * reach), sides)


def transitions_along(
    apply: TransitionMap,
    action: jax.Array,
    displacement: jax.Array,
    move: jax.Array,
    step: float,
    multiples: Sequence[float],
) -> tuple[Transition, jax.Array]:
    """Transitions at some multiples of a step along a direction, and that step in units of it.

    Args:
        apply: Of `sobolax.tangents.forward.TransitionMap`.
        action: Where the map is differentiated, `(action_size,)`.
        displacement: The direction's part in the state, `(state_size,)`.
        move: Its part in the action, `(action_size,)`.
        step: How far one step goes; a direction of any length is followed equally far.
        multiples: How many steps, `n` of them.

    Returns:
        Transitions with a leading axis of `n`, and the step over the direction's length, `()`.

    Example:
        >>> from sobolax.cart import Cart
        >>> apply = TransitionMap(Cart(), Cart().at(1.0, 0.0))
        >>> twice = jnp.array([2.0, 0.0]), jnp.zeros(1)
        >>> found, reach = transitions_along(apply, jnp.zeros(1), *twice, 0.25, (0, 1, 2))
        >>> found.observation[:, 0].tolist(), float(reach)
        ([1.0, 1.25, 1.5], 0.125)
    """
    length = jnp.sqrt(jnp.sum(displacement**2) + jnp.sum(move**2))
    reach = step / jnp.where(length > 0, length, 1.0)

    def at(multiple: jax.Array) -> Transition:
        return apply(multiple * reach * displacement, action + multiple * reach * move)[0]

    return jax.vmap(at)(jnp.asarray(multiples, displacement.dtype)), reach
