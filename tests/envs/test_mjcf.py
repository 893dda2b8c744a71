"""Environments from an MJCF model and a reward function."""

import copy
import sys
from dataclasses import replace
from types import ModuleType

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from envs.history import history
from envs.mujoco.left_out import reason_left_out
from envs.mujoco.mjcf import MjcfEnvironment
from experiments.launch.configuration import Experiment
from experiments.launch.job import check_experiment
from sobolax.agents import sac
from sobolax.testing import check_environment

BALL = """<mujoco>OPTION<worldbody>
  <body name="ball" pos="0 0 1"><joint type="slide" axis="1 0 0"/><geom size="0.1" contype="0"/>
    <site name="top" pos="0 0 0.1"/></body></worldbody>
  <actuator>
    <motor joint="j" ctrllimited="true" ctrlrange="-1 3"/><motor joint="j" gear="2"/>
  </actuator>
  <keyframe><key qpos="0.5" qvel="-1"/></keyframe></mujoco>""".replace("<joint", '<joint name="j"')
PLAIN = BALL.replace("OPTION", "")
_A, _B = PLAIN.index("<actuator>"), PLAIN.index("<keyframe>")


class Ball(MjcfEnvironment):
    xml = PLAIN
    frame_skip, episode_length = 2, 20

    def reward(self, before, action, after):
        return -jnp.sum(self.site(after, "top")[:1] ** 2) - 0.1 * (after.qvel - before.qvel)[0] ** 2

    def terminated(self, physics):
        return jnp.abs(physics.qpos[0]) > 2.0


class Rootless(Ball):
    def reward(self, before, action, after):
        return -jnp.sqrt(0 * after.qpos[0] ** 2)


@pytest.fixture(scope="module")
def ball():
    return Ball()


def test_sizes_and_names_are_those_of_the_model(ball):
    assert (ball.name, ball.action_size, ball.state_size, ball.observation_size) == (
        "ball",
        2,
        2,
        2,
    )
    assert ball.dt == pytest.approx(0.004)
    assert ball.reverse_mode


def test_actions_span_the_range_of_the_control(ball):
    for action, control in ((-1.0, [-1.0, -1.0]), (0.0, [1.0, 0.0]), (1.0, [3.0, 1.0])):
        np.testing.assert_allclose(ball._control(jnp.full(2, action)), control)


def test_an_episode_starts_near_the_first_keyframe(ball):
    states = jax.jit(jax.vmap(ball.reset))(jax.random.split(jax.random.key(0), 64))
    distance = np.abs(states.observation - np.array([0.5, -1.0]))
    assert 0.005 < distance.max() <= 0.01


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf"), None, True])
def test_noise_that_cannot_be_is_refused(noise):
    with pytest.raises(ValueError, match="shaken: reset_noise must be a finite number of at least"):
        type("Shaken", (Ball,), {"reset_noise": noise})()


