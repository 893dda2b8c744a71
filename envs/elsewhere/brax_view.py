"""Our environments as Brax's: `reset(rng)`, `step(state, action)`."""

import warnings

import jax
import jax.numpy as jnp

from envs.elsewhere import check_view
from sobolax.environment import Environment
from sobolax.environment import State as OurState

with warnings.catch_warnings():
    # It says that it is no longer maintained, to whoever imports it.
    warnings.simplefilter("ignore")
    from brax.envs.base import Env, State


class SobolaxBraxEnv(Env):
    """One of our environments as a `brax.envs.Env`, for Brax's wrappers and its agents.

    `pipeline_state` is our whole state, so that Brax's automatic reset restores all of it. Episodes
    are cut by Brax's wrappers: hand `episode_length` to what trains. Actions are clipped to
    [-1, 1]. `done` is 1 where an episode terminated, which truncation is not.

    Args:
        environment: The environment.

    Raises:
        ValueError: If it does not keep the protocol.
    """

    def __init__(self, environment: Environment):
        check_view(environment)
        self.environment = environment
        self.episode_length = environment.episode_length

    def reset(self, rng: jax.Array) -> State:
        """Draws the first state of an episode; `rng` is a key of either kind."""
        if not jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
            rng = jax.random.wrap_key_data(rng)
        return State(*_parts(self.environment.reset(rng)))

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by one step; what wrappers keep in `info` and `metrics` stays there."""
        before: OurState = state.pipeline_state  # pyright: ignore[reportAssignmentType]
        action = jnp.clip(action, -1.0, 1.0).astype(before.observation.dtype)
        after, observation, reward, done, metrics = _parts(self.environment.step(before, action))
        return state.replace(  # pyright: ignore[reportAttributeAccessIssue]
            pipeline_state=after,
            obs=observation,
            reward=reward,
            done=done,
            metrics=state.metrics | metrics,
        )

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        return self.environment.observation_size

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return self.environment.action_size

    @property
    def backend(self) -> str:
        """Whose physics it is: none of Brax's."""
        return "sobolax"


def _parts(state: OurState) -> tuple:
    # Nothing of Brax's may write into the metrics of our state.
    return state, state.observation, state.reward, 1.0 - state.discount, dict(state.metrics)
