"""The barriers change no value and no derivative."""

import time

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import envs
from envs.mujoco.barriers import with_barriers
from envs.mujoco.chain import _xml
from envs.mujoco.engine import mjx


@pytest.fixture(scope="module")
def kinematics():
    model = mjx.put_model(mujoco.MjModel.from_xml_string(_xml(3)), impl="jax")
    data = mjx.make_data(model, impl="jax")

    def poses(qpos):
        moved = mjx.kinematics(model, data.replace(qpos=qpos))
        return {"position": moved.xpos, "quaternion": moved.xquat}

    return poses


def test_kinematics_and_both_derivatives_are_the_plain_ones(kinematics):
    qpos, direction = jnp.asarray([[0.3, -0.4, 0.9], [1.0, 0.2, -0.5]])

    def everything(function, qpos):
        value, tangent = jax.jvp(function, (qpos,), (direction,))
        cotangent = jax.vjp(function, qpos)[1](value)
        return value, tangent, cotangent, jax.vmap(function)(jnp.stack([qpos, direction]))

    plain = jax.jit(lambda qpos: everything(kinematics, qpos))(qpos)
    barriered = jax.jit(lambda qpos: everything(with_barriers(kinematics), qpos))(qpos)
    # Two programs, fused differently: equal to rounding in float32.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, barriered
    )


def test_a_barrier_follows_every_concatenate(kinematics):
    def count(function, name):
        text = str(jax.make_jaxpr(function)(jnp.zeros(3)))
        return text.count(f" = {name}")

    assert count(kinematics, "optimization_barrier") == 0
    barriers = count(with_barriers(kinematics), "optimization_barrier")
    assert barriers == count(with_barriers(kinematics), "concatenate") > 0


def test_custom_derivatives_and_control_flow_go_through():
    def function(x):
        x = jax.nn.relu(jnp.concatenate([x, -x]))  # a custom derivative: 0 at 0
        return jax.lax.fori_loop(0, 3, lambda _, y: jnp.sin(y), x), {"double": 2 * x}

    x = jnp.asarray([0.0, 1.0])
    for transform in (lambda f: f, jax.jacfwd, jax.jacrev):
        jax.tree.map(
            np.testing.assert_allclose,
            transform(with_barriers(function))(x),
            transform(function)(x),
        )


def test_other_backends_are_left_alone(kinematics, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    text = str(jax.make_jaxpr(with_barriers(kinematics))(jnp.zeros(3)))
    assert "optimization_barrier" not in text


@pytest.mark.slow
def test_a_long_chain_is_not_exponentially_slow():
    """Without barriers a step of 10 joints takes over a minute; with them a millisecond or two."""
    env = envs.make("chain", joints=10)
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 64))
    actions = jnp.zeros((64, 10))
    step = jax.jit(jax.vmap(env.step)).lower(states, actions).compile()
    jax.block_until_ready(step(states, actions))
    start = time.perf_counter()
    jax.block_until_ready(step(states, actions))
    assert time.perf_counter() - start < 1.0
