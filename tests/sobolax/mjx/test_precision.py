"""Physics multiplies in full precision, whatever a program's default: as on a GPU."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from jax.extend import core

from sobolax.mjx import step, step_and_jacobian
from sobolax.mjx.engine import mjx
from sobolax.mjx.rewriting import as_it_is, rewrite

# A cart with a pole on it, heavy below and light above, whose tip touches the floor.
XML = """<mujoco><option timestep="0.01"/><worldbody><geom type="plane" size="5 5 1"/>
<body pos="0 0 0.35"><joint type="slide" axis="1 0 0" damping="0.3"/><geom size="0.05" mass="2"
contype="0" conaffinity="0"/><body><joint axis="0 1 0" damping="0.1"/>
<geom pos="0.02 0 -0.3" size="0.06" mass="0.2"/></body></body></worldbody>
<actuator><motor joint="" gear="1"/></actuator></mujoco>""".replace(
    '<joint type="slide"', '<joint name="x" type="slide"'
).replace('joint=""', 'joint="x"')


@pytest.fixture(scope="module")
def physics():
    model = mjx.put_model(mujoco.MjModel.from_xml_string(XML), impl="jax")
    data = mjx.make_data(model, impl="jax")
    return model, data.replace(qvel=jnp.array([0.3, -0.5]), ctrl=jnp.array([0.7]))


def products(jaxpr):
    """All matrix products of a program, at any depth."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda x: isinstance(x, core.ClosedJaxpr | core.Jaxpr)
        ):
            if isinstance(value, core.ClosedJaxpr):
                yield from products(value.jaxpr)
            elif isinstance(value, core.Jaxpr):
                yield from products(value)


def of_steps(model, data):
    """A step, its Jacobian, and derivatives in both modes; those of a compiled step, too."""

    def speed(qvel):
        return step(model, data.replace(qvel=qvel)).qvel

    compiled = jax.jit(speed)
    one, pull = jax.vjp(speed, data.qvel)
    return (
        step_and_jacobian(model, data)[1],
        jax.jvp(compiled, (data.qvel,), (jnp.ones(2),)),
        (one, pull(jnp.ones(2))),
    )


def test_every_product_of_a_step_and_its_derivatives_is_in_full_precision(physics):
    model, data = physics
    found = list(products(jax.make_jaxpr(lambda data: of_steps(model, data))(data).jaxpr))
    assert len(found) > 20
    highest = (jax.lax.Precision.HIGHEST,) * 2
    assert [e for e in found if e.params["precision"] != highest] == []


def as_on_a_gpu(function):
    """Rounds the factors of products of default precision to 10 bits, as TF32 does."""

    def rounded(x):
        bits = jax.lax.bitcast_convert_type(x, jnp.int32)
        return jax.lax.bitcast_convert_type((bits + 0x1000) & ~0x1FFF, jnp.float32)

    def product(equation, inputs):
        if equation.params["precision"] is None:
            inputs = [rounded(x) if x.dtype == jnp.float32 else x for x in inputs]
        return as_it_is(equation, inputs)

    return rewrite(function, {"dot_general": product})


@pytest.mark.slow  # three programs; the other test sees every product of theirs
def test_jacobians_survive_a_default_of_ten_bits(physics):
    model, data = physics

    def both(data):
        # Without the scope, a program's default is what it gets.
        return [
            as_on_a_gpu(lambda data, f=f: f(model, data)[1].state)(data)
            for f in (step_and_jacobian, step_and_jacobian.__wrapped__)
        ] + [step_and_jacobian(model, data)[1].state]

    precise, rough, true = jax.jit(both)(data)
    # The same products in two programs: float32 rounds to 6e-8, and the inverses amplify it.
    np.testing.assert_allclose(precise, true, rtol=1e-5, atol=1e-5)
    assert np.abs(rough - true).max() > 1e-4  # 10 bits round to 5e-4


# As stiff as 5000 times what they hold is heavy: the pole at a limit of its joint, without contacts
# since they take longest to compile, and the pole on the floor.
STIFF = (
    XML.replace('timestep="0.01"', 'timestep="0.002" iterations="50" tolerance="1e-12"')
    .replace("<worldbody>", '<default><geom solimp="S"/><joint solimplimit="S"/></default>TOP')
    .replace('"S"', '"0.9998 0.9998 0.001"')
    .replace("TOP", "<worldbody>")
)
AT_A_LIMIT = STIFF.replace('axis="0 1 0"', 'axis="0 1 0" range="-600 -0.1"').replace(
    "<default>", '<option><flag contact="disable"/></option><default>'
)


@pytest.mark.parametrize(
    ("xml", "speeds", "tolerance"),
    [
        # Through the stiffness itself, reverse mode is off by 1.6e-4 and by 2e-2.
        pytest.param(AT_A_LIMIT, [0.25, 0.5], 5e-6, id="limit"),
        pytest.param(STIFF, [0.25, -0.5], 1e-4, id="contact", marks=pytest.mark.slow),
    ],
)
def test_reverse_mode_in_float32_survives_stiff_constraints(xml, speeds, tolerance):
    engine = mujoco.MjModel.from_xml_string(xml)
    model, rest = mjx.put_model(engine, impl="jax"), mjx.make_data(engine, impl="jax")

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def gradients(qvel, ctrl):
        """Of both speeds after a step, by speeds and control."""
        _, pull = jax.vjp(
            lambda qvel, ctrl: step(model, rest.replace(qvel=qvel, ctrl=ctrl)).qvel, qvel, ctrl
        )
        return jnp.concatenate(jax.vmap(pull)(jnp.eye(2)), axis=1)

    data = mujoco.MjData(engine)
    data.qvel[:], data.ctrl[:] = speeds, 0.75
    by_state, by_control = np.zeros((4, 4)), np.zeros((4, 1))
    mujoco.mjd_transitionFD(engine, data, 1e-6, True, by_state, by_control, None, None)
    truth = np.concatenate([by_state[2:, 2:], by_control[2:]], axis=1)
    found = gradients(jnp.array(speeds), jnp.array([0.75]))
    np.testing.assert_allclose(found, truth, rtol=0, atol=tolerance)
