"""One state, one action, and optimal action values that are known with the action's limits."""

from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import parameters
from envs.analytic.lqr import solve_riccati
from envs.analytic.value_iteration import Optimum, iterate_values
from sobolax.environment import State

KINDS = ("linear", "smooth", "steep", "contact")
_RIDGE = 0.05  # half of the ridge's width
_PUSH = 0.2  # how far it pushes


class Scalar:
    """A point on a line, `s` in [-1, 1], moved by one action `a` in [-1, 1].

    The kinds, all of them undisturbed, with `s'` in [-1, 1] for every `s` and `a`:

    - `linear`: `s' = 0.6 s + 0.4 a`, reward `-(s² + 0.1 a²)`. The best action of every state is
      within the limits, so that the Riccati equation is exact with them.
    - `smooth`: `s' = 0.75 sin(1.5 s) + 0.25 a`, reward `-(1 - cos(2 s - 0.6)) - 0.1 a²`. Far from
      0.3 the best action is at a limit, where the curvature of `Q*` jumps.
    - `steep`: `s' = tanh(1.2 s + 0.5 a)`, reward `exp(-3 (s - 0.4)²) - 1 - 0.05 a²`. Smooth
      too, but without control the middle is left, and `Q*` bends more.
    - `contact`: `s' = z + 0.2 clip(z / 0.05, -1, 1)` with `z = 0.6 s + 0.2 a`, reward
      `-(s - 0.5)² - 0.05 a²`. A ridge lies in the middle, and stiff contact with it pushes the
      point to one side or the other. Within 0.05 of the ridge the gradient of a step is five times
      that of everywhere else, where it does not show that there is a ridge at all.

    The observation is `s`, `(1,)`; the reward of a step is of the state left behind. An episode
    starts at a state uniform in [-1, 1], has 50 steps and never terminates. Actions are not
    clipped.

    Args:
        kind: Which system.
        discount: The discount factor of `Q*`, between 0 and 1.
    """

    name = "scalar"
    observation_size = 1
    action_size = 1
    state_size = 1
    episode_length = 50
    reverse_mode = True

    def __init__(self, kind: str = "linear", discount: float = 0.9):
        self.kind = parameters.choice("kind", kind, KINDS)
        self.discount = parameters.real("discount", discount, 0.0, 1.0)

    def reset(self, key: jax.Array) -> State:
        """Draws a state uniform in [-1, 1]."""
        dtype = jnp.result_type(float)
        position = jax.random.uniform(key, (1,), dtype, minval=-1.0, maxval=1.0)
        return self._state(position, jnp.zeros((), position.dtype))

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by one step; the reward is of the state left behind."""
        next_state, reward = move(self.kind, state.physics, action)
        return self._state(next_state, reward[0])

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Adds to the state."""
        position = state.physics + displacement
        return replace(state, physics=position, observation=position)

    def coordinates(self, state: State) -> jax.Array:
        """The state itself, `(state_size,)`."""
        return state.physics

    def optimal_q(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """The optimal action value under actions in [-1, 1], discounted by `discount`.

        Exact for `linear`; for the others within `discount * optimal_value_error`.

        Args:
            observation: `(1,)`, in [-1, 1].
            action: `(1,)`, in [-1, 1].

        Returns:
            `Q*(observation, action)`, `()`, in the dtype of the arguments.
        """
        next_state, reward = move(self.kind, observation, action)
        return reward[0] + self.discount * self.optimal_value(next_state)

    def optimal_value(self, observation: jax.Array) -> jax.Array:
        """The optimal value `V*(observation)`, `()`: see `optimal_q`."""
        if self.kind == "linear":
            return -self.optimal_cost * jnp.square(observation[0])
        return self._optimum.evaluate(observation[0])

    @property
    def optimal_value_error(self) -> float:
        """How far `optimal_value` may be from `V*` at most: see `envs.analytic.value_iteration`."""
        return 0.0 if self.kind == "linear" else self._optimum.error

    @cached_property
    def optimal_cost(self) -> float:
        """`P` of `V*(s) = -P s²`, for `linear` alone."""
        if self.kind != "linear":
            raise ValueError(f"the optimal value of kind={self.kind!r} is not quadratic")
        dynamics, control, state_cost, action_cost = self._matrices()
        found = solve_riccati(dynamics, control, state_cost, action_cost, self.discount)
        return float(found[0, 0])

    @cached_property
    def optimal_gain(self) -> float:
        """`K` of the optimal action `-K s`, for `linear` alone."""
        dynamics, control, _, action_cost = (float(matrix[0, 0]) for matrix in self._matrices())
        cost = self.discount * control * self.optimal_cost
        return cost * dynamics / (action_cost + cost * control)

    @cached_property
    def _optimum(self) -> Optimum:
        return iterate_values(
            lambda state, action: move(self.kind, state, action, np), self.discount
        )

    def _matrices(self) -> tuple[np.ndarray, ...]:
        """`A`, `B`, `W` and `U` of `linear`, `(1, 1)` each."""
        return tuple(np.full((1, 1), number) for number in (0.6, 0.4, 1.0, 0.1))

    def _state(self, position: jax.Array, reward: jax.Array) -> State:
        metrics = {"position": jax.lax.stop_gradient(position[0])}
        return State(position, position, reward, jnp.ones_like(reward), metrics)


def move(kind: str, state: Any, action: Any, numerics: Any = jnp) -> tuple[Any, Any]:
    """The state that follows and the reward, element by element.

    Args:
        kind: One of `KINDS`.
        state: An array of any shape.
        action: One of the same shape, or of one that broadcasts.
        numerics: `jax.numpy`, or `numpy` for float64 outside of JAX.
    """
    if kind == "linear":
        return 0.6 * state + 0.4 * action, -(state**2) - 0.1 * action**2
    if kind == "smooth":
        next_state = 0.75 * numerics.sin(1.5 * state) + 0.25 * action
        return next_state, numerics.cos(2.0 * state - 0.6) - 1.0 - 0.1 * action**2
    if kind == "steep":
        next_state = numerics.tanh(1.2 * state + 0.5 * action)
        return next_state, numerics.exp(-3.0 * (state - 0.4) ** 2) - 1.0 - 0.05 * action**2
    free = 0.6 * state + 0.2 * action
    next_state = free + _PUSH * numerics.clip(free / _RIDGE, -1.0, 1.0)
    return next_state, -((state - 0.5) ** 2) - 0.05 * action**2
