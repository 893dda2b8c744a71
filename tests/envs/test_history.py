"""Stacks of observations: what they hold, how they move, and what they let an agent learn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.history import history
from envs.mujoco.mjcf import MjcfEnvironment
from envs.mujoco.randomization import randomize, set_factors
from sobolax import make_training
from sobolax.agents import sac
from sobolax.cart import Cart
from sobolax.tangents.forward import TransitionMap, forward_tangents
from sobolax.tangents.methods import Derivatives, make_tangent_function, reason_against
from sobolax.testing import check_environment
from sobolax.training.n_step import MultiStep, start_of

CRANE = """<mujoco>
  <option timestep="0.02"/>
  <worldbody><body>
    <joint name="x" type="slide" axis="1 0 0" damping="0.1"/>
    <geom type="sphere" size="0.1" mass="1"/>
    <body><joint axis="0 1 0"/><geom type="sphere" pos="0 0 -0.5" size="0.05" mass="0.3"/></body>
  </body></worldbody>
  <actuator><motor joint="x" gear="3"/></actuator>
</mujoco>"""


class Crane(MjcfEnvironment):
    xml, frame_skip, episode_length, reset_noise = CRANE, 1, 50, 0.3

    def observation(self, physics):
        return jnp.stack([physics.qpos[0], jnp.sin(physics.qpos[1]), physics.qvel[1]])

    def reward(self, before, action, after):
        return -(before.qpos[0] ** 2) - jnp.cos(after.qpos[1])


class Own(Cart):
    """With derivatives of its own: those of forward mode, and a reason."""

    def __init__(self):
        self.own_derivatives = {
            "analytic": lambda key, *arguments: forward_tangents(Cart(), *arguments),
            "mujoco_fd": "a cart has no engine",
        }


class Blind(Cart):
    """Its speed is hidden."""

    observation_size = 1

    def _seen(self, state):
        return replace(state, observation=state.physics[:1])

    def reset(self, key):
        return self._seen(super().reset(key))

    def step(self, state, action):
        return self._seen(super().step(state, action))

    def perturb(self, state, displacement):
        return self._seen(super().perturb(state, displacement))


def roll(environment, steps):
    """States of an episode of random actions, and the actions."""
    actions = jax.random.uniform(jax.random.key(1), (steps, environment.action_size), minval=-1.0)

    def go(state, action):
        state = environment.step(state, action)
        return state, state

    first = environment.reset(jax.random.key(0))
    rest = jax.lax.scan(go, first, actions)[1]
    return jax.tree.map(lambda one, many: jnp.concatenate([one[None], many]), first, rest), actions


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_stack_is_the_last_observations_and_the_episode_is_the_same(length):
    plain, stacked = envs.make("pendulum"), envs.make("pendulum", history=length)
    assert stacked.observation_size == 3 * length
    (bare, _), (states, _) = jax.device_get(jax.jit(lambda: (roll(plain, 6), roll(stacked, 6)))())
    before = [bare.observation[:1]] * (length - 1)  # a reset repeats the first
    seen = np.concatenate([*before, bare.observation])
    windows = [seen[at : at + length].ravel() for at in range(7)]
    np.testing.assert_array_equal(states.observation, windows)
    for one, other in zip(
        jax.tree.leaves((bare.physics, bare.reward, bare.discount, bare.metrics)),
        jax.tree.leaves((states.physics.physics, states.reward, states.discount, states.metrics)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def tangents_and_differences(environment, method, jump):
    """Tangents in the middle of an episode, and float64 central differences of the transition."""
    with jax.enable_x64(True):
        environment = environment()
        compute = make_tangent_function(environment, Derivatives(method=method))
        count, size = environment.state_size, environment.state_size + environment.action_size

        @jax.jit
        def both():
            states, actions = roll(environment, 5)
            state, action = jax.tree.map(lambda leaf: leaf[-1], (states, actions))
            found = compute(
                jax.random.key(0), state, action, jnp.eye(count), jnp.eye(environment.action_size)
            )
            apply = TransitionMap(environment, state)
            moves = jump * jnp.concatenate([jnp.eye(size), -jnp.eye(size)])
            moved = jax.vmap(lambda dx: apply(dx[:count], action + dx[count:])[0])(moves)
            plain = apply(jnp.zeros(count), action)
            still = environment.perturb(state, jnp.zeros(count))
            return state, still, found, plain, moved

        state, still, found, plain, moved = jax.device_get(both())
    differences = jax.tree.map(lambda leaf: (leaf[:size] - leaf[size:]).T / (2 * jump), moved)
    return environment, state, still, found, plain, differences


@pytest.mark.parametrize(
    ("environment", "method"),
    [
        (lambda: history(Cart(), 3), "forward"),
        (lambda: history(Own(), 3), "analytic"),
        (lambda: history(Own(), 1), "analytic"),
        (lambda: envs.make("pendulum", history=4), "forward"),
        pytest.param(lambda: history(Crane(), 3), "forward", marks=pytest.mark.slow),
        pytest.param(lambda: history(Crane(), 3), "analytic", marks=pytest.mark.slow),
        (lambda: history(MultiStep(Cart(), 2), 2), "forward"),
    ],
    ids=["cart", "own", "own-1", "pendulum", "crane", "crane-analytic", "multi-step"],
)
def test_tangents_are_those_of_the_stack(environment, method):
    environment, state, still, found, plain, differences = tangents_and_differences(
        environment, method, 1e-5
    )
    transition, next_state, tangents = found
    count, size = environment.state_size, environment.environment.observation_size
    # Rounding, 1e-16 / 1e-5, and h² times third derivatives of order 10.
    close = {"atol": 1e-8}
    for part in ("observation", "reward", "next_observation"):
        expected = getattr(differences, part)
        np.testing.assert_allclose(getattr(tangents.state, part), expected[..., :count], **close)
        if part != "observation":
            np.testing.assert_allclose(
                getattr(tangents.action, part), expected[..., count:], **close
            )
    # Only the newest observation moves with the state; it is the last but one of the next stack.
    assert not np.any(tangents.state.observation[:-size])
    assert np.any(tangents.state.observation[-size:])
    if environment.length > 1:
        inside = tangents.state.next_observation[-2 * size : -size]
        np.testing.assert_array_equal(inside, tangents.state.observation[-size:])
        assert not np.any(tangents.action.next_observation[:-size])
    assert tangents.state.action is None
    assert tangents.action.observation is None
    # A step that is differentiated is the step; one ulp is another program's rounding.
    for one, other in zip(
        jax.tree.leaves((transition, next_state)), jax.tree.leaves(plain), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-15)
    for one, other in zip(jax.tree.leaves(still), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(one, other)


def test_several_steps_from_a_stack_are_differentiated_through_all_of_them():
    with jax.enable_x64(True):
        ahead = MultiStep(history(Cart(), 3), 2)
        begin = ahead.environment.reset(jax.random.key(0))
        start = start_of(begin, jnp.ones((1, 1)), jnp.array(2), jnp.array(0.5))
        _, _, tangents = forward_tangents(ahead, start, jnp.zeros(1), jnp.eye(2), jnp.eye(1))
    # Position and speed now, after one step and after two: dynamics are linear.
    step = np.array([[1.0, 0.5], [0.0, 1.0]])
    expected = np.concatenate([np.eye(2), step, step @ step])
    np.testing.assert_allclose(tangents.state.next_observation, expected, atol=1e-15)


def test_the_protocol_is_kept():
    report = check_environment(lambda: envs.make("pendulum", history=3), states=2)
    assert report.precision == "float64"
    assert report.judged > 0.9


def test_reasons_and_what_commands_use_are_passed_on():
    own, crane = history(Own(), 2), history(Crane(), 2)
    assert reason_against("mujoco_fd", own) == "a cart has no engine"
    assert reason_against("analytic", own) is None
    assert reason_against("analytic", history(Cart(), 2)) == "the environment offers none"
    assert not hasattr(own, "frame")
    assert not hasattr(own, "mujoco_model")
    state = jax.jit(crane.reset)(jax.random.key(0))
    for one, other in zip(
        crane.frame(state), crane.environment.frame(crane.inner(state)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert crane.dt == crane.environment.dt
    assert crane.state_names == crane.environment.state_names
    np.testing.assert_array_equal(own.coordinates(own.reset(jax.random.key(0)))[1], 0.0)


def test_factors_that_are_seen_are_in_the_newest_observation():
    stacked = history(randomize(Crane(), {"density": (0.5, 2.0)}, observed=True), 2)
    state = jax.jit(stacked.reset)(jax.random.key(0))
    assert state.observation.shape == (8,)
    moved = set_factors(stacked, state, {"density": jnp.array([3.0])})
    assert float(moved.observation[-1]) == float(moved.physics.physics.factors["density"][0]) == 3.0
    np.testing.assert_array_equal(moved.observation[:7], state.observation[:7])
    with pytest.raises(TypeError, match="has a history: randomize it first"):
        randomize(history(Crane(), 2), {"density": (0.5, 2.0)})  # pyright: ignore


def test_factors_for_the_critic_alone_are_hidden_from_the_policy_in_every_observation():
    crane = randomize(Crane(), {"density": (0.5, 2.0)}, observed="critic")
    assert crane.observation_size == 4
    assert crane.actor_observations == (0, 1, 2)
    assert history(crane, 2).actor_observations == (0, 1, 2, 4, 5, 6)
    assert not hasattr(Crane(), "actor_observations")
    with pytest.raises(ValueError, match="observe_factors='actor' must be True, False or 'critic'"):
        randomize(Crane(), {"density": (0.5, 2.0)}, observed="actor")
    crane = Crane()
    crane.actor_observations = (0,)
    with pytest.raises(ValueError, match="says itself what the actor sees"):
        randomize(crane, {"density": (0.5, 2.0)}, observed="critic")


@pytest.mark.parametrize("length", [0, -1, 2.0, True, "4", None])
def test_a_length_that_is_none_is_one_clear_error(length):
    with pytest.raises(ValueError, match="history must be an integer of at least 1, not"):
        history(Cart(), length)


def test_a_second_history_is_refused():
    with pytest.raises(ValueError, match="pendulum has a history already, of 2 observations"):
        history(envs.make("pendulum", history=2), 3)


@pytest.mark.slow
def test_a_hidden_speed_is_learned_from_two_observations():
    config = sac.Config(
        total_timesteps=6_144,
        gradient_steps=4,
        hidden_sizes=(32, 32),
        batch_size=64,
        learning_starts=512,
        epochs=1,
        evaluation_episodes=64,
        report_states=0,
        check_tangents=False,
    )
    hyper = sac.Hyperparameters(
        discount=0.9, tau=0.02, critic_learning_rate=1e-3, actor_learning_rate=1e-3
    )

    def returns(length):
        train = make_training(history(Blind(), length), config).run
        keys = jax.random.split(jax.random.key(0), 3)
        metrics = jax.jit(jax.vmap(lambda key: train(key, hyper)[1]))(keys)
        return np.asarray(metrics["evaluation_return"][:, -1])

    # A force of the position alone cannot damp this cart, whose steps are symplectic: it swings on
    # with E[x²] = 1/6 for 40 steps, -6.7. Found: -10.7 to -8.9, and -1.5 to -1.0 with a history.
    assert returns(1).max() < -5.0
    assert returns(2).min() > -3.0
