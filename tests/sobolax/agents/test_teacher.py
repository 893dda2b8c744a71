"""A fitted teacher: its tangents by hand, what it converges to, what it leaves out and refuses."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax import make_training
from sobolax.agents import sac, td3
from sobolax.agents.teacher import make_teacher
from sobolax.cart import Cart, example_transition
from sobolax.tangents.forward import forward_tangents
from sobolax.tangents.outcomes import replace_tangents
from sobolax.tangents.sources import Experience, make_source
from sobolax.training import normalization
from sobolax.training.collection import start
from sobolax.training.freezing import keep_finite
from sobolax.training.state import Setup
from sobolax.training.teacher import given, teach

CART, KEY = Cart(), jax.random.key(11)
TEACHER = make_teacher(2, 1, hidden_sizes=(16, 16))
HYPER = sac.Hyperparameters(teacher_learning_rate=1e-2, tangent_bound=100.0)


def draw(key, count=64):
    """Transitions of carts that are anywhere, and the exact tangents."""

    def one(key):
        place, push = jax.random.split(key)
        state = CART.at(*jax.random.normal(place, (2,)))
        action = jax.random.uniform(push, (1,), minval=-1.0)
        transition, _, tangents = forward_tangents(CART, state, action, jnp.eye(2), jnp.eye(1))
        return transition, tangents

    return jax.vmap(one)(jax.random.split(key, count))


# What the observations of `draw` are: centred, of unit variance.
SEEN = normalization.Normalizer(jnp.array(1.0), jnp.zeros(2), jnp.ones(2))


def fit(key, hyper, steps=1_500):
    """A teacher after so many batches, and its metrics."""

    def step(state, at):
        key, rate = at
        now = replace(hyper, teacher_learning_rate=hyper.teacher_learning_rate * rate)
        found, _, metrics = TEACHER.update(state, SEEN, *draw(key), hyper.tangent_bound, key, now)
        return found, metrics

    # Towards 0 in the end, as Adam never settles at a constant rate.
    rates = jnp.linspace(1.0, 0.0, steps)
    return jax.lax.scan(step, TEACHER.init(key, hyper), (jax.random.split(key, steps), rates))


@pytest.fixture(scope="module")
def update():
    """One step, compiled once."""
    return jax.jit(lambda state, batch: TEACHER.update(state, SEEN, *batch, 100.0, KEY, HYPER))


@pytest.fixture(scope="module")
def fitted():
    """With the tangents and without them, seeds side by side: state and metrics."""
    weights = jnp.array([1.0, 0.0])
    run = jax.vmap(lambda weight: fit(
        jax.random.key(1), replace(HYPER, teacher_tangent_weight=weight)
    ))  # fmt: skip
    return jax.jit(run)(weights)


@pytest.fixture(scope="module")
def batch():
    return jax.jit(draw)(jax.random.key(7))


def test_tangents_of_a_network_with_known_weights():
    """Of `reward = 3 tanh(o . (1, 2) + a)` and `next = o + (1, -1) tanh(...)`, at 0."""
    transition, tangents = example_transition()
    transition = replace(transition, observation=jnp.zeros(2), action=jnp.zeros(1))

    def step(observation, action):
        hidden = jnp.tanh(observation @ jnp.array([1.0, 2.0]) + action[0])
        return 3.0 * hidden, observation + jnp.array([1.0, -1.0]) * hidden

    # Along (1, 0) and (0, nan): the first is not touched by the second.
    broken = replace(tangents.state, observation=jnp.array([[1.0, 0.0], [0.0, jnp.nan]]))
    found = replace_tangents(step, transition, replace(tangents, state=broken))
    np.testing.assert_array_equal(found.state.reward[0], 3.0)
    np.testing.assert_array_equal(found.state.next_observation[:, 0], [2.0, -1.0])
    np.testing.assert_array_equal(found.action.reward, [3.0])
    np.testing.assert_array_equal(found.action.next_observation, [[1.0], [-1.0]])
    # What the network is not asked about stays as it was.
    np.testing.assert_array_equal(found.state.observation, broken.observation)
    np.testing.assert_array_equal(found.action.action, tangents.action.action)
    assert found.state.action is None
    assert found.action.observation is None
    np.testing.assert_array_equal(found.state.discount, tangents.state.discount)


def test_tangents_converge_to_those_of_the_cart(fitted, update):
    state, metrics = fitted
    batch = jax.jit(draw)(jax.random.key(99))
    _, taught, _ = update(jax.tree.map(lambda leaf: leaf[0], state), batch)
    exact = batch[1]
    for side in ("state", "action"):
        for part in ("reward", "next_observation"):
            found, wanted = (getattr(getattr(t, side), part) for t in (taught, exact))
            # Swish is no polynomial, and the batch reaches three standard deviations: a network of
            # this size is within a few percent.
            assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted), (side, part)
    # 1 is what no knowledge gives.
    first, last = metrics["teacher_tangent_error"][0, 0], metrics["teacher_tangent_error"][0, -1]
    assert last < 0.1 < 0.5 < first
    assert metrics["teacher_value_error"][0, -1] < 0.05
    # Values alone leave the tangents further off.
    assert last < 0.7 * metrics["teacher_tangent_error"][1, -1]
    np.testing.assert_array_equal(metrics["teacher_dropped"], 0.0)


@pytest.mark.slow
def test_one_by_one_is_as_side_by_side():
    # A short piece suffices: Adam blows rounding up along the way.
    run = lambda key: fit(key, HYPER, steps=3)  # noqa: E731
    keys = jax.random.split(jax.random.key(2), 2)
    both, alone = jax.jit(jax.vmap(run))(keys), jax.jit(run)
    for at in range(2):
        jax.tree.map(
            # Sums in another order: float32, some digits lost where terms cancel.
            lambda a, b, at=at: np.testing.assert_allclose(a[at], b, rtol=1e-4, atol=1e-6),
            both,
            alone(keys[at]),
        )


def spoil(batch, number):
    """One direction of one transition, after the step."""
    transitions, tangents = batch
    after = tangents.state.next_observation.at[3, 0, 1].set(number)
    return transitions, replace(tangents, state=replace(tangents.state, next_observation=after))


def test_tangents_that_are_not_finite_or_too_long_are_counted_and_not_fitted_to(update, batch):
    state = jax.jit(TEACHER.init)(jax.random.key(3), HYPER)
    (first, taught, metrics), others = (
        update(state, spoil(batch, jnp.nan)),
        [update(state, spoil(batch, number)) for number in (jnp.inf, 1e3)],
    )
    for other, _, _ in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)
    kept, _, of_all = update(state, batch)
    assert not np.array_equal(
        kept.parameters["params"]["Dense_0"]["kernel"],
        first.parameters["params"]["Dense_0"]["kernel"],
    )
    # Of 64 transitions, with two directions of the state and one of the action.
    np.testing.assert_allclose(metrics["teacher_dropped"], 1 / (64 * 3), rtol=1e-6)
    assert of_all["teacher_dropped"] == 0
    # The network knows nothing of it.
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((first, taught, metrics)))


def test_transitions_that_are_not_finite_leave_the_others_alone(update, batch):
    state = jax.jit(TEACHER.init)(jax.random.key(3), HYPER)
    found = []
    for number in (jnp.nan, jnp.inf):
        after = batch[0].next_observation.at[5].set(number)
        found.append(update(state, (replace(batch[0], next_observation=after), batch[1])))
    jax.tree.map(np.testing.assert_array_equal, *found)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found[0]))


def test_a_direction_that_moves_nothing_seen_has_no_tangent(update, batch):
    transitions, tangents = batch
    blind = tangents.state.observation.at[:, :, 0].set(0.0)
    tangents = replace(tangents, state=replace(tangents.state, observation=blind))
    state = jax.jit(TEACHER.init)(jax.random.key(3), HYPER)
    found, taught, metrics = update(state, (transitions, tangents))
    np.testing.assert_array_equal(taught.state.next_observation[:, :, 0], 0.0)
    np.testing.assert_array_equal(taught.state.reward[:, 0], 0.0)
    assert metrics["teacher_dropped"] == 0
    # And is no reason to change the network.
    other, _, _ = update(
        state,
        (transitions, replace(tangents, state=replace(
            tangents.state, reward=tangents.state.reward.at[:, 0].set(50.0)
        ))),
    )  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, found, other)


def test_the_agent_gets_the_network_s_tangents_whatever_the_source():
    """Of the first three of five transitions; a bound on tangents changes nothing in these."""

    def run(name, bound):
        source = make_source(name, CART)
        hyper = replace(HYPER, tangent_bound=bound)

        def collect(key):
            return source.collect(key, CART.at(*jax.random.normal(key, (2,))), jnp.ones(1))[0]

        batch = jax.vmap(collect)(jax.random.split(jax.random.key(4), 5))
        kept = jax.tree.map(lambda leaf: leaf[:3], (batch.tangents, batch.state))
        state = TEACHER.init(jax.random.key(5), hyper)
        _, taught, metrics = teach(
            TEACHER, state, SEEN, Experience(batch.transition, *kept), source.tangents,
            jax.random.key(6), hyper,
        )  # fmt: skip
        first = jax.tree.map(lambda leaf: leaf[:3], batch.transition)
        tangents, _ = jax.vmap(given, in_axes=(0, None, None), out_axes=(0, None))(
            replace(taught, transition=first), jax.random.key(7), bound
        )
        _, expected, _ = TEACHER.update(state, SEEN, first, tangents, bound, KEY, hyper)
        return taught, tangents, expected, metrics["teacher_dropped"]

    runs = [("cached", 1e3), ("recomputed", 1e3), ("cached", 1e-3)]
    found = jax.jit(lambda: [run(*which) for which in runs])()
    for (name, bound), (taught, tangents, expected, dropped) in zip(runs, found, strict=True):
        # Whoever steps from there still can.
        assert (taught.state is None) == (name == "cached")
        assert taught.transition.reward.shape == (5,)
        # Those of the network at its first parameters, from observation and action alone: to take
        # them again changes nothing. One program; rounding differs where it is fused.
        for other in (expected, found[0][1]):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), tangents, other
            )
        assert dropped == (bound < 1), name
        exact = jnp.array([[1.0, 0.5], [0.0, 1.0]])
        assert not np.allclose(tangents.state.next_observation, exact, atol=0.01)


SMALL = {"num_envs": 4, "batch_size": 4, "replay_capacity": 64, "learning_starts": 8,
         "total_timesteps": 64, "epochs": 2, "hidden_sizes": (4,), "report_states": 0}  # fmt: skip


def test_without_a_teacher_nothing_is_kept_or_reported():
    hyper = td3.Hyperparameters()
    training = make_training(CART, td3.Config(**SMALL))
    state = jax.eval_shape(training.init, jax.random.key(0), hyper)
    assert state.teacher is None
    _, metrics = jax.eval_shape(training.learn, state, hyper, jnp.int32(0))
    assert not any("teacher" in name for name in metrics)


def test_a_teacher_that_is_no_longer_finite_freezes_the_run():
    config, hyper = sac.Config(**SMALL, teacher="fitted"), sac.Hyperparameters()
    setup = Setup(CART, config.make_agent(CART), config, config.make_source(CART))
    before = jax.jit(lambda key: start(setup, key, hyper))(jax.random.key(0))
    sick = jax.tree.map(lambda leaf: leaf * jnp.nan, before.teacher.parameters)
    after = replace(before, teacher=replace(before.teacher, parameters=sick))
    state, _, goes_on = jax.jit(lambda *two: keep_finite(*two, {}, {}, jnp.int32(16)))(
        before, after
    )
    assert not goes_on
    assert state.frozen_at == 16
    jax.tree.map(np.testing.assert_array_equal, state.teacher, before.teacher)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": "smooth"}, "'smooth' is unknown: choose one of simulator, fitted"),
        ({"first_order": "off"}, "first_order='off' has none: choose 'cached' or 'recomputed'"),
        ({"first_order": "reverse"}, "first_order='reverse' has none: choose 'cached'"),
        ({"n_step": 2}, "n_step=2 makes one of several, .*: choose n_step=1"),
    ],
)
def test_a_teacher_without_anything_to_learn_from_is_refused(options, message):
    with pytest.raises(ValueError, match=f"sac.Config: teacher=.*{message}"):
        sac.Config(**SMALL | {"teacher": "fitted"} | options).check(CART)


def test_a_teacher_without_effect_is_refused():
    config = sac.Config(**SMALL, teacher="fitted", first_order="recomputed", gradients_at="policy")
    with pytest.raises(
        ValueError, match=r"gradients_at='policy' takes the simulator's own .*teacher"
    ):
        config.check(CART)


def test_a_teacher_needs_an_observation_that_moves():
    class Blind(Cart):
        def perturb(self, state, displacement):
            return replace(state, physics=state.physics + displacement)

    with pytest.raises(ValueError, match="teacher='fitted': nothing observes the state"):
        sac.Config(**SMALL, teacher="fitted").check(Blind())


@pytest.mark.parametrize("name", ["teacher_learning_rate", "teacher_tangent_weight"])
def test_hyperparameters_are_checked(name):
    with pytest.raises(ValueError, match=f"{name}=-1.0 must be finite and at least 0"):
        sac.Hyperparameters(**{name: -1.0})
