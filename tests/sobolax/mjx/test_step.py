"""What a user of `step` and `step_and_jacobian` may ask beyond positions, speeds and controls."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from sobolax.mjx import reason_against, reason_against_jacobian, step, step_and_jacobian
from sobolax.mjx.engine import mjx
from sobolax.mjx.quaternions import with_servo_gradients, with_spring_gradients
from sobolax.mjx.step import integrate
from tests.sobolax.mjx.checks import assert_near
from tests.sobolax.mjx.harness import Harness, compiled_quickly, draw_states
from tests.sobolax.mjx.harness import harness as harness_of
from tests.sobolax.mjx.models import MODELS

PARAMETERS = (
    "opt.gravity",
    "opt.timestep",
    "body_mass",
    "geom_friction",
    "geom_solref",
    "geom_size",
    "dof_damping",
)


@pytest.fixture(scope="module")
def rod():
    return harness_of("rod")


def test_parameters_of_the_model_have_their_gradients(float64, rod: Harness):
    """Of every one along a random direction, in both modes, against differences of `mjx.step`."""
    state = {name: value[2] for name, value in rod.states.items()}  # on the ground
    draw = np.random.default_rng(6)
    # Relative changes, so that nothing changes sign.
    directions = {
        name: jnp.asarray(value * draw.uniform(0.5, 1.0, size=np.shape(value)))
        for name, value in ((name, _get(rod.model, name)) for name in PARAMETERS)
    }

    def results(step, sizes):
        changed = {
            name: jnp.asarray(_get(rod.model, name)) + size * directions[name]
            for name, size in zip(PARAMETERS, sizes, strict=True)
        }
        next_state = step(rod.model.tree_replace(changed), rod.placed(state))
        return jnp.concatenate([next_state.qpos, next_state.qvel, next_state.qacc])

    zero = jnp.zeros(len(PARAMETERS))
    plain = compiled_quickly(functools.partial(results, mjx.step))
    gradients = jnp.stack(
        [
            (plain(1e-6 * direction) - plain(-1e-6 * direction)) / 2e-6
            for direction in np.eye(len(PARAMETERS))
        ],
        axis=-1,
    )

    @compiled_quickly
    def both(weights):
        _, linear = jax.linearize(functools.partial(results, step), zero)
        forward = jax.vmap(linear, out_axes=-1)(jnp.eye(len(PARAMETERS)))
        return forward, jax.linear_transpose(linear, zero)(weights)[0]

    weights = draw.normal(size=gradients.shape[0])
    forward, reverse = both(weights)
    for index, name in enumerate(PARAMETERS):
        assert np.abs(gradients[:, index]).max() > 1e-3, f"{name} does nothing here"
    # The solver's own accuracy, about 1e-9 of the acceleration, over the step of 1e-6.
    scale = np.abs(gradients).max(axis=0)
    np.testing.assert_allclose(forward / scale, gradients / scale, atol=1e-5)
    np.testing.assert_allclose(reverse, weights @ forward, rtol=1e-10)


def _get(model, name: str):
    return functools.reduce(getattr, name.split("."), model)


@pytest.mark.slow
def test_it_is_the_autodiff_of_mjx_step_where_that_is_right(float64, rod: Harness):
    """A converged solver differentiates in forward mode as it is."""

    @compiled_quickly
    @jax.vmap
    def both(state):
        def speeds(step, direction):
            return step(rod.model, rod.placed(state, direction)).qvel

        zero = jnp.zeros(rod.size)
        return [jax.jacfwd(functools.partial(speeds, one))(zero) for one in (step, mjx.step)]

    ours, plain = jax.device_get(both(rod.states))
    # The last iteration of the solver moves the tangent by no more than it moves the solution.
    assert_near(ours, plain, 1e-7)


@pytest.fixture(scope="module")
def after_one_iteration(rod: Harness):
    """Of every state: forward and reverse mode, the whole Jacobian, and values of both steps."""
    with jax.enable_x64(True):
        model = rod.model.tree_replace({"opt.iterations": 1, "opt.ls_iterations": 1})

        def state_after(step, state, direction):
            next_state = step(model, rod.placed(state, direction))
            return jnp.concatenate([next_state.qpos, next_state.qvel])

        @compiled_quickly
        @jax.vmap
        def everything(state):
            zero = jnp.zeros(rod.size)
            value, linear = jax.linearize(functools.partial(state_after, step, state), zero)
            forward = jax.vmap(linear, out_axes=-1)(jnp.eye(rod.size))
            (reverse,) = jax.vmap(jax.linear_transpose(linear, zero))(jnp.eye(value.size))
            _, whole = step_and_jacobian(model, rod.placed(state))
            jacobian = jnp.concatenate([whole.state, whole.control], axis=1)
            expected = state_after(mjx.step, state, zero)
            return forward, reverse, jacobian, value, expected

        return jax.device_get(everything(rod.states))


@pytest.mark.slow
def test_one_iteration_of_the_solver_is_enough_to_differentiate(rod, after_one_iteration):
    """The optimum is not reached, and yet both modes agree."""
    forward, reverse, _, value, expected = after_one_iteration
    assert np.all(np.isfinite(forward))
    assert_near(reverse, forward, 1e-10)
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)
    converged = rod.mjx_step()["qvel"]
    assert np.abs(converged - value[:, -rod.plain.nv :]).max() > 1e-6, "one iteration had converged"


@pytest.mark.slow
def test_the_whole_jacobian_after_one_iteration_is_that_of_forward_mode(after_one_iteration):
    forward, _, jacobian, *_ = after_one_iteration
    assert_near(jacobian, forward[:, :, : jacobian.shape[2]], 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_values_in_float32_are_those_of_mjx_step(name):
    plain = mujoco.MjModel.from_xml_string(MODELS[name])
    model = mjx.put_model(plain, impl="jax")
    data = mjx.make_data(model, impl="jax")
    states = draw_states(plain, 12, seed=0)
    states = {key: value.astype(np.float32) for key, value in states.items()}

    def values(step, state):
        next_state = step(model, data.replace(**state))
        names = ("qpos", "qvel", "act", "qacc", "time", "sensordata", "qfrc_constraint")
        return [getattr(next_state, name) for name in names], next_state._impl.efc_force

    # As users compile: what tests leave out to compile quickly may round the two differently.
    options: dict[str, int | bool] = {"xla_backend_optimization_level": 3}
    if jax.__version_info__ < (0, 11):  # later ones always do
        options["xla_cpu_use_fusion_emitters"] = True
    ours, theirs = (
        jax.device_get(
            jax.jit(jax.vmap(functools.partial(values, one)), compiler_options=options)(states)
        )
        for one in (step, mjx.step)
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_bad_models_are_refused_before_anything_compiles():
    text = MODELS["rod"].replace("<option ", '<option integrator="RK4" ')
    model = mjx.put_model(mujoco.MjModel.from_xml_string(text), impl="jax")
    data = mjx.make_data(model, impl="jax")
    # As a function of shapes: nothing can have been compiled.
    with pytest.raises(NotImplementedError, match=r"RK4.*use Euler or implicitfast"):
        jax.eval_shape(step_and_jacobian, model, data)
    assert "RK4" in reason_against_jacobian(model)
    assert reason_against(model) is None


def test_other_implementations_are_refused():
    model = SimpleNamespace(impl=mjx.Impl.WARP)
    for function in (step, step_and_jacobian):
        with pytest.raises(NotImplementedError, match=r'WARP.*impl="jax"'):
            function(model, None)


def test_what_is_not_of_mjx_or_a_batch_is_refused_with_what_to_do():
    plain = mujoco.MjModel.from_xml_string(MODELS["rod"])
    model = mjx.put_model(plain, impl="jax")
    data = mjx.make_data(model, impl="jax")
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), data)
    for function in (step, step_and_jacobian):
        with pytest.raises(TypeError, match=r"a mujoco\.MjModel: hand over mjx\.put_model"):
            function(plain, data)
        with pytest.raises(TypeError, match=r"a mujoco\.MjData: hand over mjx\.put_data"):
            function(model, mujoco.MjData(plain))
        with pytest.raises(ValueError, match=r"is a batch.*vmap the step"):
            function(model, batch)
    with pytest.raises(TypeError, match=r"hand over mjx\.put_model"):
        reason_against(plain)


def test_what_can_be_differentiated_is_not_refused(rod: Harness):
    assert reason_against(rod.model) is None


@functools.cache
def _gradients_of_speeds(name: str):
    """Of the last state, by `dq`: forward mode, reverse mode and differences of `mjx.step`."""
    harness = harness_of(name)
    # The only state of a ball at ease is its keyframe.
    state = {
        key: value[0 if name == "ball-at-ease" else -1] for key, value in harness.states.items()
    }
    count = harness.plain.nv

    def speeds(step, dq):
        direction = jnp.zeros(harness.size).at[:count].set(dq)
        return step(harness.model, harness.placed(state, direction)).qvel

    plain, zero = compiled_quickly(functools.partial(speeds, mjx.step)), jnp.zeros(count)

    @compiled_quickly
    def both():
        _, linear = jax.linearize(functools.partial(speeds, step), zero)
        rows = jax.vmap(jax.linear_transpose(linear, zero))(jnp.eye(count))[0]
        return jax.vmap(linear, out_axes=-1)(jnp.eye(count)), rows

    gradients = [(plain(d) - plain(-d)) / 2e-6 for d in 1e-6 * np.eye(count)]
    return *jax.device_get(both()), np.stack(gradients, axis=-1)


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    reason="MJX's impedance of |position| > width takes the power of a negative number; its "
    "derivative is masked by where in forward mode, and not a number in reverse mode",
)
def test_reverse_mode_is_finite_at_odd_powers_of_impedance(float64):
    _, reverse, _ = _gradients_of_speeds("rod-odd-power")
    assert np.all(np.isfinite(reverse))


@pytest.mark.slow
def test_forward_mode_is_right_at_odd_powers_of_impedance(float64):
    forward, _, gradients = _gradients_of_speeds("rod-odd-power")
    np.testing.assert_allclose(forward, gradients, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_a_ball_joint_at_ease_is_stiff(float64):
    """Rotated by no angle, its spring and its servo still answer a rotation."""
    forward, reverse, gradients = _gradients_of_speeds("ball-at-ease")
    np.testing.assert_allclose(reverse, forward, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(forward, gradients, rtol=1e-6, atol=1e-7)


TENDON_AT_EASE = """
<mujoco>
  <worldbody>
    <body><joint name="hinge" axis="0 1 0"/><geom size="0.1" pos="0.1 0 0.2" mass="1"/></body>
  </worldbody>
  <tendon>
    <fixed stiffness="30" LENGTH><joint joint="hinge" coef="2"/></fixed>
  </tendon>
