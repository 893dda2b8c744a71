"""Tangents by MuJoCo's C engine on the host.

The engine's differences are off by rounding and curvature: 1e-9 of the largest entry, and up to
1e-7 in contact (see the step in `envs/mujoco/host_engine.py`). Against MJX's differences, and the
analytic method, which is exact, comes what the two engines' steps differ by: MJX's solver stops at
another place, by its tolerance of 1e-8, and the gradients are those of another point.
"""

import functools
import os
from dataclasses import replace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import envs
import sobolax.agents.sac
from envs.mujoco import linearization
from sobolax.tangents.methods import Derivatives, make_tangent_function
from tests.envs.harness import largest_error


@functools.cache
def tangents_by(environment, method: str):
    """`(states, actions, state directions, action directions) -> (transition, end, tangents)`."""
    compute = make_tangent_function(environment, Derivatives(method=method))
    return jax.jit(jax.vmap(compute, in_axes=(None, 0, 0, None, None)))


def moving(harness, lanes: int, steps: int, seed: int = 0):
    """States some steps of random actions after a start, by the C engine, and actions."""
    environment = harness.env
    model, draw = environment.mujoco_model, np.random.default_rng(seed)
    states = jax.tree.map(lambda leaf: leaf[:lanes], harness.reset(seed))
    data = mujoco.MjData(model)
    names, rows = ("qpos", "qvel", "qacc_warmstart"), []
    for lane in range(lanes):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = states.physics.qpos[lane], states.physics.qvel[lane]
        for _ in range(steps):
            data.ctrl[:] = draw.uniform(-0.5, 0.5, model.nu)
            mujoco.mj_step(model, data, environment.substeps)
        rows.append([np.copy(getattr(data, name)) for name in names])
    columns = map(np.stack, zip(*rows, strict=True))
    physics = replace(states.physics, **dict(zip(names, columns, strict=True)))
    states = replace(states, physics=physics)
    return states, draw.uniform(-0.5, 0.5, (lanes, model.nu))


@pytest.fixture(scope="module")
def reacher(harness_of):
    """Its harness, and a batch of states, one beyond a joint's limit."""
    harness = harness_of("reacher")
    states, actions = moving(harness, lanes=harness.lanes, steps=5)
    states.physics.qpos[1, 1] = 3.01  # the limit is at 3
    return harness, states, actions


def along_all(environment):
    return np.eye(environment.state_size), np.eye(environment.action_size)


def test_a_transition_and_its_tangents_are_those_of_the_step_of_mjx(float64, reacher):
    harness, states, actions = reacher
    arguments = (jax.random.key(0), states, actions, *along_all(harness.env))
    transition, end, tangents = tangents_by(harness.env, "mujoco_fd")(*arguments)
    expected, expected_end = harness.step(states, actions)
    # The value is MJX's in both; compiled into two programs, last bits may differ.
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12),
        (transition, end),
        (expected, expected_end),
    )
    for lane in range(4):
        at = functools.partial(jax.tree.map, lambda leaf, lane=lane: leaf[lane])
        differences = harness.differences(at(states), actions[lane])
        assert largest_error(at(tangents), differences) < 1e-6


def test_a_state_that_is_not_finite_gives_nan_and_spoils_no_other(
    float64, reacher, tmp_path, monkeypatch, capfd
):
    harness, states, actions = reacher
    environment = harness.env
    monkeypatch.chdir(tmp_path)  # where MuJoCo would write MUJOCO_LOG.TXT
    arguments = (actions, *along_all(environment))
    compute = tangents_by(environment, "mujoco_fd")
    expected = compute(jax.random.key(0), states, *arguments)[2]
    qvel = np.array(states.physics.qvel)
    qvel[0, 0], qvel[2, 0] = np.nan, 1e30
    bad = replace(states, physics=replace(states.physics, qvel=qvel))
    found = compute(jax.random.key(0), bad, *arguments)[2]
    for lane in (0, 2):
        assert np.all(np.isnan(found.state.next_observation[lane][:, 0]))
    for lane in (1, 3):
        jax.tree.map(
            lambda one, other, lane=lane: np.testing.assert_array_equal(one[lane], other[lane]),
            found,
            expected,
        )
    assert os.listdir(tmp_path) == []
    assert "WARNING" not in "".join(capfd.readouterr())


