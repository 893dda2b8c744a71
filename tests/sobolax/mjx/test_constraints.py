"""Rows of constraints: higher derivatives of polynomials and impedances, at zero too."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from sobolax.mjx.constraints import make_constraint
from sobolax.mjx.engine import mjx
from sobolax.mjx.powers import power
from tests.sobolax.mjx.harness import compiled_quickly, one_by_one

LEAST, MOST, WIDTH, MIDDLE = 0.5, 0.9, 2, 0.4
SINGLE, DOUBLE = 0.2, (0.0, 0.5, 0.3, -0.2, 0.1)
# Joints b and c follow polynomials, of one and of d; tendons, which are as long as e and f, too.
# The limit of a is beyond its width, of a power that no negative number has; that of d is at zero.
ROWS = f"""
<mujoco>
  <default>
    <geom size="0.1" mass="1" contype="0" conaffinity="0"/>
    <joint type="slide"/>
    <equality solimp="{LEAST} {MOST} {WIDTH} {MIDDLE} 2"/>
  </default>
  <worldbody>
    <body><joint name="a" range="1 2" solimplimit="0.5 0.9 0.01 0.4 2.5"/><geom/></body>
    <body><joint name="b"/><geom/></body>
    <body><joint name="c"/><geom/></body>
    <body><joint name="d" range="0 1" solimplimit="0.5 0.9 0.01 0.4 1"/><geom/></body>
    <body><joint name="e"/><geom/></body>
    <body><joint name="f"/><geom/></body>
  </worldbody>
  <tendon>
    <fixed name="e"><joint joint="e" coef="1"/></fixed>
    <fixed name="f"><joint joint="f" coef="1"/></fixed>
  </tendon>
  <equality>
    <joint joint1="b" polycoef="{SINGLE} 0 0 0 0"/>
    <joint joint1="c" joint2="d" polycoef="{" ".join(map(str, DOUBLE))}"/>
    <tendon tendon1="e" polycoef="{SINGLE} 0 0 0 0"/>
    <tendon tendon1="e" tendon2="f" polycoef="{" ".join(map(str, DOUBLE))}"/>
  </equality>
</mujoco>
"""
# All at their references; some on their polynomials; none.
QPOS = np.array([[0, 0, 0, 0, 0, 0], [0, SINGLE, 0, 0, SINGLE, 0], [0, 0.25, 0.1, 0.4, 0.2, -0.3]])


def polynomial(x):
    """`DOUBLE` of `x`, by Horner's rule."""
    total = jnp.zeros_like(x)
    for coefficient in DOUBLE[::-1]:
        total = total * x + coefficient
    return total


def deviations(q):
    """Of all four equalities, `(4,)`."""
    _, b, c, d, e, f = q
    return jnp.stack([b - SINGLE, c - polynomial(d), e - SINGLE, e - polynomial(f)])


def expected_rows(q):
    """Deviations, Jacobians and relative stiffness: below the midpoint, where a parabola rises."""
    deviation = deviations(q)
    impedance = LEAST + (MOST - LEAST) * (deviation / WIDTH) ** 2 / MIDDLE
    return deviation, jax.jacfwd(deviations)(q), impedance / (1 - impedance)


def test_rows_of_equalities_have_the_derivatives_of_their_polynomials(float64):
    """The second, of deviations, their Jacobians and stiffness, at references and away."""
    plain = mujoco.MjModel.from_xml_string(ROWS)
    model = mjx.put_model(plain, impl="jax")
    data = mjx.make_data(model, impl="jax")

    def rows(q):
        placed = mjx.com_pos(model, mjx.kinematics(model, data.replace(qpos=q)))
        made = make_constraint(model, mjx.tendon(model, placed))._impl
        return made.efc_pos[:4], made.efc_J[:4], made.efc_D[:4]

    def derivatives(function, q):
        def twice(q):
            value = function(q)
            return value, value

        def first(q):
            gradient, value = jax.jacrev(twice, has_aux=True)(q)
            return gradient, (gradient, value)

        second, (gradient, value) = jax.jacfwd(first, has_aux=True)(q)
        return value, gradient, second

    @compiled_quickly
    @one_by_one
    def both(q):
        return derivatives(rows, q), derivatives(expected_rows, q)

    found, expected = both(QPOS)
    # The stiffness is relative to that of a body of 1 kg, per row one of two bodies.
    weight = found[0][2] / expected[0][2]
    np.testing.assert_allclose(weight, weight[:1] * np.ones_like(weight), rtol=1e-12)
    for value, right in zip(found, expected, strict=True):
        scale = weight[0].reshape(4, *[1] * (value[2].ndim - 2))
        for one, other in zip(value, (*right[:2], right[2] * scale), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)


def test_powers_of_impedances_that_are_not_chosen_leave_derivatives_finite(float64):
    """Of limits: beyond the width a negative number has a fractional power; at zero, a line."""
    plain = mujoco.MjModel.from_xml_string(ROWS)
    model = mjx.put_model(plain, impl="jax")
    data = mjx.make_data(model, impl="jax")

    def stiffness(q):
        return make_constraint(model, data.replace(qpos=q))._impl.efc_D[4:6]

    modes = [jax.jacrev(stiffness), jax.jacfwd(jax.jacrev(stiffness))]
    for derivative in jax.jit(lambda q: [mode(q) for mode in modes])(jnp.asarray(QPOS[0])):
        assert np.all(np.isfinite(derivative))
        np.testing.assert_array_equal(derivative[0], 0)  # flat beyond the width


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, 4.0, 1.5])
def test_a_power_has_its_value_to_the_last_bit_and_all_derivatives(float64, exponent):
    x = jnp.array([-1.3, 0.0, 1e-320, 0.7])
    factors, function = [exponent - order for order in range(4)], power
    for order in range(4):
        expected = np.prod(factors[:order]) * x[-1] ** (exponent - order)
        found = jax.vmap(function, (0, None))(x, exponent)
        np.testing.assert_allclose(found[-1], expected, rtol=1e-14)
        if exponent != 1.5:
            # The falling factorial ends where the power would be negative.
            assert np.all(np.isfinite(found))
            assert found[1] == (np.prod(factors[:order]) if order == exponent else 0)
        function = jax.grad(function)
    np.testing.assert_array_equal(power(x, jnp.full(4, exponent)), jnp.power(x, exponent))


def test_a_power_is_differentiated_by_its_exponent(float64):
    by_exponent = jax.grad(power, argnums=1)
    assert float(by_exponent(2.0, 3.0)) == pytest.approx(8 * np.log(2), rel=1e-15)
    assert float(by_exponent(0.0, 2.0)) == 0
    mixed = jax.grad(by_exponent)(2.0, 3.0)
    assert float(mixed) == pytest.approx(4 + 12 * np.log(2), rel=1e-14)
