"""The law of one contact at the edges of its parameters: impedances, frictions, flags.

A puck slides, turns and rolls on a plane. Its parameters are arguments of one program, so that a
case costs a run, not a compilation.
"""

import functools
import re

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from sobolax.mjx import advice, reason_against, reason_against_steps, step, step_and_jacobian
from sobolax.mjx.contacts import contact_force, with_friction_gradients
from sobolax.mjx.engine import mjx
from sobolax.mjx.forces import constraint_force
from tests.sobolax.mjx.harness import compiled_quickly, one_by_one

PUCK = """
<mujoco>
  <option timestep="0.005" cone="CONE" iterations="30" ls_iterations="30" tolerance="1e-15"/>
  <worldbody>
    <geom type="plane" size="5 5 1" condim="CONDIM"/>
    <body pos="0 0 0.1">
      <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
      <joint axis="0 0 1"/><joint axis="0 1 0"/>
      <geom size="0.1" mass="0.3" condim="CONDIM"/>
      <geom size="0.03" pos="0.05 0.03 0" mass="0.2" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
</mujoco>
"""
# Sticks, slides and spins at 5 mm depth; slides and spins at 15 mm, beyond most widths.
QPOS = np.array([[0, -0.005, 0, 0], [0, -0.005, 0.1, 0.2], [0, -0.015, 0.1, 0.2]])
QVEL = np.array([[0.01, -0.01, 0.02, 0.01], [1.5, -0.1, 3, -0.4], [1.5, -0.1, 3, -0.4]])
USUAL = {
    "geom_solref": (0.03, 0.8),
    "geom_solimp": (0.6, 0.95, 0.02, 0.4, 2),
    "geom_friction": (0.7, 0.05, 0.03),
    "geom_margin": 0.0,
    "opt.impratio": 1.0,
}
IMPEDANCES = [
    (0.9, 0.9, 0.001, 0.5, 2),  # constant
    (0, 0, 0.01, 0.5, 2),
    (1, 1, 0.01, 0.5, 2),
    (0, 1, 0.05, 0.5, 2),
    (-0.5, 1.5, 0.05, 0.5, 2),
    (0.95, 0.6, 0.02, 0.5, 2),  # decreasing
    (0.95, 0.6, 0.2, 0.5, 1),
    (0.95, 0.2, 0.2, 0.3, 3.3),
    (0.6, 0.95, 0, 0.5, 2),  # without width
    (0.95, 0.6, 0, 0.5, 2),
    (0.6, 0.95, 0.02, 0, 2),  # midpoint at an end
    (0.6, 0.95, 0.02, 1, 2),
    (0.6, 0.95, 0.1, 0, 2.5),
    (0.6, 0.95, 0.1, 1, 2.5),
    (0.6, 0.95, 0.02, 0.5, 1),  # powers
    (0.6, 0.95, 0.2, 0.4, 0.5),
    (0.6, 0.95, 0.2, 0.4, 1.5),
    (0.6, 0.95, 0.01, 0.4, 2.5),
    (0.6, 0.95, 0.1, 0.4, 6),
]
REFERENCES = [(-1000, -50), (-20000, -10), (-1000, 0), (0.001, 1), (0.3, 2), (0.03, -50)]
FRICTIONS = [(0.7, 0, 0.03), (0.7, 0.05, 0), (0.7, 0, 0), (0.7, 1e-8, 1e-8), (50, 5, 5)]
CASES = [
    USUAL,
    *({"geom_solimp": case} for case in IMPEDANCES),
    *({"geom_solref": case} for case in REFERENCES),
    *({"geom_friction": case} for case in FRICTIONS),
    {"geom_solref": (-1000, -50), "geom_solimp": (0.95, 0.6, 0.02, 0.5, 2)},
    {"geom_margin": 0.002},
    {"geom_margin": 0.01, "geom_solimp": (0.95, 0.6, 0.05, 0.5, 2)},
    {"opt.impratio": 0.1},
    {"opt.impratio": 10.0},
    {"opt.impratio": 10.0, "geom_friction": (0.7, 0, 0)},
]


def batch(condim: int, cone: str) -> tuple[mjx.Model, mjx.Data, dict]:
    """The puck, and its parameters in all cases; within float64."""
    text = PUCK.replace("CONDIM", str(condim)).replace("CONE", cone)
    plain = mujoco.MjModel.from_xml_string(text)
    shapes = {name: np.shape(functools.reduce(getattr, name.split("."), plain)) for name in USUAL}
    cases = {
        name: np.stack([np.broadcast_to((USUAL | case)[name], shape) for case in CASES])
        for name, shape in shapes.items()
    }
    return mjx.put_model(plain, impl="jax"), mjx.make_data(plain, impl="jax"), cases


