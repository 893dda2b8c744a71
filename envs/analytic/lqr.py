"""A linear system with a quadratic reward, whose optimal action values are known exactly."""

from dataclasses import replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from envs import parameters
from sobolax.environment import State


class LQR:
    """Deterministic linear dynamics `x' = A x + B a` and reward `-(x·W x + a·U a)`.

    The observation is the state `x`, `(dimension,)`. `A` is a random rotation shrunk to spectral
    radius 0.95 and `B` is random, so the system is stable and controllable. An episode starts at a
    standard normal state and never terminates.

    Actions are *not* clipped: an agent draws them from [-1, 1], but the closed form of `Q*` holds
    for unbounded ones, and on these the environment agrees with it everywhere.

    Args:
        dimension: Numbers in the state, 1 to 256.
        actions: Numbers in an action; by default as many as in the state.
        discount: The discount factor of `Q*`, between 0 and 1.
        seed: Which random system.
    """

    name = "lqr"
    episode_length = 50
    reverse_mode = True

    def __init__(
        self,
        dimension: int = 4,
        actions: int | None = None,
        discount: float = 0.95,
        seed: int = 0,
    ):
        self.state_size = parameters.integer("dimension", dimension, 1, 256)
        self.action_size = parameters.integer(
            "actions", self.state_size if actions is None else actions, 1, 256
        )
        self.observation_size = self.state_size
        self.discount = parameters.real("discount", discount, 0.0, 1.0)
        draw = np.random.default_rng(parameters.integer("seed", seed, 0))
        rotation, _ = np.linalg.qr(draw.normal(size=(self.state_size, self.state_size)))
        self.dynamics = 0.95 * rotation
        self.control = draw.normal(size=(self.state_size, self.action_size))
        self.control /= np.linalg.norm(self.control, axis=0)
        self.state_cost = np.diag(draw.uniform(0.5, 1.5, self.state_size))
        self.action_cost = np.diag(draw.uniform(0.1, 0.3, self.action_size))

    def reset(self, key: jax.Array) -> State:
        """Draws a standard normal state."""
        position = jax.random.normal(key, (self.state_size,), jnp.result_type(float))
        return self._state(position, jnp.zeros((), position.dtype))

    def step(self, state: State, action: jax.Array) -> State:
        """Moves on by one step; the reward is of the state left behind."""
        x = state.physics
        reward = -_quadratic(self.state_cost, x) - _quadratic(self.action_cost, action)
        return self._state(_times(self.dynamics, x) + _times(self.control, action), reward)

    def perturb(self, state: State, displacement: jax.Array) -> State:
        """Adds to the state."""
        position = state.physics + displacement
        return replace(state, physics=position, observation=position)

    def coordinates(self, state: State) -> jax.Array:
        """The state itself, `(state_size,)`."""
        return state.physics

    def optimal_q(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """The optimal action value, discounted by `discount`.

        Args:
            observation: `(dimension,)`.
            action: `(action_size,)`, of any size: see the class.

        Returns:
            `Q*(observation, action)`, `()`, in the dtype of the arguments.
        """
        next_state = _times(self.dynamics, observation) + _times(self.control, action)
        reward = -_quadratic(self.state_cost, observation) - _quadratic(self.action_cost, action)
        return reward + self.discount * self.optimal_value(next_state)

    def optimal_value(self, observation: jax.Array) -> jax.Array:
        """The optimal value `V*(observation) = -x·P x`, `()`."""
        return -_quadratic(self.optimal_value_matrix, observation)

    def optimal_action(self, observation: jax.Array) -> jax.Array:
        """The optimal action `-K x`, `(action_size,)`."""
        return -_times(self.optimal_gain, observation)

    @cached_property
    def optimal_value_matrix(self) -> np.ndarray:
        """`P` of `V*(x) = -x·P x`, `(dimension, dimension)`, float64."""
        return solve_riccati(
            self.dynamics, self.control, self.state_cost, self.action_cost, self.discount
        )

    @cached_property
    def optimal_gain(self) -> np.ndarray:
        """`K` of the optimal action `-K x`, `(action_size, dimension)`, float64."""
        return _gain(
            self.optimal_value_matrix, self.dynamics, self.control, self.action_cost, self.discount
        )

    def _state(self, position: jax.Array, reward: jax.Array) -> State:
        metrics = {"distance": jnp.sqrt(jnp.sum(jax.lax.stop_gradient(position) ** 2))}
        return State(position, position, reward, jnp.ones_like(reward), metrics)


def solve_riccati(
    dynamics: np.ndarray,
    control: np.ndarray,
    state_cost: np.ndarray,
    action_cost: np.ndarray,
    discount: float,
) -> np.ndarray:
    """The optimal cost matrix of a discounted linear-quadratic problem, by value iteration.

    Args:
        dynamics: `A`, `(n, n)`; `sqrt(discount) * A` must be stable.
        control: `B`, `(n, m)`.
        state_cost: `W`, `(n, n)`.
        action_cost: `U`, `(m, m)`, positive definite.
        discount: `γ`.

    Returns:
        `P = W + γ AᵀPA - γ² AᵀPB (U + γ BᵀPB)⁻¹ BᵀPA`, `(n, n)`.
    """
    value = state_cost
    for _ in range(100_000):
        gain = _gain(value, dynamics, control, action_cost, discount)
        loop = dynamics - control @ gain
        # Joseph's form of the equation above: a sum of squares, which rounding leaves positive.
        better = state_cost + gain.T @ action_cost @ gain + discount * loop.T @ value @ loop
        better = (better + better.T) / 2
        if np.max(np.abs(better - value)) <= 4 * np.finfo(float).eps * np.max(np.abs(value)):
            return better
        value = better
    raise ValueError("the Riccati iteration did not converge: is the system stable?")


def _gain(
    value: np.ndarray,
    dynamics: np.ndarray,
    control: np.ndarray,
    action_cost: np.ndarray,
    discount: float,
) -> np.ndarray:
    curvature = action_cost + discount * control.T @ value @ control
    return np.linalg.solve(curvature, discount * control.T @ value @ dynamics)


def _times(matrix: np.ndarray, vector: jax.Array) -> jax.Array:
    """`matrix @ vector` at full precision, in the vector's dtype, on every device."""
    return jnp.dot(jnp.asarray(matrix, vector.dtype), vector, precision=jax.lax.Precision.HIGHEST)


def _quadratic(matrix: np.ndarray, vector: jax.Array) -> jax.Array:
    return jnp.sum(vector * _times(matrix, vector))
