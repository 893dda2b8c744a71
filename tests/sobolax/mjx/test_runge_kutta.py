"""RK4, whose step has four accelerations: values of `mjx.step`, derivatives of each optimum."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from sobolax.mjx import integrate_position, step
from sobolax.mjx.engine import mjx
from tests.sobolax.mjx.harness import compiled_quickly

pytestmark = pytest.mark.slow  # four accelerations take the compiler a minute and more

# A ball that settles on the floor, and one on a spring at rest, moved through an activation.
XML = """<mujoco><option integrator="RK4" timestep="0.01"/><worldbody>
  <geom type="plane" size="1 1 1" condim="1"/>
  <body pos="0 0 0.0995"><joint name="z" type="slide" axis="0 0 1"/>
    <geom size="0.1" mass="1" condim="1"/></body>
  <body pos="0 0 1"><joint name="turn" type="ball" stiffness="5" damping="0.1"/>
    <geom pos="0 0 -0.2" size="0.05" mass="1" contype="0"/></body>
</worldbody><actuator>
  <general joint="z" dyntype="filter" dynprm="0.05" gainprm="3"/>
  <motor joint="turn" gear="1 0.5 0"/>
</actuator></mujoco>"""


@pytest.fixture(scope="module")
def measured():
    """At the start and settled: both steps, and the settled Jacobian in three ways."""
    with jax.enable_x64(True):
        plain = mujoco.MjModel.from_xml_string(XML)
        model = mjx.put_model(plain, impl="jax")
        start = mjx.make_data(model, impl="jax")
        size = 2 * model.nv + model.na + model.nu

        def after(data, along, take=step):
            dq, dv, da, du = jnp.split(along, np.cumsum([model.nv, model.nv, model.na]))
            moved = data.replace(
                qpos=integrate_position(model, data.qpos, dq),
                qvel=data.qvel + dv,
                act=data.act + da,
                ctrl=data.ctrl + du,
            )
            end = take(model, moved)
            return jnp.concatenate([end.qpos, end.qvel, end.act, end.time[None]])

        # The ball on the floor by little, for contact bends within 1e-3 m; the other by much more,
        # for MJX takes a rotation by less than 2e-8 rad for none.
        steps = np.full(size, 1e-2)
        steps[[0, model.nv]] = 1e-6
        basis, zero = jnp.eye(size), jnp.zeros(size)
        along = jax.random.uniform(jax.random.key(0), (size,), minval=-1)

        @compiled_quickly
        def settle(data):
            return jax.lax.fori_loop(0, 300, lambda _, data: step(model, data), data)

        @compiled_quickly
        def values(data):
            ways = jnp.concatenate([along[None], steps[:, None] * basis, -steps[:, None] * basis])
            value, *moved = jnp.split(
                jax.lax.map(lambda way: after(data, way), ways), [1, size + 1]
            )
            return value[0], after(data, along, mjx.step), moved

        @compiled_quickly
        def derivatives(data):
            _, linear = jax.linearize(lambda along: after(data, along), zero)
            weights = jnp.sin(jnp.arange(model.nq + model.nv + model.na + 1))
            (reverse,) = jax.linear_transpose(linear, zero)(weights)
            return jax.lax.map(linear, basis), weights, reverse

        found = [(*values(data), derivatives(data)) for data in (start, settle(start))]
        return [
            (ours, theirs, (ahead - behind) / (2 * steps[:, None]), *rest)
            for ours, theirs, (ahead, behind), rest in jax.device_get(found)
        ]


def test_values_are_those_of_mjx(measured):
    for ours, theirs, *_ in measured:
        assert np.abs(theirs).max() > 0.1
        # Rounding of speeds near one; the solver stops at 1e-8 of its cost's gradient.
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_derivatives_are_differences_of_a_settled_contact_and_of_a_spring_at_rest(measured):
    for _, _, ends, forward, *_ in measured:
        # The solver stops at 1e-8 or so of an acceleration: over a time step and that of 1e-6.
        np.testing.assert_allclose(forward, ends, atol=2e-4, rtol=2e-4)
    settled = measured[1][3]
    # A push downwards on what lies there is mostly lost, as long as contact has its damping.
    assert 0.2 < settled[4, 5] < 0.4


def test_reverse_mode_is_the_transpose_of_forward_mode(measured):
    for *_, forward, weights, reverse in measured:
        np.testing.assert_allclose(reverse, forward @ weights, rtol=1e-9, atol=1e-12)