@pytest.mark.parametrize(("condim", "cone"), [(4, "elliptic"), (6, "pyramidal")])
def test_forces_and_their_gradients_are_those_of_the_rows_of_mjx(float64, condim, cone):
    """Without a solver, at accelerations that stick and that slide: torques included."""
    model, data, cases = batch(condim, cone)
    qacc = jnp.array([3.0, -2.0, 5.0, -1.0])

    def forces(case, qpos, qvel, move):
        own = model.tree_replace(case)
        dq, dv = jnp.split(move, 2)
        at = data.replace(qpos=qpos + dq, qvel=qvel + dv)
        at = mjx.collision(own, mjx.com_pos(own, mjx.kinematics(own, at)))
        made = with_friction_gradients(own, mjx.make_constraint(own, at))
        rows = made._impl
        force = constraint_force(own, made, rows.efc_J @ qacc - rows.efc_aref)
        return contact_force(own, at, qacc), rows.efc_J.T @ force

    def everything(case, qpos, qvel):
        def twice(move):
            both = forces(case, qpos, qvel, move)
            return both, both

        jacobians, values = jax.jacfwd(twice, has_aux=True)(jnp.zeros(8))
        return values, jacobians

    @compiled_quickly
    @one_by_one
    def of_states(case):
        return one_by_one(lambda qpos, qvel: everything(case, qpos, qvel))(QPOS, QVEL)

    values, jacobians = jax.device_get(of_states(cases))
    for found, expected in (values, jacobians):
        axes = tuple(range(2, expected.ndim))
        error = np.abs(found - expected).max(axis=axes) / np.abs(expected).max(axis=axes)
        # Other products in another order, of numbers that partly cancel.
        for case, worst in zip(CASES, error.max(axis=1), strict=True):
            assert worst < 1e-9, case


# As of `Harness`: accelerations are exact to 1e-8 or so, and differences are of fourth order.
STEP = 3e-5


def errors(condim: int, cone: str) -> tuple[np.ndarray, np.ndarray]:
    """Of all cases and states: `step_and_jacobian` against differences of the step it returns.

    The largest error, and how far differences over two distances are apart, `(cases, states)` each,
    relative to the largest gradient. NaN where differences have a kink.
    """
    with jax.enable_x64(True):
        model, data, cases = batch(condim, cone)
        size = 2 * model.nv
        basis = STEP * np.eye(size)
        moves = np.concatenate([np.zeros((1, size)), *(k * basis for k in (1, -1, 2, -2))])

        def end(case, qpos, qvel, move):
            dq, dv = jnp.split(move, 2)
            at = data.replace(qpos=qpos + dq, qvel=qvel + dv)
            next_data, jacobian = step_and_jacobian(model.tree_replace(case), at)
            return jnp.concatenate([next_data.qpos, next_data.qvel]), jacobian.state

        along_moves = jax.vmap(end, (None, None, None, 0))
        of_states = jax.vmap(along_moves, (None, 0, 0, None))
        of_cases = compiled_quickly(jax.vmap(of_states, (0, None, None, None)))
        ends, jacobians = jax.device_get(of_cases(cases, QPOS, QVEL, moves))
    ahead, behind, far, back = (
        np.swapaxes(part, -1, -2) for part in np.split(ends[:, :, 1:], 4, axis=2)
    )
    near, far = (ahead - behind) / (2 * STEP), (far - back) / (4 * STEP)
    scale = np.abs(near).max(axis=(2, 3))
    apart = np.abs(near - far).max(axis=(2, 3)) / scale
    error = np.abs(jacobians[:, :, 0] - (4 * near - far) / 3).max(axis=(2, 3)) / scale
    return np.where(apart > 1e-3, np.nan, error), apart


@pytest.mark.slow
@pytest.mark.parametrize("condim", [1, 3, 4, 6])
@pytest.mark.parametrize("cone", ["pyramidal", "elliptic"])
def test_the_whole_jacobian_is_right_at_the_edges_of_parameters(condim, cone):
    if (condim, cone) == (1, "elliptic"):
        pytest.skip("MJX has no contacts without friction there")
    error, apart = errors(condim, cone)
    assert np.isnan(error).mean() < 0.1, "too many kinks"
    # The solver's rounding of 1e-9 or so over `STEP`; with an impedance of 1 a contact is a
    # thousand times as stiff, rounding grows, and differences show it themselves.
    excess = np.nanmax(error - 2 * apart, axis=1)
    for case, worst in zip(CASES, excess, strict=True):
        assert worst < 1e-5, case


