"""What makes gradients of hard physics safe to learn from.

Each function takes a way to compute tangents (`sobolax.tangents.forward.TangentFunction`) and gives
another one. Tangents that fail become NaN, never zero: the loss takes what is not finite out of its
averages and counts it (`sobolax.losses`).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.environment import Environment, State
from sobolax.tangents.differences import central_difference, default_step
from sobolax.tangents.forward import TangentFunction, TransitionMap, plain_transition
from sobolax.transition import Tangents, Transition


def clip_norm(tangents_at: TangentFunction, max_norm: float) -> TangentFunction:
    """Shortens every tangent that is longer than `max_norm` to that length; its direction stays.

    `tangent_bound` of the agents drops such a tangent instead; this keeps its direction, as
    gradient clipping does. Lengths are Euclidean, over all parts of the transition.
    One that is not finite stays so.

    Example:
        >>> from sobolax.cart import Cart
        >>> from sobolax.tangents.forward import forward_tangents
        >>> compute = clip_norm(lambda key, *where: forward_tangents(Cart(), *where), max_norm=1.0)
        >>> where = Cart().at(1.0, 0.0), jnp.ones(1), jnp.eye(2), jnp.eye(1)
        >>> _, _, tangents = jax.jit(compute)(jax.random.key(0), *where)
        >>> lengths(tangents.state).round(3).tolist()  # along the position, along the speed
        [1.0, 1.0]
    """

    def compute(key, state, action, state_directions, action_directions):
        transition, next_state, tangents = tangents_at(
            key, state, action, state_directions, action_directions
        )
        return transition, next_state, Tangents(*map(shorten, (tangents.state, tangents.action)))

    def shorten(tangent: Transition) -> Transition:
        length = lengths(tangent)
        factor = jnp.where(length > max_norm, max_norm / length, 1.0)
        return jax.tree.map(lambda leaf: leaf * factor, tangent)

    return compute


def reject_disagreeing(
    tangents_at: TangentFunction,
    environment: Environment,
    tolerance: float,
    step: float | None = None,
) -> TangentFunction:
    """Keeps tangents that predict what a small random displacement does; the others become NaN.

    One random displacement of state and action, both ways: two plain steps. At a kink (a contact
    that begins, a foot that slips) a tangent is right on one side only, and this is how to notice.

    Args:
        tangents_at: Computes tangents.
        environment: Whose steps they are held to.
        tolerance: The largest relative difference between the predicted and the true change of
            reward and next observation.
        step: Length of the displacement; None for `default_step`.

    Example:
        >>> from sobolax.cart import Cart
        >>> from sobolax.tangents.forward import forward_tangents
        >>> forward = lambda key, *where: forward_tangents(Cart(), *where)
        >>> compute = reject_disagreeing(forward, Cart(), tolerance=1e-2, step=1e-2)
        >>> where = Cart().at(1.0, 0.0), jnp.ones(1), jnp.eye(2), jnp.eye(1)
        >>> _, _, tangents = jax.jit(compute)(jax.random.key(0), *where)
        >>> tangents.state.reward.tolist()  # kept: they would be NaN otherwise
        [-2.5, -1.25]
    """

    def compute(key, state, action, state_directions, action_directions):
        for_tangents, *for_weights = jax.random.split(key, 3)
        transition, next_state, tangents = tangents_at(
            for_tangents, state, action, state_directions, action_directions
        )
        dtype = state.observation.dtype
        weights, displacement, move = random_combination(
            for_weights, state_directions.astype(dtype), action_directions.astype(dtype)
        )
        size = default_step(dtype) if step is None else step
        difference = central_difference(
            TransitionMap(environment, state), action, displacement, move, size
        )
        square_error = square_change = jnp.zeros((), dtype)
        for part in ("reward", "next_observation"):
            change = getattr(difference, part)
            predicted = along_directions(tangents, weights, part)
            square_error += jnp.sum((predicted - change) ** 2)
            square_change += jnp.sum(change**2)
        agrees = jnp.sqrt(square_error) <= tolerance * jnp.sqrt(square_change)
        return (
            transition,
            next_state,
            jax.tree.map(lambda leaf: jnp.where(agrees, leaf, jnp.nan), tangents),
        )

    return compute


def smooth(
    tangents_at: TangentFunction, environment: Environment, samples: int, spread: float
) -> TangentFunction:
    """Averages tangents over states and actions near the given ones: the 'smooth' derivative.

    The mean of derivatives over Gaussian displacements is a derivative of the smoothed system
    (Suh, Pang, Tedrake: 'Bundled Gradients through Contact via Randomized Smoothing',
    arXiv 2109.05143), which has no kinks. It costs `samples` times as much, and is another
    system's gradient: right where the step is smooth over the spread, smoothed elsewhere. Samples
    that are not finite make the whole tangent so.

    Args:
        tangents_at: Computes tangents.
        environment: Moves states.
        samples: How many states are averaged over.
        spread: Standard deviation of every coordinate of the displacements.

    Example:
        >>> from sobolax.cart import Cart
        >>> from sobolax.tangents.forward import forward_tangents
        >>> forward = lambda key, *where: forward_tangents(Cart(), *where)
        >>> compute = smooth(forward, Cart(), samples=2, spread=0.0)  # no spread: no smoothing
        >>> where = Cart().at(1.0, 0.0), jnp.ones(1), jnp.eye(2), jnp.eye(1)
        >>> _, _, tangents = jax.jit(compute)(jax.random.key(0), *where)
        >>> tangents.state.reward.tolist()
        [-2.5, -1.25]
    """

    def compute(key, state, action, state_directions, action_directions):
        keys = jax.random.split(key, samples)

        def one(key: jax.Array) -> tuple[Transition, State, Tangents]:
            for_state, for_action, for_tangents = jax.random.split(key, 3)
            dtype = state.observation.dtype
            displacement = spread * jax.random.normal(for_state, (environment.state_size,), dtype)
            move = spread * jax.random.normal(for_action, action.shape, action.dtype)
            near = environment.perturb(state, displacement)
            return tangents_at(
                for_tangents, near, action + move, state_directions, action_directions
            )

        _, _, tangents = jax.vmap(one)(keys)
        transition, next_state = plain_transition(environment, state, action)
        return transition, next_state, jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), tangents)

    return compute


def random_combination(
    keys: Sequence[jax.Array], state_directions: jax.Array, action_directions: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], jax.Array, jax.Array]:
    """A random combination of the directions that there are tangents for.

    Args:
        keys: Two random keys.
        state_directions: `(state_size, number of state directions)`.
        action_directions: `(action_size, number of action directions)`.

    Returns:
        The weights of both kinds, the displacement `(state_size,)` and the move `(action_size,)`.

    Example:
        >>> weights, displacement, move = random_combination(
        ...     jax.random.split(jax.random.key(0)), jnp.eye(2), jnp.eye(1)
        ... )
        >>> bool(jnp.all(weights[0] == displacement)), move.shape
        (True, (1,))
    """
    directions = state_directions, action_directions
    along_state, along_action = (
        jax.random.normal(key, each.shape[-1:], each.dtype)
        for key, each in zip(keys, directions, strict=True)
    )
    return (
        (along_state, along_action),
        jnp.matmul(state_directions, along_state, precision="highest"),
        jnp.matmul(action_directions, along_action, precision="highest"),
    )


def along_directions(
    tangents: Tangents, weights: tuple[jax.Array, jax.Array], part: str
) -> jax.Array:
    """What tangents say of one part of a transition along a combination of their directions.

    Example:
        >>> from sobolax.cart import example_transition
        >>> _, tangents = example_transition()
        >>> float(along_directions(tangents, (jnp.array([1.0, 0.0]), jnp.ones(1)), "reward"))
        -3.125
    """
    sides = zip(weights, (tangents.state, tangents.action), strict=True)
    found = [(getattr(tangent, part), weight) for weight, tangent in sides]
    moving = [
        jnp.matmul(leaf.astype(weight.dtype), weight, precision="highest")
        for leaf, weight in found
        if leaf is not None
    ]
    return sum(moving, start=jnp.zeros((), weights[0].dtype))


def lengths(tangent: Transition) -> jax.Array:
    """Euclidean lengths of tangents, over all parts that move, `(directions,)`.

    Example:
        >>> from sobolax.cart import example_transition
        >>> _, tangents = example_transition()
        >>> round(float(lengths(tangents.action)[0]), 2)  # of (1; -0.625; 0.25, 0.5)
        1.31
    """
    leaves: list[Any] = jax.tree.leaves(tangent)
    # Not by -1, which stands for nothing definite where there are no directions.
    rows = [leaf.reshape(math.prod(leaf.shape[:-1]), leaf.shape[-1]) for leaf in leaves]
    columns = jnp.concatenate(rows)
    # In units of the largest: squares of 1e20 are infinite in float32, and the length is not.
    largest = jnp.max(jnp.abs(columns), axis=0)
    unit = jnp.where(largest > 0, largest, 1.0)
    return unit * jnp.sqrt(jnp.sum((columns / unit) ** 2, axis=0))
