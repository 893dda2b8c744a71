"""Derivatives of derivatives: of `step` in every pair of modes, of `step_and_jacobian`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax.mjx import step, step_and_jacobian
from sobolax.mjx.implicit import root_of, with_jacobian
from tests.sobolax.mjx.harness import compiled_quickly, one_by_one, smooth
from tests.sobolax.mjx.harness import harness as harness_of

PAIRS = {
    "forward over reverse": (jax.jacfwd, jax.grad),
    "forward over forward": (jax.jacfwd, jax.jacfwd),
    "reverse over reverse": (jax.jacrev, jax.grad),
    "reverse over forward": (jax.jacrev, jax.jacfwd),
}
DIRECTIONS = 3


@pytest.mark.parametrize(
    ("pair", "order"),
    [
        *((pair, 2) for pair in PAIRS),
        ("forward over forward", 3),
        *(pytest.param(pair, 3, marks=pytest.mark.slow) for pair in PAIRS if "reverse" in pair),
    ],
)
def test_a_root_has_higher_derivatives_of_newtons_iterations(float64, pair, order):
    """Of `A(p) w + w^3 = p`: unrolled iterations converge to rounding, to every order."""

    def matrix(p):
        return jnp.array([[2.0, 0.3], [0.3, 1.0]]) + p[0] * jnp.eye(2)

    def residual(p, w):
        return matrix(p) @ w + w**3 - p

    def jacobian(p, w):
        return matrix(p) + jnp.diag(3 * w**2)

    def inverse(p, w):
        (a, b), (c, d) = jacobian(p, w)
        return jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)

    def by_iterations(p):
        def iterate(w, _):
            return w - inverse(p, w) @ residual(p, w), None

        return jax.lax.scan(iterate, jnp.zeros(2), length=10)[0]

    def by_root(p):
        w = by_iterations(jax.lax.stop_gradient(p))
        return root_of(lambda w: residual(p, w), lambda w: jacobian(p, w), w, inverse(p, w))

    def loss(solve):
        return lambda p: jnp.sum(jnp.sin(solve(p)) * p[::-1])

    at, (outer, inner) = jnp.array([0.7, 1.9]), PAIRS[pair]

    def second(f):
        return outer(inner(f))

    @compiled_quickly
    def all_of_them(p):
        if order == 3:
            return [jax.jacfwd(second(loss(solve)))(p) for solve in (by_root, by_iterations)]
        # Compiled first and differentiated then: what the rule closes over is of another trace.
        inner = jax.jit(by_root)
        return [second(loss(solve))(p) for solve in (by_root, inner, by_iterations)]

    *found, expected = all_of_them(at)
    for value in found:
        np.testing.assert_allclose(value, expected, rtol={2: 1e-12, 3: 1e-11}[order])


def test_a_function_with_its_jacobian_is_differentiated_by_all_that_it_closes_over(float64):
    def gradient(p, x):
        """Of `p x^3`, by `x`."""
        return jax.jvp(
            lambda x: with_jacobian(lambda x: p * x**3, lambda x: 3 * p * x[None] ** 2, x),
            (x[None, None],),
            (jnp.ones((1, 1)),),
        )[1][0, 0]

    assert float(gradient(2.0, jnp.array(3.0))) == 54
    for differentiate in (jax.grad, jax.jacfwd):
        by_p, by_x = differentiate(gradient, (0, 1))(2.0, jnp.array(3.0))
        assert (float(by_p), float(by_x)) == (27, 36)


def with_value(differentiate, function):
    """`x -> (derivative, value)`."""

    def twice(x):
        value = function(x)
        return value, value

    return differentiate(twice, has_aux=True)


def check_second_derivatives(name: str, pair: str, parts: tuple = ("loss", "jacobian")):
    """Of a weighted sum of results of `step`, and of the whole Jacobian, along random directions.

    Against differences of first derivatives, which other tests hold to differences of `mjx.step`.
    """
    harness = harness_of(name)
    # Keyframes lie on kinks of the first derivative, such as the drag of what does not move, |v| v;
    # those of equalities do not: they are at their references.
    first = 0 if name in ("equalities", "polynomials") else harness.plain.nkey
    states = {key: value[first:] for key, value in harness.states.items()}
    draw = np.random.default_rng(7)
    directions = draw.normal(size=(DIRECTIONS, harness.size))
    weights = draw.normal(size=(3, harness.plain.nv))

    def loss(state, x):
        end = step(harness.model, harness.placed(state, x @ directions))
        return jnp.sum(weights * jnp.stack([end.qvel, end.qacc, end.qfrc_constraint]))

    def jacobian(state, x):
        whole = step_and_jacobian(harness.model, harness.placed(state, x @ directions))[1]
        return jnp.concatenate([whole.state, whole.control], axis=1)

    def derivatives(state, x):
        outer, inner = PAIRS[pair]
        firsts = {
            "loss": (outer, inner(functools.partial(loss, state))),
            "jacobian": (jax.jacfwd, functools.partial(jacobian, state)),
        }
        # The first derivative comes with the second: traced and compiled once.
        both = {part: with_value(*firsts[part])(x) for part in parts}
        return [{part: both[part][at] for part in parts} for at in (1, 0)]

    program = compiled_quickly(
        lambda states, x: one_by_one(lambda state: derivatives(state, x))(states)
    )

    def differences(size: float) -> dict:
        """Central differences of first derivatives, directions last."""
        columns = []
        for along in size * np.eye(DIRECTIONS):
            ahead, behind = (jax.device_get(program(states, x)[0]) for x in (along, -along))
            columns.append(jax.tree.map(lambda a, b: (a - b) / (2 * size), ahead, behind))
        return jax.tree.map(lambda *leaves: np.stack(leaves, axis=-1), *columns)

    with jax.enable_x64(True):
        _, second = jax.device_get(program(states, jnp.zeros(DIRECTIONS)))
        near, far = differences(1e-5), differences(2e-5)
    for part, value in second.items():
        one, two, value = (
            x.reshape(len(x), -1, DIRECTIONS) for x in (near[part], far[part], value)
        )
        expected = smooth((4 * one - two) / 3, one - two)
        scale = np.maximum(np.abs(expected).max(axis=(1, 2)), 1e-2)
        error = np.abs(value - expected).max(axis=(1, 2)) / scale
        # The solver's rounding of 1e-9 or so over 1e-5, relative to curvatures of 1e3 and more.
        assert np.nanmax(error) < 1e-5, f"{part}, by state: {error}"


@pytest.mark.slow
def test_second_derivatives_in_contact():
    check_second_derivatives("skid", "forward over reverse", parts=("loss",))


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", ["puck-pyramidal", "puck-elliptic", "rod"])
def test_second_derivatives_in_every_pair_of_modes(name, pair):
    check_second_derivatives(name, pair)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("floating", "ball", "ball-implicitfast", "ball-at-ease", "arm", "friction-loss"),
        *("equalities", "polynomials"),
    ],
)
def test_second_derivatives_through_joints_tendons_and_equalities(name):
    check_second_derivatives(name, "forward over reverse")
