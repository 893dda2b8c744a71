"""Our environments as Gymnasium's `Env` and `VectorEnv`."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.elsewhere import check_view
from envs.parameters import choice, integer
from sobolax.environment import Environment, State

MODES = {"next_step": AutoresetMode.NEXT_STEP, "same_step": AutoresetMode.SAME_STEP}


def spaces_of(environment: Environment) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    """Spaces of one observation and one action, float32; actions lie in [-1, 1]."""
    observation = gymnasium.spaces.Box(-np.inf, np.inf, (environment.observation_size,), np.float32)
    return observation, gymnasium.spaces.Box(-1.0, 1.0, (environment.action_size,), np.float32)


class SobolaxEnv(gymnasium.Env):
    """One of our environments as a `gymnasium.Env`, on the host, with compiled steps.

    What `SobolaxVectorEnv` says of seeds, actions and metrics holds here too.

    Args:
        environment: The environment.

    Raises:
        ValueError: If it does not keep the protocol.
    """

    def __init__(self, environment: Environment):
        check_view(environment)
        self.metadata = {"render_modes": []}
        self.environment, self._batch = environment, _Batch(environment, 1, "next_step")
        self.observation_space, self.action_space = spaces_of(environment)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode; options are ignored, there are none.

        Raises:
            ValueError: If the seed cannot be.
        """
        seeds = _seeds(seed, 1)
        super().reset(seed=seed)
        self._batch.reset(seeds, lambda: self.np_random)
        observation, metrics = self._batch.shown()
        return observation[0], {name: value[0] for name, value in metrics.items()}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Moves on by one step; the caller resets when an episode is over.

        Raises:
            ValueError: If the action has another shape, or is not finite.
            gymnasium.error.ResetNeeded: Before the first reset, and when an episode is over.
        """
        if self._batch.over.any():
            raise gymnasium.error.ResetNeeded("the episode is over: call reset")
        reward, terminated, truncated = self._batch.step(np.asarray(action)[None])[:3]
        observation, metrics = self._batch.shown()
        info = {name: value[0] for name, value in metrics.items()}
        return observation[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info


class SobolaxVectorEnv(VectorEnv):
    """One of our environments, many times, as a Gymnasium `VectorEnv`: one compiled program.

    Environment `i` is seeded with `seed + i`, as in Gymnasium's own vector environments; its
    episode `e` after that begins at `reset(fold_in(key(seed + i), e))`. Actions are clipped to the
    action space. What comes back is float32, and new arrays at each step. Metrics of a step are in
    `info`, `(num_envs,)` each, with the mask `_name` of Gymnasium's standard. An episode is
    truncated after `environment.episode_length` steps, unless it terminates there.

    Args:
        environment: The environment.
        num_envs: How many.
        autoreset: `"next_step"` (Gymnasium's default: the step after the last one ignores its
            action, resets, and has reward 0) or `"same_step"` (the last step returns the next
            episode's observation, and its own in `info["final_obs"]`).

    Raises:
        ValueError: If a parameter cannot be, or the environment does not keep the protocol.
    """

    def __init__(self, environment: Environment, num_envs: int, autoreset: str = "next_step"):
        check_view(environment)
        self.environment, self.num_envs = environment, integer("num_envs", num_envs, 1)
        self._mode = choice("autoreset", autoreset, tuple(MODES))
        self._batch = _Batch(environment, self.num_envs, self._mode)
        self.metadata = {"render_modes": [], "autoreset_mode": MODES[self._mode]}
        self.single_observation_space, self.single_action_space = spaces_of(environment)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode in every environment.

        Args:
            seed: One for the first environment, or one for each. None goes on to the next
                episodes; before the first reset it draws seeds.
            options: None are known; `reset_mask` is refused, for these reset by themselves.

        Raises:
            ValueError: If a seed cannot be, or there is a `reset_mask`.
        """
        if options and "reset_mask" in options:
            raise ValueError("reset_mask is for autoreset mode DISABLED: these reset by themselves")
        seeds = _seeds(seed, self.num_envs)
        super().reset(seed=seed if isinstance(seed, int | None) else None)
        self._batch.reset(seeds, lambda: self.np_random)
        observation, metrics = self._batch.shown()
        return observation, self._infos(metrics)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Moves every environment on by one step.

        Args:
            actions: `(num_envs, action_size)`.

        Returns:
            Observations, rewards, terminations, truncations and infos.

        Raises:
            ValueError: If the actions have another shape, or are not finite.
            gymnasium.error.ResetNeeded: Before the first reset.
        """
        reward, terminated, truncated, (final, final_metrics) = self._batch.step(actions)
        observation, metrics = self._batch.shown()
        infos, over = self._infos(metrics), terminated | truncated
        if self._mode == "same_step" and over.any():
            observations = np.full(self.num_envs, None, object)
            for index in np.flatnonzero(over):
                observations[index] = final[index]
            masked = {name: np.where(over, value, 0) for name, value in final_metrics.items()}
            infos |= {"final_obs": observations, "_final_obs": over.copy()}
            infos |= {"final_info": self._infos(masked, over), "_final_info": over.copy()}
        return observation, reward, terminated, truncated, infos

    def _infos(self, metrics: dict[str, np.ndarray], mask: np.ndarray | None = None) -> Any:
        there = np.ones(self.num_envs, bool) if mask is None else mask
        return metrics | {f"_{name}": there.copy() for name in metrics}


class _Batch:
    """States of some environments, and the compiled programs that move them."""

    def __init__(self, environment: Environment, num_envs: int, mode: str):
        self._environment, self._num_envs, self._same = environment, num_envs, mode == "same_step"
        self._reset, self._step = jax.jit(self._first), jax.jit(self._next)
        self._carry: Any = None
        self.over = np.zeros(num_envs, bool)

    def reset(
        self, seeds: Sequence[int | None] | None, generator: Callable[[], np.random.Generator]
    ) -> None:
        """Begins an episode in each: the first one of its seed or, without one, the next one."""
        if self._carry is None:
            drawn = generator().integers(2**32, size=self._num_envs)
            keys, episodes = _keys(drawn), jnp.zeros(self._num_envs, jnp.int32)
        else:
            keys, episodes = self._carry[-1], self._carry[2] + 1
        if seeds is not None:
            seeded = np.array([seed is not None for seed in seeds])
            keys = jnp.where(seeded, _keys([seed or 0 for seed in seeds]), keys)
            episodes = jnp.where(seeded, 0, episodes)
        self._carry = self._reset(keys, episodes)
        self.over = np.zeros(self._num_envs, bool)

    def step(self, actions: Any) -> tuple[Any, ...]:
        """Reward, terminated, truncated, and the observation and metrics before a reset."""
        if self._carry is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        actions = np.asarray(actions, np.float32)
        shape = (self._num_envs, self._environment.action_size)
        if actions.shape != shape:
            raise ValueError(f"actions have shape {actions.shape}, but must have {shape}")
        if not np.isfinite(actions).all():
            raise ValueError("actions are not finite: the policy has diverged")
        self._carry, found = self._step(self._carry, actions)
        reward, terminated, truncated, *final = jax.tree.map(_host, found)
        self.over = terminated | truncated
        return reward, terminated, truncated, final

    def shown(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Observations and metrics of the states."""
        state = self._carry[0]
        return _host(state.observation), {n: _host(v) for n, v in state.metrics.items()}

    def _first(self, keys: jax.Array, episodes: jax.Array) -> Any:
        zero = jnp.zeros_like(episodes)
        # State, steps of the episode, its number, whether it is over, key of the environment.
        return self._begun(keys, episodes), zero, episodes, zero > 0, keys

    def _begun(self, keys: jax.Array, episodes: jax.Array) -> State:
        return jax.vmap(self._environment.reset)(jax.vmap(jax.random.fold_in)(keys, episodes))

    def _next(self, carry: Any, actions: jax.Array) -> Any:
        state, steps, episodes, over, keys = carry
        actions = jnp.clip(actions, -1.0, 1.0).astype(state.observation.dtype)
        moved, steps = jax.vmap(self._environment.step)(state, actions), steps + 1
        terminated = moved.discount == 0
        truncated = (steps >= self._environment.episode_length) & ~terminated
        reward, resets = moved.reward, over
        if self._same:
            resets = terminated | truncated
        else:
            reward = jnp.where(over, 0.0, reward)
            terminated, truncated = terminated & ~over, truncated & ~over
        episodes = episodes + resets
        # Only where an episode is over: a reset may cost more than a step.
        begun = jax.lax.cond(resets.any(), lambda: self._begun(keys, episodes), lambda: moved)

        def either(fresh: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(resets.reshape(-1, *[1] * (old.ndim - 1)), fresh, old)

        after = jax.tree.map(either, begun, moved)
        steps = jnp.where(resets, 0, steps)
        carry = after, steps, episodes, terminated | truncated, keys
        return carry, (reward, terminated, truncated, moved.observation, moved.metrics)


def _seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None] | None:
    """A seed for each environment, checked; None for none at all."""
    if seed is None:
        return None
    seeds = [seed + i for i in range(num_envs)] if isinstance(seed, int | np.integer) else seed
    if len(seeds) != num_envs:
        raise ValueError(f"there are {len(seeds)} seeds, but num_envs is {num_envs}")
    return [None if one is None else integer("seed", one, 0, 2**32 - 1) for one in seeds]


def _keys(seeds: Sequence[int] | np.ndarray) -> jax.Array:
    return jax.vmap(jax.random.key)(np.array(seeds, np.uint32))


def _host(array: jax.Array) -> np.ndarray:
    """A copy that the caller may write to; float64 becomes float32."""
    found = np.array(array)
    return found.astype(np.float32) if found.dtype == np.float64 else found
