"""Plain MJX with one iteration is what it says, and trainings judged in other physics."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.payoff.__main__ import main
from experiments.studies.plain_mjx import evaluated_in, make_one_iteration
from sobolax import make_training
from sobolax.agents import shac
from sobolax.cart import Cart
from sobolax.mjx.engine import mjx


def test_its_derivative_is_that_of_the_iteration():
    """Of MJX's own step, where a foot slides and the implicit derivative is 10 % off that."""
    plain = make_one_iteration("hopper")
    physics = plain.reset(jax.random.key(0)).physics
    physics = replace(physics, qpos=physics.qpos.at[1].add(-0.1))  # into the ground
    control = jnp.full(plain.action_size, 0.3)

    def derivative(advance):
        def velocities(qvel):
            return advance(replace(physics, qvel=qvel), control).qvel

        sliding = physics.qvel.at[:2].set(jnp.array([2.0, -1.0]))
        return jax.jit(lambda qvel: jax.jvp(velocities, (qvel,), (qvel,)))(sliding)

    after, along = derivative(plain._step_model)
    expected, own = derivative(
        lambda physics, control: mjx.step(plain._model, plain._data_at(physics, control))
    )
    # The same operations in the same order, once rewritten for the CPU and once not.
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(along, own, rtol=1e-3, atol=1e-5)


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
