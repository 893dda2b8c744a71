"""Jacobians and gradients of a step in contact, beside central differences of the C engine."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import timing
from experiments.launch.program import call, compile_ahead, compiler_options
from experiments.launch.progress import Progress
from experiments.report.rows import Row
from experiments.studies.study import Done, Plan
from sobolax.mjx import (
    for_cpu,
    integrate_position,
    step,
    step_and_jacobian,
    subtract_positions,
)
from sobolax.mjx.engine import MjModel, mjx, mujoco

ROBOTS = ("arm", "quadruped", "hand", "humanoid")
_ROUNDINGS = 8  # of a state at random, for the floor of float32
_EVERY, _AT_LEAST = 20, 10  # physics steps between two states, and before the first


@dataclass(frozen=True)
class Point:
    """Where a step starts: generalised coordinates and controls, in float64."""

    qpos: np.ndarray
    qvel: np.ndarray
    ctrl: np.ndarray


def measure(plan: Plan[Any, None], progress: Progress) -> Iterator[Done]:
    """A row for each state; see `experiments.studies.study.Study.measure`."""
    for name in plan.jobs:
        progress.phase(f"{name}: states")
        model = load(name)
        points = states(model, plan.options.states, plan.options.seed)
        progress.phase(f"{name}: errors")
        errors = call(compare, model, points, plan.options.seed)
        progress.phase(f"{name}: compiling and timing")
        costs = call(cost, load(name), points, plan.options)
        sizes = {"joints": model.nu, "nv": model.nv, "constraints": most_constraints(model)}
        yield Done(
            name,
            [
                {"robot": name, "state": at, **sizes, **row, **costs}
                for at, row in enumerate(errors)
            ],
        )


def load(robot: str) -> MjModel:
    """The model of a robot."""
    return mujoco.MjModel.from_xml_path(str(Path(__file__).with_name(f"{robot}.xml")))


def states(model: MjModel, count: int, seed: int) -> list[Point]:
    """States in contact along motions by random controls, from the keyframe on.

    Raises:
        ValueError: If the model loses contact for good.
    """
    random, data, found = np.random.default_rng(seed), mujoco.MjData(model), []
    for _ in range(100 * count):
        if len(found) == count:
            return found
        mujoco.mj_resetDataKeyframe(model, data, 0)
        low, high = model.actuator_ctrlrange.T
        around, size = data.ctrl.copy(), 0.1 * (high - low)
        for at in range(_AT_LEAST + _EVERY * random.integers(5)):
            if at % 5 == 0:
                noise = size * random.uniform(-1, 1, model.nu)
                data.ctrl[:] = np.clip(around + noise, low, high)
            mujoco.mj_step(model, data)
        mujoco.mj_forward(model, data)
        if data.ncon:
            found.append(Point(data.qpos.copy(), data.qvel.copy(), data.ctrl.copy()))
    raise ValueError(f"only {len(found)} of {count} states of the model touch anything")


def most_constraints(model: MjModel) -> int:
    """Rows of constraints that MJX computes in every step."""
    rows: Any = mjx.make_data(model, impl="jax")._impl
    return int(rows.efc_J.shape[0])


def compare(model: MjModel, points: list[Point], seed: int) -> list[Row]:
    """Relative distances (L2) to differences of the C engine, in float64 and in float32.

    Of the whole Jacobian, and of the gradient of a random linear function of the next state by
    reverse mode. The solver is run to its end, for the differences' sake. The floor is what
    derivatives in float64 change by when the state is rounded at random as in float32.
    """
    model.opt.iterations = model.opt.ls_iterations = 100
    model.opt.tolerance = 1e-14
    random = np.random.default_rng(seed)
    along = random.normal(size=2 * model.nv)
    truths = [differences(model, point, 1e-6) for point in points]
    wider = [differences(model, point, 2e-6) for point in points]
    found: dict[str, list[Any]] = {}
    floors: list[tuple[float, ...]] = []
    for precision, exact in (("float64", True), ("float32", False)):
        with jax.enable_x64(exact):
            programs = compiled_derivatives(model, along, points[0])
            found[precision] = [
                tuple(np.asarray(part, np.float64) for part in jax.device_get(programs(point)))
                for point in points
            ]
            if exact:
                floors = [
                    floor(programs, point, seed + at, _ROUNDINGS) for at, point in enumerate(points)
                ]
    rows: list[Row] = []
    for at, truth in enumerate(truths):
        gradient = along @ truth
        row: Row = {"uncertainty": distance(wider[at], truth)}
        row["jacobian_floor"], row["gradient_floor"] = floors[at]
        for precision, pairs in found.items():
            jacobian, reverse = pairs[at]
            row[f"jacobian_{precision}"] = distance(jacobian, truth)
            row[f"gradient_{precision}"] = distance(reverse, gradient)
            lengths = np.linalg.norm(reverse) * np.linalg.norm(gradient)
            row[f"cosine_{precision}"] = float(reverse @ gradient / lengths)
        rows.append(row)
    return rows


def floor(
    derivatives: Callable[[Point], tuple[Any, ...]], point: Point, seed: int, draws: int
) -> tuple[float, ...]:
    """How far rounding to float32 of nothing but the state moves derivatives: medians of draws.

    Every coordinate and control is multiplied by 1 - 2^-24 or 1 + 2^-24, half of what two
    neighbours in float32 are apart by, with equal odds. What is left is not the program's fault.

    Args:
        derivatives: In float64.
        point: Where.
        seed: Of the draws.
        draws: How many.

    Returns:
        Relative distances (L2) to the derivatives at the point itself, of each by itself.
    """
    random, truths = np.random.default_rng(seed), jax.device_get(derivatives(point))

    def rounded(values: np.ndarray) -> np.ndarray:
        return values * (1 + 2.0**-24 * random.choice([-1.0, 1.0], values.shape))

    distances = []
    for _ in range(draws):
        near = Point(rounded(point.qpos), rounded(point.qvel), rounded(point.ctrl))
        moved = jax.device_get(derivatives(near))
        distances.append([distance(*pair) for pair in zip(moved, truths, strict=True)])
    return tuple(float(value) for value in np.median(distances, axis=0))


def differences(model: MjModel, point: Point, size: float) -> np.ndarray:
    """The Jacobian of a step by central differences of the C engine, `(2 nv, 2 nv + nu)`."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = point.qpos, point.qvel, point.ctrl
    mujoco.mj_forward(model, data)
    by_state = np.zeros((2 * model.nv, 2 * model.nv))
    by_control = np.zeros((2 * model.nv, model.nu))
    mujoco.mjd_transitionFD(model, data, size, True, by_state, by_control, None, None)
    return np.concatenate([by_state, by_control], axis=1)