def engine_and_structured(environment, physics, controls, start, along):
    """Ends of displacements by both methods, for batches; without observations, to compile less."""
    engine = environment._host_engine.moved

    def exact(physics, control):
        return linearization.chained(
            environment._substep_jacobian, environment.substeps, physics, control, start, along
        )[1]

    found = jax.vmap(lambda *where: engine(*where, start, along))(physics, controls)
    return found, jax.jit(jax.vmap(exact))(physics, controls)


def largest_errors(found, expected) -> np.ndarray:
    """Of every lane, relative to its largest entry."""
    axes = (1, 2)
    return np.max(np.abs(found - expected), axes) / np.max(np.abs(expected), axes)


@pytest.mark.slow
def test_jacobians_in_contact(float64, harness_of):
    harness = harness_of("hopper")
    environment = harness.env
    states, actions = moving(harness, lanes=8, steps=20)
    assert sum(contacts(environment, states.physics, lane) > 0 for lane in range(8)) >= 2
    size, total = environment.state_size, environment.state_size + environment.action_size
    basis = jnp.eye(total)
    found, expected = engine_and_structured(
        environment, states.physics, actions, basis[:size], basis[size:]
    )
    # 1e-7 has been seen where a foot is about to touch.
    assert np.all(largest_errors(found, expected) < 1e-6)


def test_few_columns_are_those_of_the_jacobian(float64, harness_of):
    """They are differences of the whole step, along directions of any length, and of none."""
    harness = harness_of("hopper")
    environment = harness.env
    states, actions = moving(harness, lanes=8, steps=20)
    size, total = environment.state_size, environment.state_size + environment.action_size
    mixed = np.random.default_rng(1).normal(size=(total, 3)) * [1.0, 100.0, 0.0]

    def move(columns):
        parts = jnp.asarray(columns[:size]), jnp.asarray(columns[size:])
        physics = jax.tree.map(jnp.asarray, states.physics)
        return jax.vmap(lambda *where: environment._host_engine.moved(*where, *parts))(
            physics, jnp.asarray(actions)
        )

    few = move(mixed)
    assert np.all(largest_errors(few, move(np.eye(total)) @ mixed) < 1e-6)
    assert np.all(few[..., 2] == 0)


@pytest.mark.slow
def test_quaternions(float64, harness_of):
    """In the air, for there the two engines are alike: see `Ant` on its steep legs' contacts."""
    harness = harness_of("ant")
    environment = harness.env
    states, actions = moving(harness, lanes=16, steps=60)
    flying = replace(states.physics, qpos=states.physics.qpos + 1.0 * (np.arange(15) == 2))
    size, total = environment.state_size, environment.state_size + environment.action_size
    basis = jnp.eye(total)
    found, expected = engine_and_structured(
        environment, flying, actions, basis[:size], basis[size:]
    )
    # Limits of joints act here and there, as contacts do.
    assert np.all(largest_errors(found, expected) < 1e-6)
    mixed = jnp.asarray(np.random.default_rng(1).normal(size=(total, 3)))
    few = jax.vmap(
        lambda *where: environment._host_engine.moved(*where, mixed[:size], mixed[size:])
    )(flying, actions)
    assert np.all(largest_errors(few, expected @ mixed) < 1e-6)


