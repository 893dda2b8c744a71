"""Stepping environments and filling the replay buffer."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from sobolax.environment import Environment, State
from sobolax.tangents.forward import plain_transition
from sobolax.tangents.sources import Experience
from sobolax.training import normalization, replay, sharding
from sobolax.training.evaluation import is_bounded, is_finite
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
        >>> jax.eval_shape(begin, jax.random.key(0)).replay.rows.shape[:2]
        (100, 16)
    """
    environment, config = setup.environment, setup.config
    first, rest = config.gradient_envs, config.num_envs - config.gradient_envs
    per_environment = config.replay_capacity // config.num_envs
    state = begin(setup, key, hyper)
    windows, one = None, jax.tree.map(lambda leaf: leaf[0], state.environments)
    action = jnp.zeros(environment.action_size, one.observation.dtype)
    if config.n_step > 1:
        windows = jax.vmap(lambda s: open_window(s, environment.action_size, config.n_step))(
            state.environments
        )
        one, action = oldest(jax.tree.map(lambda leaf: leaf[0], windows), hyper.discount)
    example, _ = jax.eval_shape(setup.source.collect, state.key, one, action)
    teacher = config.make_teacher(environment)
    state = replace(
        state,
        replay=replay.init(example, per_environment * first, first),
        windows=windows,
        coordinates=normalization.init(environment.state_size)
        if config.counts_coordinates
        else None,
        teacher=teacher and teacher.init(jax.random.fold_in(key, 4), hyper),
        plain_replay=replay.init(_without_gradients(example), per_environment * rest, rest)
        if rest
        else None,
    )
    if config.n_step == 1:
        return state
    # Windows are filled with random steps.
    return jax.lax.scan(
        lambda state, _: (_advance(setup, state, hyper, jnp.ones((), bool))[0], None),
        state,
        length=config.n_step - 1,
    )[0]


def begin(setup: Setup, key: jax.Array, hyper: Any) -> TrainingState:
    """What every training begins with: an agent, and environments at different times of an episode.

    Example:
        >>> from sobolax.agents import sac
        >>> from sobolax.cart import Cart
        >>> config = sac.Config()
        >>> setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
        >>> state = jax.eval_shape(
        ...     lambda key: begin(setup, key, sac.Hyperparameters()), jax.random.key(0)
        ... )
        >>> state.clocks.shape, state.replay
        ((16,), None)
    """
    environment, count = setup.environment, setup.config.num_envs
    # One key for each purpose, by fold_in: keys of a split depend on nothing else.
    agent_key, reset_key, clock_key, run_key = (jax.random.fold_in(key, i) for i in range(4))
    return TrainingState(
        agent=setup.agent.init(agent_key, hyper),
        normalizer=normalization.init(environment.observation_size),
        replay=None,
        environments=jax.vmap(environment.reset)(jax.random.split(reset_key, count)),
        # Staggered, so that a batch of environments holds all times of an episode.
        clocks=jax.random.randint(clock_key, (count,), 0, environment.episode_length, jnp.int32),
        windows=None,
        key=run_key,
        frozen_at=jnp.full((), -1, jnp.int32),
    )


def move_on(
    environment: Environment, current: State, next_state: State, clock: jax.Array, key: jax.Array
) -> tuple[State, jax.Array, jax.Array, jax.Array]:
    """Where an environment goes on after a step: from the next state, or a new episode.

    An episode ends by termination, by its time limit, or by a number that is not finite.

    Args:
        environment: The environment.
        current: The state before the step.
        next_state: The state after it.
        clock: Steps of the episode before it, `()`.
        key: Of the reset.

    Returns:
        The state, its clock, whether an episode ended, and whether the step stayed finite.

    Example:
        >>> from sobolax.cart import Cart
        >>> inside, beyond = Cart().at(1.0, 0.0), Cart().step(Cart().at(8.0, 1.0), jnp.ones(1))
        >>> found = move_on(Cart(), inside, beyond, jnp.int32(3), jax.random.key(0))
        >>> abs(float(found[0].observation[0])) < 1, [part.item() for part in found[1:]]
        (True, [0, True, True])
    """
    finite = is_finite(next_state, current)
    ended = (next_state.discount == 0) | ~finite | (clock + 1 >= environment.episode_length)
    fresh = environment.reset(key)
    onward = jax.tree.map(lambda a, b: jnp.where(ended, a, b), fresh, next_state)
    return onward, jnp.where(ended, 0, clock + 1), ended, finite


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
    config, before = setup.config, state.environments
    state, experiences, finite = _advance(setup, state, hyper, random)
    if experiences[0] is None:
        key, direction_key = jax.random.split(state.key)
        state = replace(state, key=key)
        experiences, _ = _over_environments(
            setup,
            lambda collect, key, window: (collect(key, *oldest(window, hyper.discount))[0], ()),
            (jax.random.split(direction_key, config.num_envs), state.windows),
        )
    experiences = [jax.vmap(_marked)(experience) for experience in experiences]
    normalizer = state.normalizer
    if config.normalize_observations:
        seen = [experience.transition.observation for experience in experiences]
        observations = seen[0] if len(seen) == 1 else jnp.concatenate(seen)
        normalizer = normalization.update(normalizer, observations)
    buffer = replay.add(cast(replay.Replay, state.replay), experiences[0])
    state = replace(state, normalizer=normalizer, replay=buffer)
    if state.plain_replay is not None:
        plain = replay.add(state.plain_replay, experiences[1])
        state = replace(state, plain_replay=plain)
    if state.coordinates is not None:
        local: Any = setup.environment  # that it has them was checked
        moved = normalization.update(state.coordinates, jax.vmap(local.coordinates)(before))
        state = replace(state, coordinates=moved)
    state = sharding.constrain(setup.mesh, state)
    return state, jnp.sum(~finite, dtype=jnp.int32)


