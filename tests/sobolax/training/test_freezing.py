"""A run whose numbers are no longer finite is frozen; the others are unaffected."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax import make_training
from sobolax.agents import q_learning
from sobolax.environment import State
from sobolax.training import freezing, replay
from sobolax.training.agent import Agent
from sobolax.training.config import LoopConfig
from sobolax.training.evaluation import is_finite
from sobolax.training.freezing import stays_finite

ENVIRONMENTS, UPDATES = 2, 3
LOOP = LoopConfig(
    total_timesteps=24,
    num_envs=ENVIRONMENTS,
    epochs=2,
    gradient_steps=UPDATES,
    learning_starts=4,
    batch_size=2,
    replay_capacity=32,
    first_order="off",
    evaluation_episodes=2,
    report_states=0,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hyper:
    """The update numbered `sick_at` leaves `sick` behind."""

    sick_at: Any
    sick: Any


def counting_agent() -> Agent:
    """Counts its updates; one of them goes wrong. Its memory begins at infinity, as is legal."""

    def update(state, normalizer, batch, errors, key, hyper):
        count = state["count"] + 1
        wrong = count == hyper.sick_at
        next_state = {
            "count": count,
            "total": jnp.where(wrong, hyper.sick, state["total"] + 1.0),
            "memory": jnp.where(count < 4, state["memory"], 1.0),
        }
        return next_state, {"loss": next_state["total"]}

    return Agent(
        init=lambda key, hyper: {
            "count": jnp.zeros((), jnp.int32),
            "total": jnp.zeros(()),
            "memory": jnp.full((), jnp.inf),
        },
        explore=lambda state, normalizer, observation, key, hyper: jnp.zeros(1),
        act=lambda state, normalizer, observation: jnp.zeros(1),
        sample=lambda state, normalizer, observation, noise: (jnp.zeros(1), jnp.zeros(())),
        value=lambda state, normalizer, observation, action: jnp.zeros(()),
        update=update,
    )


class Drift:
    """Observations grow until their squares would overflow, at step `far` of an episode."""

    name, observation_size, action_size, state_size = "drift", 1, 1, 1
    episode_length, reverse_mode = 100, True

    def __init__(self, far=10**6):
        self.far = far

    def reset(self, key):
        return self._state(jnp.zeros(()))

    def step(self, state, action):
        return self._state(state.physics + 1.0)

    def perturb(self, state, displacement):
        return replace(state, observation=state.observation + displacement)

    def _state(self, count):
        observation = jnp.where(count >= self.far, 1e25, count)[None]
        return State(count, observation, jnp.ones(()), jnp.ones(()), {})


def count(steps_per_round):
    """Runs whose updates go wrong at the 5th (NaN), at the 8th (infinity) and never."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freezing, "UPDATES_PER_ROUND", steps_per_round * UPDATES)
        run = make_training(Drift(), LOOP, counting_agent()).run
        hyper = Hyper(jnp.array([5, 8, -1]), jnp.array([jnp.nan, jnp.inf, 0.0]))
        return jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 3), hyper)


@pytest.fixture(scope="module")
def counted():
    """With a look at the agent after every step."""
    return count(1)


def test_the_last_good_state_is_kept_for_good(counted):
    state, _ = counted
    # Rounds of three updates: the 5th belongs to the second round, the 8th to the third.
    np.testing.assert_array_equal(state.agent["total"], [3, 6, 30])
    np.testing.assert_array_equal(state.agent["count"], 30)  # a counter goes on
    # Two steps of both environments fill the buffer, each one after it is followed by a round.
    np.testing.assert_array_equal(state.frozen_at, [4 * ENVIRONMENTS, 5 * ENVIRONMENTS, -1])


def test_a_round_of_several_steps_is_kept_or_dropped_as_a_whole():
    state, metrics = count(2)
    # Two steps fill the buffer; the 5th update is in the two steps after, the 8th in the next.
    np.testing.assert_array_equal(state.agent["total"], [0, 6, 30])
    np.testing.assert_array_equal(state.frozen_at, [4 * ENVIRONMENTS, 6 * ENVIRONMENTS, -1])
    np.testing.assert_array_equal(metrics["updates"], [[0, 0], [6, 6], [12, 30]])
    np.testing.assert_array_equal(metrics["loss"], [[0, 0], [3.5, 0], [6.5, 21.5]])


@pytest.mark.parametrize(
    ("steps", "updates", "expected"), [(64, 8, 4), (6, 1, 6), (64, 0, 32), (10, 64, 1), (37, 1, 1)]
)
def test_rounds_divide_an_epoch_and_hold_about_32_updates(steps, updates, expected):
    assert freezing.steps_per_round(steps, updates) == expected


def test_a_frozen_agent_does_not_act():
    """Not on what it makes of the rest of a round, which may be no number at all."""

    def explore(state, normalizer, observation, key, hyper):
        return state["total"] * jnp.ones(1)

    agent = replace(counting_agent(), explore=explore)
    hyper = Hyper(jnp.int32(5), jnp.nan)

    class Still(Drift):
        def step(self, state, action):
            return replace(self._state(state.physics + 1.0), reward=action[0])

    _, metrics = jax.jit(make_training(Still(), LOOP, agent).run)(jax.random.key(0), hyper)
    np.testing.assert_array_equal(metrics["frozen"], [1, 1])
    assert metrics["transitions_nonfinite"][0] > 0
    assert metrics["transitions_nonfinite"][1] == 0


