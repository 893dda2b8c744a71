"""SHAC: what it learns, which environments it leaves out, and what it refuses."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax import make_training
from sobolax.agents import shac
from sobolax.agents.gradients import clip_gradient, shorten_outliers
from sobolax.cart import Cart
from sobolax.training import normalization
from sobolax.training.backward import differentiate
from sobolax.training.collection import begin
from sobolax.training.rollouts import roll_out
from sobolax.training.state import Setup
from tests.sobolax.agents.probe import DELAYED, ENDLESS, IMMEDIATE, Probe

GAMMA = 0.8
SIZES = {"num_envs": 4, "horizon": 4, "hidden_sizes": (8,), "evaluation_episodes": 1}
SIZES |= {"report_states": 0}
TINY = shac.Config(
    total_timesteps=64, epochs=2, critic_epochs=2, minibatches=2, activation="tanh", **SIZES
)


@pytest.fixture(scope="module")
def probed():
    """The agent after training on the probe, two seeds at once: its value and its policy."""
    config = shac.Config(
        total_timesteps=32 * 2 * 150,
        num_envs=32,
        horizon=2,
        epochs=1,
        critic_epochs=4,
        minibatches=2,
        critics=1,
        hidden_sizes=(32,),
        activation="tanh",
        evaluation_episodes=1,
        report_states=0,
        normalize_observations=False,
    )
    hyper = shac.Hyperparameters(discount=GAMMA, actor_learning_rate=1e-2)
    training = make_training(Probe(), config)
    keys = jax.random.split(jax.random.key(0), 2)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    def learned(key, hyper):
        return training.learn(training.init(key, hyper), hyper, 0)

    state, metrics = learned(keys, hyper)
    agent = config.make_agent(Probe())

    def look(kind, x, step, state):
        observation = jnp.concatenate([jax.nn.one_hot(kind, 3), jnp.stack([x, step])])
        where = state.agent, state.normalizer, observation
        return agent.value(*where, jnp.zeros(1)), agent.act(*where)[0]

    x = np.linspace(-0.8, 0.8, 9, dtype=np.float32)
    over_seeds = partial(jax.vmap, in_axes=(None, None, None, 0))
    over_states = partial(jax.vmap, in_axes=(None, 0, None, None))
    see = jax.jit(over_seeds(over_states(jax.value_and_grad(look, argnums=1, has_aux=True))))
    return x, lambda kind, step=0.0: jax.device_get(see(kind, x, step, state)), metrics


# A small network after 1,200 updates; seen are 0.02 for values and actions, 0.1 for slopes.
VALUE, SLOPE = 0.15, 0.35


def test_values_slopes_and_policy_of_the_probe(probed):
    x, see, metrics = probed
    assert metrics["windows_nonfinite"].tolist() == [0, 0]
    (value, action), slope = see(IMMEDIATE)
    # The policy's noise costs what its variance is, about the same everywhere.
    cost = np.mean(x - value, axis=1, keepdims=True)
    assert ((cost > -0.05) & (cost < 0.2)).all()
    np.testing.assert_allclose(value + cost, np.stack([x, x]), atol=VALUE)
    np.testing.assert_allclose(slope, np.ones((2, 9)), atol=SLOPE)
    np.testing.assert_allclose(action, np.stack([x, x]) / 2, atol=0.12)
    for step, share in ((0.0, GAMMA), (1.0, 1.0)):
        (value, _), slope = see(DELAYED, step)
        np.testing.assert_allclose(value, np.stack([x, x]) * 2 * share, atol=VALUE)
        np.testing.assert_allclose(slope, np.full((2, 9), 2 * share), atol=SLOPE)
    (value, _), _ = see(ENDLESS)
    # Were the time limit an end, three steps would be worth 1 + 0.8 + 0.64 at most.
    np.testing.assert_allclose(value, np.full((2, 9), 1 / (1 - GAMMA)), atol=2 * VALUE)


@pytest.fixture(scope="module")
def cart():
    """A window of four carts, and one update of the agent as a compiled function."""
    agent, hyper = TINY.make_agent(Cart()), shac.Hyperparameters(initial_temperature=0.1)
    setup = Setup(Cart(), agent, TINY, TINY.make_source(Cart()))

    @jax.jit
    def window(key):
        state = begin(setup, key, hyper)
        return state, roll_out(setup, state)[1]

    state, rollout = window(jax.random.key(0))

    return state.agent, rollout, hyper, updates_of(agent)


def updates_of(agent):
    @jax.jit
    def update(state, rollout, hyper):
        backward, seen = partial(differentiate, Cart()), normalization.init(2)
        return agent.update(state, seen, rollout, backward, jax.random.key(1), hyper)

    return update


def test_an_environment_without_a_finite_gradient_is_left_out_and_counted(cart):
    state, rollout, hyper, update = cart
    sick = np.array(rollout.states.physics)
    sick[2, 1] = np.nan
    states = replace(rollout.states, physics=sick)
    broken, metrics = update(state, replace(rollout, states=states), hyper)
    assert int(metrics["windows_nonfinite"]) == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(broken))
    # The actor moves as if the others were all.
    others = jax.tree.map(lambda leaf: np.asarray(leaf)[:, [0, 2, 3]], rollout)
    sound, _ = update(state, others, hyper)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), broken.actor, sound.actor)


def test_the_critic_learns_nothing_from_a_step_that_diverged(cart):
    """A reward of -1e24 is a finite number, and would be the whole of the loss."""
    state, rollout, hyper, update = cart
    physics = np.array(rollout.states.physics)
    physics[2, 1] = 1e12
    finite = rollout.finite.at[2, 1].set(False)
    diverged = replace(rollout, states=replace(rollout.states, physics=physics), finite=finite)
    after, metrics = update(state, diverged, hyper)
    assert int(metrics["windows_nonfinite"]) == 1
    assert metrics["value_loss"] < 100
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))


def test_without_a_single_window_the_actor_and_the_temperature_stay(cart):
    agent, rollout, hyper, update = cart
    # One step before, so that Adam has a momentum to go on by.
    agent, _ = update(agent, rollout, hyper)
    lost = replace(rollout, finite=jnp.zeros_like(rollout.finite))
    after, metrics = update(agent, lost, hyper)
    assert float(metrics["windows_dropped"]) == 1
    for name in ("actor", "actor_optimizer", "temperature", "temperature_optimizer"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(agent, name))
    moved, metrics = update(agent, rollout, hyper)
    assert float(metrics["windows_dropped"]) == 0
    assert not np.array_equal(*map(first_leaf, (moved.actor, agent.actor)))


def test_a_gradient_whose_square_overflows_keeps_its_direction():
    clipped, norm = clip_gradient({"w": jnp.array([3e25, 4e25]), "b": jnp.zeros(1)}, 2.0)
    np.testing.assert_allclose(clipped["w"], [1.2, 1.6], rtol=1e-6)  # of float32
    np.testing.assert_allclose(norm, 5e25, rtol=1e-6)
    zero, norm = clip_gradient({"w": jnp.zeros(2)}, 2.0)
    assert (zero["w"].tolist(), float(norm)) == ([0.0, 0.0], 0.0)


def test_a_weight_of_zero_is_plain_shac(cart):
    """And so is any weight, for the actor of the same window."""
    state, rollout, hyper, update = cart
    plain = replace(TINY, first_order="off").make_agent(Cart())
    without, _ = updates_of(plain)(state, rollout, hyper)
    zero, _ = update(state, rollout, replace(hyper, state_weight=0.0))
    # Two programs: XLA may contract a product and a sum in one of them, which is one rounding.
    one_rounding = partial(np.testing.assert_allclose, rtol=2.4e-7)
    jax.tree.map(one_rounding, zero.critics, without.critics)
    jax.tree.map(one_rounding, zero.actor, without.actor)
    weighted, metrics = update(state, rollout, hyper)
    jax.tree.map(one_rounding, weighted.actor, without.actor)
    assert float(metrics["state_gradient_loss"]) > 0
    assert not np.array_equal(*map(first_leaf, (weighted.critics, without.critics)))


def first_leaf(tree):
    return jax.tree.leaves(tree)[0]


def test_the_target_moves_once_after_a_window(cart):
    before, rollout, hyper, update = cart
    after, _ = update(before, rollout, replace(hyper, tau=0.25))
    for new, old, target in zip(
        *(
            map(np.asarray, jax.tree.leaves(tree))
            for tree in (after.critics.parameters, before.critics.target, after.critics.target)
        ),
        strict=True,
    ):
        np.testing.assert_allclose(target, 0.25 * new + 0.75 * old, rtol=1e-6, atol=1e-7)


def test_too_little_entropy_raises_the_temperature(cart):
    state, rollout, hyper, update = cart
    warm, cool = (
        update(state, rollout, replace(hyper, target_entropy=at))[0] for at in (5.0, -50.0)
    )
    assert float(cool.temperature) < 0.1 < float(warm.temperature)


def test_gradients_far_longer_than_the_others_are_shortened():
    gradients = jnp.array([[[3.0, 4.0], [0.6, 0.8], [300.0, -400.0]], [[0.0, 2.0]] * 3])
    kept = jnp.ones((2, 3), bool)
    # Lengths are 5, 1, 500 and three times 2: the median is 2.
    shortened, share = shorten_outliers(gradients, kept, 2.0)
    wanted = gradients.at[0, 0].multiply(0.8).at[0, 2].multiply(0.008)
    np.testing.assert_allclose(shortened, wanted, rtol=1e-6)  # float32
    assert float(share) == pytest.approx(2 / 6)
    same, none = shorten_outliers(gradients, kept, jnp.inf)
    np.testing.assert_array_equal(same, gradients)
    assert none == 0


def test_a_median_is_of_what_counts():
    gradients = jnp.array([[[1.0], [1.0], [9.0]], [[jnp.nan], [jnp.inf], [1e9]]])
    kept = jnp.array([[True] * 3, [False] * 3])
    shortened, share = shorten_outliers(gradients, kept, 3.0)
    assert shortened.ravel().tolist() == [1.0, 1.0, 3.0, 0.0, 0.0, 0.0]
    assert float(share) == pytest.approx(1 / 3)
    # Nothing counts; or most are zero, and there is no length to go by.
    assert not shorten_outliers(gradients, jnp.zeros((2, 3), bool), 3.0)[0].any()
    sparse = jnp.array([[[0.0], [0.0], [7.0]]])
    np.testing.assert_array_equal(shorten_outliers(sparse, jnp.ones((1, 3), bool), 3.0)[0], sparse)


def test_the_bound_on_outliers_reaches_the_actor(cart):
    state, rollout, hyper, update = cart

    def moved(rollout, bound):
        after, metrics = update(state, rollout, replace(hyper, outlier_bound=bound))
        return jax.flatten_util.ravel_pytree(after.actor)[0], metrics

    plain, metrics = moved(rollout, jnp.inf)
    assert metrics["outliers_shortened"] == 0
    bounded, metrics = moved(rollout, 1.5)
    assert 0 < metrics["outliers_shortened"] < 1
    assert not np.array_equal(plain, bounded)


def test_a_discount_makes_no_outliers(cart):
    """Nor does a discount of 0, with which one step of a window counts, hide them."""
    state, rollout, hyper, update = cart
    for discount in (1e-6, 0.0):
        shares = []
        for bound in (1e3, 0.9):
            own = replace(hyper, discount=discount, outlier_bound=bound)
            after, metrics = update(state, rollout, own)
            shares.append(float(metrics["outliers_shortened"]))
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.actor))
        assert shares[0] == 0
        assert 0.25 < shares[1] < 0.75  # of those beyond nine tenths of the median


@pytest.mark.slow
def test_seeds_and_hyperparameters_are_one_program_and_equal_one_by_one():
    training = make_training(Cart(), TINY)
    keys = jax.random.split(jax.random.key(0), 2)
    hyper = jax.tree.map(lambda value: np.full(2, value, np.float32), shac.Hyperparameters())
    hyper = replace(hyper, trace=np.float32([0.95, 0.5]), growth_bound=np.float32([np.inf, 1.5]))
    hyper = replace(hyper, initial_temperature=np.float32([0.0, 0.1]))
    start = jax.jit(jax.vmap(training.init))(keys, hyper)
    states, metrics = jax.jit(jax.vmap(training.learn, in_axes=(0, 0, None)))(start, hyper, 0)
    assert metrics["temperature"][0] == 0.0  # no bonus stays none
    assert metrics["environment_steps"].tolist() == [32, 32]
    assert metrics["windows_cut"][0] == 0
    assert metrics["windows_cut"][1] > 0

    @jax.jit
    def one_by_one(start, hyper):
        return jax.lax.map(lambda run: training.learn(*run, 0)[0].agent, (start, hyper))

    # Two iterations of float32 in another order of operations; parameters of order one.
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, states.agent, one_by_one(start, hyper))
    assert states.replay is None


def test_the_report_is_on_values_of_states():
    training = make_training(Cart(), replace(TINY, evaluation_episodes=2, report_states=2))
    hyper = shac.Hyperparameters()
    state = jax.eval_shape(training.init, jax.random.key(0), hyper)
    found = jax.eval_shape(training.look, state, hyper, 0)
    assert {"value_error", "state_gradient_error", "std_gradient_cosine"} < found.keys()
    assert "action_gradient_error" not in found


@pytest.mark.parametrize("first_order", ["off", "reverse"])
def test_the_simulator_s_derivatives_are_checked_with_or_without_a_sobolev_critic(first_order):
    config = replace(TINY, first_order=first_order)
    training, hyper = make_training(Cart(), config), shac.Hyperparameters()
    state = jax.eval_shape(training.init, jax.random.key(0), hyper)
    found = jax.eval_shape(training.check, state, hyper, jax.random.key(0))
    assert found["tangent_disagreement"].shape == ()
    assert make_training(Cart(), replace(config, check_tangents=False)).check is None


class NoReverse(Cart):
    """A cart whose simulator says why it has no reverse mode."""

    reverse_mode = False

    def __init__(self):
        self.own_derivatives = {"analytic": "its integrator is RK4"}


@pytest.mark.parametrize(
    ("changes", "environment", "message"),
    [
        ({"report_states": 17}, Cart(), "report_states=17 is more than evaluation_episodes=16"),
        ({"horizon": 41, "total_timesteps": 41 * 512}, Cart(), "horizon=41 is longer than an epi"),
        (
            {"horizon": 3},
            Cart(),
            "total_timesteps=524288 must be a multiple of num_envs \\* epochs",
        ),
        ({"horizon": 0}, Cart(), "horizon=0 must be a whole number"),
        ({"minibatches": 3}, Cart(), "num_envs \\* horizon=2048 must be a multiple of minibatch"),
        ({}, NoReverse(), "no reverse mode \\(its integrator is RK4\\).* choose sac, td3"),
        ({"first_order": "cached"}, Cart(), "first_order='cached' is unknown.*off, reverse"),
        ({"gradient_units": "state_std"}, Cart(), "gradient_units='state_std' is unknown"),
        ({"first_order": "off", "gradient_target": "zero"}, Cart(), "would do nothing"),
        (
            {"gradient_units": "observation_std", "normalize_observations": False},
            Cart(),
            "switch normalize_observations on",
        ),
        ({"activation": "relu"}, Cart(), "not smooth"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_compiles(changes, environment, message):
    with pytest.raises(ValueError, match=message):
        make_training(environment, shac.Config(**changes))


@pytest.mark.parametrize("name", ["replay_capacity", "batch_size", "n_step", "gradient_steps"])
def test_settings_of_a_replay_buffer_are_no_settings_of_shac(name):
    with pytest.raises(TypeError, match=name):
        shac.Config(**{name: 4})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trace": 1.5}, "trace=1.5 must be at most 1"),
        ({"growth_bound": 0.0}, "growth_bound=0.0 must be above 0"),
        ({"outlier_bound": -1.0}, "outlier_bound=-1.0 must be above 0"),
        ({"initial_temperature": -1.0}, "initial_temperature=-1.0 must be finite and at least 0"),
    ],
)
def test_hyperparameters_that_cannot_work(values, message):
    with pytest.raises(ValueError, match=message):
        shac.Hyperparameters(**values)
