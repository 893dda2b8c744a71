"""What is rewritten for the CPU keeps its values and its derivatives."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import envs
from envs.mujoco.chain import _xml
from sobolax.mjx.cpu import cholesky, for_cpu, triangular_solve
from sobolax.mjx.engine import mjx
from sobolax.tangents.forward import forward_tangents
from sobolax.tangents.methods import Derivatives, make_tangent_function


@pytest.fixture(scope="module")
def kinematics():
    model = mjx.put_model(mujoco.MjModel.from_xml_string(_xml(2)), impl="jax")
    data = mjx.make_data(model, impl="jax")

    def poses(qpos):
        moved = mjx.kinematics(model, data.replace(qpos=qpos))
        return {"position": moved.xpos, "quaternion": moved.xquat}

    return poses


@pytest.mark.slow
def test_kinematics_and_both_derivatives_are_the_plain_ones(kinematics):
    qpos, direction = jnp.asarray([[0.3, -0.4], [1.0, 0.2]])

    def everything(function, qpos):
        # `jvp` and `vjp` with the shared part traced once.
        value, linear = jax.linearize(function, qpos)
        cotangent = jax.linear_transpose(linear, qpos)(value)
        return value, linear(direction), cotangent, jax.vmap(function)(qpos[None])

    plain = jax.jit(lambda qpos: everything(kinematics, qpos))(qpos)
    rewritten = jax.jit(lambda qpos: everything(for_cpu(kinematics), qpos))(qpos)
    # Two programs, fused differently: equal to rounding in float32.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, rewritten
    )


def test_a_barrier_follows_every_concatenate(kinematics):
    def count(function, name):
        text = str(jax.make_jaxpr(function)(jnp.zeros(2)))
        return text.count(f" = {name}")

    assert count(kinematics, "optimization_barrier") == 0
    barriers = count(for_cpu(kinematics), "optimization_barrier")
    assert barriers == count(for_cpu(kinematics), "concatenate") > 0


def test_a_loop_under_vmap_ends_lane_by_lane():
    def halved(x):
        return jax.lax.while_loop(lambda x: x > 1.0, lambda x: x / 2, x)

    starts = jnp.asarray([1.0, 8.0, 5.0, 0.3])
    assert for_cpu(jax.vmap(halved))(starts).tolist() == pytest.approx([1.0, 1.0, 0.625, 0.3])


def test_control_flow_and_custom_derivatives_go_through(float64):
    matrix = jnp.asarray([[2.0, 0.5], [0.5, 1.0]])

    def function(x):
        factor = jax.scipy.linalg.cho_factor(matrix + jnp.outer(x, x))
        x = jax.nn.relu(jnp.concatenate([x, -x]))  # a custom derivative: 0 at 0

        def body(carry):
            count, y = carry
            solved = jax.scipy.linalg.cho_solve(factor, y[:2])
            return count + 1, jnp.concatenate([jnp.sin(solved), y[2:]])

        _, x = jax.lax.while_loop(lambda carry: carry[0] < 3, body, (0, x))
        total, history = jax.lax.scan(lambda sum_, y: (sum_ + y, sum_ * y), 1.0, x, reverse=True)
        chosen = jax.lax.cond(total > 0, jnp.cos, jnp.sin, total)
        return {"chosen": chosen, "history": history}

    x = jnp.asarray([0.0, 1.0])

    @jax.jit
    def everything(x):
        functions = for_cpu(function), function
        return [[transform(f)(x) for transform in (lambda f: f, jax.jacfwd)] for f in functions]

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15), *everything(x)
    )


@pytest.mark.parametrize("size", [1, 2, 7])
def test_small_matrices_are_factored_and_solved(float64, size):
    draw = np.random.default_rng(size)
    square = draw.normal(size=(size, size))
    matrix = jnp.asarray(square @ square.T + np.eye(size))
    np.testing.assert_allclose(cholesky(matrix), np.linalg.cholesky(matrix), atol=1e-13)
    right = jnp.asarray(draw.normal(size=(size, 2)))
    for lower in (False, True):
        triangle = np.tril(matrix) if lower else np.triu(matrix)
        for transposed in (False, True):
            # The whole matrix is handed over: only one of its triangles may be read.
            solution = triangular_solve(matrix, right, lower=lower, transposed=transposed)
            expected = np.linalg.solve(triangle.T if transposed else triangle, right)
            np.testing.assert_allclose(solution, expected, rtol=1e-11, atol=1e-11)


def test_what_has_no_cholesky_factor_is_not_a_number():
    assert np.all(np.isnan(cholesky(jnp.asarray([[-1.0, 0.0], [0.0, 1.0]]))[:, 0]))


def test_a_step_and_its_jacobian_call_neither_lapack_nor_the_host_and_have_one_open_loop():
    """Batches of LAPACK calls wait for threads of their own pool, on few cores forever.

    At every round of an open loop a GPU waits for the host to hear whether there is another.
    """
    env = envs.make("reacher")
    key = jax.random.key(0)
    start = jax.eval_shape(env.reset, key)
    arguments = jnp.zeros(2), jnp.eye(env.state_size), jnp.eye(2)
    compute = make_tangent_function(env, Derivatives(method="analytic"))
    text = str(jax.make_jaxpr(lambda state: compute(key, state, *arguments))(start))
    assert "optimization_barrier" in text
    for call in ("cholesky", "triangular_solve", "callback"):
        assert call not in text
    assert text.count("while[") == 1  # the solver's; that of its line search has a known length


@pytest.mark.slow
def test_tangents_of_many_hoppers_come_to_an_end():
    """With LAPACK this hung on 2 cores within a few steps."""
    env = envs.make("hopper")
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 64))
    actions = jnp.zeros((64, env.action_size))
    directions = jnp.eye(env.state_size), jnp.eye(env.action_size)
    tangents = jax.jit(jax.vmap(lambda s, a: forward_tangents(env, s, a, *directions)[1:]))
    for _ in range(20):
        states, computed = tangents(states, actions)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(computed))


def test_other_backends_are_left_alone(kinematics, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    text = str(jax.make_jaxpr(for_cpu(kinematics))(jnp.zeros(2)))
    assert "optimization_barrier" not in text
