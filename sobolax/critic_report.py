"""How right a critic is: its values and its slopes against rollouts and their exact derivative.

The reference is what the critic claims to know: the discounted return of following the policy
from a state and an action, entropy bonus included, over `horizon` steps, with the policy's noise
drawn beforehand (so that the return is a differentiable function of state and action), averaged
over some draws. Its slopes are the exact derivative of that number through the simulator and the
policy. The return beyond the horizon is missing: `tail` says how much weight it would have.

A slope of a long return on an unstable or chaotic system is no good reference, however exact:
references that are not finite or exceed a stated bound are left out and counted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from sobolax.environment import Environment, State
from sobolax.evaluation import is_finite

Policy = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
Critic = Callable[[jax.Array, jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CriticReport:
    """Errors of a critic; all `()`.

    Attributes:
        value_error: Root mean square error of the value over the standard deviation of the
            reference: 1 is as good as predicting the mean.
        state_slope_error: Root mean square error of the slope with respect to the physics state
            (in local coordinates) over the root mean square of the reference slope: 1 is as
            good as predicting zero.
        state_slope_cosine: Mean cosine between both slopes.
        action_slope_error: As `state_slope_error`, with respect to the action.
        action_slope_cosine: As `state_slope_cosine`, with respect to the action.
        references_dropped: Share of states left out, their reference not finite or too steep.
        tail: Discount to the power of the horizon: the weight of what the reference misses.
    """

    value_error: jax.Array
    state_slope_error: jax.Array
    state_slope_cosine: jax.Array
    action_slope_error: jax.Array
    action_slope_cosine: jax.Array
    references_dropped: jax.Array
    tail: jax.Array


def report_on_critic(
    environment: Environment,
    policy: Policy,
    critic: Critic,
    key: jax.Array,
    *,
    states: int,
    horizon: int,
    draws: int,
    discount: Any,
    reward_scale: Any = 1.0,
    slope_bound: float = 1e6,
) -> CriticReport:
    """Compares a critic with rollouts, on states that the policy visits.

    Args:
        environment: The environment. With its reverse mode, a slope costs a few rollouts;
            without it, forward mode costs a rollout for every direction.
        policy: `(observation, noise (action_size,)) -> (action, bonus)`; the bonus is added to
            the reward of every step but the first, as in soft Q functions.
        critic: `(observation, action) -> ()`.
        key: Random key.
        states: How many states and actions to look at.
        horizon: Steps of a rollout.
        draws: Draws of the policy's noise that a reference is averaged over.
        discount: gamma.
        reward_scale: What the agent multiplies rewards by.
        slope_bound: References whose slope is of larger norm are dropped.
    """
    state_key, action_key, noise_key = jax.random.split(key, 3)
    visited = visit_states(environment, policy, state_key, states)
    shape = (states, environment.action_size)
    dtype = visited.observation.dtype
    actions, _ = jax.vmap(policy)(visited.observation, jax.random.normal(action_key, shape, dtype))
    noise = jax.random.normal(noise_key, (states, draws, horizon - 1, shape[1]), dtype)
    zero = jnp.zeros(environment.state_size, dtype)

    def estimated(state: State, displacement: jax.Array, action: jax.Array) -> jax.Array:
        return critic(environment.perturb(state, displacement).observation, action)

    def reference(state: State, displacement, action, noise):
        returns = jax.vmap(
            lambda one: discounted_return(
                environment, policy, state, displacement, action, one, discount, reward_scale
            )
        )(noise)
        return jnp.mean(returns)

    def compare(state: State, action: jax.Array, noise: jax.Array):
        value, slopes = jax.value_and_grad(estimated, argnums=(1, 2))(state, zero, action)

        def at(where: tuple[jax.Array, jax.Array]) -> jax.Array:
            return reference(state, where[0], where[1], noise)

        if environment.reverse_mode:
            true_value, true_slopes = jax.value_and_grad(at)((zero, action))
        else:
            true_value, true_slopes = _value_and_forward_gradient(at, (zero, action))
        return (value, *slopes), (true_value, *true_slopes)

    found, true = jax.vmap(compare)(visited, actions, noise)
    steepness = sum(jnp.sum(jnp.square(slope), axis=-1) for slope in true[1:])
    usable = jnp.isfinite(true[0]) & jnp.isfinite(steepness) & (steepness <= slope_bound**2)
    value_error = _relative_error(usable, found[0][:, None], true[0][:, None], centred=True)
    return CriticReport(
        value_error,
        _relative_error(usable, found[1], true[1]),
        _cosine(usable, found[1], true[1]),
        _relative_error(usable, found[2], true[2]),
        _cosine(usable, found[2], true[2]),
        1.0 - jnp.mean(usable.astype(dtype)),
        jnp.asarray(discount, dtype) ** horizon,
    )


def discounted_return(
    environment: Environment,
    policy: Policy,
    state: State,
    displacement: jax.Array,
    action: jax.Array,
    noise: jax.Array,
    discount: Any,
    reward_scale: Any = 1.0,
) -> jax.Array:
    """Discounted return of one rollout, differentiable in displacement and first action.

    Args:
        environment: The environment.
        policy: See `report_on_critic`.
        state: Where to start.
        displacement: Of the state, `(state_size,)`.
        action: The first action, `(action_size,)`; the policy takes the others.
        noise: Of the policy, `(steps - 1, action_size)`.
        discount: gamma.
        reward_scale: Multiplies every reward.
    """
    first = environment.step(environment.perturb(state, displacement), action)

    # The reverse pass recomputes a step instead of storing everything inside it.
    @jax.checkpoint
    def step(carry, one):
        current, weight, total = carry
        # Past the end of an episode, step from the start again: whatever lies beyond the end
        # may not be finite, and zero times its derivative would not be zero.
        alive = weight > 0.0
        current = jax.tree.map(lambda a, b: jnp.where(alive, a, b), current, state)
        following_action, bonus = policy(current.observation, one)
        following = environment.step(current, following_action)
        total += weight * (bonus + reward_scale * following.reward)
        weight *= discount * (1.0 - following.terminated.astype(weight.dtype))
        return (following, weight, total), None

    dtype = first.reward.dtype
    weight = jnp.asarray(discount, dtype) * (1.0 - first.terminated.astype(dtype))
    carry = (first, weight, reward_scale * first.reward)
    (_, _, total), _ = jax.lax.scan(step, carry, noise)
    return total


def visit_states(environment: Environment, policy: Policy, key: jax.Array, count: int) -> State:
    """States that a policy visits: each at a uniformly random time of an episode of its own.

    An episode that ends before that time gives its last state.

    Returns:
        A `State` with leading axis `count`.
    """
    reset_key, time_key, noise_key = jax.random.split(key, 3)
    start = jax.vmap(environment.reset)(jax.random.split(reset_key, count))
    stop = jax.random.randint(time_key, (count,), 0, environment.episode_length)

    def step(current, index):
        noise = jax.random.normal(
            jax.random.fold_in(noise_key, index),
            (count, environment.action_size),
            current.observation.dtype,
        )

        def one(state, stop, noise):
            following = environment.step(state, policy(state.observation, noise)[0])
            keep = (index < stop) & is_finite(following) & ~following.terminated
            return jax.tree.map(lambda a, b: jnp.where(keep, a, b), following, state)

        return jax.vmap(one)(current, stop, noise), None

    visited, _ = jax.lax.scan(step, start, jnp.arange(environment.episode_length))
    return visited


def _value_and_forward_gradient(function, arguments):
    flat, unravel = ravel_pytree(arguments)

    def push(direction):
        return jax.jvp(lambda x: function(unravel(x)), (flat,), (direction,))

    value, slopes = jax.vmap(push, out_axes=(None, 0))(jnp.eye(flat.size, dtype=flat.dtype))
    return value, unravel(slopes)


def _relative_error(usable, found, true, centred=False) -> jax.Array:
    """Root mean square of the error over that of the (centred) truth, where usable."""
    mask = usable[:, None]
    count = jnp.maximum(jnp.sum(usable), 1)
    true = jnp.where(mask, true, 0.0)
    error = jnp.where(mask, found - true, 0.0)
    if centred:
        true = jnp.where(mask, true - jnp.sum(true, axis=0) / count, 0.0)
    return jnp.sqrt(jnp.sum(jnp.square(error)) / jnp.sum(jnp.square(true)))


def _cosine(usable, found, true) -> jax.Array:
    """Mean cosine of the angle, where usable and where the truth has a direction."""
    lengths = jnp.linalg.norm(found, axis=-1) * jnp.linalg.norm(true, axis=-1)
    usable = usable & (lengths > 0.0)
    cosine = jnp.sum(found * true, axis=-1) / jnp.where(usable, lengths, 1.0)
    return jnp.sum(jnp.where(usable, cosine, 0.0)) / jnp.sum(usable)
