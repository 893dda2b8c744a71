"""How right a critic is: its values and its gradients against rollouts and their exact derivative.

The reference is what the critic claims to know: the discounted return of following the policy
from a state and an action, entropy bonus included, over `horizon` steps, with the policy's noise
drawn beforehand (so that the return is a differentiable function of state and action), averaged
over some draws. Its gradients are the exact derivative of that number through the simulator and the
policy. The return beyond the horizon is missing: `tail` says how much weight it would have.

A gradient of a long return on an unstable or chaotic system is no good reference, however exact:
references that are not finite or exceed a stated bound are left out and counted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.environment import Environment, State
from sobolax.tangents.forward import TransitionMap
from sobolax.tangents.units import observed_motion

#: `(observation, noise) -> (action, bonus)`, see `report_on_critic`.
Policy = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
#: `(observation, action) -> ()`.
Critic = Callable[[jax.Array, jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CriticReport:
    """Errors of a critic; all `()`.

    An error is relative to the reference, and NaN where that has nothing to be relative to: values
    that are all equal, gradients that are all zero, or no reference that is not left out. A cosine
    is NaN where no state has two gradients that point anywhere.

    Attributes:
        value_error: Root mean square error of the value over the standard deviation of the
            reference: 1 is as good as predicting the mean.
        state_gradient_error: Root mean square error of the gradient with respect to the physics
            state (in local coordinates) over the root mean square of the reference gradient: 1 is
            as good as predicting zero.
        state_gradient_cosine: Mean cosine between both gradients.
        std_gradient_error: As `state_gradient_error`, per standard deviation of the normalised
            observation in the place of metres and radians (`sobolax.tangents.units`): no coordinate
            counts for its unit alone. Directions that nothing observes are left out.
        std_gradient_cosine: As `state_gradient_cosine`, likewise.
        action_gradient_error: As `state_gradient_error`, with respect to the action; None for a
            critic of states.
        action_gradient_cosine: As `state_gradient_cosine`, likewise.
        references_dropped: Share of states left out, their reference not finite or too steep.
        tail: Discount to the power of the horizon: the weight of what the reference misses.

    Example:
        >>> gradients = {"state_gradient_error": 0.0, "state_gradient_cosine": 1.0}
        >>> gradients |= {"std_gradient_error": 0.0, "std_gradient_cosine": 1.0}
        >>> gradients |= {"action_gradient_error": 0.0, "action_gradient_cosine": 1.0}
        >>> perfect = CriticReport(0.0, **gradients, references_dropped=0.0, tail=0.01)
        >>> perfect.state_gradient_error, perfect.state_gradient_cosine
        (0.0, 1.0)
    """

    value_error: jax.Array
    state_gradient_error: jax.Array
    state_gradient_cosine: jax.Array
    std_gradient_error: jax.Array
    std_gradient_cosine: jax.Array
    action_gradient_error: jax.Array | None
    action_gradient_cosine: jax.Array | None
    references_dropped: jax.Array
    tail: jax.Array


def report_on_critic(
    environment: Environment,
    policy: Policy,
    critic: Critic,
    visited: State,
    key: jax.Array,
    *,
    horizon: int,
    draws: int,
    discount: Any,
    reward_scale: Any = 1.0,
    deviation: jax.typing.ArrayLike = 1.0,
    gradient_bound: float = 1e6,
    of_action: bool = True,
    bonus_interval: int = 1,
) -> CriticReport:
    """Compares a critic with rollouts.

    The reference is differentiated in forward mode, which every environment has: it costs a
    rollout for every direction of state and action.

    Args:
        environment: The environment.
        policy: `(observation, noise (action_size,)) -> (action, bonus)`; the bonus is added to
            the reward of every step but the first, as in soft Q functions (or of some of them, see
            `bonus_interval`); of every step for a critic of states.
        critic: `(observation, action) -> ()`.
        visited: States to look at, with a leading axis; see `Evaluation.visited`.
        key: Random key.
        horizon: Steps of a rollout.
        draws: Draws of the policy's noise that a reference is averaged over.
        discount: gamma.
        reward_scale: What the agent multiplies rewards by.
        deviation: Standard deviations of the observation, `(observation_size,)` or `()`.
        gradient_bound: References whose gradient is of larger norm are dropped.
        of_action: Whether the critic depends on the action; if not it is `V`, and the policy takes
            the first action of the reference too.
        bonus_interval: See `discounted_return`.

    Example:
        >>> from sobolax.cart import Cart
        >>> states = jax.vmap(Cart().at)(jnp.array([1.0, 2.0]), jnp.zeros(2))
        >>> rest = lambda observation, noise: (jnp.zeros(1), 0.0)
        >>> def critic(observation, action):  # what resting for two steps brings, discounted by 1/2
        ...     first = observation[0] + (observation[1] + action[0] / 2) / 2
        ...     second = first + (observation[1] + action[0] / 2) / 2
        ...     return -(first**2) - second**2 / 2
        >>> options = {"horizon": 2, "draws": 1, "discount": 0.5}
        >>> report = jax.jit(
        ...     lambda key: report_on_critic(Cart(), rest, critic, states, key, **options)
        ... )(jax.random.key(0))
        >>> float(report.value_error), round(float(report.state_gradient_cosine), 3)
        (0.0, 1.0)
    """
    action_key, noise_key = jax.random.split(key)
    states, dtype = visited.observation.shape[0], visited.observation.dtype
    shape = (states, environment.action_size)
    actions, _ = jax.vmap(policy)(visited.observation, jax.random.normal(action_key, shape, dtype))
    actions = actions.astype(dtype)
    noise = jax.random.normal(noise_key, (states, draws, horizon, shape[1]), dtype)
    zero = jnp.zeros(environment.state_size, dtype)
    unit = jnp.broadcast_to(jnp.asarray(deviation, dtype), visited.observation.shape[1:])

    def estimated(state: State, displacement: jax.Array, action: jax.Array) -> jax.Array:
        return critic(environment.perturb(state, displacement).observation, action)

    def compare(state: State, action: jax.Array, noise: jax.Array):
        value, gradients = jax.value_and_grad(estimated, argnums=(1, 2) if of_action else (1,))(
            state, zero, action
        )

        def reference(displacement: jax.Array, action: jax.Array) -> jax.Array:
            start = environment, policy, state, displacement, action if of_action else None
            returns = jax.vmap(
                lambda noise: discounted_return(
                    *start, noise, discount, reward_scale, bonus_interval
                )
            )(noise)
            return jnp.mean(returns)

        true_gradients, true_value = jax.jacfwd(
            lambda *where: (reference(*where),) * 2,
            argnums=(0, 1) if of_action else (0,),
            has_aux=True,
        )(zero, action)
        motion = observed_motion(TransitionMap(environment, state), unit)
        observed = motion > 0.0
        lengths = jnp.where(observed, 1.0 / jnp.where(observed, motion, 1.0), 0.0)
        return (value, *gradients), (true_value, *true_gradients), lengths

    found, true, lengths = jax.vmap(compare)(visited, actions, noise)
    steepness = sum(jnp.sum(jnp.square(gradient), axis=-1) for gradient in true[1:])
    usable = jnp.isfinite(true[0]) & jnp.isfinite(steepness) & (steepness <= gradient_bound**2)
    value_error = _relative_error(usable, found[0][:, None], true[0][:, None], centred=True)
    return CriticReport(
        value_error,
        _relative_error(usable, found[1], true[1]),
        _cosine(usable, found[1], true[1]),
        _relative_error(usable, found[1] * lengths, true[1] * lengths),
        _cosine(usable, found[1] * lengths, true[1] * lengths),
        _relative_error(usable, found[2], true[2]) if of_action else None,
        _cosine(usable, found[2], true[2]) if of_action else None,
        1.0 - jnp.mean(usable.astype(dtype)),
        jnp.asarray(discount, dtype) ** horizon,
    )


def discounted_return(
    environment: Environment,
    policy: Policy,
    state: State,
    displacement: jax.Array,
    action: jax.Array | None,
    noise: jax.Array,
    discount: Any,
    reward_scale: Any = 1.0,
    bonus_interval: int = 1,
) -> jax.Array:
    """Discounted return of one rollout, differentiable in displacement and first action.

    Args:
        environment: The environment.
        policy: See `report_on_critic`.
        state: Where to start.
        displacement: Of the state, `(state_size,)`.
        action: The first action, `(action_size,)`; the policy takes the others. None for a return
            of the policy alone.
        noise: Of the policy, `(steps, action_size)`; the first one is not used if there is a first
            action.
        discount: gamma.
        reward_scale: Multiplies every reward.
        bonus_interval: Steps from one bonus to the next, counted from the first action: those of
            the targets, where n-step targets have the bonus of every n-th step alone. A time limit
            cuts an episode's last targets short, which then have it earlier; no limit is here.

    Example:
        >>> from sobolax.cart import Cart
        >>> rest = lambda observation, noise: (jnp.zeros(1), 0.0)
        >>> where, noise = (Cart().at(1.0, 0.0), jnp.zeros(2), jnp.ones(1)), jnp.zeros((2, 1))
        >>> float(discounted_return(Cart(), rest, *where, noise, discount=0.5))  # -1.25^2 - 1.5^2/2
        -2.6875
        >>> bonus, alone = lambda observation, noise: (jnp.zeros(1), 0.25), (*where[:2], None)
        >>> float(discounted_return(Cart(), bonus, *alone, noise, discount=0.5))  # 1.5 (-1 + 1/4)
        -1.125
    """
    dtype = state.reward.dtype

    def step(carry, now):
        current, weight, total = carry
        index, noise = now
        # Past the end of an episode, step from the start again: whatever lies beyond the end
        # may not be finite, and zero times its derivative would not be zero.
        current = jax.tree.map(lambda a, b: jnp.where(weight > 0.0, a, b), current, state)
        chosen, bonus = policy(current.observation, noise)
        chosen = chosen.astype(noise.dtype if action is None else action.dtype)
        if action is not None:
            first = index == 0
            bare = first if bonus_interval == 1 else first | (index % bonus_interval != 0)
            chosen, bonus = jnp.where(first, action, chosen), jnp.where(bare, 0.0, bonus)
        next_state = environment.step(current, chosen)
        gained = bonus + reward_scale * next_state.reward
        total += jnp.where(weight > 0.0, weight * gained, 0.0).astype(dtype)
        weight *= (discount * next_state.discount).astype(dtype)
        return (next_state, weight, total), None

    carry = (environment.perturb(state, displacement), jnp.ones((), dtype), jnp.zeros((), dtype))
    (_, _, total), _ = jax.lax.scan(step, carry, (jnp.arange(noise.shape[0]), noise))
    return total


def _relative_error(usable, found, true, centred=False) -> jax.Array:
    """Root mean square of the error over that of the (centred) truth, where usable.

    NaN where the latter is 0: infinite for any error at all, it would say no more.
    """
    mask = usable[:, None]
    count = jnp.maximum(jnp.sum(usable), 1)
    true = jnp.where(mask, true, 0.0)
    error = jnp.where(mask, found - true, 0.0)
    # Exactly: the mean of equal numbers may be rounded to another one.
    known = jnp.any(mask & (true != (true[jnp.argmax(usable)] if centred else 0.0)))
    if centred:
        true = jnp.where(mask, true - jnp.sum(true, axis=0) / count, 0.0)
    size = jnp.sum(jnp.square(true))
    known &= size > 0
    ratio = jnp.sum(jnp.square(error)) / jnp.where(known, size, 1.0)
    return jnp.where(known, jnp.sqrt(ratio), jnp.nan)


def _cosine(usable, found, true) -> jax.Array:
    """Mean cosine of the angle, where usable and where the truth has a direction."""
    lengths = jnp.linalg.norm(found, axis=-1) * jnp.linalg.norm(true, axis=-1)
    usable = usable & (lengths > 0.0)
    cosine = jnp.sum(found * true, axis=-1) / jnp.where(usable, lengths, 1.0)
    return jnp.sum(jnp.where(usable, cosine, 0.0)) / jnp.sum(usable)
