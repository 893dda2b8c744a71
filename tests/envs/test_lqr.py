"""The closed form of the linear system's optimal action value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.analytic.lqr import solve_riccati


@pytest.mark.parametrize(("dimension", "actions"), [(1, 1), (2, 1), (3, 5), (6, 6)])
@pytest.mark.parametrize("discount", [0.5, 0.99])
def test_q_satisfies_bellmans_equation_and_its_gradient(float64, dimension, actions, discount):
    env = envs.make("lqr", dimension=dimension, actions=actions, discount=discount, seed=3)
    state = env.reset(jax.random.key(0))
    action = jnp.asarray(np.random.default_rng(0).normal(size=actions))  # not in [-1, 1]

    def residual(displacement, action):
        start = env.perturb(state, displacement)
        end = env.step(start, action)
        best = env.optimal_q(end.observation, env.optimal_action(end.observation))
        return env.optimal_q(start.observation, action) - (end.reward + discount * best)

    zero = jnp.zeros(dimension)
    value, gradients = jax.jit(jax.value_and_grad(residual, argnums=(0, 1)))(zero, action)
    scale = abs(env.optimal_q(state.observation, action))
    assert abs(value) < 1e-13 * scale
    assert all(jnp.max(jnp.abs(gradient)) < 1e-12 * scale for gradient in gradients)


def test_the_optimal_action_is_where_q_is_flat_and_concave(float64):
    env = envs.make("lqr", dimension=4, actions=2)
    observation = env.reset(jax.random.key(1)).observation
    best = env.optimal_action(observation)
    gradient = jax.jit(jax.grad(env.optimal_q, argnums=1))(observation, best)
    assert jnp.max(jnp.abs(gradient)) < 1e-13 * abs(env.optimal_q(observation, best))
    curvature = jax.jit(jax.hessian(env.optimal_q, argnums=1))(observation, best)
    assert jnp.all(jnp.linalg.eigvalsh(curvature) < 0)
    assert jnp.isclose(env.optimal_value(observation), env.optimal_q(observation, best))


def test_the_scalar_riccati_equation_by_hand():
    """`p = w + γ a² p - γ² a² b² p² / (u + γ b² p)`: with a = b = w = u = 1, γ = 1/2, p² = 2."""
    one = np.ones((1, 1))
    # p (u + γ p) = (u + γ p) + γ p (u + γ p) - γ² p²  =>  γ p² + p (1 - 2 γ) - 1 = 0.
    np.testing.assert_allclose(solve_riccati(one, one, one, one, 0.5), np.sqrt(2), rtol=1e-14)


def test_the_system_is_stable_and_controllable():
    for dimension, actions in ((1, 1), (4, 1), (6, 2)):
        env = envs.make("lqr", dimension=dimension, actions=actions)
        assert np.max(np.abs(np.linalg.eigvals(env.dynamics))) < 1
        reach = [np.linalg.matrix_power(env.dynamics, k) @ env.control for k in range(dimension)]
        assert np.linalg.matrix_rank(np.hstack(reach)) == dimension
