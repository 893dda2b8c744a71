"""Units and trust against numbers worked out by hand, numpy's SVD and a problem with a known Q*."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax.agents import sac, td3
from sobolax.cart import Cart
from sobolax.losses import (
    Weights,
    batch_loss,
    mean_squares,
    scale_gradients,
    sobolev_errors,
    squares,
)
from sobolax.tangents.forward import TransitionMap, forward_tangents
from sobolax.tangents.storage import make_storage
from sobolax.tangents.trust import clip_growth, clip_singular_values, soft_trust
from sobolax.tangents.units import gradient_scales, is_observed, observed_motion
from sobolax.training import normalization, replay
from sobolax.training.loop import make_training
from sobolax.training.state import Setup
from sobolax.training.updates import find_tangents
from sobolax.transition import Tangents, Transition

# Observations: 3 along the first direction, (0, 4) along the second, nothing along the third.
OBSERVATION = np.float32([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
NEXT = np.float32([[6.0, 0.0, 9.0], [8.0, 2.0, 9.0]])
DEVIATION = np.float32([1.0, 2.0])
TANGENTS = Tangents(
    state=Transition(OBSERVATION, None, np.zeros(3, np.float32), None, NEXT),
    action=Transition(
        None, np.eye(1, dtype=np.float32), np.zeros(1, np.float32), None, np.float32([[0], [6]])
    ),
)
# Op by op every test would wait for dozens of programs.
motion_of = jax.jit(observed_motion)
scales_of = jax.jit(gradient_scales, static_argnames=("units", "trust"))
clipped_by = jax.jit(clip_growth)


def test_a_unit_is_what_moves_the_observation_by_a_standard_deviation():
    """Motions 3, 4/2 and none, so units of a third, a half and nothing at all."""
    np.testing.assert_allclose(motion_of(TANGENTS, DEVIATION), [3.0, 2.0, 0.0])
    scales = scales_of(TANGENTS, DEVIATION, 0.9, units="observation_std")
    np.testing.assert_allclose(scales.state, [1 / 3, 1 / 2, 0.0], rtol=1e-6)
    np.testing.assert_allclose(scales.action, [1.0])


def test_trust_falls_with_what_the_step_stretches():
    """Growth sqrt(6^2 + 4^2) / 3 and 1 / 2 along the state, 3 along the action."""
    growth = np.array([np.sqrt(52.0) / 3, 0.5])
    weights = 1 / (1 + (0.9 * growth) ** 2)
    raw = scales_of(TANGENTS, DEVIATION, 0.9, trust="soft")
    np.testing.assert_allclose(np.square(raw.state), [*weights, 0.0], rtol=1e-6)
    np.testing.assert_allclose(np.square(raw.action), [1 / (1 + 2.7**2)], rtol=1e-6)
    scaled = scales_of(TANGENTS, DEVIATION, 0.9, "observation_std", "soft")
    np.testing.assert_allclose(scaled.state, raw.state * np.array([1 / 3, 1 / 2, 0]), rtol=1e-6)
    # At the end of an episode nothing is bootstrapped.
    ended = scales_of(TANGENTS, DEVIATION, 0.0, trust="soft")
    np.testing.assert_allclose(ended.state, [1.0, 1.0, 0.0])
    # An impact that multiplies by 100 counts a ten-thousandth.
    np.testing.assert_allclose(soft_trust(jnp.array(100.0), 1.0), 1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"units": "observation-std"}, "units='observation-std' is unknown .*'observation_std'"),
        ({"trust": "softly"}, r"trust='softly' is unknown \(did you mean 'soft'"),
    ],
)
def test_unknown_units_and_trust_are_refused_by_name(names, message):
    with pytest.raises(ValueError, match=message):
        scales_of(TANGENTS, DEVIATION, 0.9, **names)


def test_a_transition_map_cannot_be_trusted_less():
    where = TransitionMap(Cart(), Cart().at(1.0, 0.0))
    with pytest.raises(ValueError, match="trust='soft' needs tangents"):
        gradient_scales(where, DEVIATION, 0.9, trust="soft")


def test_rounding_is_no_observation():
    observation = OBSERVATION.copy()
    observation[0, 2] = 1e-7
    noisy = replace(TANGENTS, state=replace(TANGENTS.state, observation=observation))
    scales = scales_of(noisy, DEVIATION, 0.9, "observation_std")
    assert scales.state[2] == 0.0


@pytest.mark.parametrize("trust", ["full", "soft", "hard"])
def test_a_tangent_that_is_not_finite_leaves_the_others_alone(trust):
    transition = Transition(*(np.ones(shape, np.float32) for shape in (2, 1, (), (), 2)))
    following = NEXT.copy()
    following[0, 0] = np.nan
    broken = replace(TANGENTS.state, next_observation=following)

    @jax.jit
    def errors_of(tangents):
        if trust == "hard":
            motion = observed_motion(tangents, DEVIATION)
            tangents = clip_growth(tangents, motion, DEVIATION, 0.9)
        scales = gradient_scales(tangents, DEVIATION, 0.9, "observation_std", trust)
        errors = sobolev_errors(td_error, transition, tangents)
        return scale_gradients(errors, scales)

    def td_error(t):
        return jnp.sum(t.observation**2) * t.action[0] - t.reward - jnp.sum(t.next_observation**3)

    sound, found = errors_of(TANGENTS), errors_of(replace(TANGENTS, state=broken))
    assert found.state.valid.tolist() == [False, True, True]
    assert found.state.target[0] == 0.0
    assert np.isfinite(squares(found).state).all()
    if trust != "hard":  # clipping mixes directions, of which there is now one less
        np.testing.assert_allclose(found.state.target[1:], sound.state.target[1:])


def test_tangents_dropped_from_storage_stay_dropped():
    storage = make_storage("int8")

    @jax.jit
    def look(tangents):
        stored, bound = storage.unpack(storage.pack(jax.random.key(0), tangents), 5.0)
        return gradient_scales(stored, DEVIATION, 0.9, "observation_std", "soft"), bound

    scales, bound = look(TANGENTS)
    assert bound == jnp.inf
    # Lengths 10.4 and 4.5: the first is beyond the bound.
    assert scales.state[0] == 0.0
    assert scales.state[1] > 0.0


def test_units_need_no_simulator_in_reverse_mode(float64):
    env = envs.make("lqr", dimension=3, actions=2)

    @jax.jit
    def forward(key):
        state = env.reset(key)
        return state, forward_tangents(env, state, jnp.zeros(2), jnp.eye(3), jnp.eye(2))[2]

    state, tangents = forward(jax.random.key(0))
    deviation = jnp.array([0.5, 1.0, 4.0])
    stored, reverse = (
        gradient_scales(where, deviation, 0.9, units="observation_std")
        for where in (tangents, TransitionMap(env, state))
    )
    np.testing.assert_allclose(stored.state, deviation)
    np.testing.assert_allclose(reverse.state, deviation)
    assert reverse.action.shape == stored.action.shape


def spectra():
    draw = np.random.default_rng(0)
    for shape in ((5, 3), (3, 5), (12, 20), (20, 12)):
        left, _ = np.linalg.qr(draw.normal(size=(shape[0], min(shape))))
        right, _ = np.linalg.qr(draw.normal(size=(shape[1], min(shape))))
        for values in (
            np.geomspace(1e3, 1e-3, min(shape)),
            np.r_[50.0, 3.0, 1.2, np.linspace(0.9, 0.1, min(shape) - 3)],
            np.full(min(shape), 0.5),
        ):
            yield pytest.param(left * values, right.T, values, id=f"{shape}-{values[0]:g}")


@pytest.mark.parametrize(("left", "right", "values"), list(spectra()))
def test_singular_values_are_clipped_as_numpy_would(float64, left, right, values):
    matrix = left @ right
    found = np.asarray(jax.jit(clip_singular_values)(jnp.asarray(matrix), 1.0))
    assert np.linalg.svd(found, compute_uv=False)[0] <= 1.0 + 1e-9
    # Up to four values beyond the bound are clipped one by one.
    beyond = np.sum(values > 1.0)
    exact = (left / values * np.minimum(values, 1.0)) @ right
    if beyond <= 4:
        assert np.abs(found - exact).max() <= 5e-2


@pytest.mark.parametrize("shape", [(4, 4), (12, 11), (27, 28)])
def test_no_singular_value_stays_beyond_the_bound(shape):
    """Steps that hardly move: many values close to each other, about half of them too large."""
    bound, noise = 1.01, np.random.default_rng(0).normal(size=(100, *shape))
    matrices = np.float32(1.02 * np.eye(*shape) + 0.05 * noise)
    found = jax.jit(jax.vmap(lambda matrix: clip_singular_values(matrix, bound)))(matrices)
    before, largest = (
        np.linalg.svd(np.float64(part), compute_uv=False)[:, 0] for part in (matrices, found)
    )
    beyond = before > bound
    assert beyond.sum() > 90
    # Up to rounding; and no more is taken than the docstring says.
    assert largest.max() <= bound * (1 + 1e-5)
    assert largest[beyond].min() >= bound * min(shape) ** (-1 / 256) * (1 - 1e-5)


def test_a_clipped_matrix_that_was_small_is_itself():
    clip = jax.jit(clip_singular_values)
    matrix = np.float32([[0.3, 0.2], [0.0, 0.4], [0.1, 0.0]])
    assert np.all(clip(matrix, 1.0) == matrix)
    assert np.all(clip(np.zeros((2, 3), np.float32), 1.0) == 0.0)


def test_clipped_growth_is_bounded_in_standard_deviations():
    motion = np.asarray(motion_of(TANGENTS, DEVIATION))
    clipped = clipped_by(TANGENTS, motion, DEVIATION, 0.8)
    whitened = np.asarray(clipped.state.next_observation) / DEVIATION[:, None]
    whitened = whitened[:, :2] / motion[:2]
    before = np.asarray(NEXT / DEVIATION[:, None])[:, :2] / motion[:2]
    left, values, right = np.linalg.svd(before)
    assert values[0] > 1 / 0.8 > values[1]
    expected = left @ np.diag(np.minimum(values, 1 / 0.8)) @ right
    np.testing.assert_allclose(whitened, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(clipped.state.next_observation[:, 2], NEXT[:, 2])
    # The action moves the next observation by three standard deviations.
    np.testing.assert_allclose(clipped.action.next_observation, [[0.0], [2.5]], rtol=1e-5)
    np.testing.assert_array_equal(
        clipped_by(TANGENTS, motion, DEVIATION, 0.0).state.next_observation, NEXT
    )


@pytest.mark.parametrize("dimension", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_true_q_has_no_loss_in_any_unit(float64, dimension):
    """With `x' = A x + B a` a unit of coordinate i is `s_i`, and `g_i` becomes `s_i g_i`."""
    env = envs.make("lqr", dimension=dimension, actions=2)
    deviation = jnp.linspace(0.1, 3.0, dimension)

    def td_error(scale, t):
        target = t.reward + env.discount * t.discount * env.optimal_value(t.next_observation)
        return scale * env.optimal_q(t.observation, t.action) - target

    @partial(jax.jit, static_argnames=("units", "trust"))
    def terms(key, scale, units, trust):
        state = env.reset(key)
        action = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        transition, _, tangents = forward_tangents(
            env, state, action, jnp.eye(dimension), jnp.eye(2)
        )
        discount = env.discount * transition.discount
        if trust == "hard":
            motion = observed_motion(tangents, deviation)
            tangents = clip_growth(tangents, motion, deviation, discount)
        errors = sobolev_errors(partial(td_error, scale), transition, tangents)
        scales = gradient_scales(tangents, deviation, discount, units, trust)
        found = squares(scale_gradients(errors, scales))
        return jax.tree.map(lambda leaf: leaf[None], found)

    key = jax.random.key(1)
    plain = terms(key, 1.1, "raw", "full")
    for units in ("raw", "observation_std"):
        unit = deviation if units == "observation_std" else jnp.ones(dimension)
        whitened = env.dynamics / np.asarray(deviation)[:, None] * np.asarray(deviation)
        weights = 1 / (1 + env.discount**2 * np.sum(whitened**2, axis=0))
        for trust, weight in (("full", np.ones(dimension)), ("soft", weights)):
            # Rounding of values of order 1 to 100, squared.
            assert batch_loss(terms(key, 1.0, units, trust), Weights(1.0, 1.0)) < 1e-24
            found = mean_squares(terms(key, 1.1, units, trust))[0]
            np.testing.assert_allclose(found, plain.state[0] * unit**2 * weight, rtol=1e-9)
        if dimension > 1:  # that what is stretched is clipped moves the target
            assert np.linalg.svd(whitened)[1][0] > 1 / env.discount
            assert batch_loss(terms(key, 1.0, units, "hard"), Weights(1.0, 1.0)) > 1e-6


def test_a_state_unit_is_the_standard_deviation_of_a_coordinate():
    """Collected without updates; then a tangent along coordinate i is as long as its deviation."""
    cart = Cart()
    sizes = {"total_timesteps": 64, "num_envs": 4, "epochs": 1, "gradient_steps": 0}
    counts = {"learning_starts": 8, "batch_size": 4, "replay_capacity": 64, "report_states": 0}
    config = sac.Config(**sizes, **counts, hidden_sizes=(4,), gradient_units="state_std")
    training, hyper = make_training(cart, config), sac.Hyperparameters()
    state = jax.jit(lambda key: training.learn(training.init(key, hyper), hyper, jnp.int32(0))[0])(
        jax.random.key(0)
    )
    # The cart's observation is its state, and all 64 transitions are still there.
    experience = replay.read_all(state.replay)
    deviation = np.std(experience.transition.observation, axis=0)
    setup = Setup(cart, config.make_agent(cart), config, config.make_source(cart))
    first = jax.tree.map(lambda leaf: leaf[0], experience)
    found, bound = find_tangents(setup, state)(first, jax.random.key(0), 7.0)
    assert bound == 7.0  # in these units, so not applied to anything before
    np.testing.assert_allclose(found.state.observation, np.diag(deviation), rtol=1e-4)
    expected = first.tangents.state.next_observation * deviation
    np.testing.assert_allclose(found.state.next_observation, expected, rtol=1e-4)
    np.testing.assert_array_equal(found.action.reward, first.tangents.action.reward)
    # Packed tangents could apply the bound where they are unpacked, in units of the environment.
    packed = replace(config, tangent_dtype="int8")
    source = packed.make_source(cart)
    small, _ = source.collect(jax.random.key(0), cart.at(1.0, 0.0), jnp.ones(1))
    setup = Setup(cart, packed.make_agent(cart), packed, source)
    found, bound = find_tangents(setup, state)(small, jax.random.key(0), 1e-6)
    assert bound == 1e-6
    np.testing.assert_allclose(found.state.observation, np.diag(deviation), rtol=1e-2)


def test_a_state_unit_without_directions_of_the_state_leaves_tangents_as_they_are():
    cart, config = Cart(), sac.Config(gradient_units="state_std", state_directions=0)
    training, hyper = make_training(cart, config), sac.Hyperparameters()
    state = jax.eval_shape(training.init, jax.random.key(0), hyper)
    far_apart = normalization.update(normalization.init(2), jnp.eye(2) * 8)
    state = replace(state, coordinates=far_apart)
    source = config.make_source(cart)
    experience, _ = source.collect(jax.random.key(0), cart.at(1.0, 0.0), jnp.ones(1))
    setup = Setup(cart, config.make_agent(cart), config, source)
    found, bound = find_tangents(setup, state)(experience, jax.random.key(0), 7.0)
    assert bound == 7.0
    jax.tree.map(np.testing.assert_array_equal, found, experience.tangents)
    assert found.state.next_observation.shape == (2, 0)
    assert np.any(found.action.next_observation)


def test_coordinates_move_as_the_state_does():
    env = envs.make("hopper")
    state = jax.eval_shape(env.reset, jax.random.key(0))
    assert jax.eval_shape(env.coordinates, state).shape == (env.state_size,)
    for name in ("lqr", "scalar", "pendulum", "point_mass"):
        env = envs.make(name)

        def moved(displacement, env=env):
            state = env.reset(jax.random.key(0))
            return env.coordinates(env.perturb(state, displacement)) - env.coordinates(state)

        displacement = 0.1 * np.arange(1.0, env.state_size + 1, dtype=np.float32)
        np.testing.assert_allclose(jax.jit(moved)(displacement), displacement, rtol=1e-5)


class Unobserved(Cart):
    """A cart whose `perturb` forgets the observation."""

    name = "unobserved"

    def perturb(self, state, displacement):
        return replace(state, physics=state.physics + displacement)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_units": "std"}, "gradient_units='std' is unknown"),
        ({"trust": "sofd"}, "did you mean 'soft'"),
        (
            {"gradient_units": "observation_std", "normalize_observations": False},
            "normalize_observations is False",
        ),
        ({"gradient_units": "observation_std", "state_directions": 1}, "state_directions=1 draws"),
        ({"trust": "soft", "state_directions": 2}, "state_directions=2 draws"),
        ({"trust": "hard", "action_directions": 1}, "action_directions=1 draws"),
        ({"trust": "soft", "first_order": "reverse"}, "choose 'cached' or 'recomputed'"),
        ({"trust": "soft", "first_order": "off"}, "would do nothing"),
        ({"gradient_units": "observation_std", "first_order": "off"}, "would do nothing"),
        ({"gradient_units": "state_std", "first_order": "reverse"}, "scales tangents"),
        ({"trust": "hard", "gradient_target": "zero"}, "'zero' replaces it: choose trust='soft'"),
        ({"trust": "hard", "gradient_target": "unit_norm"}, "'unit_norm' replaces it"),
        ({"teacher": "fitted", "gradient_target": "zero"}, "choose teacher='simulator'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_compiles(options, message):
    for agent in (sac, td3):
        with pytest.raises(ValueError, match=message):
            agent.Config(**options).check(Cart())


def test_a_state_that_nothing_observes_is_refused():
    assert is_observed(Cart())
    assert not is_observed(Unobserved())
    with pytest.raises(ValueError, match="nothing observes the state of environment 'unobserved'"):
        sac.Config(gradient_units="observation_std").check(Unobserved())
    sac.Config().check(Unobserved())
    sac.Config(gradient_units="state_std").check(Unobserved())


def test_an_environment_without_coordinates_is_refused_by_name():
    class Plain:
        """A cart that does not say where it is."""

        def __getattr__(self, name):
            if name == "coordinates":
                raise AttributeError(name)
            return getattr(Cart(), name)

    with pytest.raises(ValueError, match=r"'cart' has no coordinates\(state\)"):
        sac.Config(gradient_units="state_std").check(Plain())


@pytest.mark.parametrize(
    ("coordinates", "message"),
    [
        (lambda state: state.physics[:, None], r"has shape \(2, 1\), but must have shape \(2,\)"),
        (lambda state: {"x": state.physics}, r"gives a dict, but must have shape \(2,\)"),
        (lambda state: state.qpos, "failed: .*qpos"),
    ],
)
def test_coordinates_of_a_wrong_shape_are_refused_by_name(coordinates, message):
    cart = Cart()
    cart.coordinates = coordinates
    with pytest.raises(ValueError, match=rf"'cart': coordinates\(state\) {message}"):
        sac.Config(gradient_units="state_std").check(cart)
