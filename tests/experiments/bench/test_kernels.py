"""What is counted of a program that is lowered for CUDA, and what physics may contain of it."""

import jax
import jax.numpy as jnp
import pytest

from experiments.bench.gpu import kernels
from sobolax.mjx import step_and_jacobian
from sobolax.mjx.engine import mjx, mujoco

LIMITED = """
<mujoco>
  <option iterations="4" ls_iterations="4"/>
  <worldbody>
    <body><joint type="slide" range="-0.1 0.1" damping="1" limited="true"/><geom size="0.1"/></body>
  </worldbody>
</mujoco>
"""


@jax.custom_jvp
@jax.jit
def ordered(x):
    return jnp.sort(x)


ordered.defjvps(lambda tangent, found, x: tangent)


def program(x):
    """One of everything, some of it twice, without use, or of constants alone."""
    jnp.linalg.cholesky(x @ x)
    matrix = jnp.eye(3) + x @ x.T + x @ x.T
    factor = jnp.linalg.cholesky(matrix)
    found = jax.scipy.linalg.solve_triangular(factor, ordered(x), lower=True)
    table = jnp.zeros(3).at[jnp.array([2, 0])].add(1.0)
    found = jax.lax.fori_loop(0, 4, lambda i, y: y @ x, found + table)
    return jax.lax.while_loop(lambda y: jnp.sum(y) < 1, lambda y: y + jnp.sum(y, 0), found)


def test_live_operations_are_counted_once_by_loop():
    text = kernels.lower(program, jax.ShapeDtypeStruct((5, 3, 3), jnp.float32))
    found = kernels.count(text)
    assert found["Cholesky factors"] == [1]
    assert found["triangular solves"] == [1]
    assert found["matrix products"] == [1, 1]
    assert found["loops"] == [2]
    assert found["scatters"] == []
    assert found["sorts"] == [1]
    assert kernels.loops_of_known_length(text) == 1


def test_a_call_of_the_host_is_counted_and_an_unknown_custom_call_refused():
    text = """func.func public @main(%a: tensor<2xf32>) -> tensor<2xf32> {
      %0 = stablehlo.custom_call @TARGET(%a) : (tensor<2xf32>) -> tensor<2xf32>
      return %0 : tensor<2xf32>
    }"""
    found = kernels.count(text.replace("TARGET", "xla_ffi_python_gpu_callback"))
    assert found["transfers to the host"] == [1]
    with pytest.raises(ValueError, match="cusolver_geqrf_ffi is a custom call of no known kind"):
        kernels.count(text.replace("TARGET", "cusolver_geqrf_ffi"))


def test_physics_calls_nothing_but_factorisations_and_has_one_loop_of_open_length():
    model = mjx.put_model(mujoco.MjModel.from_xml_string(LIMITED), impl="jax")
    data = mjx.make_data(model, impl="jax")

    def moved(qpos, qvel):
        after, jacobian = step_and_jacobian(model, data.replace(qpos=qpos, qvel=qvel))
        return after.qpos, after.qvel, jacobian

    shape = jax.ShapeDtypeStruct((4, 1), jnp.float32)
    text = kernels.lower(moved, shape, shape)
    found = kernels.count(text)  # refuses what is of no known kind
    assert found["transfers to the host"] == []
    assert found["loops"] == [1, 1]  # the solver's, and in it that of its line search
    assert kernels.loops_of_known_length(text) == 1
    # Of the inertia, of the solver's Hessian at its start, at its end and in each iteration, and of
    # the damped inertia, which the step and its Jacobian share.
    assert found["Cholesky factors"] == [4, 1]
