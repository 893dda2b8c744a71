"""Updates of the agent: after every step of the environments, and as many as an epoch has."""

from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp

from sobolax.tangents.sources import Experience, FindTangents
from sobolax.tangents.units import scale_directions
from sobolax.training import freezing, normalization, replay, sharding
from sobolax.training.agent import Metrics
from sobolax.training.collection import collect
from sobolax.training.shares import name_shares
from sobolax.training.state import Setup, TrainingState
from sobolax.training.teacher import given, teach
from sobolax.transition import Tangents


def learn(
    setup: Setup, state: TrainingState, hyper: Any, index: jax.Array
) -> tuple[TrainingState, Metrics]:
    """The steps and updates of an epoch, in rounds after which the agent is looked at.

    Args:
        setup: The training.
        state: Its state.
        hyper: Hyperparameters of the agent.
        index: Of the epoch, `()`.

    Returns:
        The state and metrics: those of updates averaged, and counts.

    Example:
        >>> import sobolax
        >>> from sobolax.cart import Cart
        >>> training = sobolax.make_training(Cart(), sobolax.agents.sac.Config(epochs=8))
        >>> hyper = sobolax.agents.sac.Hyperparameters()
        >>> state = jax.eval_shape(training.init, jax.random.key(0), hyper)
        >>> _, metrics = jax.eval_shape(training.learn, state, hyper, jnp.int32(0))
        >>> "critic_loss" in metrics, "evaluation_return" in metrics
        (True, False)
    """
    config, hyper = setup.config, jax.tree.map(jnp.asarray, hyper)
    steps = index * config.steps_per_epoch + jnp.arange(config.steps_per_epoch)
    steps_per_round = freezing.steps_per_round(config.steps_per_epoch, config.gradient_steps)
    *_, metrics = jax.eval_shape(lambda state: _update(setup, state, hyper), state)
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), metrics)

    def step(carry, number):
        state, totals, nonfinite = carry
        filling = number < config.first_update_step
        # What a frozen agent makes of the rest of a round is lost: it need not act on it.
        state, broken = collect(setup, state, hyper, filling | (state.frozen_at >= 0))
        if config.gradient_steps:  # without any, no update need be compiled
            count = jnp.where(filling, 0, config.gradient_steps)
            state, totals = _updates(setup, state, hyper, totals, count)
        return (state, totals, nonfinite + broken), None

    def one_round(carry, numbers):
        before, totals, nonfinite, updates = carry
        (after, sums, nonfinite), _ = jax.lax.scan(step, (before, totals, nonfinite), numbers)
        now = ((numbers[-1] + 1) * config.num_envs).astype(jnp.int32)
        state, totals, goes_on = freezing.keep_finite(before, after, totals, sums, now)
        learning = numbers >= config.first_update_step
        done = jnp.sum(learning, dtype=jnp.int32) * config.gradient_steps
        return (state, totals, nonfinite, updates + jnp.where(goes_on, done, 0)), None

    zero = jnp.zeros((), jnp.int32)
    (state, totals, nonfinite, updates), _ = jax.lax.scan(
        one_round, (state, empty, zero, zero), steps.reshape(-1, steps_per_round)
    )
    frozen = state.frozen_at >= 0
    # The round that failed left nothing.
    sound = state.frozen_at // config.num_envs - steps_per_round
    learned_from = jnp.where(frozen, sound, steps[-1] + 1)
    means = jax.tree.map(lambda total: total / jnp.maximum(updates, 1), totals)
    directions = config.state_directions, config.action_directions
    return state, name_shares(means, setup.environment, directions) | {
        "environment_steps": (steps[-1] + 1) * config.num_envs,
        "updates": jnp.maximum(learned_from - config.first_update_step, 0) * config.gradient_steps,
        "transitions_nonfinite": nonfinite,
        "frozen": frozen.astype(jnp.int32),
        "frozen_at": state.frozen_at,
    }