</mujoco>
"""


@pytest.mark.parametrize(("length", "pull"), [("", 120), ('springlength="-1 1"', 0)])
def test_a_tendon_at_ease_is_stiff(float64, length, pull):
    """At its resting length, where a model starts; unless it is slack around it."""
    plain = mujoco.MjModel.from_xml_string(TENDON_AT_EASE.replace("LENGTH", length))
    model, data = mjx.put_model(plain, impl="jax"), mjx.make_data(plain, impl="jax")

    @compiled_quickly
    @jax.jacfwd
    def stiffness(qpos):
        at = mjx.fwd_velocity(model, mjx.fwd_position(model, data.replace(qpos=qpos)))
        return with_spring_gradients(model, at).qfrc_passive

    np.testing.assert_allclose(stiffness(data.qpos), [[-pull]], rtol=1e-12)


def test_both_modes_have_the_shapes_of_what_they_differentiate():
    """Traced alone; the slow tests of such models say that the numbers are right."""
    plain = mujoco.MjModel.from_xml_string(MODELS["ball-friction-loss"])
    model = mjx.put_model(plain, impl="jax")
    data = mjx.make_data(model, impl="jax")

    def derivatives(qvel):
        def speeds(qvel):
            return step(model, data.replace(qvel=qvel)).qvel

        value, linear = jax.linearize(speeds, qvel)
        return linear(value), jax.linear_transpose(linear, qvel)(value)[0]

    at = jax.ShapeDtypeStruct((plain.nv,), jnp.float32)
    assert jax.eval_shape(derivatives, at) == (at, at)
    next_data, jacobian = jax.eval_shape(step_and_jacobian, model, data)
    assert jacobian.state.shape == (2 * plain.nv + plain.na,) * 2
    for one, other in zip(*map(jax.tree.leaves, (next_data, data)), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


SITES = """<mujoco><worldbody><site name="fixed"/><body><joint axis="0 1 0"/>
<geom size="0.1" pos="0.2 0 0"/><site name="tip"/></body></worldbody>
<actuator><position site="tip" refsite="fixed" gear="0 0 0 0 3 0"/>
<position site="fixed" refsite="tip" gear="0 0 0 0 2 0"/></actuator></mujoco>"""


@pytest.mark.slow  # physics in both modes
def test_a_servo_between_sites_is_stiff_where_their_frames_agree(float64):
    """There MJX's difference of quaternions has no gradient, at rest of all places."""
    model = mjx.put_model(mujoco.MjModel.from_xml_string(SITES), impl="jax")
    data = mjx.make_data(model, impl="jax")

    def lengths(qpos):
        placed = mjx.com_pos(model, mjx.kinematics(model, data.replace(qpos=qpos)))
        plain = mjx.transmission(model, placed)
        return with_servo_gradients(model, plain).actuator_length, plain.actuator_length

    @jax.jit
    def slopes(qpos):
        modes = [mode(lambda qpos: lengths(qpos)[0])(qpos) for mode in (jax.jacfwd, jax.jacrev)]
        return lengths(qpos), jnp.stack(modes)[..., 0]

    for angle in (0.0, 0.4):
        (found, plain), slope = slopes(jnp.array([angle]))
        np.testing.assert_array_equal(found, plain)
        # Taken 1e-7 away, where the angle's derivative is that much off.
        np.testing.assert_allclose(slope, [[3.0, -2.0]] * 2, rtol=1e-6)


def test_time_passes_in_derivatives_too():
    body = "<mujoco><worldbody><body><joint/><geom size='.1'/></body></worldbody></mujoco>"
    model = mjx.put_model(mujoco.MjModel.from_xml_string(body), impl="jax")
    data = mjx.make_data(model, impl="jax")

    def time(start, timestep):
        timed = model.tree_replace({"opt.timestep": timestep})
        return integrate(timed, integrate(timed, data.replace(time=start))).time

    assert jax.jit(jax.grad(time, (0, 1)))(data.time, model.opt.timestep) == (1.0, 2.0)


def test_an_integrator_that_mjx_has_not_is_named():
    text = (
        "<mujoco><option integrator='discrete'/><worldbody><body><joint/><geom size='.1'/></body>"
    )
    try:
        plain = mujoco.MjModel.from_xml_string(f"{text}</worldbody></mujoco>")
        model = mjx.put_model(plain, impl="jax")
    except (ValueError, NotImplementedError, AttributeError) as error:
        pytest.skip(f"another version of MuJoCo or MJX refuses it itself: {error}")
    assert "MJX does not step with the integrator DISCRETE" in str(reason_against(model))