def test_an_infinity_that_was_there_from_the_start_is_legal(counted):
    state, _ = counted
    np.testing.assert_array_equal(state.agent["memory"], [jnp.inf, 1.0, 1.0])
    before, after = {"a": jnp.array([jnp.inf, 1.0])}, {"a": jnp.array([jnp.inf, 2.0])}
    assert stays_finite(before, after)
    for sick in ([-jnp.inf, 1.0], [jnp.nan, 1.0], [1.0, jnp.inf]):
        assert not stays_finite(before, {"a": jnp.array(sick)})
    assert not stays_finite({"a": 1j + jnp.zeros(2)}, {"a": jnp.array([1j, 1j * jnp.nan])})


def test_metrics_say_so_and_leave_the_bad_round_out(counted):
    _, metrics = counted
    np.testing.assert_array_equal(metrics["frozen"], [[1, 1], [1, 1], [0, 0]])
    np.testing.assert_array_equal(metrics["frozen_at"], [[8, 8], [10, 10], [-1, -1]])
    np.testing.assert_array_equal(metrics["updates"], [[3, 3], [6, 6], [12, 30]])
    # Means of 1..3, of 1..6, and of 1..12 and 13..30; of no update at all it is 0.
    np.testing.assert_array_equal(metrics["loss"], [[2, 0], [3.5, 0], [6.5, 21.5]])
    np.testing.assert_array_equal(metrics["evaluation_return"], 100.0)


@pytest.fixture(scope="module")
def overflowing():
    """A run that is never wrong itself, of episodes that would overflow at their fifth step."""
    run = make_training(Drift(far=5), LOOP, counting_agent()).run
    return jax.jit(run)(jax.random.key(0), Hyper(jnp.int32(-1), jnp.zeros(())))


def test_what_would_overflow_when_squared_ends_the_episode_and_reaches_no_statistics(overflowing):
    """A simulation on its way to NaN passes there, and must not take the agent with it."""
    state, metrics = overflowing
    assert metrics["frozen"][-1] == 0
    assert np.sum(metrics["transitions_nonfinite"]) == 2 * ENVIRONMENTS  # of 12 steps each
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.normalizer))
    assert np.max(np.abs(state.normalizer.mean)) < 5


def test_a_transition_that_would_overflow_is_in_no_loss(overflowing):
    state, _ = overflowing
    kept = replay.read_all(state.replay).transition
    beyond = np.asarray(kept.next_observation[:, 0]) > 1e10
    assert np.sum(beyond) == 2 * ENVIRONMENTS
    # What is not finite leaves every term (`sobolax.losses`).
    np.testing.assert_array_equal(np.isnan(kept.reward), beyond)


@pytest.mark.parametrize(("seen", "sound"), [(1e10, True), (-1.1e10, False), (np.nan, False)])
def test_an_observation_beyond_1e10_counts_as_infinite(seen, sound):
    still = Drift().reset(jax.random.key(0))
    assert bool(is_finite(replace(still, observation=jnp.array([seen])), still)) is sound
    assert bool(is_finite(replace(still, reward=jnp.asarray(seen)), still)) is sound


# One network and its gradients: it compiles fast.
SMALL = q_learning.Config(
    total_timesteps=64,
    num_envs=4,
    epochs=2,
    gradient_steps=2,
    learning_starts=16,
    batch_size=8,
    replay_capacity=64,
    hidden_sizes=(8,),
    evaluation_episodes=2,
    report_states=0,
)


@pytest.fixture(scope="module")
def run():
    return jax.jit(jax.vmap(make_training(envs.make("pendulum"), SMALL).run))


def arguments(rates):
    hypers = q_learning.Hyperparameters()
    shared = {name: jnp.full(len(rates), value) for name, value in vars(hypers).items()}
    hypers = replace(hypers, **shared | {"critic_learning_rate": jnp.asarray(rates)})
    return jax.random.split(jax.random.key(1), len(rates)), hypers


def assert_same_bits(one, other):
    def compare(a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)

    jax.tree.map(compare, one, other)


@pytest.mark.slow  # the fast ones freeze an agent that counts, and one of a sweep
def test_an_absurd_learning_rate_freezes_its_member_and_no_other(run):
    state, metrics = run(*arguments([1e-3, 1e30, 3e-3]))
    np.testing.assert_array_equal(metrics["frozen"][:, -1], [0, 1, 0])
    for leaf in jax.tree.leaves((state, metrics)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            assert np.isfinite(leaf).all()
    without, _ = run(*arguments([1e-3, 1e-3, 3e-3]))
    for index in (0, 2):
        assert_same_bits(*(jax.tree.map(lambda x, i=index: x[i], s) for s in (state, without)))
    assert metrics["updates"][1, -1] < metrics["updates"][0, -1]


@pytest.mark.slow  # two programs have the same bits where the compiler optimises as for users
def test_sound_training_is_the_same_to_the_last_bit_as_without_the_check(run, monkeypatch):
    found = run(*arguments([1e-3, 3e-3, 1e-2]))
    monkeypatch.setattr(freezing, "stays_finite", lambda before, after: jnp.ones((), bool))
    unchecked = jax.jit(jax.vmap(make_training(envs.make("pendulum"), SMALL).run))
    assert_same_bits(found, unchecked(*arguments([1e-3, 3e-3, 1e-2])))


def test_the_line_search_begins_at_an_infinity():
    """That one from the start is legal is tested above, with an agent that counts."""
    agent = replace(SMALL, line_search=True).make_agent(envs.make("pendulum"))
    first = jax.jit(agent.init)(jax.random.key(0), q_learning.Hyperparameters())
    assert any(np.isinf(leaf).any() for leaf in jax.tree.leaves(first))


@pytest.mark.slow
def test_the_line_search_is_no_reason_to_freeze():
    made = make_training(envs.make("pendulum"), replace(SMALL, line_search=True))
    state, metrics = jax.jit(made.run)(jax.random.key(0), q_learning.Hyperparameters())
    assert not metrics["frozen"].any()
    assert state.frozen_at == -1