def _updates(
    setup: Setup, state: TrainingState, hyper: Any, totals: Metrics, count: jax.Array
) -> tuple[TrainingState, Metrics]:
    """`count` updates; their metrics are added to `totals`."""

    def one(_, carry):
        agent, teacher, key, totals = carry
        # The buffer is only read here: it is no part of what the loop carries.
        now = replace(state, agent=agent, teacher=teacher, key=key)
        agent, teacher, key, metrics = _update(setup, now, hyper)
        return agent, teacher, key, jax.tree.map(jnp.add, totals, metrics)

    agent, teacher, key, totals = jax.lax.fori_loop(
        0, count, one, (state.agent, state.teacher, state.key, totals)
    )
    return replace(state, agent=agent, teacher=teacher, key=key), totals


def _update(setup: Setup, state: TrainingState, hyper: Any) -> tuple[Any, Any, jax.Array, Metrics]:
    """One update: the states of agent and teacher, the next key and metrics."""
    key, sample_key, update_key = jax.random.split(state.key, 3)
    batch, find = _sample(setup, state, sample_key), find_tangents(setup, state)
    teacher, taught = setup.config.make_teacher(setup.environment), {}
    after = state.teacher
    if teacher is not None:
        # Another key than the three that the state's is split into.
        own_key = jax.random.fold_in(state.key, 3)
        after, batch, taught = teach(
            teacher, state.teacher, state.normalizer, batch, find, own_key, hyper
        )
        find = given
    agent, metrics = setup.agent.update(
        state.agent, state.normalizer, batch, find, update_key, hyper
    )
    # Hyperparameters of another precision would promote what they touch.
    agent, after = jax.tree.map(
        lambda new, old: new.astype(old.dtype), (agent, after), (state.agent, state.teacher)
    )
    agent, after, metrics = sharding.copy(setup.mesh, (agent, after, metrics))
    return agent, after, key, metrics | taught


def find_tangents(setup: Setup, state: TrainingState) -> FindTangents:
    """The source's, along directions as long as a standard deviation where that is the unit.

    Example:
        >>> import sobolax
        >>> from sobolax.cart import Cart
        >>> config = sobolax.agents.sac.Config(first_order="off")
        >>> setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
        >>> hyper = sobolax.agents.sac.Hyperparameters()
        >>> init = sobolax.make_training(Cart(), config).init
        >>> state = jax.eval_shape(init, jax.random.key(0), hyper)
        >>> find_tangents(setup, state) is setup.source.tangents
        True
    """
    statistics = state.coordinates
    if statistics is None or setup.config.state_directions == 0:
        return setup.source.tangents

    def find(experience: Experience, key: jax.Array, bound: Any):
        # Without a bound: some sources would apply it here, in other units.
        found, _ = setup.source.tangents(experience, key, jnp.inf)
        lengths = normalization.deviation(statistics, smallest=0.0)
        return scale_directions(cast(Tangents, found), lengths), bound

    return find


def _sample(setup: Setup, state: TrainingState, key: jax.Array) -> Experience:
    """A batch whose first transitions have gradients: all, or `gradient_fraction` of them.

    Environments are alike, so either buffer's transitions are drawn from the same distribution, and
    every transition of both is as likely as any other.
    """
    config = setup.config
    buffer = cast(replay.Replay, state.replay)
    if state.plain_replay is None:
        return replay.sample(buffer, key, config.batch_size, setup.mesh)
    own_key, plain_key = jax.random.split(key)
    own = replay.sample(buffer, own_key, config.gradient_batch, setup.mesh)
    rest = config.batch_size - config.gradient_batch
    plain = replay.sample(state.plain_replay, plain_key, rest, setup.mesh)
    transition = jax.tree.map(
        lambda *parts: jnp.concatenate(parts), own.transition, plain.transition
    )
    return replace(own, transition=sharding.split(setup.mesh, transition))
