"""One iteration of MJX's solver is what it says, and trainings judged in other physics."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.mujoco.physics import physics_of
from experiments.studies.one_iteration import evaluated_in, make_one_iteration
from experiments.studies.payoff.__main__ import main
from sobolax import make_training
from sobolax.agents import shac
from sobolax.cart import Cart
from sobolax.mjx.engine import mjx


def test_it_is_mjx_s_own_step():
    """What is compiled has no rule of ours for derivatives, but for implicit ones."""
    for implicit, searches in ((False, 1), (False, 8), (True, 1)):
        made: Any = make_one_iteration("hopper", searches, implicit)
        options = made._model.opt
        assert (options.iterations, options.ls_iterations) == (1, searches)
        physics = jax.eval_shape(made.reset, jax.random.key(0)).physics
        control = jax.ShapeDtypeStruct((made.action_size,), jnp.float32)
        rules = str(jax.make_jaxpr(made._substep)(physics, control)).count("custom_jvp_call")
        assert (rules > 0) == implicit


@pytest.mark.slow
def test_its_derivative_is_that_of_the_iteration():
    """In reverse, as SHAC takes it, where a foot slides and the solver is on its way."""
    plain: Any = make_one_iteration("hopper")
    implicit: Any = make_one_iteration("hopper", implicit=True)
    physics = plain.reset(jax.random.key(0)).physics
    physics = replace(
        physics,
        qpos=physics.qpos.at[1].add(-0.1),  # into the ground
        qvel=physics.qvel.at[:2].set(jnp.array([2.0, -1.0])),
    )
    control = jnp.full(plain.action_size, 0.3)

    def mjx_step(physics, control):
        return physics_of(mjx.step(plain._model, plain._data_at(physics, control)), {})

    @jax.jit
    def pulled_back(physics):
        # On the way to its end: there both derivatives would agree.
        start = 0.5 * mjx_step(physics, control).qacc_warmstart
        physics = replace(physics, qacc_warmstart=start)

        def of(advance):
            after, pull_back = jax.vjp(lambda physics: advance(physics, control), physics)
            return after.qvel, pull_back(jax.tree.map(jnp.ones_like, after))[0]

        return [of(advance) for advance in (plain._substep, mjx_step, implicit._substep)]

    (after, back), (expected, own), (same, other) = pulled_back(physics)
    # The same operations, once rewritten for the CPU and once not.
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(same, expected, rtol=1e-4, atol=1e-5)
    for name in ("qpos", "qvel", "qacc_warmstart"):
        found, wanted = (getattr(one, name) for one in (back, own))
        # float32, of numbers that largely cancel within sums of the largest ones' size.
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * np.abs(back.qpos).max())
    # Elsewhere it is another derivative.
    distance = np.linalg.norm(back.qvel - other.qvel)
    assert distance > 0.01 * np.linalg.norm(other.qvel), distance


class Twice(Cart):
    """A cart whose rewards count twice."""

    def step(self, state, action):
        """Of the cart, with another reward."""
        after = super().step(state, action)
        return after.__class__(**{**vars(after), "reward": 2 * after.reward})


def test_it_learns_in_one_physics_and_is_judged_in_another():
    config = shac.Config(
        total_timesteps=16, num_envs=2, horizon=4, epochs=2, minibatches=1, critic_epochs=1,
        hidden_sizes=(4,), evaluation_episodes=2, report_states=0,
    )  # fmt: skip
    learning, judge = (make_training(environment, config) for environment in (Cart(), Twice()))
    both = evaluated_in(learning, judge, config.epochs)
    key, hyper = jax.random.key(0), shac.Hyperparameters()
    state, metrics = jax.jit(both.run)(key, hyper)
    own, expected = jax.jit(learning.run)(key, hyper)
    jax.tree.map(np.testing.assert_array_equal, own.agent, state.agent)
    np.testing.assert_array_equal(metrics["own_return"], expected["evaluation_return"])
    # A factor of two is exact.
    np.testing.assert_allclose(metrics["evaluation_return"], 2 * metrics["own_return"], rtol=1e-6)


def test_a_task_without_a_solver_is_refused(assert_refused):
    arguments = ["--tasks", "chain", "--regimes", "many", "--baseline", "shac_16"]
    assert_refused(
        main,
        [*arguments, "--variants", "shac_16", "shac_16_one_iteration"],
        "environment 'chain' has no parameter 'iterations'",
    )


def test_an_environment_of_another_suite_is_refused():
    with pytest.raises(ValueError, match="has no parameter 'iterations'"):
        make_one_iteration("pendulum")
