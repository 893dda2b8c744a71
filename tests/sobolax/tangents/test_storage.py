"""Tangents come out of the buffer as they went in, as nearly as their storage allows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax.losses import sobolev_errors
from sobolax.tangents.sources import make_source
from sobolax.tangents.storage import TANGENT_DTYPES, Moving, make_storage, moving_parts
from sobolax.training.n_step import MultiStep, start_of
from sobolax.transition import Tangents, Transition

PACKED = ("int8", "int4")


def draw_tangents(seed=0, states=4, size=6, actions=3):
    """Tangents whose parts and directions differ in size by orders of magnitude."""
    draw = np.random.default_rng(seed)

    def normal(*shape):
        return draw.normal(size=shape).astype(np.float32)

    scale = np.float32([1e-3, 1.0, 30.0, 1.0, 1e-2, 1.0])[:, None]
    return Tangents(
        Transition(normal(size, states), None, normal(states), None, normal(size, states) * scale),
        Transition(
            None,
            np.eye(actions, dtype=np.float32),
            10 * normal(actions),
            None,
            normal(size, actions) * scale,
        ),
    )


def there_and_back(storage, given, bound=jnp.inf):
    """What is stored, and what comes out of it: one program, as op by op it would be a hundred."""

    @jax.jit
    def program(given):
        stored = storage.pack(jax.random.key(0), given)
        return stored, storage.unpack(stored, bound)

    return jax.device_get(program(given))


def leaves(tangents):
    return {
        f"{kind}.{name}": leaf
        for kind in ("state", "action")
        for name, leaf in vars(getattr(tangents, kind)).items()
        if leaf is not None
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_numbers_are_kept_in_the_type_asked_for(dtype):
    given = draw_tangents()
    storage = make_storage(dtype)
    stored, (found, bound) = there_and_back(storage, given, 3.0)
    assert {leaf.dtype for leaf in jax.tree.leaves(stored)} == {jnp.dtype(dtype)}
    assert bound == 3.0
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b.astype(a.dtype)), found, given)


@pytest.mark.parametrize("dtype", PACKED)
def test_rounding_is_small_beside_the_direction_and_right_in_the_mean(dtype):
    given = draw_tangents()
    storage = make_storage(dtype, Moving(action=(0, 4, 8)))
    draws = 4000

    @jax.jit
    @jax.vmap
    def restored(key):
        return storage.unpack(storage.pack(key, given), jnp.inf)[0]

    found = jax.device_get(restored(jax.random.split(jax.random.key(0), draws)))
    precision = {"int8": 0.0, "int4": 2**-8}[dtype]
    for name in ("state.observation", "state.reward", "action.action", "action.reward"):
        np.testing.assert_allclose(leaves(found)[name][0], leaves(given)[name], rtol=precision)
    for kind in ("state", "action"):
        numbers, rounded = (getattr(part, kind).next_observation for part in (given, found))
        direction = np.max(np.abs(numbers), axis=0)
        largest = np.max(np.abs(numbers / direction), axis=1, keepdims=True)
        # Both scales are powers of 2^(1/8), or of 2^(1/2) down to 2^(-7.5) with 4 bits.
        levels, slack, smallest = {"int8": (127, 2**0.25, 0), "int4": (7, 2.0, 2**-7.5)}[dtype]
        scale = direction * np.maximum(largest, smallest) * slack
        # From one square to the next: ((b + 1)^2 - b^2) / levels^2 of the scale.
        gap = (2 * np.sqrt(np.abs(numbers) * scale) * levels + scale) / levels**2
        inexact = precision * np.abs(numbers)
        assert (np.abs(rounded - numbers) <= gap * 1.01 + inexact).all()
        # Either end of a gap: a standard deviation of half of it at most; five of the mean's.
        allowed = 5 * 0.5 * gap / np.sqrt(draws) + inexact
        assert (np.abs(rounded.mean(axis=0) - numbers) <= allowed).all()
        assert (rounded.std(axis=0) > 0).mean() > 0.8, "hardly anything was rounded"


@pytest.mark.parametrize("dtype", PACKED)
def test_the_longest_number_of_a_direction_is_right_in_the_mean(dtype):
    """It is as long as the direction, whose length bfloat16 rounds."""
    numbers = np.linspace(1.0, 2.0, 64, dtype=np.float32)[None]
    rest = np.zeros((1, 0), np.float32)
    given = Tangents(
        Transition(None, None, None, None, numbers), Transition(None, rest, None, None, rest)
    )
    storage = make_storage(dtype)

    @jax.jit
    @jax.vmap
    def restored(key):
        return storage.unpack(storage.pack(key, given), jnp.inf)[0].state.next_observation

    found = np.asarray(restored(jax.random.split(jax.random.key(0), 4000)), np.float64)
    error = (found / numbers).mean(axis=(0, 1)) - 1
    # Draws spread by 5 % at most with 4 bits; rounding lengths to the nearest was a bias of 0.3 %.
    assert abs(error.mean()) <= 5 * 0.05 / np.sqrt(found.size)
    assert np.abs(error).max() <= 5 * 0.05 / np.sqrt(len(found))


@pytest.mark.parametrize("dtype", PACKED)
def test_zeros_stay_zeros(dtype):
    given = jax.tree.map(np.zeros_like, draw_tangents())
    _, (found, _) = there_and_back(make_storage(dtype), given)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("dtype", TANGENT_DTYPES)
def test_what_is_not_finite_or_too_long_is_dropped_as_it_was(dtype):
    given = draw_tangents(states=7)
    state = given.state
    length = np.sqrt(
        np.sum(state.observation**2, axis=0)
        + state.reward**2
        + np.sum(state.next_observation**2, axis=0)
    )
    bound = 10.0
    # bfloat16 has 8 bits: what is nearer to the bound than that may fall on either side.
    near = 2**-7 if dtype in ("bfloat16", "int4", "float16") else 1e-5
    wanted = bound * np.float32([0.5, 1.0 - near, 1.0 + near, 1e-3, 2.0, 0.5, 1e-6])
    state = jax.tree.map(lambda leaf: leaf * wanted / length, state)
    # One is no number in what is rounded, another is infinite in what is not.
    state.reward[5], state.observation[2, 3] = np.nan, -np.inf
    _, (tangents, left) = there_and_back(make_storage(dtype), Tangents(state, given.action), bound)
    ones = (np.ones(shape, np.float32) for shape in (6, 3, (), (), 6))
    transition = Transition(*ones)

    def loss(weight):
        def td_error(t):
            return weight * jnp.sum(t.observation**2) - t.reward - jnp.sum(t.next_observation**2)

        errors = sobolev_errors(td_error, transition, tangents, left)
        return jnp.sum((errors.state.critic - errors.state.target) ** 2), errors.state.valid

    (_, valid), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(1.0)
    assert jnp.isfinite(gradient)
    assert valid.tolist() == [True, True, False, False, False, False, True]


def test_a_number_where_none_can_be_takes_its_direction_out():
    given = draw_tangents()
    places = tuple(place for place in range(24) if place != 4 * 2 + 1)  # number 2, direction 1
    storage = make_storage("int8", Moving(observation=places))
    _, (found, _) = there_and_back(storage, given)
    broken = np.isnan(found.state.next_observation).any(axis=0)
    assert broken.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("lqr", {"dimension": 3}, np.eye(3)),
        ("pendulum", {}, [[1, 0], [1, 0], [0, 1]]),  # cosine and sine of the angle, and its speed
    ],
)
def test_what_can_move_is_found_out(name, parameters, expected):
    env = envs.make(name, **parameters)
    moving = moving_parts(env, None, None)
    assert moving.observation == tuple(np.flatnonzero(expected))
    assert moving.action == tuple(np.flatnonzero(np.eye(env.action_size)))
    assert moving_parts(env, 1, 1) == Moving()


def gradients_of(source, env, state, action):
    """Both kinds of gradients of some TD error, with numbers that do not cancel."""
    weights = jnp.cos(jnp.arange(1.0, env.observation_size + 1))

    def td_error(t):
        value = jnp.tanh(weights @ t.observation + jnp.sum(t.action))
        return value - t.reward - 0.9 * t.discount * jnp.tanh(weights @ t.next_observation)

    def errors(key):
        experience, _ = source.collect(key, state, action)
        return sobolev_errors(
            td_error, experience.transition, *source.tangents(experience, key, 1e3)
        )

    # The mean of a few draws: rounding errors, not random directions, are what is looked at.
    found = jax.device_get(jax.jit(jax.vmap(errors))(jax.random.split(jax.random.key(3), 16)))
    return found, [gradients.critic - gradients.target for gradients in (found.state, found.action)]


@pytest.mark.parametrize(
    ("steps", "directions"),
    [
        (1, (None, None)),
        pytest.param(1, (2, 1), marks=pytest.mark.slow),
        pytest.param(3, (None, None), marks=pytest.mark.slow),
        pytest.param(3, (2, 1), marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_of_float32_with_every_kind_of_transition(steps, directions):
    base = envs.make("point_mass", dimension=3)
    state, action = base.reset(jax.random.key(0)), jnp.asarray([0.3, -0.5, 0.8])
    env = base
    if steps > 1:
        env = MultiStep(base, steps)
        later = 0.5 * jnp.ones((steps - 1, 3))
        state = start_of(state, later, jnp.asarray(steps), jnp.asarray(0.95))
    exact, reference = gradients_of(make_source("cached", env, *directions), env, state, action)
    for dtype, tolerance in (("int8", 0.02), ("int4", 0.3)):
        source = make_source("cached", env, *directions, tangent_dtype=dtype)
        found, gradients = gradients_of(source, env, state, action)
        np.testing.assert_array_equal(found.value, exact.value)
        assert found.state.valid.all()
        assert found.action.valid.all()
        for own, other in zip(gradients, reference, strict=True):
            # Two neighbouring squares are up to 2/127 or 2/7 of the largest number apart.
            difference = np.linalg.norm(own - other)
            assert 0 < difference <= tolerance * np.linalg.norm(other)


def test_a_source_may_be_made_while_another_program_is_traced():
    env = envs.make("point_mass", dimension=3)

    def collect(key):
        source = make_source("cached", env, tangent_dtype="int8")
        return source.collect(key, env.reset(key), jnp.zeros(3))[0].tangents.state.as_they_are

    observation, reward = jax.eval_shape(collect, jax.random.key(0))
    assert observation.shape == (6,)  # position and velocity see themselves alone
    assert reward.shape == (6,)
