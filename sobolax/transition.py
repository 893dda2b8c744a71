"""What an agent learns from: a transition, and the tangents of a transition."""

from dataclasses import dataclass
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Transition:
    """One step of an environment, as an agent sees it.

    A *tangent* of a transition is the same structure: how every number in it moves when the
    physics state or the action moves along one direction. In a tangent, `None` stands for a part
    that is zero for every direction and takes no memory.

    Attributes:
        observation: What the policy saw, raw (not normalised), `(observation_size,)`.
        action: What it did, in [-1, 1], `(action_size,)`.
        reward: Of this step, `()`.
        discount: 0 where the step ended the episode for good, else 1, `()`. The agent's own
            discount factor multiplies it. A time limit leaves it at 1: truncation is not
            termination.
        next_observation: What followed, before any reset, `(observation_size,)`.

    Example:
        >>> transition = Transition(jnp.zeros(2), jnp.zeros(1), 1.0, 1.0, jnp.ones(2))
        >>> transition.reward, transition.next_observation.tolist()
        (1.0, [1.0, 1.0])
    """

    observation: Any
    action: Any
    reward: Any
    discount: Any
    next_observation: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tangents:
    """Tangents of one transition along directions of the physics state and of the action.

    Directions are the last axis, everywhere: `n` directions in a space of some size are the columns
    of a matrix `V`, `(size, n)`, and the tangents of a leaf of shape `S` are `S + (n,)`. For a
    vector they are `J @ V`, with the Jacobian `J`.

    Attributes:
        state: `Transition` of tangents along directions of the physics state.
        action: The same along directions of the action.

    Example:
        >>> from sobolax.cart import example_transition
        >>> transition, tangents = example_transition()
        >>> tangents.state.next_observation.tolist()  # columns: along the position, the speed
        [[1.0, 0.5], [0.0, 1.0]]
        >>> tangents.state.action is None  # a displacement of the state does not move the action
        True
    """

    state: Transition
    action: Transition
