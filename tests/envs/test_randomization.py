"""Randomised parameters: drawn at a reset, simulated as MuJoCo does, differentiated."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import envs
from envs.mujoco.mjcf import MjcfEnvironment
from envs.mujoco.randomization import Randomization, randomize, set_factors
from sobolax.mjx.engine import mjx
from sobolax.tangents.methods import Derivatives, make_tangent_function

# A sled that slides on a floor with friction, pushed, with a damped pendulum on it.
SLED = """<mujoco>
  <option timestep="0.01" iterations="50" ls_iterations="30" tolerance="1e-12"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1" friction="0.1"/>
    <body name="sled" pos="0 0 0.099">
      <joint name="x" type="slide" axis="1 0 0"/><joint name="z" type="slide" axis="0 0 1"/>
      <geom name="runner" type="sphere" size="0.1" friction="0.4" mass="1"/>
      <body name="bob">
        <joint name="hinge" axis="0 1 0" damping="0.05"/>
        <geom type="sphere" pos="0 0 0.3" size="0.03" mass="0.2" contype="0" conaffinity="0"/>
        <site name="tip" pos="0 0 0.3"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor name="push" joint="x" gear="3"/></actuator>
</mujoco>"""
RANGES = {
    "density:*": (0.5, 2.0),
    "geom_friction:runner": (0.5, 1.5),
    "dof_damping": (0.0, 3.0),
    "actuator_gain:push": (0.8, 1.2),
}


class Sled(MjcfEnvironment):
    xml, frame_skip, episode_length, reset_noise = SLED, 1, 50, 5e-4  # it stays on the floor

    def observation(self, physics):
        return jnp.concatenate([physics.qpos, physics.qvel, self.site(physics, "tip")])

    def reward(self, before, action, after):
        return -(after.qpos[0] ** 2) - 0.01 * jnp.sum(action**2)


@pytest.fixture(scope="module")
def sled():
    with jax.enable_x64(True):
        return randomize(Sled(), RANGES, observed=True)


@pytest.fixture(scope="module")
def states(sled):
    """Eight sliding sleds, each of its own."""
    with jax.enable_x64(True):
        states = jax.jit(jax.vmap(sled.reset))(jax.random.split(jax.random.key(0), 8))
        velocities = states.physics.qvel + jnp.asarray([1.0, 0.0, 2.0])
        moving = replace(states, physics=replace(states.physics, qvel=velocities))
        return jax.device_get(moving)  # a float64 array of JAX is no use outside of its context


@pytest.fixture(scope="module")
def step(sled):
    return jax.jit(jax.vmap(sled.step))


def test_every_episode_has_its_own_factors_within_their_ranges(sled, states):
    factors = states.physics.factors
    assert {name: values.shape for name, values in factors.items()} == {
        "density:*": (8, 3),  # the world counts as a body
        "geom_friction:runner": (8, 1),
        "dof_damping": (8, 1),
        "actuator_gain:push": (8, 1),
    }
    for name, (low, high) in RANGES.items():
        assert np.all((factors[name] >= low) & (factors[name] <= high))
        assert len(np.unique(factors[name])) == factors[name].size
    # What is seen ends with them.
    assert sled.observation_size == 3 + 3 + 3 + 6
    seen = np.concatenate([factors[name] for name in RANGES], axis=1)
    np.testing.assert_array_equal(states.observation[:, -6:], seen)


def test_the_nominal_draws_of_a_reset_stay_as_they_are(states):
    with jax.enable_x64(True):
        nominal = jax.device_get(
            jax.jit(jax.vmap(Sled().reset))(jax.random.split(jax.random.key(0), 8))
        )
    np.testing.assert_array_equal(nominal.physics.qpos, states.physics.qpos)


def test_a_step_is_that_of_mujoco_with_the_changed_model(step, states):
    with jax.enable_x64(True):
        moved = jax.device_get(step(states, np.full((8, 1), 0.5)))
    for lane in range(8):
        model = mujoco.MjModel.from_xml_string(SLED)
        factors = {name: values[lane] for name, values in states.physics.factors.items()}
        model.body_mass *= factors["density:*"]
        model.body_inertia *= factors["density:*"][:, None]
        model.geom("runner").friction *= factors["geom_friction:runner"]
        model.dof_damping *= factors["dof_damping"]
        model.actuator_gainprm *= factors["actuator_gain:push"]
        data = mujoco.MjData(model)
        data.qpos[:] = states.physics.qpos[lane]
        data.qvel[:] = states.physics.qvel[lane]
        data.ctrl[:] = 0.5
        mujoco.mj_step(model, data)
        assert data.ncon == 1
        # Both solve to 1e-12; a factor that is left out moves speeds by 1e-3 and more.
        np.testing.assert_allclose(moved.physics.qvel[lane], data.qvel, atol=1e-9)


@pytest.mark.slow
def test_derivatives_are_those_of_the_model_that_was_drawn(sled, step, states):
    with jax.enable_x64(True):
        tangents = jax.jit(make_tangent_function(sled, Derivatives()))
        state = jax.tree.map(lambda leaf: leaf[0], states)
        key, action = jax.random.key(0), jnp.full(1, 0.5)
        _, next_state, found = tangents(key, state, action, jnp.eye(6), jnp.eye(1))
        displacements = 1e-6 * jnp.concatenate([jnp.eye(6), -jnp.eye(6)])
        moved = jax.jit(jax.vmap(lambda move: sled.step(sled.perturb(state, move), action)))
        around = moved(displacements).observation
        next_state, found, around = jax.device_get((next_state, found, around))
    np.testing.assert_array_equal(
        next_state.physics.factors["dof_damping"], state.physics.factors["dof_damping"]
    )
    differences = (around[:6] - around[6:]).T / 2e-6
    # Rounding, 1e-16 / 1e-6, and h² times third derivatives of a contact.
    np.testing.assert_allclose(found.state.next_observation, differences, atol=1e-6)
    assert np.all(found.state.next_observation[-6:] == 0)


@pytest.mark.slow
def test_a_step_differentiates_with_respect_to_factors(sled, states):
    with jax.enable_x64(True):
        state = jax.tree.map(lambda leaf: leaf[0], states)
        factors = state.physics.factors
        flat, unflatten = ravel_pytree(dict(factors))

        def speeds(flat):
            return sled.step(
                set_factors(sled, state, unflatten(flat)), jnp.full(1, 0.5)
            ).physics.qvel

        @jax.jit  # one program
        def everything(flat):
            moves = 1e-6 * jnp.concatenate([jnp.eye(6), -jnp.eye(6)])
            around = jax.vmap(speeds)(flat + moves)
            return jax.jacfwd(speeds)(flat), jax.jacrev(speeds)(flat), around

        forward, reverse, around = jax.device_get(everything(flat))
    differences = (around[:6] - around[6:]) / 2e-6
    np.testing.assert_allclose(forward, differences.T, atol=1e-6)
    np.testing.assert_allclose(reverse, forward, atol=1e-10)  # the same formulas, other order
    assert np.count_nonzero(np.abs(forward).max(axis=0) > 1e-4) == 5  # all but the world's density


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (
            {"body_mas": (0.5, 1)},
            r"no parameter 'body_mas' to randomize \(did you mean 'body_mass'",
        ),
        ({"density:torso": (0.5, 1)}, r"no body 'torso'.*there are: world, sled, bob"),
        ({"dof_damping:z": (2, 1)}, r"range of 'dof_damping:z' must be two .* not \(2, 1\)"),
        ({"density": 0.5}, "must be two finite numbers"),
        ({"density": (-1, 1)}, "must be two finite numbers"),
        ({"density": (0, float("inf"))}, "must be two finite numbers"),
        ({"tendon_stiffness": (0, 1)}, "the model has no tendon"),
        (0.5, r"randomize takes a range for each parameter, .*not 0\.5"),
        ({}, r"randomize takes a range for each parameter, such as \{'density'"),
    ],
)
def test_bad_ranges_are_one_clear_error(ranges, message):
    with pytest.raises(ValueError, match=message):
        randomize(Sled(), ranges)


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        # A row for each joint, and a row for each degree of freedom.
        ("jnt_stiffness:slide", [2.0, 6.0]),
        ("jnt_stiffness", [4.0, 6.0]),
        ("dof_damping:ball", [2.0, 2.0, 2.0, 5.0]),
        ("dof_damping:slide", [1.0, 1.0, 1.0, 10.0]),
    ],
)
def test_a_parameter_of_a_joint_is_that_joints(parameter, expected):
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><joint name='ball' type='ball' stiffness='2' damping='1'/>"
        "<geom size='0.1'/><body><joint name='slide' type='slide' stiffness='3' damping='5'/>"
        "<geom size='0.1'/></body></body></worldbody></mujoco>"
    )
    randomization = Randomization(model, {parameter: (2.0, 2.0)}, "model")
    factors = randomization.draw(jax.random.key(0))
    applied = randomization.applied(mjx.put_model(model, impl="jax"), factors)
    np.testing.assert_allclose(getattr(applied, parameter.partition(":")[0]), expected)


def test_a_joint_without_any_of_its_dry_friction_slides():
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><option gravity='1 0 0'/><worldbody><body>"
        "<joint type='slide' axis='1 0 0' frictionloss='0.5'/>"
        "<geom size='0.1' mass='1' contype='0'/></body></worldbody></mujoco>"
    )
    randomization = Randomization(model, {"dof_frictionloss": (0.0, 0.0)}, "slide")
    put = mjx.put_model(model, impl="jax")
    applied = randomization.applied(put, randomization.draw(jax.random.key(0)))
    after = jax.jit(mjx.step)(applied, mjx.make_data(model, impl="jax"))
    np.testing.assert_allclose(after.qvel, 1.0 * model.opt.timestep, rtol=1e-5)


def test_what_cannot_be_randomized_is_refused(sled):
    with pytest.raises(TypeError, match="pendulum: randomize is for MuJoCo environments"):
        envs.make("pendulum", randomize={"density": (0.5, 1)})
    with pytest.raises(ValueError, match="sled is randomized already"):
        randomize(sled, {"density": (0.5, 1)})
    with pytest.raises(ValueError, match="pusher: body_pos cannot be randomized"):
        envs.make("pusher", randomize={"body_pos:object": (0.5, 1)})
    with pytest.raises(ValueError, match="observe_factors needs randomize"):
        envs.make("pusher", observe_factors=True)
    with pytest.raises(ValueError, match="C engine would differentiate the nominal model"):
        make_tangent_function(sled, Derivatives(method="mujoco_fd"))
    with pytest.raises(ValueError, match="hopper is not randomized"):
        set_factors(envs.make("hopper"), None, {})


@pytest.mark.parametrize("parameter", ["actuator_gain", "servo_gain"])
def test_a_muscle_has_no_gain_to_randomize(parameter):
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><joint name='h'/><geom size='.1'/></body></worldbody>"
        "<actuator><muscle joint='h' lengthrange='-2 2' force='6'/></actuator></mujoco>"
    )
    with pytest.raises(ValueError, match=f"arm: {parameter} .*muscles.*actuator_gear"):
        Randomization(model, {parameter: (0.5, 1.0)}, "arm")
    Randomization(model, {"actuator_gear": (0.5, 1.0)}, "arm")


def test_factors_are_checked(sled, states):
    state = jax.tree.map(lambda leaf: leaf[0], states)
    with pytest.raises(ValueError, match=r"factors are of actuator_gain:push, .*not of density"):
        set_factors(sled, state, {"density": jnp.ones(1)})
    with pytest.raises(ValueError, match=r"'dof_damping' must be of shape \(1,\), not \(2,\)"):
        set_factors(sled, state, {**state.physics.factors, "dof_damping": jnp.ones(2)})


def test_lengths_move_what_a_robot_of_your_own_sees():
    env = randomize(Sled(), {"body_pos:bob": (1, 1), "density": (1, 1)})

    @jax.jit
    def height(key):
        physics = env.reset(key).physics
        return env.site(physics, "tip")[2] - physics.qpos[1]

    assert float(height(jax.random.key(0))) == pytest.approx(0.399, abs=1e-3)


REACH = """<mujoco><worldbody><body name="goal" mocap="true"/><body name="link" pos="0 0 1">
  <joint name="hinge" axis="0 1 0"/><geom size="0.1" contype="0"/><site name="tip" pos="0.3 0 0"/>
  </body></worldbody><actuator><motor joint="hinge"/></actuator></mujoco>"""


class Reach(MjcfEnvironment):
    """An arm whose goal is 0.1 m above the tip, wherever that starts."""

    xml = REACH

    def _reset_physics(self, key):
        physics = super()._reset_physics(key)
        above = jnp.array([0.0, 0.0, 0.1])
        return replace(physics, mocap_pos=(self.site(physics, "tip") + above)[None])

    def reward(self, before, action, after):
        return -jnp.sum((self.site(after, "tip") - after.mocap_pos[0]) ** 2)


@pytest.mark.slow  # physics of its own
def test_a_first_state_may_take_places_from_the_robot_that_was_drawn():
    env = randomize(Reach(), {"body_pos:link": (0.5, 2.0)})

    @jax.jit
    def places(key):
        physics = env.reset(key).physics
        return physics.mocap_pos[0], env.site(physics, "tip"), physics.factors["body_pos:link"]

    goal, tip, [factor] = jax.device_get(places(jax.random.key(0)))
    np.testing.assert_allclose(goal - tip, [0.0, 0.0, 0.1], atol=1e-6)
    assert tip[2] == pytest.approx(factor, abs=0.01)
    assert abs(factor - 1) > 0.1  # with the nominal model the goal would be elsewhere