def _marked(experience: Any) -> Any:
    """Takes a transition out of the loss where its simulation diverged: what counts as infinite."""
    transition = experience.transition
    reward = jnp.where(is_bounded(transition), transition.reward, jnp.nan)
    return replace(experience, transition=replace(transition, reward=reward))


def _advance(
    setup: Setup, state: TrainingState, hyper: Any, random: jax.Array
) -> tuple[TrainingState, list[Any], jax.Array]:
    """One step of all environments, with nothing put into the buffer yet; arguments of `collect`.

    Returns:
        The state, what was experienced with gradients and, if that is not all, what was without
        (None while several steps make a transition), and which environments stayed finite,
        `(num_envs,)` bool.
    """
    environment, agent = setup.environment, setup.agent
    key, action_key, random_key, direction_key, reset_key = jax.random.split(state.key, 5)
    keys = [
        jax.random.split(k, setup.config.num_envs)
        for k in (action_key, random_key, direction_key, reset_key)
    ]

    def one(collect, current, clock, window, action_key, random_key, direction_key, reset_key):
        explored = agent.explore(
            state.agent, state.normalizer, current.observation, action_key, hyper
        ).astype(current.observation.dtype)
        uniform = jax.random.uniform(
            random_key, explored.shape, explored.dtype, minval=-1.0, maxval=1.0
        )
        action = jnp.where(random, uniform, explored)
        if window is None:
            experience, next_state = collect(direction_key, current, action)
        else:
            experience, next_state = None, environment.step(current, action)
        # The transition is taken before any reset; a time limit is not in it at all.
        onward, clock, ended, finite = move_on(environment, current, next_state, clock, reset_key)
        if window is not None:
            window = push(window, current, action, ended)
        return experience, (onward, clock, window, finite)

    experiences, (environments, clocks, windows, finite) = _over_environments(
        setup, one, (state.environments, state.clocks, state.windows, *keys)
    )
    state = replace(state, environments=environments, clocks=clocks, windows=windows, key=key)
    return state, experiences, finite


def _over_environments(
    setup: Setup, one: Callable[..., tuple[Any, Any]], arguments: tuple[Any, ...]
) -> tuple[list[Any], Any]:
    """`one(collect, *arguments)` for every environment, with gradients for the first of them.

    Returns:
        The experiences, of those with gradients and of the others, if any; and what else `one`
        gives, of all.
    """
    count = setup.config.gradient_envs
    ahead = setup.config.look_ahead(setup.environment)

    def collect_plain(key, state, action):
        transition, next_state = plain_transition(ahead, state, action)
        return Experience(transition, None, None), next_state

    if count == setup.config.num_envs:
        experience, others = jax.vmap(partial(one, setup.source.collect))(*arguments)
        return [experience], others
    found = [
        jax.vmap(partial(one, collect))(
            *jax.tree.map(lambda leaf, part=part: sharding.split(setup.mesh, leaf[part]), arguments)
        )
        for collect, part in (
            (setup.source.collect, slice(count)),
            (collect_plain, slice(count, None)),
        )
    ]
    experiences, others = zip(*found, strict=True)
    return list(experiences), jax.tree.map(lambda *parts: jnp.concatenate(parts), *others)


def _without_gradients(experience: Experience) -> Experience:
    return Experience(experience.transition, None, None)
