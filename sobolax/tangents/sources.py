"""Where the gradients of a transition come from: one interchangeable thing, chosen by name.

- `off`: nowhere. Plain TD learning; no tangent is stored, no simulator is differentiated.
- `cached`: tangents are computed when a transition is collected, and live in the replay buffer
  beside it.
- `recomputed`: they are computed at every update; the buffer keeps the environment's state instead.
- `reverse`: a reverse pass through the simulator at every update, likewise.

A source knows no loss: it says what is collected, and what `sobolax.losses.sobolev_errors` takes
gradients along. With the full basis all but `off` give the same loss, to rounding. How tangents are
computed is another question (`sobolax.tangents.methods`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.checks import check_choice
from sobolax.environment import Environment, State
from sobolax.tangents.forward import TransitionMap, draw_directions, plain_transition
from sobolax.tangents.methods import Derivatives, make_tangent_function
from sobolax.tangents.storage import is_packed, make_storage, moving_parts
from sobolax.transition import Tangents, Transition

#: Their names.
SOURCES = ("off", "cached", "recomputed", "reverse")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Experience:
    """What the replay buffer keeps of one step; a source leaves out what it does not need.

    Attributes:
        transition: The transition.
        tangents: Its tangents as `sobolax.tangents.storage` keeps them, or None.
        state: The environment's state before the step, or None.

    Example:
        >>> from sobolax.cart import Cart
        >>> source = make_source("recomputed", Cart())
        >>> experience, _ = source.collect(jax.random.key(0), Cart().at(1.0, 0.0), jnp.ones(1))
        >>> experience.state.observation.tolist(), experience.tangents
        ([1.0, 0.0], None)
    """

    transition: Transition
    tangents: Any
    state: State | None


#: `(key, state, action) -> (experience, next state)`.
Collect = Callable[[jax.Array, State, jax.Array], tuple[Experience, State]]
#: `(experience, key, tangent_bound) -> (tangents, tangent_bound)`, see `Source`.
FindTangents = Callable[
    [Experience, jax.Array, Any], tuple[Tangents | TransitionMap | None, jax.typing.ArrayLike]
]


@dataclass(frozen=True)
class Source:
    """How gradients are collected and used; both functions are unbatched.

    Attributes:
        collect: `(key, state, action) -> (experience, next state)`.
        tangents: `(experience, key, tangent_bound) -> (tangents, tangent_bound)`, at an update:
            what `sobolax.losses.sobolev_errors` takes, and the bound that it still has to apply.

    Example:
        >>> from sobolax.cart import Cart
        >>> source, key = make_source("cached", Cart()), jax.random.key(0)
        >>> experience, _ = source.collect(key, Cart().at(1.0, 0.0), jnp.ones(1))
        >>> tangents, bound = source.tangents(experience, key, 1e3)
        >>> tangents.state.reward.tolist(), bound
        ([-2.5, -1.25], 1000.0)
    """

    collect: Collect
    tangents: FindTangents


def make_source(
    name: str,
    environment: Environment,
    state_directions: int | None = None,
    action_directions: int | None = None,
    tangent_dtype: str = "float32",
    derivatives: Derivatives | None = None,
    keep_states: bool = False,
) -> Source:
    """Builds the source of that name.

    Args:
        name: One of `SOURCES`.
        environment: Whose transitions are differentiated.
        state_directions: How many random directions of the state; None for the full basis, 0 for
            no gradient along it.
        action_directions: The same for the action.
        tangent_dtype: How tangents are kept, one of `sobolax.tangents.storage.TANGENT_DTYPES`
            (`cached` only).
        derivatives: How tangents are computed (`cached` and `recomputed`); all defaults if left
            out.
        keep_states: Whether the environment's state is kept whatever the source is, for a fresh
            step from it (`sobolax.tangents.fresh`).

    Raises:
        ValueError: If the name is unknown, the counts do not fit, or the environment has no
            reverse mode, or no such derivatives, and the source needs them.

    Example:
        >>> from sobolax.cart import Cart
        >>> experience, _ = make_source("off", Cart()).collect(
        ...     jax.random.key(0), Cart().at(1.0, 0.0), jnp.ones(1)
        ... )
        >>> float(experience.transition.reward), experience.tangents, experience.state
        (-1.5625, None, None)
    """
    check_source(name, environment, state_directions, action_directions, derivatives)
    compute = make_tangent_function(environment, derivatives or Derivatives())
    moving = None
    if name == "cached" and is_packed(tangent_dtype):
        moving = moving_parts(environment, state_directions, action_directions)
    storage = make_storage(tangent_dtype, moving)

    def tangents_at(key: jax.Array, state: State, action: jax.Array):
        state_key, action_key, own_key = jax.random.split(key, 3)
        return compute(
            own_key,
            state,
            action,
            draw_directions(state_key, state_directions, environment.state_size),
            draw_directions(action_key, action_directions, environment.action_size),
        )

    def kept(state: State) -> State | None:
        return state if keep_states else None

    def collect_plain(key, state, action):
        transition, next_state = plain_transition(environment, state, action)
        return Experience(transition, None, kept(state)), next_state

    def collect_state(key, state, action):
        transition, next_state = plain_transition(environment, state, action)
        return Experience(transition, None, state), next_state

    def collect_tangents(key, state, action):
        transition, next_state, tangents = tangents_at(key, state, action)
        # Another key than the three that `tangents_at` splits this one into.
        stored = storage.pack(jax.random.fold_in(key, 3), tangents)
        return Experience(transition, stored, kept(state)), next_state

    def unpacked(experience, key, tangent_bound):
        return storage.unpack(experience.tangents, tangent_bound)

    def recomputed(experience, key, tangent_bound):
        _, _, tangents = tangents_at(key, experience.state, experience.transition.action)
        return tangents, tangent_bound

    def anchored_map(experience, key, tangent_bound):
        # A reverse pass sees no tangent whose length could be bounded.
        return TransitionMap(environment, experience.state), jnp.inf

    return {
        "off": Source(collect_plain, lambda experience, key, bound: (None, bound)),
        "cached": Source(collect_tangents, unpacked),
        "recomputed": Source(collect_state, recomputed),
        "reverse": Source(collect_state, anchored_map),
    }[name]


def check_source(
    name: str,
    environment: Environment,
    state_directions: int | None,
    action_directions: int | None,
    derivatives: Derivatives | None = None,
) -> None:
    """Raises ValueError, saying what to do instead, where `make_source` could not work.

    Example:
        >>> from sobolax.cart import Cart
        >>> check_source("cached", Cart(), state_directions=0, action_directions=None)
        >>> check_source("cached", Cart(), state_directions=3, action_directions=None)
        Traceback (most recent call last):
        ValueError: state_directions=3 does not fit environment 'cart', which has 2: ...
    """
    (derivatives or Derivatives()).check(environment)
    check_choice("source of gradients ", name, SOURCES)
    for what, count, size in (
        ("state_directions", state_directions, environment.state_size),
        ("action_directions", action_directions, environment.action_size),
    ):
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= size:
            raise ValueError(
                f"{what}={count!r} does not fit environment {environment.name!r}, which has "
                f"{size}: choose 1 to {size}, None for the full basis, or 0 for no gradient there"
            )
    if name != "off" and state_directions == action_directions == 0:
        raise ValueError(
            "state_directions=0 and action_directions=0 leave no gradient at all: leave one of "
            "them out, or choose the source 'off', which differentiates nothing"
        )
    if name == "reverse":
        if not environment.reverse_mode:
            raise ValueError(
                f"environment {environment.name!r} has no reverse mode (its contact solver is a "
                "while loop, and its integrator has no implicit derivatives): use the source "
                "'cached' or 'recomputed'"
            )
        if (state_directions, action_directions) != (None, None):
            raise ValueError(
                "the source 'reverse' gives all gradients at once: leave state_directions and "
                "action_directions at None, or use 'cached' or 'recomputed'"
            )