BALL = """
<mujoco>
  <option timestep="0.005" OPTION>FLAGS</option>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1" FLOOR/>
    <body pos="0 0 0.09">
      <joint type="slide" axis="0 0 1" JOINT/><geom name="ball" size="0.1" GEOM/>
    </body>
  </worldbody>
  EXTRA
</mujoco>
"""


def ball(**parts: str):
    text = BALL
    for name in ("option", "flags", "floor", "joint", "geom", "extra"):
        text = text.replace(name.upper(), parts.get(name, ""))
    plain = mujoco.MjModel.from_xml_string(text)
    return mjx.put_model(plain, impl="jax"), mjx.make_data(plain, impl="jax")


def test_disabled_constraints_have_no_derivative(float64):
    """A free fall, though the ball is in the ground: `mjx.collision` runs all the same."""
    model, data = ball(flags='<flag constraint="disable"/>')
    _, jacobian = compiled_quickly(step_and_jacobian)(model, data)
    np.testing.assert_allclose(jacobian.state, [[1, 0.005], [0, 1]], rtol=1e-12)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, None),
        (
            {"floor": 'friction="0 0 0"', "geom": 'friction="0 0 0"'},
            "'floor' and 'ball' .*rounding",
        ),
        (
            {
                "floor": 'friction="0 0 0"',
                "geom": 'friction="0 0.1 0.1" condim="4"',
                "option": 'cone="elliptic"',
            },
            "'floor' and 'ball' .*not a number.*cone=\"pyramidal\" and condim=\"1\"",
        ),
        ({"floor": 'friction="0 0 0"', "geom": 'friction="0.7 0 0" condim="6"'}, None),
        ({"floor": 'friction="0 0 0" priority="1"'}, "sliding friction"),
        ({"floor": 'friction="0 0 0" condim="1"', "geom": 'friction="0 0 0" condim="1"'}, None),
        (
            {
                "extra": "<contact><pair geom1='floor' geom2='ball' friction='0 0 0 0 0'/>"
                "</contact>",
            },
            "sliding friction",
        ),
        (
            {
                "floor": 'friction="0 0 0"',
                "geom": 'friction="0 0 0"',
                "flags": '<flag contact="disable"/>',
            },
            None,
        ),
        (
            {
                "option": 'cone="elliptic"',
                "flags": '<flag contact="disable"/>',
                "joint": 'frictionloss="1"',
            },
            'nothing can collide.*cone="pyramidal"',
        ),
        ({"option": 'cone="elliptic"', "flags": '<flag contact="disable"/>'}, None),
        (
            {
                "geom": "/><site name='eye'",
                "extra": "<sensor><rangefinder site='eye'/></sensor>",
            },
            "rangefinders.*add <asset><material",
        ),
        (
            {
                "geom": "/><site name='eye'",
                "extra": "<asset><material name='any'/></asset>"
                "<sensor><rangefinder site='eye'/></sensor>",
            },
            None,
        ),
        (
            {"geom": 'solref="0.03 0"', "floor": 'solref="0.03 0"'},
            "contact of 'floor' and 'ball' has solref \"0.03 0\": .*not a number.*damping ratio",
        ),
        ({"geom": 'solref="0.03 0"'}, None),  # mixed with the floor's
        ({"geom": 'solref="0.03 0" solmix="0"'}, None),
        ({"geom": 'solref="0.03 0" priority="1"'}, "infinitely stiff"),
        ({"geom": 'solref="0.03 -1"', "floor": 'solref="0.03 1"'}, 'solref "0.03 0"'),
        ({"geom": 'solref="0.03 0"', "floor": 'solref="-100 -10"'}, None),
        (
            {
                "geom": 'solref="0.03 0"',
                "floor": 'solref="0.03 0"',
                "flags": '<flag contact="disable"/>',
            },
            None,
        ),
        ({"geom": 'solref="0 1"'}, None),
        ({"geom": 'solref="0 1"', "flags": '<flag refsafe="disable"/>'}, 'solref "0 1"'),
        (
            {"joint": 'name="z" limited="true" range="-1 1" solreflimit="0.02 0"'},
            "'z' has jnt_solref \"0.02 0\"",
        ),
        ({"joint": 'solreflimit="0.02 0"'}, None),
        ({"joint": 'frictionloss="1" solreffriction="0.02 0"'}, "joint 0 has dof_solref"),
        (
            {
                "joint": 'name="z"',
                "extra": "<equality><joint joint1='z' solref='0.02 0'/></equality>",
            },
            "equality 0 has eq_solref",
        ),
        (
            {
                "option": 'cone="elliptic"',
                "extra": "<contact><pair geom1='floor' geom2='ball' solreffriction='0.02 0'/>"
                "</contact>",
            },
            "contact of 'floor' and 'ball' has solreffriction",
        ),
        (
            {
                "joint": 'name="z"',
                "extra": "<tendon><fixed name='t' limited='true' range='-1 1' solreflimit='1 0'>"
                "<joint joint='z' coef='1'/></fixed></tendon>",
            },
            "'t' has tendon_solref_lim",
        ),
    ],
)
def test_steps_that_mjx_does_not_have_are_refused_by_name(parts, message):
    model, data = ball(**parts)
    reason = reason_against_steps(model)
    if message is None:
        assert reason is None
        return
    assert re.search(message, reason)
    assert reason_against(model) == reason
    # As a function of shapes: nothing can have been compiled.
    with pytest.raises(NotImplementedError, match=message):
        jax.eval_shape(functools.partial(step_and_jacobian, model), data)


