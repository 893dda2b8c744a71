"""The stated return: what doing nothing brings, and what a controller that knows the task brings.

Both are policies like any other: they are evaluated by the training loop itself, on the episodes
that every run is evaluated on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

import sobolax
from envs.analytic.lqr import solve_riccati
from experiments.launch.program import call, compile_ahead
from sobolax.environment import Environment
from sobolax.training.agent import Agent
from sobolax.training.config import LoopConfig

# (parameters, observation) -> action
Policy = Callable[[jax.Array, jax.Array], jax.Array]
_OTHER_EPISODES = 1_000_000  # an epoch that no run has: its episodes choose among candidates


@dataclass(frozen=True)
class Task:
    """What a task's size is, and a controller that knows it.

    Attributes:
        parameter: The parameter of the environment that is n.
        controller: What the reference controller is, for people.
        policy: Its form; all parameters zero do nothing.
        candidates: From an environment, parameters to choose from, leading axis candidates.
    """

    parameter: str
    controller: str
    policy: Policy
    candidates: Callable[[Environment], np.ndarray]


@dataclass(frozen=True)
class References:
    """Mean returns of every epoch's evaluation episodes.

    Attributes:
        nothing: Of zero actions, `(epochs,)`.
        controller: Of the reference controller, `(epochs,)`.
    """

    nothing: np.ndarray
    controller: np.ndarray

    def shares(self, returns: np.ndarray) -> np.ndarray:
        """The share of the way from doing nothing to the controller, of runs' `(epochs, ...)`."""
        shape = (-1, *(1,) * (np.ndim(returns) - 1))
        parts = self.nothing, self.controller
        low, high = (part[: len(returns)].reshape(shape) for part in parts)
        return (returns - low) / (high - low)


def measure_references(
    env: str, environment: Environment, epochs: int, episodes: int
) -> References:
    """Evaluates doing nothing and the best candidate of the task's controller."""
    task = TASKS[env]
    candidates = jnp.asarray(task.candidates(environment), jnp.result_type(float))
    evaluate = _compile_evaluation(environment, task.policy, episodes)
    trial = [float(evaluate(one, _OTHER_EPISODES)) for one in candidates]
    best = candidates[int(np.argmax(trial))]
    nothing, controller = (
        np.array([float(evaluate(one, epoch)) for epoch in range(epochs)])
        for one in (jnp.zeros_like(best), best)
    )
    if not np.all(controller > nothing):
        raise ValueError(
            f"{env}: the reference controller does no better than doing nothing in some "
            "evaluation: raise --evaluation-episodes"
        )
    return References(nothing, controller)


def _compile_evaluation(
    environment: Environment, policy: Policy, episodes: int
) -> Callable[[jax.Array, int], jax.Array]:
    """`(parameters, epoch) -> mean return`, by way of an agent that learns nothing."""
    agent = Agent(
        init=lambda key, parameters: parameters,
        explore=lambda state, normalizer, observation, key, hyper: policy(state, observation),
        act=lambda state, normalizer, observation: policy(state, observation),
        sample=lambda state, normalizer, observation, noise: (
            policy(state, observation),
            jnp.zeros(()),
        ),
        value=lambda state, normalizer, observation, action: jnp.zeros(()),
        update=lambda state, *others: (state, {}),
    )
    config = LoopConfig(
        total_timesteps=1,
        num_envs=1,
        epochs=1,
        gradient_steps=0,
        learning_starts=0,
        batch_size=1,
        replay_capacity=1,
        first_order="off",
        evaluation_episodes=episodes,
        report_states=0,
    )
    made = sobolax.make_training(environment, config, agent)

    def evaluate(parameters: jax.Array, epoch: jax.Array) -> jax.Array:
        _, metrics = made.epoch(made.init(jax.random.key(0), parameters), parameters, epoch)
        return metrics["evaluation_return"]

    compiled: dict[tuple[int, ...], Any] = {}

    def run(parameters: jax.Array, epoch: int) -> jax.Array:
        if parameters.shape not in compiled:
            compiled[parameters.shape], _ = compile_ahead(evaluate, parameters, jnp.int32(epoch))
        return cast(jax.Array, call(compiled[parameters.shape], parameters, jnp.int32(epoch)))

    return run


def _linear(gain: jax.Array, observation: jax.Array) -> jax.Array:
    product = jnp.dot(gain, observation, precision=jax.lax.Precision.HIGHEST)
    return jnp.clip(-product, -1.0, 1.0)


def _optimal_gains(environment: Environment) -> np.ndarray:
    """The gain of linear-quadratic control, undiscounted, from derivatives of a step."""
    with jax.enable_x64(True):
        state, action = environment.reset(jax.random.key(0)), jnp.zeros(environment.action_size)
        size = environment.state_size
        # From the origin: the task is linear and quadratic about it.
        origin = environment.perturb(state, -state.observation)

        def step(joint: jax.Array) -> tuple[jax.Array, jax.Array]:
            moved = environment.perturb(origin, joint[:size])
            next_state = environment.step(moved, joint[size:])
            return next_state.observation, next_state.reward

        zero = jnp.zeros(size + action.size)
        linear = np.asarray(jax.jacfwd(lambda joint: step(joint)[0])(zero))
        cost = -np.asarray(jax.hessian(lambda joint: step(joint)[1])(zero)) / 2
    dynamics, control = linear[:, :size], linear[:, size:]
    action_cost = cost[size:, size:]
    value = solve_riccati(dynamics, control, cost[:size, :size], action_cost, 1.0)
    curvature = action_cost + control.T @ value @ control
    return np.linalg.solve(curvature, control.T @ value @ dynamics)[None]


def _transposed_jacobian(gains: jax.Array, observation: jax.Array) -> jax.Array:
    """Pulls the tip of `chain` towards its target like a spring, and brakes every joint."""
    joints = (observation.size - 4) // 3
    cosine, sine, speed = (observation[i * joints : (i + 1) * joints] for i in range(3))
    tip, error = observation[-4:-2], observation[-2:]
    heading = jnp.cumsum(jnp.arctan2(sine, cosine))
    links = jnp.stack([jnp.cos(heading), jnp.sin(heading)], axis=-1) / joints
    lever = tip - (jnp.cumsum(links, axis=0) - links)  # from each joint to the tip
    pull = lever[:, 0] * error[1] - lever[:, 1] * error[0]
    return jnp.clip(gains[0] * pull - gains[1] * speed, -1.0, 1.0)


def _spring_gains(environment: Environment) -> np.ndarray:
    grid = np.meshgrid([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], [0.0, 0.05, 0.1, 0.2, 0.5, 1.0])
    return np.stack([axis.ravel() for axis in grid], axis=-1)


TASKS = {
    "point_mass": Task(
        parameter="dimension",
        controller="linear-quadratic optimal control, clipped to the actions' limits",
        policy=_linear,
        candidates=_optimal_gains,
    ),
    "chain": Task(
        parameter="joints",
        controller="the transposed Jacobian of the tip as a spring, with brakes: the best of 36 "
        "pairs of gains on episodes of their own",
        policy=_transposed_jacobian,
        candidates=_spring_gains,
    ),
}
