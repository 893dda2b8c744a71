"""What an epoch learns from windows that were just collected, without a replay buffer.

An iteration takes `horizon` steps of all environments, differentiates through them
(`sobolax.training.backward`), updates the agent, and forgets them. Statistics of observations stay
as they are within an iteration, so that what is differentiated is what acted.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.training import freezing, normalization, sharding
from sobolax.training.agent import Metrics
from sobolax.training.backward import differentiate
from sobolax.training.collection import begin
from sobolax.training.rollouts import roll_out
from sobolax.training.shares import name_shares
from sobolax.training.state import Setup, TrainingState

#: Metrics of an update that are counts: an epoch's is their sum, that of others the mean.
COUNTS = ("windows_cut", "windows_nonfinite")


def start(setup: Setup, key: jax.Array, hyper: Any) -> TrainingState:
    """A training before its first step.

    Example:
        >>> from sobolax.agents import shac
        >>> from sobolax.cart import Cart
        >>> config = shac.Config()
        >>> setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
        >>> state = jax.eval_shape(
        ...     lambda key: start(setup, key, shac.Hyperparameters()), jax.random.key(0)
        ... )
        >>> state.clocks.shape, state.replay
        ((64,), None)
    """
    return begin(setup, key, hyper)


def learn(
    setup: Setup, state: TrainingState, hyper: Any, index: jax.Array
) -> tuple[TrainingState, Metrics]:
    """The iterations of an epoch; a run is looked at after each (`sobolax.training.freezing`).

    Args:
        setup: The training; its agent's `update` takes a `Rollout` in the place of a batch, and
            `differentiate` of this environment in the place of `find_tangents`.
        state: Its state.
        hyper: Hyperparameters of the agent.
        index: Of the epoch, `()`.

    Returns:
        The state and metrics: those of updates averaged, and counts.

    Example:
        >>> import sobolax
        >>> from sobolax.cart import Cart
        >>> training = sobolax.make_training(Cart(), sobolax.agents.shac.Config())
        >>> hyper = sobolax.agents.shac.Hyperparameters()
        >>> state = jax.eval_shape(training.init, jax.random.key(0), hyper)
        >>> _, metrics = jax.eval_shape(training.learn, state, hyper, jnp.int32(0))
        >>> "windows_nonfinite" in metrics, "evaluation_return" in metrics
        (True, False)
    """
    config, hyper = setup.config, jax.tree.map(jnp.asarray, hyper)
    steps = config.num_envs * config.horizon
    iterations = config.steps_per_epoch // config.horizon
    numbers = index * iterations + jnp.arange(iterations)

    def iteration(before: TrainingState, number: jax.Array):
        after, metrics, broken = _iterate(setup, before, hyper)
        now = ((number + 1) * steps).astype(jnp.int32)
        state, _, goes_on = freezing.keep_finite(before, after, {}, {}, now)
        return state, (metrics, broken, goes_on)

    state, (metrics, nonfinite, sound) = jax.lax.scan(iteration, state, numbers)
    frozen = state.frozen_at >= 0
    # The iteration that failed left nothing.
    learned = jnp.where(frozen, state.frozen_at // steps - 1, numbers[-1] + 1)
    counts = {name: jnp.sum(metrics.pop(name)) for name in COUNTS if name in metrics}
    means = jax.tree.map(lambda each: _mean(each, sound), metrics)
    return state, name_shares(means, setup.environment) | counts | {
        "environment_steps": (numbers[-1] + 1) * steps,
        "updates": learned * config.updates_per_iteration,
        "transitions_nonfinite": jnp.sum(nonfinite),
        "frozen": frozen.astype(jnp.int32),
        "frozen_at": state.frozen_at,
    }


def _mean(each: jax.Array, sound: jax.Array) -> jax.Array:
    """The mean over iterations that left the agent finite; 0 if there are none."""
    mask = sound.reshape(-1, *[1] * (each.ndim - 1))
    return jnp.sum(jnp.where(mask, each, 0), axis=0) / jnp.maximum(jnp.sum(sound), 1)


def _iterate(
    setup: Setup, state: TrainingState, hyper: Any
) -> tuple[TrainingState, Metrics, jax.Array]:
    """One window and one update: the state, metrics, and how many steps were not finite."""
    state, rollout = roll_out(setup, state)
    key, update_key = jax.random.split(state.key)
    agent, metrics = setup.agent.update(
        state.agent,
        state.normalizer,
        rollout,
        partial(differentiate, setup.environment),
        update_key,
        hyper,
    )
    # Hyperparameters of another precision would promote what they touch.
    agent = jax.tree.map(lambda new, old: new.astype(old.dtype), agent, state.agent)
    normalizer = state.normalizer
    if setup.config.normalize_observations:
        seen = rollout.states.observation
        normalizer = normalization.update(normalizer, seen.reshape(-1, seen.shape[-1]))
    state = replace(state, agent=agent, normalizer=normalizer, key=key)
    state = sharding.constrain(setup.mesh, state)
    return state, metrics, jnp.sum(~rollout.finite, dtype=jnp.int32)
