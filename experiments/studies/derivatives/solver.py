"""MuJoCo's physics steps one by one: growth within a step, and one solver iteration."""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from experiments.report.rows import Row
from experiments.studies.derivatives.exposed import is_mujoco, local, vector
from experiments.studies.derivatives.programs import Programs, take
from experiments.studies.derivatives.quantities import norms, spread
from experiments.studies.derivatives.states import Kind
from sobolax.environment import Environment
from sobolax.mjx import for_cpu
from sobolax.tangents.methods import reason_against

# Environment steps of the rollouts with one iteration, and how often one of their states is used.
_STEPS, _EVERY = 50, 10


def reason_against_steps(environment: Environment) -> str | None:
    """Why physics steps have no Jacobians of their own here, or None if they have."""
    if not is_mujoco(environment):
        return "no MuJoCo physics"
    return reason_against("analytic", environment)


def growth_within(programs: Programs, kind: Kind) -> Iterator[Row]:
    """Spectral norms of products of Jacobians over 1, 2, ... physics steps of one step."""
    environment: Any = programs.environment
    physics = kind.states.physics
    product = np.eye(environment.state_size)
    for steps in range(1, environment.substeps + 1):
        physics, jacobian = _linearized(
            programs, "physics step", environment, physics, kind.actions
        )
        product = np.asarray(jacobian, np.float64) @ product
        yield {"measure": "physics steps", "steps": steps, **spread(norms(product))}


def reason_against_iterations(environment: Environment) -> str | None:
    """Why the solver's iterations cannot be audited here, or None."""
    reason = reason_against_steps(environment)
    if reason is not None:
        return reason
    made: Any = environment
    if made._data._impl.efc_J.shape[0] == 0:
        return "no constraints, so no solver"
    if "iterations" not in inspect.signature(type(made)).parameters:
        return "its solver's iterations are fixed"
    return None


def one_iteration(
    programs: Programs, name: str, parameters: Mapping[str, Any], states: Any, seed: int
) -> Iterator[Row]:
    """How far Jacobians of a physics step with one solver iteration are from the converged ones.

    Rollouts of random actions with one iteration, each step started from the acceleration of the
    last as in any rollout. At states along them: the Jacobian of one iteration with that warm
    start and with none, beside the converged one at the same state. Two derivatives of one
    iteration: `unrolled`, that of the map itself, by forward mode through MJX's own solver; and
    `implicit`, as the environment gives it: that of an optimum, taken where one iteration ended.

    Args:
        programs: With the solver that converges.
        name: Of the environment.
        parameters: Of the environment.
        states: Where rollouts start.
        seed: Of the actions.
    """
    with warnings.catch_warnings():
        # It warns that one iteration has other derivatives, which is what is measured here.
        warnings.simplefilter("ignore", UserWarning)
        short: Any = envs.make(name, **{**parameters, "iterations": 1})
    converged: Any = programs.environment
    draw = np.random.default_rng(seed)
    physics = states.physics
    shape = len(physics.qpos), short.action_size
    distances: dict[tuple[str, str], list[np.ndarray]] = {}
    constrained = []
    for step in range(_STEPS):
        actions = draw.uniform(-1, 1, shape).astype(np.float32)
        for substep in range(short.substeps):
            next_physics, _ = _linearized(programs, "one iteration", short, physics, actions)
            if substep == short.substeps - 1 and step % _EVERY == _EVERY - 1:
                _, right = _linearized(programs, "physics step", converged, physics, actions)
                cold = replace(physics, qacc_warmstart=np.zeros_like(physics.qacc_warmstart))
                for start, there in {"warm": physics, "cold": cold}.items():
                    unrolled = _unrolled(programs, short, there, actions)
                    _, implicit = _linearized(programs, "one iteration", short, there, actions)
                    for way, jacobian in {"unrolled": unrolled, "implicit": implicit}.items():
                        found = distances.setdefault((way, start), [])
                        found.append(_distance(jacobian, right))
                constrained.append(_constrained(short, physics))
            physics = next_physics
    acting = np.concatenate(constrained)
    for (way, start), found in distances.items():
        yield {
            "measure": "one iteration",
            "derivative": way,
            "start": start,
            "states": len(acting),
            "constrained": int(acting.sum()),
            "ls_iterations": int(short.mujoco_model.opt.ls_iterations),
            **spread(np.concatenate(found)[acting]),
        }


def _linearized(
    programs: Programs, name: str, environment: Any, physics: Any, actions: np.ndarray
) -> tuple[Any, np.ndarray]:
    """One physics step of a batch, and its Jacobians with respect to the state."""

    def one(physics: Any, action: jax.Array):
        next_physics, jacobian = environment._substep_jacobian(
            physics, environment._control(action)
        )
        return next_physics, jacobian.state

    return programs.call(name, jax.vmap(one), physics, actions)


def _unrolled(programs: Programs, short: Any, physics: Any, actions: np.ndarray) -> np.ndarray:
    """The Jacobian by forward mode through MJX's own step, solver and all."""
    from sobolax.mjx.engine import mjx

    def step(physics: Any, control: jax.Array):
        data = mjx.step(short._model, short._data_at(physics, control))
        return vector((data.qpos, data.qvel, data.act))

    stepped = for_cpu(step)

    def one(physics: Any, action: jax.Array):
        still = jnp.zeros(short.state_size, physics.qpos.dtype)
        control = short._control(action)

        def moved(displacement: jax.Array):
            return stepped(short._perturb_physics(physics, displacement), control)

        def push(direction: jax.Array):
            return jax.jvp(moved, (still,), (direction,))

        end, tangents = jax.vmap(push, in_axes=-1, out_axes=(None, -1))(jnp.eye(short.state_size))
        positions, speeds = short.mujoco_model.nq, short.mujoco_model.nv
        parts = jnp.split(end, (positions, positions + speeds))
        ended = replace(physics, **dict(zip(("qpos", "qvel", "act"), parts, strict=True)))

        def around(displacement: jax.Array):
            near = short._perturb_physics(ended, displacement)
            return vector((near.qpos, near.qvel, near.act))

        return tangents, jax.jacfwd(around)(still)

    return local(*programs.call("unrolled", jax.vmap(one), physics, actions))


def _distance(found: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Relative to the norm of the right one (Frobenius)."""
    found, right = np.asarray(found, np.float64), np.asarray(right, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.linalg.norm(found - right, axis=(1, 2)) / np.linalg.norm(right, axis=(1, 2))
    return np.where(np.isfinite(distance), distance, np.inf)


def _constrained(environment: Any, physics: Any) -> np.ndarray:
    """Whether a constraint (contact, limit, friction) acts at each state, by the C engine."""
    from sobolax.mjx.engine import mujoco

    data = mujoco.MjData(environment.mujoco_model)
    acting = []
    for index in range(len(physics.qpos)):
        one = take(physics, index)
        data.qpos[:], data.qvel[:] = one.qpos, one.qvel
        mujoco.mj_fwdPosition(environment.mujoco_model, data)
        acting.append(data.nefc > 0)
    return np.array(acting)