def test_a_batch_is_its_items_one_by_one(harness_of, monkeypatch):
    environment = harness_of("hopper").env
    engine = environment._host_engine
    states, actions = moving(harness_of("hopper"), lanes=6, steps=10)
    size, total = environment.state_size, environment.state_size + environment.action_size
    basis = np.eye(total, dtype=np.float32)
    physics, actions = jax.tree.map(lambda leaf: leaf.astype(np.float32), (states.physics, actions))

    def move(physics, action):
        return engine.moved(physics, action, basis[:size], basis[size:])

    calls, callback = [], engine._moved_batch
    monkeypatch.setattr(
        engine, "_moved_batch", lambda *arguments: calls.append(1) or callback(*arguments)
    )
    whole = jax.jit(jax.vmap(move))(physics, actions)
    assert len(calls) == 1
    assert whole.dtype == np.float32
    # Two axes of a batch, in a scan as in training, on any number of cores.
    folded = jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), (physics, actions))
    scanned = jax.jit(lambda where: jax.lax.scan(lambda _, w: (0, jax.vmap(move)(*w)), 0, where)[1])
    np.testing.assert_array_equal(scanned(folded).reshape(whole.shape), whole)
    nested = jax.jit(jax.vmap(jax.vmap(move)))
    for workers in (1, 3):
        monkeypatch.setattr(engine, "_workers", workers)
        np.testing.assert_array_equal(nested(*folded).reshape(whole.shape), whole)
    for lane in range(6):
        one = jax.tree.map(lambda leaf, lane=lane: leaf[lane], (physics, actions))
        np.testing.assert_array_equal(move(*one), whole[lane])


@pytest.mark.slow  # four solvers in a step take the compiler a minute
def test_runge_and_kutta_have_gradients_too(float64):
    """MuJoCo's differences of one step refuse this integrator; those of a whole step do not."""
    environment = envs.make("reacher", integrator="rk4")
    state = environment.reset(jax.random.key(0))
    action = jnp.asarray([0.3, -0.2])
    basis = jnp.eye(10)
    found = environment._host_engine.moved(state.physics, action, basis[:8], basis[8:])
    step = 1e-5
    ends = []
    for sign in (1, -1):
        move = jax.vmap(
            lambda along, sign=sign: environment._advance(
                environment._perturb_physics(state.physics, sign * step * along[:8]),
                action + sign * step * along[8:],
            )
        )
        ends.append(jax.jit(move)(basis))
    change = jax.tree.map(lambda one, other: (one - other) / (2 * step), *ends)
    expected = jnp.concatenate([change.qpos, change.qvel], axis=1).T
    # No quaternions. Rounding of both, at 1e-16 / 1e-6 of values near one.
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_the_model_stays_as_it_is(harness_of):
    """The engine's solver has options of its own."""
    environment = harness_of("hopper").env
    assert environment.mujoco_model.opt.iterations == 8
    assert environment.mujoco_model.opt.tolerance == 1e-8
    assert environment.mujoco_model.opt.disableflags == 0
    assert environment._host_engine._model is not environment.mujoco_model


@pytest.mark.slow
def test_a_training_runs():
    environment = envs.make("reacher")
    config = sobolax.agents.sac.Config(
        total_timesteps=16,
        num_envs=4,
        epochs=1,
        gradient_steps=1,
        learning_starts=8,
        batch_size=8,
        replay_capacity=32,
        hidden_sizes=(8,),
        derivatives=Derivatives(method="mujoco_fd"),
        evaluation_episodes=1,
        report_states=0,
    )
    train = sobolax.make_training(environment, config).run
    _, metrics = jax.jit(train)(jax.random.key(0), sobolax.agents.sac.Hyperparameters())
    assert np.all(np.isfinite(metrics["evaluation_return"]))
    assert metrics["gradients_dropped"][0] == 0


def contacts(environment, physics, lane: int) -> int:
    data = mujoco.MjData(environment.mujoco_model)
    data.qpos[:] = physics.qpos[lane]
    mujoco.mj_forward(environment.mujoco_model, data)
    return data.ncon
