"""Gradients of a window's returns, by one pass back through its steps.

The derivatives of a closed loop, simulator and policy together, are carried backwards explicitly:
from the cotangent of a step's next state, one `jax.vjp` of the step, taken again, gives that of the
state before it and the total derivative with respect to the action. So nothing but the window is
kept, and what happens at the end of an episode, of the window, or where the chain grows, is a
choice at every step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.environment import Environment, State
from sobolax.training.rollouts import Rollout

#: `(observation, noise) -> (action, bonus)`, as `Agent.sample`.
Policy = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WindowGradients:
    """Returns of one environment's window and their gradients; time is the first axis.

    The objective after a step is `J_t = c r_t + b_t + gamma d_t J_(t+1)`, with `V(o_(t+1))` in the
    place of `J_(t+1)` where the chain ends: at the end of an episode or of the window, or where it
    was cut. The lambda-return is `G_t = c r_t + b_t + gamma d_t [(1 - lambda) V(o_(t+1)) + lambda
    G_(t+1)]`; it is not cut.

    Attributes:
        objective: `J_t`, `(horizon,)`.
        actions: `dJ_t / da_t`, with all that follows from it, `(horizon, action_size)`.
        weights: What `dJ_t / da_t` counts in the gradient of the window's objective, the sum of
            `J` over the first steps of its chains: gamma for every step since, `(horizon,)`.
        returns: `G_t`, `(horizon,)`; NaN where it builds on a step that was not finite, so that no
            critic learns from it.
        along_state: `dG_t / dx_t` in local coordinates, `(horizon, state_size)`; None if not
            wanted.
        observations: `do_t / dx_t`, `(horizon, observation_size, state_size)`; None likewise.
        cuts: How often the chain was cut, `()` int32.
        finite: Whether steps and all of `actions` are finite, `()` bool.

    Example:
        >>> from sobolax.cart import Cart
        >>> cart, still = Cart(), lambda observation, noise: (jnp.zeros(1), 0.0)
        >>> states = jax.vmap(cart.at)(jnp.array([1.0, 1.0]), jnp.zeros(2))
        >>> flags = jnp.ones(2), jnp.zeros(2, bool), jnp.ones(2, bool)
        >>> rollout = Rollout(states, jnp.zeros((2, 1)), states.observation, *flags)
        >>> found = differentiate(cart, still, lambda o: o[0], rollout, discount=0.5)
        >>> found.objective.tolist(), found.actions.ravel().tolist()  # at rest, twice r = -1
        ([-1.25, -0.5], [-0.875, -0.375])
    """

    objective: jax.Array
    actions: jax.Array
    weights: jax.Array
    returns: jax.Array
    along_state: jax.Array | None
    observations: jax.Array | None
    cuts: jax.Array
    finite: jax.Array


def differentiate(
    environment: Environment,
    policy: Policy,
    value: Callable[[jax.Array], jax.Array],
    rollout: Rollout,
    *,
    discount: Any,
    reward_scale: Any = 1.0,
    trace: Any = 0.95,
    growth_bound: Any = jnp.inf,
    slopes: bool = False,
) -> WindowGradients:
    """Returns of one environment's window and their gradients.

    Args:
        environment: One with reverse mode.
        policy: The policy that took the steps.
        value: `observation -> ()`, what a chain ends in.
        rollout: The steps of one environment.
        discount: gamma.
        reward_scale: c.
        trace: lambda.
        growth_bound: Where the gradient of the objective along the state is longer than this many
            times its length at the last step of its chain (that has one), the chain is cut: it
            ends there.
        slopes: Whether the gradient of the lambda-return is wanted too: one more pull-back through
            every step.

    Example:
        >>> from sobolax.cart import Cart
        >>> cart, still = Cart(), lambda observation, noise: (jnp.zeros(1), 0.0)
        >>> state = jax.tree.map(lambda leaf: leaf[None], cart.at(1.0, 0.0))
        >>> flags = jnp.ones(1), jnp.zeros(1, bool), jnp.ones(1, bool)
        >>> rollout = Rollout(state, jnp.zeros((1, 1)), state.observation, *flags)
        >>> found = differentiate(cart, still, lambda o: o[0], rollout, discount=0.5, slopes=True)
        >>> found.along_state.tolist()  # of -x'^2 + x'/2 at x' = x + v/2 = 1
        [[-1.5, -0.75]]
    """
    horizon, dtype = rollout.noise.shape[0], rollout.noise.dtype
    still = jnp.zeros(environment.state_size, dtype)
    push = jnp.zeros(environment.action_size, dtype)
    next_values, next_gradients = jax.vmap(jax.value_and_grad(value))(rollout.next_observations)
    # Networks in float64 make it so, whatever the environment computes in.
    next_values = next_values.astype(dtype)
    ends = rollout.ended | (jnp.arange(horizon) == horizon - 1)
    first = jax.tree.map(lambda leaf: leaf[0], rollout.states)
    # An axis of chains: that of the objective, and that of the lambda-return.
    chains = 2 if slopes else 1
    zero = [jnp.zeros((chains, *leaf.shape), leaf.dtype) for leaf in _moving(first)]

    def step(carry, now):
        cotangents, objective, returns, growth, reference = carry
        state, noise, end, finite, discounts, next_value, next_gradient = now
        bound = jnp.asarray(growth_bound, dtype) * reference
        cut = ~end & (reference > 0) & (growth > bound)
        onward = (discount * discounts).astype(dtype)

        def closed_loop(moving, push):
            here = _put(state, moving)
            action, bonus = policy(here.observation, noise)
            after = environment.step(here, action.astype(dtype) + push)
            return (reward_scale * after.reward + bonus).astype(dtype), _moving(after)

        (gain, _), pull_back = jax.vjp(closed_loop, _moving(state), push)
        # What follows the step, as a function of its next state: V, or what was carried here.
        bootstrap = _moving_like(state, next_gradient)
        share = jnp.asarray(trace, dtype)
        # By choice, not by a share of 0: what was carried here may be NaN.
        alone = end | (share == 0)

        def follow(carried, of_value):
            chained = [jnp.where(end | cut, of_value, carried[0])]
            if slopes:
                mixed = (1 - share) * of_value + share * carried[1]
                chained.append(jnp.where(alone, of_value, mixed))
            return (onward * jnp.stack(chained)).astype(of_value.dtype)

        after = jax.tree.map(follow, cotangents, bootstrap)
        moving, along_action = jax.vmap(lambda after: pull_back((jnp.ones((), dtype), after)))(
            after
        )
        objective = gain + onward * jnp.where(end | cut, next_value, objective)
        mixed = (1 - share) * next_value + share * returns
        returns = gain + onward * jnp.where(alone, next_value, mixed)
        returns = jnp.where(finite, returns, jnp.nan)

        # In local coordinates, of the state as it was.
        _, to_local = jax.vjp(lambda along: _moving(environment.perturb(state, along)), still)
        (local,) = jax.vmap(to_local)(moving)
        growth = jnp.sqrt(jnp.sum(jnp.square(local[0])))
        # A last step that earns a constant has no gradient to grow from: the next one has.
        reference = jnp.where(end | cut | (reference == 0), growth, reference)
        found = objective, along_action[0], returns, end | cut, cut
        if slopes:
            observed = jax.jacfwd(lambda along: environment.perturb(state, along).observation)
            found = (*found, local[1], observed(still))
        return (moving, objective, returns, growth, reference), found

    nothing = jnp.zeros((), dtype)
    steps = rollout.states, rollout.noise, ends, rollout.finite, rollout.discounts
    _, found = jax.lax.scan(
        step,
        (zero, nothing, nothing, nothing, nothing),
        (*steps, next_values, next_gradients),
        reverse=True,
    )
    objective, actions, returns, ended, cuts = found[:5]
    weights = _weights(ended, (discount * rollout.discounts).astype(dtype))
    # What overflows when it is squared has no norm that could be clipped.
    usable = jnp.isfinite(jnp.sum(jnp.square(actions)))
    return WindowGradients(
        objective,
        actions,
        weights,
        returns,
        *(found[5:] if slopes else (None, None)),
        cuts=jnp.sum(cuts, dtype=jnp.int32),
        finite=usable & jnp.all(rollout.finite),
    )


def check_reverse_mode(owner: str, environment: Environment, horizon: int) -> None:
    """Raises ValueError, saying what to do instead, where no gradient goes back through a window.

    Example:
        >>> from sobolax.cart import Cart
        >>> check_reverse_mode("mine", Cart(), horizon=50)
        Traceback (most recent call last):
        ValueError: mine: horizon=50 is longer than an episode of environment 'cart', which has ...
    """
    if horizon > environment.episode_length:
        raise ValueError(
            f"{owner}: horizon={horizon} is longer than an episode of environment "
            f"{environment.name!r}, which has {environment.episode_length} steps: choose 1 to "
            f"{environment.episode_length}"
        )
    if not environment.reverse_mode:
        reason = getattr(environment, "own_derivatives", {}).get("analytic")
        because = f" ({reason})" if isinstance(reason, str) else ""
        raise ValueError(
            f"{owner}: environment {environment.name!r} has no reverse mode{because}, and this "
            "agent differentiates back through its steps: choose sac, td3, ddpg or q_learning, "
            "which need forward mode alone"
        )


def _weights(ended: jax.Array, discounts: jax.Array) -> jax.Array:
    """The product of discounts since the chain's first step, `(horizon,)`."""

    def step(weight, now):
        ended, discount = now
        return jnp.where(ended, 1.0, weight * discount).astype(discounts.dtype), weight

    return jax.lax.scan(step, jnp.ones((), discounts.dtype), (ended, discounts))[1]


def _moving(state: State) -> list[jax.Array]:
    """What a later step depends on and has gradients: numbers of physics and observation."""
    leaves = jax.tree.leaves((state.physics, state.observation))
    return [leaf for leaf in leaves if _differentiable(leaf)]


def _put(state: State, moving: list[jax.Array]) -> State:
    """The same state with those numbers."""
    leaves, structure = jax.tree.flatten((state.physics, state.observation))
    rest = iter(moving)
    leaves = [next(rest) if _differentiable(leaf) else leaf for leaf in leaves]
    physics, observation = jax.tree.unflatten(structure, leaves)
    return State(physics, observation, state.reward, state.discount, state.metrics)


def _moving_like(state: State, along_observation: jax.Array) -> list[jax.Array]:
    """The cotangent of a state that only its observation has."""
    still = [jnp.zeros_like(leaf) for leaf in _moving(state)]
    return [*still[:-1], along_observation.astype(still[-1].dtype)]


def _differentiable(leaf: jax.Array) -> bool:
    # Complex numbers too: `jax.vjp` hands their cotangents from step to step as it takes them.
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
