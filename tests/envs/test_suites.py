"""Other people's environments behind our protocol.

The extras `brax` and `gymnasium` are in the lock; `gymnax` and `playground` are not, and their
tests are skipped where these are not installed.
"""

import functools
import importlib.util
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import registry
from sobolax.checks import check_structure
from sobolax.mjx.engine import mujoco
from sobolax.testing import check_environment


def needs(extra: str):
    absent = importlib.util.find_spec({"playground": "mujoco_playground"}.get(extra, extra)) is None
    return pytest.mark.skipif(
        absent, reason=f"the extra {extra!r} is not installed: pip install --editable '.[{extra}]'"
    )


# Brax uses what MJX and JAX are giving up.
braxs_own_warnings = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("braxx:reacher", {}, r"no suite 'braxx' \(did you mean 'brax'.*brax, gymnasium, gymnax"),
        ("brax:reach", {}, r"suite 'brax' has no environment 'reach' \(did you mean 'reacher'"),
        ("brax:reacher", {"backend": "mujoco"}, "backend must be one of generalized, positional"),
        ("gymnasium:Ant", {}, r"'Ant' \(did you mean 'Ant-v5'.*Hopper-v5"),
        ("gymnasium:CartPole-v1", {}, "has no environment 'CartPole-v1'"),
        ("gymnasium:Hopper-v5", {"integrator": "verlet"}, "integrator must be one of euler"),
        (
            "gymnasium:Hopper-v5",
            {"max_episode_steps": 0},
            "max_episode_steps must be an integer of at least 1, not 0",
        ),
        pytest.param(
            "gymnax:CartPole-v1",
            {},
            "declares no differentiable.*Pendulum-v1",
            marks=needs("gymnax"),
        ),
        pytest.param(
            "gymnax:Pendulum-v1", {"gravity": 1.0}, "'gravity'; it takes", marks=needs("gymnax")
        ),
        pytest.param(
            "playground:Cartpole", {}, "did you mean .*'CartpoleBalance'", marks=needs("playground")
        ),
    ],
)
def test_bad_input_is_one_clear_error(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        envs.make(name, **parameters)


@pytest.mark.parametrize("suite", envs.suite_names())
def test_a_missing_package_is_named_with_its_extra(monkeypatch, suite):
    def absent(module):
        raise ModuleNotFoundError("No module named 'theirs'", name="theirs")

    monkeypatch.setattr(registry.importlib, "import_module", absent)
    with pytest.raises(
        ImportError, match=rf"{suite}.*theirs.*pip install --editable '\.\[{suite}\]'"
    ):
        envs.make(f"{suite}:anything")


@pytest.mark.parametrize(
    "name",
    [
        "gymnasium:InvertedPendulum-v5",
        pytest.param("brax:inverted_pendulum", marks=[pytest.mark.slow, braxs_own_warnings]),
        pytest.param("playground:CartpoleBalance", marks=[pytest.mark.slow, needs("playground")]),
    ],
)
def test_observations_are_stacked(name):
    stacked = envs.make(name, history=2)
    size = stacked.environment.observation_size

    @jax.jit
    def go():
        first = stacked.reset(jax.random.key(0))
        second = stacked.step(first, jnp.full(stacked.action_size, 0.3))
        return first, second, stacked.perturb(second, jnp.full(stacked.state_size, 1e-3))

    first, second, moved = go()
    assert second.observation.shape == (2 * size,)
    np.testing.assert_array_equal(second.observation[:size], first.observation[size:])
    np.testing.assert_array_equal(moved.observation[:size], second.observation[:size])
    assert np.abs(moved.observation - second.observation)[size:].max() > 1e-4


# ---- Gymnasium


@pytest.fixture(scope="module")
def gymnasium():
    sys.modules.pop("imageio", None)  # another test puts an empty one there
    import gymnasium

    return gymnasium


@pytest.mark.parametrize("name", ["Ant-v5", "Hopper-v5", "InvertedDoublePendulum-v5"])
def test_gymnasiums_own_steps_come_back_bit_for_bit(float64, gymnasium, name):
    """Bodies' positions lag a physics step behind in Gymnasium, and forces are the last step's."""
    theirs, env = gymnasium.make(name).unwrapped, envs.make(f"gymnasium:{name}")
    key = jax.random.key(3)
    state = jax.jit(env.reset)(key)
    observation, _ = theirs.reset(seed=int(jax.random.bits(key, dtype=jnp.uint32)))
    np.testing.assert_array_equal(state.observation, observation)
    step, draw = jax.jit(env.step), np.random.default_rng(0)
    for _ in range(12):
        action = draw.uniform(-1, 1, env.action_size)
        space = theirs.action_space
        control = (space.high.astype(float) + space.low) / 2 + action * (
            space.high.astype(float) - space.low
        ) / 2
        observation, reward, terminated, _, _ = theirs.step(control)
        state = step(state, action)
        np.testing.assert_array_equal(state.observation, observation)
        assert float(state.reward) == reward
        assert state.discount == 1 - terminated
        assert not np.any(state.physics.displacement)
    positions, rotations = env.frame(state)
    theirs.data.qpos[:] = state.physics.host[0]
    mujoco.mj_kinematics(theirs.model, theirs.data)
    np.testing.assert_array_equal(positions, theirs.data.geom_xpos)
    np.testing.assert_array_equal(rotations.reshape(-1, 9), theirs.data.geom_xmat)
    assert env.dt == theirs.dt


def test_gymnasiums_time_limit_can_be_set(gymnasium):
    for parameters, length in ({}, 1000), ({"max_episode_steps": 50}, 50):
        environment = envs.make("gymnasium:InvertedPendulum-v5", **parameters)
        assert environment.episode_length == length


def test_gymnasiums_protocol_is_kept(gymnasium):
    report = check_environment(
        functools.partial(envs.make, "gymnasium:Hopper-v5"), steps=4, states=1
    )
    assert report.precision == "float64"
    assert report.judged > 0.9


@pytest.mark.slow
def test_gymnasiums_gradients_are_those_of_the_twin_on_mjx(float64, gymnasium):
    """Central differences of the C engine beside exact derivatives of the same model on MJX.

    A chain without contact would do; the half-cheetah in the air has none, and is Gymnasium's with
    the integrator that both share. What is left is the differences' error, 1e-9 of the largest.
    """
    theirs, ours = (
        envs.make("gymnasium:HalfCheetah-v5", integrator="euler"),
        envs.make("half_cheetah"),
    )
    state = theirs.reset(jax.random.key(0))
    qpos = np.array(state.physics.host[0])
    qpos[1] += 1.0
    draw = np.random.default_rng(1)
    qvel = draw.normal(size=qpos.size)
    host = (jnp.asarray(qpos), jnp.asarray(qvel), *state.physics.host[2:])
    moving = replace(state, physics=replace(state.physics, host=host))
    moving = theirs.perturb(moving, jnp.full(theirs.state_size, 1e-300))
    moving = replace(moving, physics=replace(moving.physics, displacement=jnp.zeros(18)))
    action = jnp.asarray(draw.uniform(-0.5, 0.5, 6))

    def end(displacement, action):
        return theirs.step(theirs.perturb(moving, displacement), action).observation

    by_state, by_action = jax.jacfwd(end, (0, 1))(jnp.zeros(18), action)
    twin = ours._substep_jacobian(ours._physics(jnp.asarray(qpos), jnp.asarray(qvel)), action)
    physics, jacobian = twin
    state_gradients, action_gradients = jacobian.state, jacobian.control
    for _ in range(ours.substeps - 1):
        physics, jacobian = ours._substep_jacobian(physics, action)
        action_gradients = jacobian.state @ action_gradients + jacobian.control
        state_gradients = jacobian.state @ state_gradients
    for found, expected in ((by_state, state_gradients), (by_action, action_gradients)):
        expected = expected[1:]  # x is not observed
        assert np.max(np.abs(found - expected)) < 1e-7 * np.max(np.abs(expected))
    # The reverse pass is the same Jacobian, transposed.
    weights = jnp.asarray(draw.normal(size=17))
    pulled = jax.grad(lambda d: weights @ end(d, action))(jnp.zeros(18))
    np.testing.assert_allclose(pulled, weights @ by_state, rtol=1e-10, atol=1e-10)


# ---- Brax


@braxs_own_warnings
def test_brax_runs_and_moves():
    env = envs.make("brax:inverted_pendulum", backend="spring", episode_length=7)
    check_structure(env)
    assert (env.episode_length, env.state_size, env.action_size) == (7, 4, 1)


@braxs_own_warnings
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["generalized", "positional", "spring", "mjx"])
def test_braxs_protocol_is_kept(backend):
    make = functools.partial(envs.make, "brax:reacher", backend=backend)
    report = check_environment(make, steps=10, states=2)
    assert report.judged > 0.9


