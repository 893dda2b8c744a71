"""Freezes runs whose numbers are no longer finite; the other runs of a `vmap` continue unchanged.

When a round of steps, about 32 updates, leaves a number in agent, normalizer or teacher that is not
finite, those of the round before are kept from then on (but for counters of updates, which go on):
the agent is frozen, and evaluated as it is; its environments go on, with random actions where a
replay buffer is filled. The metrics `frozen` (0 or 1) and `frozen_at` say so, and those of updates
leave the failed round out.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.training import normalization
from sobolax.training.agent import Metrics
from sobolax.training.state import TrainingState

# Looking keeps, reads and selects all arrays of an agent: a tenth of an update, on CPU.
UPDATES_PER_ROUND = 32


def steps_per_round(steps_per_epoch: int, gradient_steps: int) -> int:
    """Steps between two looks at whether the agent is finite; they divide an epoch.

    Example:
        >>> steps_per_round(steps_per_epoch=64, gradient_steps=8)
        4
    """
    most = max(1, UPDATES_PER_ROUND // max(gradient_steps, 1))
    return max(size for size in range(1, most + 1) if steps_per_epoch % size == 0)


def keep_finite(
    before: TrainingState, after: TrainingState, totals: Metrics, sums: Metrics, now: jax.Array
) -> tuple[TrainingState, Metrics, jax.Array]:
    """The state after a round of steps; where the agent is no longer finite, that before it.

    Args:
        before: State before the round.
        after: State after it.
        totals: Sums of metrics before it.
        sums: Sums of metrics after it.
        now: Environment steps after it, `()` int32.

    Returns:
        The state, the sums, and whether the agent goes on, `()` bool.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> from sobolax.training.collection import start
        >>> from sobolax.training.state import Setup
        >>> config = sac.Config(first_order="off", hidden_sizes=(4,))
        >>> setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
        >>> before = start(setup, jax.random.key(0), sac.Hyperparameters())
        >>> sick = replace(before.agent, log_temperature=jnp.array(jnp.nan))
        >>> state, _, _ = keep_finite(before, replace(before, agent=sick), {}, {}, jnp.int32(64))
        >>> round(float(state.agent.log_temperature), 3), int(state.frozen_at)
        (-2.303, 64)
    """
    goes_on = (before.frozen_at < 0) & stays_finite(
        (before.agent, before.normalizer, before.teacher),
        (after.agent, after.normalizer, after.teacher),
    )
    held = normalization.hold(before.normalizer, after.normalizer.count)
    agent, normalizer, teacher, kept = jax.tree.map(
        lambda new, old: _choose(goes_on, new, old),
        (after.agent, after.normalizer, after.teacher, sums),
        (before.agent, held, before.teacher, totals),
    )
    frozen_at = jnp.where(goes_on | (before.frozen_at >= 0), before.frozen_at, now)
    state = replace(after, agent=agent, normalizer=normalizer, teacher=teacher, frozen_at=frozen_at)
    return state, kept, goes_on


def stays_finite(before: Any, after: Any) -> jax.Array:
    """Whether a pytree has no NaN, and no infinity but where an earlier one had it; `()` bool.

    Some states begin at infinity: the line search's memory of losses does, and a weighting of
    one's own may. A number that has become infinite is a fault; one that still is need not be.

    Example:
        >>> before, after = jnp.array([jnp.inf, 0.0]), jnp.array([jnp.inf, jnp.inf])
        >>> bool(stays_finite(before, before)), bool(stays_finite(before, after))
        (True, False)
    """
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    finite = [
        jnp.all(jnp.isfinite(new) | (jnp.isinf(old) & (old == new)))
        for old, new in pairs
        if jnp.issubdtype(new.dtype, jnp.inexact)
    ]
    return jnp.stack([jnp.ones((), bool), *finite]).all()


def _choose(goes_on: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    # Counters go on: selected run by run they would no longer be one number for all, and
    # a `vmap` of finite runs would round otherwise than without this.
    counts = new is old or not jnp.issubdtype(new.dtype, jnp.inexact)
    return new if counts else jnp.where(goes_on, new, old)