def test_places_are_in_the_world(ball):
    physics = jax.jit(ball._physics)(jnp.array([0.25]), jnp.zeros(1))
    body, site = jax.jit(lambda p: (ball.body(p, "ball"), ball.site(p, "top")))(physics)
    np.testing.assert_allclose(body, [0.25, 0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(site, [0.25, 0.0, 1.1], atol=1e-6)
    with pytest.raises(KeyError, match=r"Invalid name 'bottom'\. Valid names: .*top"):
        ball.site(physics, "bottom")


def test_a_file_lies_beside_the_class(tmp_path, monkeypatch):
    (tmp_path / "ball.xml").write_text(PLAIN)
    monkeypatch.setattr("envs.mujoco.mjcf.inspect.getfile", lambda cls: tmp_path / "robot.py")
    assert type("FromFile", (Ball,), {"xml": "ball.xml"})().mujoco_model.nv == 1


def test_an_inherited_file_lies_beside_the_class_that_names_it(tmp_path, monkeypatch):
    for name in ("robots", "tasks"):
        (tmp_path / name).mkdir()
        module = ModuleType(name)
        module.__file__ = str(tmp_path / name / "classes.py")
        monkeypatch.setitem(sys.modules, name, module)
    (tmp_path / "robots" / "ball.xml").write_text(PLAIN)
    robot = type("FromFile", (Ball,), {"xml": "ball.xml", "__module__": "robots"})
    assert type("Task", (robot,), {"__module__": "tasks"})().mujoco_model.nv == 1


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<mujoco><worldbod/></mujoco>", "robot: MuJoCo cannot read the model: XML Error"),
        ("no_such_file.xml", "robot: MuJoCo cannot read the model: .*no_such_file.xml"),
        ("<mujoco/>", "robot: the model has no degrees of freedom: add a <joint>"),
        (PLAIN[:_A] + PLAIN[_B:], "robot: the model has no actuators.*<motor>"),
        (
            BALL.replace("OPTION", '<option solver="PGS"/>'),
            "robot: MJX cannot simulate this model: .*PGS",
        ),
        (
            BALL.replace("OPTION", '<option noslip_iterations="3"/>'),
            "robot: noslip_iterations=3: MJX has no such solver",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(xml, message):
    with pytest.raises(ValueError, match=message):
        type("Robot", (Ball,), {"xml": xml})()


def test_a_class_without_model_or_reward_says_so():
    with pytest.raises(ValueError, match="empty: set xml to the MJCF"):
        type("Empty", (MjcfEnvironment,), {})()
    with pytest.raises(ValueError, match="free: define reward"):
        type("Free", (MjcfEnvironment,), {"xml": PLAIN})()


@jax.custom_vjp
def of_reverse_mode(x):
    return x


of_reverse_mode.defvjp(lambda x: (x, None), lambda _, slope: (slope,))


@pytest.mark.parametrize(
    ("part", "function", "message"),
    [
        (
            "reward",
            lambda before, action, after: jnp.log(after.qpos[0] - 9),
            "reward .*: nan. Look",
        ),
        (
            "reward",
            lambda before, action, after: 1 / (0 * after.qpos[0]),
            "reward is not .*: inf. ",
        ),
        (
            "observation",
            lambda physics: jnp.concatenate([physics.qpos, jnp.sqrt(physics.qvel - 9)]),
            "observation is not finite where an episode begins: nan at index 1",
        ),
        (
            "reward",
            lambda before, action, after: -jnp.sqrt(0 * after.qpos[0] ** 2),
            r"the derivative of reward is not finite.*: nan. A square root .*--first-order off",
        ),
        (
            "reward",
            lambda before, action, after: of_reverse_mode(after.qpos[0]),
            "cannot be differentiated in forward mode: TypeError.*--first-order off",
        ),
    ],
)
def test_a_reward_that_is_not_finite_or_has_no_derivative_is_refused(ball, part, function, message):
    broken = copy.copy(ball)
    setattr(broken, part, function)
    with pytest.raises(ValueError, match=f"^ball: .*{message}") as refused:
        broken.check_rewards(gradients=True)
    assert "\n" not in str(refused.value)
    if "derivative" in message or "forward" in message:
        broken.check_rewards(gradients=False)


def test_an_observation_without_a_derivative_where_an_episode_begins_is_refused(ball):
    resting = copy.copy(ball)
    resting.reset_noise, resting._first = 0.0, tuple(0 * part for part in ball._first)
    resting.observation = lambda physics: jnp.linalg.norm(physics.qvel)[None]
    with pytest.raises(ValueError, match="the derivative of observation is not finite"):
        resting.check_rewards(gradients=True)
    resting.check_rewards(gradients=False)
    resting.observation = lambda physics: 1 / physics.qvel
    with pytest.raises(ValueError, match=r"ball: observation is not finite .*: inf at index 0"):
        resting.check_rewards(gradients=False)


def test_a_sound_reward_is_not_refused(ball):
    ball.check_rewards(gradients=True)
    standing = copy.copy(ball)
    # Equal states have no derivative of their distance, but those around a step differ.
    standing.reward = lambda before, action, after: -jnp.linalg.norm(after.qpos - before.qpos)
    standing.check_rewards(gradients=True)
    history(ball, 2).check_rewards(gradients=True)


def test_numbers_of_python_are_rewards_and_terminations():
    def constant(name, reward):
        methods = {"reward": lambda *_: reward, "terminated": lambda *_: False}
        return type(name, (Ball,), methods)()

    state = jax.eval_shape(constant("Constant", 1.0).reset, jax.random.key(0))
    assert (state.reward.shape, state.discount.dtype) == ((), jnp.float32)
    with pytest.raises(ValueError, match=r"^nothing: reward\(.*\) returns nothing"):
        constant("Nothing", None)


def test_training_refuses_before_it_traces():
    config, hyper = sac.Config(report_states=0), sac.Hyperparameters()
    experiment = Experiment(f"{__name__}:Rootless", {}, 1, 0, False, None, config, hyper)
    with pytest.raises(ValueError, match="rootless: the derivative of reward is not finite"):
        check_experiment(experiment, None)
    check_experiment(replace(experiment, config=replace(config, first_order="off")), None)


def test_runge_kutta_has_both_modes_and_no_jacobian():
    robot = type("Robot", (Ball,), {"xml": BALL.replace("OPTION", '<option integrator="RK4"/>')})
    assert robot().reverse_mode
    assert "RK4" in str(robot().own_derivatives["analytic"])


@pytest.mark.slow
def test_it_keeps_the_protocol():
    report = check_environment(Ball, steps=8, states=2)
    assert report.precision == "float64"
    assert report.judged == 1.0


CART = """<mujoco>OPTION<worldbody><body name="b">MESH<joint name="j" type="slide" JOINT/>
<geom name="g" size=".1" contype="0" conaffinity="0" mass="1" GEOM/></body></worldbody>
<actuator><general name="a" joint="j" ACTUATOR/>MORE</actuator></mujoco>"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"JOINT": 'damping="0 0 5"'}, "damping with several numbers of the joint 'j'"),
        ({"JOINT": 'stiffness="0 0 5"'}, "stiffness with several numbers of the joint 'j'"),
        ({"GEOM": 'fluidshape="ellipsoid"'}, "fluidshape of the geom 'g'"),
        (
            {"ACTUATOR": 'dyntype="filter" dynprm="1" actearly="true"'},
            "actearly of the actuator 'a'",
        ),
        (
            {"OPTION": '<option actuatorgroupdisable="1"/>'},
            "actuatorgroupdisable: MJX would act with these",
        ),
        ({"OPTION": '<option><flag sleep="enable"/></option>'}, "the flag sleep is enabled"),
        (
            {
                "OPTION": '<extension><plugin plugin="mujoco.pid"/></extension>',
                "MORE": '<plugin name="servo" plugin="mujoco.pid" joint="j"/>',
            },
            "plugin of the actuator 'servo'",
        ),
        (
            {
                "OPTION": '<extension><plugin plugin="mujoco.sdf.torus"/></extension><asset>'
                '<mesh name="m"><plugin plugin="mujoco.sdf.torus"/></mesh></asset>',
                "MESH": '<geom name="ring" type="sdf" mesh="m" contype="0" conaffinity="0">'
                '<plugin plugin="mujoco.sdf.torus"/></geom>',
            },
            "plugin of the geom 'ring'",
        ),
    ],
)
def test_what_mjx_leaves_out_in_silence_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=f"robot: {message}"):
        type("Robot", (Ball,), {"xml": filled(change)})()


def test_a_model_that_asks_for_nothing_of_the_kind_is_left_alone():
    assert reason_left_out(mujoco.MjModel.from_xml_string(filled({}))) is None


def filled(change):
    xml = CART
    for word in ("OPTION", "MESH", "JOINT", "GEOM", "ACTUATOR", "MORE"):
        xml = xml.replace(word, change.get(word, ""))
    return xml


MOVED = """<mujoco><worldbody><body name="t" mocap="true"/><body><joint name="j" type="slide"/>
<geom size=".1" contype="0" conaffinity="0"/><site name="top"/></body></worldbody>
<actuator><intvelocity joint="j" kp="4" actrange="-3 3"/></actuator>
<keyframe><key act="0.7" mpos="1 2 3" MORE/></keyframe></mujoco>"""


def test_an_episode_starts_with_the_whole_first_keyframe():
    robot = type("Robot", (Ball,), {"xml": MOVED.replace("MORE", "")})()
    physics = jax.jit(lambda key: robot._reset_physics(key))(jax.random.key(0))
    np.testing.assert_allclose(physics.act, [0.7], rtol=1e-6)
    np.testing.assert_allclose(physics.mocap_pos, [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match=r"keyframe turns a mocap body \(mquat\)"):
        type("Robot", (Ball,), {"xml": MOVED.replace("MORE", 'mquat="0 1 0 0"')})()