@braxs_own_warnings
@pytest.mark.slow
def test_a_free_body_of_brax_moves_in_three_directions_of_rotation():
    env = envs.make("brax:ant", backend="spring")
    state = jax.jit(env.reset)(jax.random.key(0))
    assert env.state_size == 28
    assert state.physics.pipeline.q.shape == (15,)
    moved = jax.jit(env.perturb)(state, jnp.zeros(28).at[4].set(0.1))
    before, after = (one.physics.pipeline.q[3:7] for one in (state, moved))
    # Brax draws a first quaternion of some other length, and normalizes it in the first step.
    length = jnp.linalg.norm(before)
    np.testing.assert_allclose(jnp.linalg.norm(after), length, rtol=1e-5)
    angle = 2 * jnp.arccos(jnp.abs(after @ before) / length**2)
    assert abs(angle - 0.1) < 1e-3


# ---- gymnax and Playground: not in the lock


@needs("gymnax")
@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0"])
def test_gymnaxs_protocol_is_kept(name):
    report = check_environment(functools.partial(envs.make, f"gymnax:{name}"))
    assert report.tangent_error < 1e-8


@needs("gymnax")
def test_gymnaxs_pendulum_is_ours(float64):
    theirs, ours = envs.make("gymnax:Pendulum-v1"), envs.make("pendulum")
    state = theirs.reset(jax.random.key(1))
    same = ours.reset(jax.random.key(1))
    physics = replace(same.physics, angle=state.physics.theta, velocity=state.physics.theta_dot)
    same, action = replace(same, physics=physics), jnp.asarray([0.7])
    state, same = theirs.step(state, action), ours.step(same, action)
    # Theirs is taken a millionth inside its limits.
    np.testing.assert_allclose(state.observation, same.observation, atol=1e-6)
    np.testing.assert_allclose(state.reward, same.reward, atol=1e-6)


@needs("playground")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["CartpoleBalance", "PendulumSwingup"])
def test_playgrounds_protocol_is_kept(name):
    make = functools.partial(envs.make, f"playground:{name}")
    assert make().derivatives_by == "implicit"
    assert make().reverse_mode
    report = check_environment(make, steps=10, states=2)
    assert report.judged > 0.9


@needs("playground")
def test_playgrounds_robots_are_not_downloaded_behind_ones_back():
    with pytest.raises(ValueError, match="ensure_menagerie_exists"):
        envs.make("playground:Go1JoystickFlatTerrain")
