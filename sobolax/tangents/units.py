"""Units of gradients: what the loss counts as one step along a direction.

- `raw`: the units of the environment's local coordinates, metres, radians and metres per second,
  as in the paper.
- `observation_std`: the step that moves the normalised observation `ô`, which is what the critic
  sees, by one standard deviation: the gradient along `v` is divided by `|dô.v|`. Value and
  gradients then have one unit, and a weight has a meaning: over a Gaussian neighbourhood of `e`
  standard deviations the mean of `delta^2` is about `delta^2 + e^2 sum_i g_i^2`. So a weight of
  0.01 stands for a tenth of a standard deviation. Directions that nothing observes drop out: the
  critic has no gradient there, whatever the target's may be.
- `state_std`: one standard deviation of every local coordinate, over the states seen so far: the
  gradient along a coordinate is multiplied by it, whether anything observes it or not. An
  environment says what its local coordinates are in `coordinates(state)`, `(state_size,)`.
  Tangents are scaled, so that `tangent_bound` is in these units too.

An action's unit is its own range, [-1, 1]: half of it, in both.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.checks import check_choice
from sobolax.environment import Environment
from sobolax.tangents.forward import TransitionMap
from sobolax.tangents.trust import TRUSTS, soft_trust
from sobolax.transition import Tangents, Transition

#: Their names.
GRADIENT_UNITS = ("raw", "observation_std", "state_std")

# Of the largest: a float32 observation that does not depend on a direction may move by its
# rounding, 1e-7 of what others move.
_UNOBSERVED = 1e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GradientScales:
    """What gradients along directions are multiplied by.

    Attributes:
        state: `(state directions,)`; 0 for one that drops out.
        action: `(action directions,)`.

    Example:
        >>> GradientScales(state=jnp.array([0.5, 0.0]), action=jnp.ones(1)).state.tolist()
        [0.5, 0.0]
    """

    state: jax.Array
    action: jax.Array


def gradient_scales(
    tangents: Tangents | TransitionMap,
    deviation: jax.Array,
    discount: Any,
    units: str = "raw",
    trust: str = "full",
) -> GradientScales:
    """What gradients of one transition are multiplied by, for units and trust together.

    Args:
        tangents: Along the full basis; or the transition map, for `trust="full"` alone.
        deviation: What the normaliser divides observations by, `(observation_size,)`.
        discount: Of the bootstrapped value: gamma times the transition's own, `()`.
        units: A name in `GRADIENT_UNITS`; only `"observation_std"` has factors: directions of the
            other two have the lengths that they should.
        trust: A name in `sobolax.tangents.trust.TRUSTS`; only `"soft"` has factors, the square
            roots of `soft_trust`.

    Raises:
        ValueError: If units or trust are unknown, or a transition map is to be trusted less.

    Example:
        >>> from sobolax.cart import example_transition
        >>> _, tangents = example_transition()  # the observation is the state
        >>> deviation = jnp.array([0.5, 2.0])
        >>> gradient_scales(tangents, deviation, 0.9, units="observation_std").state.tolist()
        [0.5, 2.0]
    """
    check_choice("gradient_scales: units=", units, GRADIENT_UNITS)
    check_choice("gradient_scales: trust=", trust, TRUSTS)
    if isinstance(tangents, TransitionMap) and trust != "full":
        raise ValueError(
            f"gradient_scales: trust={trust!r} needs tangents, to see how far a step stretches: "
            "give tangents in place of the transition map, or trust='full'"
        )
    motion = observed_motion(tangents, deviation)
    observed = motion > 0
    inverse = jnp.where(observed, 1.0 / jnp.where(observed, motion, 1.0), 0.0)
    state = inverse if units == "observation_std" else jnp.ones_like(inverse)
    if isinstance(tangents, TransitionMap):
        action = jnp.ones(tangents.environment.action_size, inverse.dtype)
        return GradientScales(state, action)
    after = [_lengths(t.next_observation, deviation, t) for t in (tangents.state, tangents.action)]
    action = jnp.ones_like(after[1])
    if trust == "soft":
        # One unit of an action is half its range; what is not observed, grows without limit.
        state = state * jnp.sqrt(soft_trust(after[0] * inverse, discount)) * observed
        action = jnp.sqrt(soft_trust(after[1], discount))
    # A tangent that is not finite takes itself out of the loss, and needs a finite factor for it.
    return GradientScales(*(jnp.where(jnp.isfinite(s), s, 0.0) for s in (state, action)))


def observed_motion(tangents: Tangents | TransitionMap, deviation: jax.Array) -> jax.Array:
    """`|dô.v|` for directions of the state: normalised observation over local coordinates.

    Args:
        tangents: Tangents, or the map, whose observation is then differentiated; the simulator's
            step is not needed.
        deviation: As in `gradient_scales`.

    Returns:
        `(state directions,)`; 0 for directions that nothing observes, and for those that are not
        finite.

    Example:
        >>> from sobolax.cart import Cart, example_transition
        >>> observed_motion(example_transition()[1], jnp.array([0.5, 2.0])).tolist()
        [2.0, 0.5]
        >>> observed_motion(TransitionMap(Cart(), Cart().at(1.0, 0.0)), jnp.ones(2)).tolist()
        [1.0, 1.0]
    """
    if isinstance(tangents, TransitionMap):
        environment, state = tangents.environment, tangents.state
        zero = jnp.zeros(environment.state_size, state.observation.dtype)
        moved = jax.jacfwd(lambda along: environment.perturb(state, along).observation)(zero)
        motion = jnp.sqrt(jnp.sum(jnp.square(moved / deviation[:, None]), axis=0))
    else:
        motion = _lengths(tangents.state.observation, deviation, tangents.state)
    motion = jnp.where(jnp.isfinite(motion), motion, 0.0)
    return jnp.where(motion > _UNOBSERVED * jnp.max(motion, initial=0.0), motion, 0.0)


def scale_directions(tangents: Tangents, lengths: jax.Array) -> Tangents:
    """Tangents along directions of the state of other lengths, `(state directions,)`.

    Example:
        >>> from sobolax.cart import example_transition
        >>> _, tangents = example_transition()
        >>> scale_directions(tangents, jnp.array([0.5, 2.0])).state.reward.tolist()
        [-1.25, -2.5]
    """
    return replace(tangents, state=jax.tree.map(lambda leaf: leaf * lengths, tangents.state))


def is_observed(environment: Environment) -> bool:
    """Whether `perturb` computes the observation from its displacement; only traced, not run.

    Example:
        >>> from sobolax.cart import Cart
        >>> is_observed(Cart())
        True
    """
    state = jax.eval_shape(environment.reset, jax.random.key(0))
    along = jax.ShapeDtypeStruct((environment.state_size,), state.observation.dtype)
    traced = jax.make_jaxpr(lambda along, state: environment.perturb(state, along).observation)(
        along, state
    ).jaxpr
    reached = {id(traced.invars[0])}
    for equation in traced.eqns:
        if any(id(variable) in reached for variable in equation.invars):
            reached.update(map(id, equation.outvars))
    return id(traced.outvars[0]) in reached


def check_coordinates(owner: str, environment: Environment) -> None:
    """Checks that an environment gives the local coordinates of a state; only traced, not run.

    Args:
        owner: What needs them, for the message.
        environment: An environment with the sizes that it states.

    Raises:
        ValueError: If `coordinates` is missing, fails or is not `(state_size,)`.

    Example:
        >>> from sobolax.cart import Cart
        >>> cart = Cart()
        >>> cart.coordinates = lambda state: state.physics[:1]
        >>> check_coordinates("mine", cart)
        Traceback (most recent call last):
        ValueError: mine: environment 'cart': coordinates(state) has shape (1,), but must have ...
    """
    name, size = environment.name, environment.state_size
    instead = "or choose gradient_units='observation_std'"
    coordinates: Any = getattr(environment, "coordinates", None)
    if coordinates is None:
        raise ValueError(
            f"{owner} needs the local coordinates of a state, but environment {name!r} has no "
            f"coordinates(state) that gives them, ({size},): write it, {instead}"
        )
    what = f"{owner}: environment {name!r}: coordinates(state)"
    state = jax.eval_shape(environment.reset, jax.random.key(0))
    try:
        found = jax.eval_shape(coordinates, state)
    except Exception as error:  # of any class: it is other people's code
        raise ValueError(f"{what} failed: {error}: change it, {instead}") from error
    shape = getattr(found, "shape", None)
    if shape != (size,):
        is_what = f"gives a {type(found).__name__}" if shape is None else f"has shape {shape}"
        raise ValueError(
            f"{what} {is_what}, but must have shape ({size},), one number for each direction of "
            f"perturb, as state_size says: return that, {instead}"
        )


def _lengths(tangent: Any, deviation: jax.Array, kind: Transition) -> jax.Array:
    """Euclidean lengths of an observation's tangents, in standard deviations, `(directions,)`."""
    if tangent is None:
        return jnp.zeros(jax.tree.leaves(kind)[0].shape[-1], deviation.dtype)
    columns = tangent.astype(deviation.dtype) / deviation[:, None]
    return jnp.sqrt(jnp.sum(jnp.square(columns), axis=0))