def compiled_derivatives(
    model: MjModel, along: np.ndarray, first: Point
) -> Callable[[Point], tuple[jax.Array, jax.Array]]:
    """A function of a point: the Jacobian, and the gradient of `along @ next state`."""
    ours, rest = mjx.put_model(model, impl="jax"), mjx.make_data(model, impl="jax")
    weights, nv = jnp.asarray(along), model.nv

    def both(qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array):
        data = rest.replace(qpos=qpos, qvel=qvel, ctrl=ctrl)
        after, jacobian = step_and_jacobian(ours, data)

        def value(dq: jax.Array, dv: jax.Array, du: jax.Array) -> jax.Array:
            qpos = integrate_position(ours, data.qpos, dq)
            moved = step(ours, data.replace(qpos=qpos, qvel=qvel + dv, ctrl=ctrl + du))
            ends = subtract_positions(ours, moved.qpos, jax.lax.stop_gradient(after.qpos))
            return weights[:nv] @ ends + weights[nv:] @ moved.qvel

        zero = jnp.zeros(nv, qvel.dtype)
        gradient = jax.grad(value, (0, 1, 2))(zero, zero, jnp.zeros_like(ctrl))
        whole = jnp.concatenate([jacobian.state, jacobian.control], axis=1)
        return whole, jnp.concatenate(gradient)

    def of_arrays(point: Point) -> tuple[jax.Array, ...]:
        return tuple(jnp.asarray(part) for part in (point.qpos, point.qvel, point.ctrl))

    lowered = jax.jit(for_cpu(both)).lower(*of_arrays(first))
    program = lowered.compile(compiler_options(quickly=True))
    return lambda point: program(*of_arrays(point))


def distance(found: np.ndarray, truth: np.ndarray) -> float:
    """The relative distance, in the L2 (Frobenius) norm."""
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def cost(model: MjModel, points: list[Point], options: Any) -> Row:
    """Seconds to compile, and microseconds of a physics step with and without derivatives."""
    ours, rest = mjx.put_model(model, impl="jax"), mjx.make_data(model, impl="jax")
    chosen = [points[at % len(points)] for at in range(options.batch)]
    arguments = tuple(
        jnp.asarray(np.stack([getattr(point, name) for point in chosen]), jnp.float32)
        for name in ("qpos", "qvel", "ctrl")
    )

    def plain(qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array):
        data = step(ours, rest.replace(qpos=qpos, qvel=qvel, ctrl=ctrl))
        return data.qpos, data.qvel

    def whole(qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array):
        data, jacobian = step_and_jacobian(ours, rest.replace(qpos=qpos, qvel=qvel, ctrl=ctrl))
        return data.qpos, data.qvel, jacobian

    def pulled(qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array):
        return jax.grad(lambda *at: sum(jnp.sum(part) for part in plain(*at)), (0, 1, 2))(
            qpos, qvel, ctrl
        )

    alternatives = []
    for name, function in (("step", plain), ("jacobian", whole), ("gradient", pulled)):
        with timing.without_cache():
            program, seconds = compile_ahead(jax.vmap(for_cpu(function)), *arguments)
        alternatives.append(
            timing.Alternative(name, lambda program=program: program(*arguments), seconds)
        )
    row: Row = {}
    for measured in timing.measure(alternatives, options.repetitions, options.batch):
        row[f"{measured.name}_us"] = 1e6 * measured.seconds
        row[f"{measured.name}_steps"] = measured.ratio
        row[f"{measured.name}_compile"] = measured.compile_seconds
    return row
