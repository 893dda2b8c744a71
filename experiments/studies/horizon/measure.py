"""Derivatives of returns of a task along directions of the policy, for every number of steps.

A rollout of the longest horizon gives the returns of all shorter ones, and a forward derivative of
it theirs: what is carried forward are directional derivatives, of which a cosine needs a few.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import envs
from experiments.launch.program import call
from experiments.launch.progress import Progress
from experiments.report.rows import Row
from experiments.studies.derivatives.exposed import is_mujoco
from experiments.studies.horizon import statistics
from experiments.studies.one_iteration import make_one_iteration
from experiments.studies.study import Done, Plan
from sobolax.agents.networks import GaussianActor
from sobolax.agents.sac import make_policy
from sobolax.environment import Environment, State
from sobolax.training import normalization

#: What is compared with the differences of the converged physics.
EXACT, ONE = "exact", "one iteration"
ONE_DIFFERENCES, WIDER = "differences, one iteration", "differences, twice as wide"
METHODS = (EXACT, ONE, ONE_DIFFERENCES, WIDER)


@dataclass(frozen=True)
class Job:
    """One state of a task.

    Attributes:
        task: The environment's name.
        state: Which of its states.
    """

    task: str
    state: int


def measure(plan: Plan[Any, Job], progress: Progress) -> Iterator[Done]:
    """A row for each method and horizon; see `experiments.studies.study.Study.measure`."""
    made: dict[str, Task] = {}
    for name, job in plan.jobs.items():
        progress.phase(name)
        if job.task not in made:
            made = {job.task: call(Task, job.task, plan.options)}  # compiled programs of one task
        yield Done(name, call(made[job.task].compare, job.state))


def returns(
    environment: Environment,
    act: Callable[[jax.Array, jax.Array], jax.Array],
    state: State,
    noise: jax.Array,
    discount: float,
) -> tuple[jax.Array, jax.Array]:
    """Returns of 1, 2, ... steps; after a termination nothing is earned.

    Args:
        environment: The environment.
        act: `(observation, noise) -> action`.
        state: The first state.
        noise: Of every step, `(steps, action_size)`.
        discount: The discount factor.

    Returns:
        The returns, and whether the episode has ended by then, `(steps,)` each.
    """

    def step(carry: tuple[State, jax.Array], noise: jax.Array):
        state, weight = carry
        after = environment.step(state, act(state.observation, noise).astype(noise.dtype))
        # Not a product with zero: physics after the end may not be finite.
        gain = jnp.where(weight > 0, weight * after.reward, 0.0)
        weight = weight * discount * after.discount
        return (after, weight), (gain, weight == 0)

    _, (gains, ended) = jax.lax.scan(step, (state, jnp.ones((), noise.dtype)), noise)
    return jnp.cumsum(gains), ended


class Task:
    """A task's policy and states, and its programs.

    Args:
        name: Of the environment.
        options: Of the study.
    """

    def __init__(self, name: str, options: Any):
        self.name, self.options = name, options
        environment = envs.make(name)
        self.physics = {"converged": environment}
        if is_mujoco(environment):
            self.physics["one iteration"] = make_one_iteration(name)
        size = environment.action_size
        actor = GaussianActor((options.hidden, options.hidden), size)
        policy = make_policy(actor)
        self._normalizer = normalization.init(environment.observation_size)
        keys = jax.random.split(jax.random.key(options.seed), 4)
        self._keys = keys
        parameters = actor.init(keys[0], jnp.zeros(environment.observation_size))
        self.parameters, self._tree = ravel_pytree(parameters)

        def act(parameters: jax.Array, observation: jax.Array, noise: jax.Array) -> jax.Array:
            return policy(self._tree(parameters), self._normalizer, observation, noise)[0]

        self.act = act
        self.states = jax.jit(self._draw_states)(keys[1])
        self._derive = {key: jax.jit(self._derivatives(env)) for key, env in self.physics.items()}
        self._difference = {
            key: jax.jit(self._differences(env)) for key, env in self.physics.items()
        }

    def compare(self, index: int) -> list[Row]:
        """All methods at one state."""
        options, key = self.options, jax.random.fold_in(self._keys[2], index)
        state = jax.tree.map(lambda leaf: leaf[index], self.states)
        directions = self.directions(jax.random.fold_in(self._keys[3], index))
        shape = options.noises, options.horizons[-1], self.physics["converged"].action_size
        arguments = state, jax.random.normal(key, shape), directions
        distance = jnp.asarray(options.distance)
        reference = self._difference["converged"](*arguments, distance)
        samples = {
            EXACT: self._derive["converged"](*arguments),
            WIDER: self._difference["converged"](*arguments, 2 * distance),
        }
        if "one iteration" in self.physics:
            samples[ONE] = self._derive["one iteration"](*arguments)
            samples[ONE_DIFFERENCES] = self._difference["one iteration"](*arguments, distance)
        expected, _, _ = jax.device_get(reference)
        return [
            {"task": self.name, "state": index, "horizon": horizon, "method": method, **row}
            for method in METHODS
            if method in samples
            for horizon, row in self._rows(jax.device_get(samples[method]), expected)
        ]

    def _rows(self, found: tuple[np.ndarray, ...], expected: np.ndarray):
        samples, totals, ended = found
        for horizon in self.options.horizons:
            both = [side[..., horizon - 1].astype(np.float64) for side in (samples, expected)]
            yield (
                horizon,
                {
                    "return": float(np.mean(totals[:, horizon - 1])),
                    "ended": float(np.mean(ended[:, horizon - 1])),
                    **compared(*both),
                },
            )

    def directions(self, key: jax.Array) -> jax.Array:
        """Random directions that change actions by 1 (root mean square), `(directions, size)`."""
        shape = self.options.directions, self.parameters.size
        drawn = jax.random.normal(key, shape)
        zero = jnp.zeros(self.physics["converged"].action_size)

        def change(direction: jax.Array) -> jax.Array:
            def all_actions(parameters: jax.Array) -> jax.Array:
                seen = self.states.observation
                return jax.vmap(lambda one: self.act(parameters, one, zero))(seen)

            moved = jax.jvp(all_actions, (self.parameters,), (direction,))[1]
            return jnp.sqrt(jnp.mean(moved**2))

        return drawn / jax.vmap(change)(drawn)[:, None]

    def _draw_states(self, key: jax.Array) -> State:
        """States along rollouts of the policy, which start anew at an end, stacked."""
        environment, count = self.physics["converged"], self.options.states
        keys = jax.random.split(key, 3)
        ages = jax.random.randint(keys[0], (count,), 0, self.options.steps + 1)
        first = jax.vmap(environment.reset)(jax.random.split(keys[1], count))
        shape = self.options.steps, count, environment.action_size

        def step(states: State, now: tuple[jax.Array, jax.Array]) -> tuple[State, None]:
            age, noise = now
            actions = jax.vmap(lambda *one: self.act(self.parameters, *one))(
                states.observation, noise
            )
            after = jax.vmap(environment.step)(states, actions)

            def choose(new: jax.Array, old: jax.Array, start: jax.Array) -> jax.Array:
                wide = (-1, *[1] * (new.ndim - 1))
                ended, going = (flag.reshape(wide) for flag in (after.discount == 0, age < ages))
                return jnp.where(going, jnp.where(ended, start, new), old)

            return jax.tree.map(choose, after, states, first), None

        steps = jnp.arange(self.options.steps), jax.random.normal(keys[2], shape)
        return jax.lax.scan(step, first, steps)[0]

    def _returns(self, environment: Environment):
        def run(parameters: jax.Array, state: State, noise: jax.Array):
            def act(observation: jax.Array, noise: jax.Array) -> jax.Array:
                return self.act(parameters, observation, noise)

            return returns(environment, act, state, noise, self.options.discount)

        return run

    def _derivatives(self, environment: Environment):
        """`(state, noises, directions) -> ` derivatives `(noises, directions, steps)`, and all."""
        run = self._returns(environment)

        def one(state: State, noise: jax.Array, directions: jax.Array):
            def push(direction: jax.Array):
                total, along, ended = jax.jvp(
                    lambda parameters: run(parameters, state, noise),
                    (self.parameters,),
                    (direction,),
                    has_aux=True,
                )
                return along, total, ended

            return jax.vmap(push, out_axes=(0, None, None))(directions)

        return jax.vmap(one, in_axes=(None, 0, None))

    def _differences(self, environment: Environment):
        """The same by central differences: the noise is the same on both sides."""
        run = self._returns(environment)

        def all_of(state: State, noises: jax.Array, directions: jax.Array, distance: jax.Array):
            moves = jnp.concatenate([directions, -directions]) * distance
            sides, ended = jax.vmap(
                lambda noise: jax.vmap(lambda move: run(self.parameters + move, state, noise))(
                    moves
                )
            )(noises)
            up, down = jnp.split(sides, 2, axis=1)
            flags = jnp.mean(ended, axis=1, dtype=noises.dtype)
            return (up - down) / (2 * distance), jnp.mean(sides, axis=1), flags

        return all_of


def compared(found: np.ndarray, expected: np.ndarray) -> Row:
    """What one row says of derivatives, `(noises, directions)`, beside those of differences.

    Noises for which either is not finite are left out of both.
    """
    sound = np.isfinite(np.concatenate([found, expected], axis=1)).all(axis=1)
    row: dict[str, Any] = {"noises": len(found), "finite": float(np.mean(sound))}
    if sound.sum() < 3:
        return row
    sides = found[sound], expected[sound]
    of = statistics.sums(*sides)
    return {
        **row,
        "norm": statistics.norm(of),
        "deviation": statistics.deviation(of),
        "typical": float(np.median(np.sqrt(np.mean(sides[0] ** 2, axis=1)))),
        "noise": statistics.noise(of),
        "cosine": statistics.cosine(of),
        "cosine_error": statistics.cosine_error(*sides),
        "error": float(np.sqrt(np.maximum(statistics.squared_error(of), 0.0))),
        **of,
    }
