"""Row `derivatives`: what those of a MuJoCo step cost, in plain steps, by how they are computed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from envs.mujoco.base import MujocoEnvironment
from envs.mujoco.physics import Physics, physics_of
from experiments.bench import timing
from experiments.bench.speed.options import Bench
from experiments.bench.speed.work import Setup, collect_experience, make_setup, timings
from experiments.launch.program import compile_ahead
from experiments.launch.progress import Progress
from experiments.report.table import Table
from sobolax.environment import State
from sobolax.mjx import for_cpu
from sobolax.mjx.engine import mjx
from sobolax.tangents.forward import TransitionMap
from sobolax.tangents.methods import Derivatives, make_tangent_function, reason_against
from sobolax.tangents.sources import make_source

# Enough steps of random actions for legs to be on the floor.
_ROLLED = 20


def prepare(bench: Bench) -> dict[str, Setup]:
    """The environments by name; raises ValueError for one whose derivatives cannot be timed."""
    setups = {name: make_setup(name) for name in bench.derivatives}
    for name, setup in setups.items():
        if not isinstance(setup.environment, MujocoEnvironment):
            raise ValueError(f"--derivatives {name!r} is no MuJoCo environment")
        reason = reason_against("analytic", setup.environment)
        if reason is not None:
            raise ValueError(f"--derivatives {name!r} has no analytic Jacobian: {reason}")
    return setups


def measure(setups: Mapping[str, Setup], bench: Bench, progress: Progress) -> Iterator[Table]:
    """A table for each environment."""
    for name, setup in setups.items():
        progress.phase(f"derivatives of {name}")
        batch = bench.derivatives_batch
        measured = time_derivatives(setup.environment, batch, bench.repetitions)
        title = f"Derivatives of one step of {name}, {batch} states together, the step included"
        yield timings(title, measured, "in plain steps")


def time_derivatives(environment: Any, batch: int, repetitions: int) -> list[timing.Measurement]:
    """Times a plain step and all derivatives of it, at states of random motion.

    Args:
        environment: A `MujocoEnvironment`.
        batch: How many states are stepped together.
        repetitions: Timed calls of each alternative.

    Returns:
        The plain step first; the others include the step itself.
    """
    # Those before the last of the steps.
    source, count = make_source("off", environment), batch * _ROLLED
    experience = collect_experience(environment, source, batch, _ROLLED, count)
    states = jax.tree.map(lambda leaf: leaf[-batch:], experience.state)
    actions = 0.5 * jax.random.normal(jax.random.key(1), (batch, environment.action_size))
    alternatives = []
    for name, function in _functions(environment).items():
        compiled, seconds = compile_ahead(jax.vmap(function), states, actions)
        alternatives.append(
            timing.Alternative(name, lambda compiled=compiled: compiled(states, actions), seconds)
        )
    return timing.measure(alternatives, repetitions, 1)


def _functions(environment: Any) -> dict[str, Callable[[State, jax.Array], Any]]:
    still = jnp.zeros(environment.state_size)
    basis = jnp.eye(environment.state_size), jnp.eye(environment.action_size)
    key = jax.random.key(0)

    def transition(state: State) -> Callable:
        return lambda *moved: TransitionMap(environment, state)(*moved)[0]

    def one_tangent(state: State, action: jax.Array):
        return jax.jvp(transition(state), (still, action), (still + 1.0, action))

    def one_cotangent(state: State, action: jax.Array):
        value, pull = jax.vjp(transition(state), still, action)
        return value, pull(value)

    def tangents(method: str):
        compute = make_tangent_function(environment, Derivatives(method=method))
        return lambda state, action: compute(key, state, action, *basis)

    return {
        "plain step": environment.step,
        "analytic, full basis": tangents("analytic"),
        "one cotangent (vjp)": one_cotangent,
        "one tangent (jvp)": one_tangent,
        "forward, full basis": tangents("forward"),
        **_of_mjx_itself(environment),
    }


def _of_mjx_itself(environment: Any) -> dict[str, Callable[[State, jax.Array], Any]]:
    """Forward mode through MJX's own solver, as everybody has it; physics alone."""

    def substep(physics: Physics, control: jax.Array) -> Physics:
        return physics_of(mjx.step(environment._model, environment._data_at(physics, control)), {})

    compiled_once = jax.jit(for_cpu(substep))

    def moved(state: State) -> Callable:
        def apply(displacement: jax.Array, action: jax.Array):
            control = environment._control(action)
            start = environment._perturb_physics(state.physics, displacement)
            end, _ = jax.lax.scan(
                lambda physics, _: (compiled_once(physics, control), None),
                start,
                length=environment.substeps,
            )
            return end.qpos, end.qvel

        return apply

    still = jnp.zeros(environment.state_size)

    def one(state: State, action: jax.Array):
        return jax.jvp(moved(state), (still, action), (still + 1.0, action))

    def whole(state: State, action: jax.Array):
        return jax.jacfwd(moved(state), argnums=(0, 1))(still, action)

    return {"autodiff of mjx.step, one tangent": one, "autodiff of mjx.step, full basis": whole}
