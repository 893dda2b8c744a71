"""Stepping environments and filling the replay buffer."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.tangents.sources import Experience
from sobolax.training import normalization, replay
from sobolax.training.evaluation import is_finite
from sobolax.training.n_step import oldest, open_window, push
from sobolax.training.state import Setup, TrainingState


def start(setup: Setup, key: jax.Array, hyper: Any) -> TrainingState:
    """A training before its first step.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> config = sac.Config(replay_capacity=1_600)
        >>> setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
        >>> begin = lambda key: start(setup, key, sac.Hyperparameters())
        >>> jax.eval_shape(begin, jax.random.key(0)).replay.rows.shape[0]
        1600
    """
    environment, config = setup.environment, setup.config
    # One key for each purpose, by fold_in: keys of a split depend on nothing else.
    agent_key, reset_key, clock_key, run_key = (jax.random.fold_in(key, i) for i in range(4))
    environments = jax.vmap(environment.reset)(jax.random.split(reset_key, config.num_envs))
    windows, one = None, jax.tree.map(lambda leaf: leaf[0], environments)
    action = jnp.zeros(environment.action_size, one.observation.dtype)
    if config.n_step > 1:
        windows = jax.vmap(lambda s: open_window(s, environment.action_size, config.n_step))(
            environments
        )
        one, action = oldest(jax.tree.map(lambda leaf: leaf[0], windows), hyper.discount)
    example, _ = jax.eval_shape(setup.source.collect, run_key, one, action)
    state = TrainingState(
        agent=setup.agent.init(agent_key, hyper),
        normalizer=normalization.init(environment.observation_size),
        replay=replay.init(example, config.replay_capacity),
        environments=environments,
        # Staggered, so that a batch of environments holds all times of an episode.
        clocks=jax.random.randint(clock_key, (config.num_envs,), 0, environment.episode_length),
        windows=windows,
        key=run_key,
        frozen_at=jnp.full((), -1, jnp.int32),
    )
    if config.n_step == 1:
        return state
    # Windows are filled with random steps.
    return jax.lax.scan(
        lambda state, _: (_advance(setup, state, hyper, jnp.ones((), bool))[0], None),
        state,
        length=config.n_step - 1,
    )[0]


def collect(
    setup: Setup, state: TrainingState, hyper: Any, random: jax.Array
) -> tuple[TrainingState, jax.Array]:
    """One step of all environments, and one transition of each into the buffer.

    Args:
        setup: The training.
        state: Its state.
        hyper: Hyperparameters of the agent.
        random: Whether actions are uniformly random, `()` bool; else the agent explores.

    Returns:
        The state, and how many environments were no longer finite (and were reset), `()`.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> config, hyper = sac.Config(num_envs=16), sac.Hyperparameters()
        >>> setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
        >>> step = lambda key: collect(setup, start(setup, key, hyper), hyper, jnp.array(True))
        >>> state, nonfinite = jax.jit(step)(jax.random.key(0))
        >>> int(state.replay.size), int(nonfinite)
        (16, 0)
    """
    config = setup.config
    state, experience, finite = _advance(setup, state, hyper, random)
    if experience is None:
        key, direction_key = jax.random.split(state.key)
        state = replace(state, key=key)
        experience, _ = jax.vmap(
            lambda key, window: setup.source.collect(key, *oldest(window, hyper.discount))
        )(jax.random.split(direction_key, config.num_envs), state.windows)
    normalizer = state.normalizer
    if config.normalize_observations:
        normalizer = normalization.update(normalizer, experience.transition.observation)
    state = replace(state, normalizer=normalizer, replay=replay.add(state.replay, experience))
    return state, jnp.sum(~finite)


def _advance(
    setup: Setup, state: TrainingState, hyper: Any, random: jax.Array
) -> tuple[TrainingState, Experience | None, jax.Array]:
    """One step of all environments, with nothing put into the buffer yet; arguments of `collect`.

    Returns:
        The state, what was experienced (None while several steps make a transition), and which
        environments stayed finite, `(num_envs,)` bool.
    """
    environment, agent = setup.environment, setup.agent
    key, action_key, random_key, direction_key, reset_key = jax.random.split(state.key, 5)
    keys = [
        jax.random.split(k, setup.config.num_envs)
        for k in (action_key, random_key, direction_key, reset_key)
    ]

    def one(current, clock, window, action_key, random_key, direction_key, reset_key):
        explored = agent.explore(
            state.agent, state.normalizer, current.observation, action_key, hyper
        )
        uniform = jax.random.uniform(
            random_key, explored.shape, explored.dtype, minval=-1.0, maxval=1.0
        )
        action = jnp.where(random, uniform, explored)
        if window is None:
            experience, next_state = setup.source.collect(direction_key, current, action)
        else:
            experience, next_state = None, environment.step(current, action)
        finite = is_finite(next_state)
        # The transition is taken before any reset; a time limit is not in it at all.
        ended = (next_state.discount == 0) | ~finite | (clock + 1 >= environment.episode_length)
        if window is not None:
            window = push(window, current, action, ended)
        fresh = environment.reset(reset_key)
        onward = jax.tree.map(lambda a, b: jnp.where(ended, a, b), fresh, next_state)
        return experience, onward, jnp.where(ended, 0, clock + 1), window, finite

    experience, environments, clocks, windows, finite = jax.vmap(one)(
        state.environments, state.clocks, state.windows, *keys
    )
    state = replace(state, environments=environments, clocks=clocks, windows=windows, key=key)
    return state, experience, finite
