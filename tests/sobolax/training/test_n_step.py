"""n-step targets: the composed map, its tangents, and what reaches the replay buffer."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax import make_training
from sobolax.agents import sac
from sobolax.environment import State
from sobolax.losses import Weights, sobolev_errors, sobolev_td_loss
from sobolax.tangents import basis_directions, forward_tangents
from sobolax.tangents.sources import make_source
from sobolax.training import replay
from sobolax.training.n_step import MultiStep, start_of

GAMMA = 0.9


def stretch(env, steps, actions, count, key=3):
    """The start of `count` steps with given actions, and the environment of such steps."""
    start = start_of(
        env.reset(jax.random.key(key)), actions[1:], jnp.int32(count), jnp.asarray(GAMMA)
    )
    return MultiStep(env, steps), start


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tangents_are_chained_over_the_steps(float64, count):
    env = envs.make("lqr", dimension=2)
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 2))

    @jax.jit
    def tangents_of(actions, count):
        many, start = stretch(env, 3, actions, count)
        directions = basis_directions(2), basis_directions(2)
        return start, *forward_tangents(many, start, actions[0], *directions)

    start, transition, _, tangents = tangents_of(actions, count)

    # By hand: x' = A x + B a and r = -(x.W x + a.U a), step after step.
    a, b, w, u = env.dynamics, env.control, env.state_cost, env.action_cost
    x, sensitivity = np.asarray(start.observation), np.eye(2)
    along_action, reward = np.zeros((2, 2)), 0.0
    gradient, action_gradient = np.zeros(2), np.zeros(2)
    for k in range(count):
        action = np.asarray(actions[k])
        reward -= GAMMA**k * (x @ w @ x + action @ u @ action)
        gradient -= GAMMA**k * 2 * (w @ x) @ sensitivity
        action_gradient -= GAMMA**k * 2 * (w @ x) @ along_action
        if k == 0:
            action_gradient -= 2 * u @ action
        along_action = a @ along_action + (b if k == 0 else 0)
        x, sensitivity = a @ x + b @ action, a @ sensitivity
    # Sums of a few products of order one in float64.
    close = {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(transition.reward, reward, **close)
    np.testing.assert_allclose(transition.next_observation, x, **close)
    np.testing.assert_allclose(transition.discount, GAMMA ** (count - 1), **close)
    np.testing.assert_allclose(tangents.state.reward, gradient, **close)
    np.testing.assert_allclose(tangents.state.next_observation, sensitivity, **close)
    np.testing.assert_allclose(tangents.action.reward, action_gradient, **close)
    np.testing.assert_allclose(tangents.action.next_observation, along_action, **close)


@pytest.mark.parametrize("off_optimum", [0.0, 0.3])
def test_at_the_optimum_the_whole_loss_is_zero_where_later_actions_are_optimal(
    float64, off_optimum
):
    env = envs.make("lqr", dimension=3, discount=GAMMA)

    def td_error(t):
        target = t.reward + GAMMA * t.discount * env.optimal_value(t.next_observation)
        return env.optimal_q(t.observation, t.action) - target

    @jax.jit
    def loss_of(off_optimum):
        first = jnp.asarray([0.4, -0.2, 0.1])  # of any size: Q* is of this action
        actions, current = [first], env.step(env.reset(jax.random.key(0)), first)
        for _ in range(3):
            actions.append(env.optimal_action(current.observation) + off_optimum)
            current = env.step(current, actions[-1])
        many, start = stretch(env, 4, jnp.stack(actions), 4, key=0)
        transition, _, tangents = forward_tangents(
            many, start, first, basis_directions(3), basis_directions(3)
        )
        return sobolev_td_loss(td_error, transition, tangents, Weights(1.0, 1.0))

    loss = loss_of(off_optimum)
    # Squares of rounding errors; later actions that are not optimal break it: the target is then
    # the return of what was done, as in every n-step method without a correction.
    assert (loss < 1e-24) == (off_optimum == 0.0)


class Counter:
    """Counts its steps, with reward 1 each; ends for good at `end`."""

    name = "counter"
    observation_size = action_size = state_size = 1
    reverse_mode = True

    def __init__(self, episode_length, end=1000):
        self.episode_length, self.end = episode_length, end

    def _state(self, count, reward):
        return State(count, count[None], reward, 1.0 - (count >= self.end).astype(count.dtype), {})

    def reset(self, key):
        return self._state(jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        return self._state(state.physics + 1.0, jnp.ones(()))

    def perturb(self, state, displacement):
        moved = state.physics + displacement[0]
        return replace(state, physics=moved, observation=state.observation + displacement)


CONFIG = sac.Config(
    total_timesteps=64,
    num_envs=4,
    epochs=1,
    n_step=3,
    gradient_steps=0,
    learning_starts=16,
    batch_size=8,
    replay_capacity=64,
    hidden_sizes=(8,),
    evaluation_episodes=1,
    report_states=0,
)


@pytest.mark.parametrize(
    ("first_order", "end"),
    [
        ("cached", 1000),
        ("cached", 4),
        # Without tangents nothing else differs.
        *(pytest.param("off", end, marks=pytest.mark.slow) for end in (4, 1000)),
    ],
)
def test_what_reaches_the_buffer(first_order, end):
    env = Counter(episode_length=5, end=end)
    config = replace(CONFIG, first_order=first_order)
    hyper = sac.Hyperparameters(discount=GAMMA)
    state, _ = jax.jit(make_training(env, config).run)(jax.random.key(0), hyper)
    # The first episodes of all four are cut at staggered times; after five steps none is left.
    items = jax.device_get(jax.jit(replay.read_all)(state.replay))
    items = jax.tree.map(lambda leaf: leaf[4 * 5 :], items)
    t = items.transition
    start, last = t.observation[:, 0], min(5, end)
    assert set(start) == set(range(last))
    # No step reaches over the end of its episode, for good or for a time limit.
    steps = np.minimum(3, last - start)
    np.testing.assert_array_equal(t.next_observation[:, 0] - start, steps)
    ends_for_good = (start + steps == end).astype(float)
    # Float32 powers and sums of three terms.
    np.testing.assert_allclose(t.reward, (1 - GAMMA**steps) / (1 - GAMMA), rtol=1e-6)
    np.testing.assert_allclose(
        t.discount, GAMMA ** (steps - 1) * (1 - ends_for_good), rtol=1e-6, atol=1e-7
    )
    if first_order == "cached":
        np.testing.assert_array_equal(items.tangents.state.next_observation, 1.0)


class Edge(Counter):
    """Its reward is the root of what is left to the end: beyond, it is no number."""

    name = "edge"

    def step(self, state, action):
        return self._state(state.physics + 0.5 * action[0], jnp.sqrt(self.end - state.physics))


@pytest.mark.parametrize("position", [0.9, 0.0])
def test_steps_beyond_the_end_leave_reverse_mode_its_gradients(position):
    env = MultiStep(Edge(episode_length=5, end=1.0), 3)
    later = jnp.ones((2, 1)) * 0.5
    start = start_of(
        env.environment._state(jnp.asarray(position), jnp.zeros(())),
        later,
        jnp.int32(3),
        jnp.asarray(GAMMA),
    )

    def td_error(t):
        return t.observation[0] - t.reward - GAMMA * t.discount * t.next_observation[0]

    def errors(first_order):
        source = make_source(first_order, env)
        experience, _ = source.collect(jax.random.key(0), start, jnp.ones(1) * 0.5)
        tangents, bound = source.tangents(experience, jax.random.key(1), 1e3)
        return sobolev_errors(td_error, experience.transition, tangents, bound)

    forward, reverse = errors("recomputed"), errors("reverse")
    for kind in ("state", "action"):
        ours, theirs = getattr(reverse, kind), getattr(forward, kind)
        assert ours.valid.all()
        assert theirs.valid.all()
        # One product of a few float32 factors, in another order.
        np.testing.assert_allclose(ours.target, theirs.target, rtol=1e-5)


class Fading(Counter):
    """Discounts its steps itself, by less the farther it is."""

    name = "fading"

    def step(self, state, action):
        moved = state.physics + action[0]
        seen = {"observation": moved[None], "discount": 1 / (1 + moved**2)}
        return replace(state, physics=moved, reward=jnp.sin(moved), **seen)


def test_discounts_of_the_steps_between_are_multiplied(float64):
    env, actions = Fading(episode_length=5), jnp.asarray([[0.3], [0.5], [-0.4]])
    first = env._state(jnp.asarray(0.2), jnp.zeros(()))

    def one_by_one(along, action):
        """Rewards and discounts of three steps, one after the other."""
        state, reward, share = env.perturb(first, along), 0.0, 1.0
        for number, taken in enumerate((action, *actions[1:])):
            state = env.step(state, taken)
            reward += share * state.reward
            share *= state.discount * (GAMMA if number < 2 else 1.0)
        return reward, share

    @jax.jit
    def compare():
        where = jnp.zeros(1), actions[0]
        start = start_of(first, actions[1:], jnp.int32(3), jnp.asarray(GAMMA))
        basis = basis_directions(1), basis_directions(1)
        transition, _, tangents = forward_tangents(MultiStep(env, 3), start, actions[0], *basis)
        expected, (gradients, _) = one_by_one(*where), jax.jacfwd(one_by_one, (0, 1))(*where)
        # Tangents of a discount are nobody's but `reverse`'s.
        found = (
            (transition.reward, transition.discount),
            tangents.state.reward,
            tangents.action.reward,
        )
        return found, (expected, *gradients)

    # A few products and sums of order one in float64.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12), *compare())


def test_a_target_longer_than_an_episode_is_refused():
    with pytest.raises(ValueError, match=r"n_step=6 is longer than an episode.*choose 1 to 5"):
        make_training(Counter(episode_length=5), replace(CONFIG, n_step=6))
