"""Windows of a few steps that all environments take with the current policy, kept to be replayed.

A window holds what is needed to take its steps again, one at a time and backwards
(`sobolax.training.backward`): the states before every step and the policy's noise. Memory is that
of `num_envs * horizon` states.
"""

from dataclasses import dataclass, replace

import jax

from sobolax.environment import State
from sobolax.training.collection import move_on
from sobolax.training.state import Setup, TrainingState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rollout:
    """Steps of one environment, or of several; time is the first axis, environments the second.

    Attributes:
        states: States before the steps.
        noise: The policy's standard normal noise, `(horizon, action_size)`.
        next_observations: What followed, before any reset, `(horizon, observation_size)`.
        discounts: 0 where the episode terminated, else 1, `(horizon,)`.
        ended: Whether the episode ended, for whatever reason, bool `(horizon,)`: the next state
            belongs to another one.
        finite: Whether the step stayed finite, bool `(horizon,)`.

    Example:
        >>> from sobolax.agents import shac
        >>> from sobolax.cart import Cart
        >>> from sobolax.training.collection import begin
        >>> config, hyper = shac.Config(num_envs=4, horizon=3), shac.Hyperparameters()
        >>> setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
        >>> _, rollout = jax.eval_shape(
        ...     lambda key: roll_out(setup, begin(setup, key, hyper)), jax.random.key(0)
        ... )
        >>> rollout.states.observation.shape, rollout.ended.shape
        ((3, 4, 2), (3, 4))
    """

    states: State
    noise: jax.Array
    next_observations: jax.Array
    discounts: jax.Array
    ended: jax.Array
    finite: jax.Array


def roll_out(setup: Setup, state: TrainingState) -> tuple[TrainingState, Rollout]:
    """Takes `horizon` steps of all environments, from where they stand.

    Args:
        setup: The training; its configuration has a `horizon`.
        state: Its state. Agent and normalizer stay as they are.

    Returns:
        The state, and the steps, `(horizon, num_envs)`.

    Example:
        >>> from sobolax.agents import shac
        >>> from sobolax.cart import Cart
        >>> from sobolax.training.collection import begin
        >>> config, hyper = shac.Config(num_envs=4, horizon=3), shac.Hyperparameters()
        >>> setup = Setup(Cart(), config.make_agent(Cart()), config, config.make_source(Cart()))
        >>> state, rollout = jax.jit(lambda key: roll_out(setup, begin(setup, key, hyper)))(
        ...     jax.random.key(0)
        ... )
        >>> bool(jnp.all(rollout.next_observations[0] == rollout.states.observation[1]))
        True
    """
    environment, agent = setup.environment, setup.agent
    horizon, count = setup.config.horizon, setup.config.num_envs
    key, noise_key, reset_key = jax.random.split(state.key, 3)
    dtype = state.environments.observation.dtype
    noise = jax.random.normal(noise_key, (horizon, count, environment.action_size), dtype)

    def one(current, clock, noise, key):
        action, _ = agent.sample(state.agent, state.normalizer, current.observation, noise)
        next_state = environment.step(current, action.astype(dtype))
        onward, clock, ended, finite = move_on(environment, current, next_state, clock, key)
        seen = next_state.observation, next_state.discount, ended, finite
        return (onward, clock), Rollout(current, noise, *seen)

    def step(carry, now):
        environments, clocks = carry
        noise, key = now
        return jax.vmap(one)(environments, clocks, noise, jax.random.split(key, count))

    (environments, clocks), rollout = jax.lax.scan(
        step, (state.environments, state.clocks), (noise, jax.random.split(reset_key, horizon))
    )
    return replace(state, environments=environments, clocks=clocks, key=key), rollout