def test_models_in_which_nothing_moves_are_refused_by_name():
    model = mjx.put_model(mujoco.MjModel.from_xml_string("<mujoco/>"), impl="jax")
    with pytest.raises(NotImplementedError, match=r"no degrees of freedom.*give a body a <joint>"):
        step(model, mjx.make_data(model, impl="jax"))


@pytest.mark.slow
def test_friction_that_turns_out_to_be_zero_gives_no_number(float64):
    """As an argument of a program it cannot be refused, and derivatives are not wrong silently."""
    model, data = ball(geom='friction="0.5 0.1 0.1"', floor='friction="0 0 0"')

    @compiled_quickly
    @jax.vmap
    def both(friction):
        other = model.replace(geom_friction=friction)
        by_speed = jax.jacfwd(lambda qvel: step(other, data.replace(qvel=qvel)).qvel)
        return step_and_jacobian(other, data)[1].state, by_speed(data.qvel)

    usual = model.geom_friction
    whole, forward = both(jnp.stack([usual, 0 * usual]))
    assert np.isfinite(whole[0]).all()
    assert np.isfinite(forward[0]).all()
    assert np.isnan(whole[1]).all()
    assert np.isnan(forward[1]).all()


TOWER = """
<mujoco>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body pos="0 0 0.1">
      <joint type="slide" axis="0 0 1"/>
      <geom size="0.1" mass="1"/>
      <body pos="0 0 0.3"><joint type="slide" axis="0 0 1"/><geom size="0.1" mass="MASS"/></body>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.mark.parametrize(
    ("flag", "part"),
    [
        ("contact", "<geom size='0.1'/>"),
        ("limit", "<geom size='0.1' contype='0' conaffinity='0'/>"),
        ("frictionloss", "<geom size='0.1' contype='0' conaffinity='0'/>"),
        ("constraint", "<geom size='0.1'/>"),
    ],
)
def test_advice_is_silent_about_a_solver_that_has_nothing_to_solve(flag, part):
    joint = {"limit": "limited='true' range='0 1'", "frictionloss": "frictionloss='1'"}
    text = (
        "<mujoco><option iterations='1'>FLAG</option><worldbody><body>"
        f"<joint type='slide' {joint.get(flag, '')}/>{part}</body></worldbody></mujoco>"
    )
    given, disabled = (
        advice(mujoco.MjModel.from_xml_string(text.replace("FLAG", option)))
        for option in ("", f"<flag {flag}='disable'/>")
    )
    assert "set iterations=" in given
    assert disabled is None


def test_advice_measures_what_precision_is_enough():
    light, heavy = (
        mujoco.MjModel.from_xml_string(TOWER.replace("MASS", mass)) for mass in ("100", "10000")
    )
    assert advice(light) is None
    # Of [[1 + m, m], [m, m]], scaled, it is (1 + s) / (1 - s) with s = sqrt(m / (1 + m)).
    assert re.search(r"are 4e\+04 apart, and rounding in float32 .*float64", advice(heavy))
    with jax.enable_x64(True):
        assert advice(heavy) is None
