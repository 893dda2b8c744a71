"""A fresh step from a replayed state, at an action that nobody took there, and its tangents.

The replay buffer keeps the environment's state (`sobolax.tangents.sources`); an update can then ask
what the policy of today would bring about, and how that depends on what it does. The step costs the
simulator what `recomputed` costs it for as many directions: along the action alone, a step and
`action_size` tangents of it, or a pull-back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from sobolax.environment import Environment, State
from sobolax.tangents.forward import TransitionMap, draw_directions, plain_transition
from sobolax.tangents.methods import Derivatives, make_tangent_function
from sobolax.tangents.sources import Experience
from sobolax.transition import Tangents, Transition

#: Where a critic's gradients are matched: at the replayed action, or at the policy's own.
GRADIENTS_AT = ("replayed", "policy")

#: `(key, state, action, tangent_bound) -> (transition, tangents, tangent_bound)`, unbatched: what
#: `sobolax.losses.sobolev_errors` takes.
FreshStep = Callable[
    [jax.Array, State, jax.Array, Any],
    tuple[Transition, Tangents | TransitionMap, jax.typing.ArrayLike],
]


def make_fresh_step(
    environment: Environment,
    derivatives: Derivatives | None = None,
    *,
    reverse: bool = False,
    state_directions: int | None = 0,
    action_directions: int | None = None,
) -> FreshStep:
    """Builds what takes one step of the environment and says how it can be differentiated.

    Args:
        environment: The environment.
        derivatives: How tangents are computed; all defaults if left out.
        reverse: Whether the step is pulled back, in place of tangents.
        state_directions: How many random directions of the state; None for the full basis, 0 for
            none.
        action_directions: The same for the action.

    Returns:
        `(key, state, action, tangent_bound) -> (transition, tangents, tangent_bound)`. Pulled back,
        no single tangent has a length that could be bounded.

    Raises:
        ValueError: If the environment cannot have its tangents so.

    Example:
        >>> from sobolax.cart import Cart
        >>> step = make_fresh_step(Cart())
        >>> transition, tangents, _ = step(jax.random.key(0), Cart().at(1.0, 0.0), jnp.ones(1), 1e3)
        >>> float(transition.reward), tangents.action.reward.tolist(), tangents.state.reward.shape
        (-1.5625, [-0.625], (0,))
    """
    compute = make_tangent_function(environment, derivatives or Derivatives())

    def pushed(key: jax.Array, state: State, action: jax.Array, tangent_bound: Any):
        state_key, action_key, own_key = jax.random.split(key, 3)
        transition, _, tangents = compute(
            own_key,
            state,
            action,
            draw_directions(state_key, state_directions, environment.state_size),
            draw_directions(action_key, action_directions, environment.action_size),
        )
        return transition, tangents, tangent_bound

    def pulled(key: jax.Array, state: State, action: jax.Array, tangent_bound: Any):
        transition, _ = plain_transition(environment, state, action)
        return transition, TransitionMap(environment, state), jnp.inf

    return pulled if reverse else pushed


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FreshSteps:
    """Fresh steps from the states of a batch, and what they are differentiated by.

    Attributes:
        transition: Their transitions, with a leading batch axis.
        tangents: Their tangents or maps, likewise.
        tangent_bound: The bound that is still to apply, `()`.

    Example:
        >>> from sobolax.cart import example_transition
        >>> batch = jax.tree.map(lambda leaf: leaf[None], example_transition())
        >>> FreshSteps(*batch, tangent_bound=1e3).tangents.action.reward.tolist()
        [[-0.625]]
    """

    transition: Transition
    tangents: Tangents | TransitionMap
    tangent_bound: jax.typing.ArrayLike


def take_fresh_steps(
    fresh_step: FreshStep, batch: Experience, actions: jax.Array, key: jax.Array, tangent_bound: Any
) -> FreshSteps:
    """One fresh step from every state of a batch.

    Args:
        fresh_step: What takes a step.
        batch: Experience with states.
        actions: What is done there, `(batch, action_size)`.
        key: A random key.
        tangent_bound: Of the tangents.

    Example:
        >>> from sobolax.cart import Cart
        >>> from sobolax.tangents.sources import make_source
        >>> source, key = make_source("off", Cart(), keep_states=True), jax.random.key(0)
        >>> one, _ = source.collect(key, Cart().at(1.0, 0.0), jnp.ones(1))
        >>> batch, idle = jax.tree.map(lambda leaf: leaf[None], one), jnp.zeros((1, 1))
        >>> found = take_fresh_steps(make_fresh_step(Cart()), batch, idle, key, 1e3)
        >>> batch.transition.reward.tolist(), found.transition.reward.tolist()
        ([-1.5625], [-1.0])
    """
    actions = actions.astype(batch.transition.action.dtype)
    steps = jax.vmap(fresh_step, in_axes=(0, 0, 0, None), out_axes=(0, 0, None))
    keys = jax.random.split(key, actions.shape[0])
    return FreshSteps(*steps(keys, cast(State, batch.state), actions, tangent_bound))
