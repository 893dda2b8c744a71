"""The loss against its formula and against a problem with a known Q*."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from sobolax.cart import Cart, example_transition
from sobolax.losses import (
    DirectionalDerivatives,
    Errors,
    Weights,
    batch_loss,
    masked_mean,
    mean_squares,
    mean_terms,
    sobolev_errors,
    sobolev_td_loss,
    sobolev_terms,
    squares,
)
from sobolax.tangents.forward import (
    TransitionMap,
    basis_directions,
    forward_tangents,
    random_directions,
)
from sobolax.transition import Tangents, Transition

WEIGHTS = Weights(state=0.3, action=0.7)


def transition_with_tangents(env, key):
    state_key, action_key = jax.random.split(key)
    state = env.reset(state_key)
    action = jax.random.uniform(action_key, (env.action_size,), minval=-1.0, maxval=1.0)
    directions = basis_directions(env.state_size), basis_directions(env.action_size)
    transition, _, tangents = forward_tangents(env, state, action, *directions)
    return state, transition, tangents


def optimal_td_error(env, scale=1.0):
    """TD error of `scale * Q*` against the optimal target; zero everywhere at scale 1."""

    def td_error(t: Transition):
        target = t.reward + env.discount * t.discount * env.optimal_value(t.next_observation)
        return scale * env.optimal_q(t.observation, t.action) - target

    return td_error


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 5, 6])
def test_loss_is_zero_at_the_optimum_and_only_there(float64, dimension):
    env = envs.make("lqr", dimension=dimension)

    @jax.jit
    def losses(key):
        _, transition, tangents = transition_with_tangents(env, key)
        return [
            sobolev_td_loss(optimal_td_error(env, scale), transition, tangents, WEIGHTS)
            for scale in (1.0, 1.01)
        ]

    at_optimum, away = losses(jax.random.key(dimension))
    # Squares of rounding errors: values are of order 1 to 100, and 100 * 2^-52 squared is 5e-28.
    assert at_optimum < 1e-24
    assert away > 1e-6


def test_terms_equal_a_direct_evaluation_of_the_formula(float64):
    env = envs.make("lqr", dimension=3, actions=2)
    guess = np.random.default_rng(0).normal(size=(5, 5))

    def critic(observation, action):
        z = jnp.concatenate([observation, action])
        return jnp.sin(z @ guess @ z)

    def td_error(t: Transition):
        target = t.reward + 0.9 * t.discount * jnp.cos(jnp.sum(t.next_observation))
        return critic(t.observation, t.action) - target

    @jax.jit
    def everything(key):
        state, transition, tangents = transition_with_tangents(env, key)
        terms = sobolev_terms(td_error, transition, tangents)
        loss = sobolev_td_loss(td_error, transition, tangents, WEIGHTS)
        reverse = squares(sobolev_errors(td_error, transition, TransitionMap(env, state)))
        return state, transition, terms, loss, reverse

    state, transition, terms, loss, reverse = everything(jax.random.key(1))

    # By hand: y(x, a) = r + 0.9 cos(sum(A x + B a)), with nothing of the library in between.
    x, a = np.asarray(state.physics), np.asarray(transition.action)
    z = np.concatenate([x, a])
    next_state = env.dynamics @ x + env.control @ a
    reward = -x @ env.state_cost @ x - a @ env.action_cost @ a
    value = np.sin(z @ guess @ z) - reward - 0.9 * np.cos(next_state.sum())
    gradient_of_q = np.cos(z @ guess @ z) * (guess + guess.T) @ z
    fall = -0.9 * np.sin(next_state.sum())
    gradient_of_y = np.concatenate(
        [
            -2 * env.state_cost @ x + fall * env.dynamics.sum(axis=0),
            -2 * env.action_cost @ a + fall * env.control.sum(axis=0),
        ]
    )
    expected = (gradient_of_q - gradient_of_y) ** 2
    # Both sides are float64 sums of a few dozen terms of order 1.
    np.testing.assert_allclose(terms.value, value**2, rtol=1e-11)
    np.testing.assert_allclose(terms.state, expected[:3], rtol=1e-11)
    np.testing.assert_allclose(terms.action, expected[3:], rtol=1e-11)
    np.testing.assert_allclose(
        loss,
        value**2 + 0.3 * expected[:3].sum() + 0.7 * expected[3:].sum(),
        rtol=1e-11,
    )
    for name in ("value", "state", "action"):
        np.testing.assert_allclose(getattr(reverse, name), getattr(terms, name), rtol=1e-11)


def test_random_directions_are_unbiased_and_converge_at_the_rate_of_the_square_root():
    gradient = jnp.asarray([1.0, -2.0, 0.5, 3.0, 0.0])

    def estimate(key, count):
        directions = random_directions(key, count, gradient.size)
        return jnp.sum(jnp.square(gradient @ directions))

    true = float(gradient @ gradient)
    keys = jax.random.split(jax.random.key(0), 2**14)
    for count in (1, 2, 4):
        draws = np.asarray(
            jax.jit(jax.vmap(lambda key, count=count: estimate(key, count)))(keys), np.float64
        )
        error = abs(draws.mean() - true)
        # Five standard errors: a false alarm is a matter of one in a million.
        assert error < 5 * draws.std() / np.sqrt(draws.size)
        # Means of 256 draws scatter 8 times more than means of 16384: the rate of a root.
        scatter = draws.reshape(64, 256).mean(axis=1).std()
        assert scatter == pytest.approx(draws.std() / 16, rel=0.35)  # 64 means: +-9 % each sigma
    full = jax.jit(jax.vmap(lambda key: estimate(key, gradient.size)))(keys[:10])
    np.testing.assert_allclose(full, true, rtol=1e-5)  # a float32 frame of five vectors


def test_random_directions_estimate_the_loss_of_the_full_basis():
    env = envs.make("lqr", dimension=6)

    def td_error(t: Transition):
        return jnp.sum(jnp.sin(t.observation)) * t.action[0] - t.reward - t.next_observation.sum()

    @jax.jit
    def full(key):
        state, transition, tangents = transition_with_tangents(env, key)
        return state, transition, sobolev_td_loss(td_error, transition, tangents, WEIGHTS)

    state, transition, exact = full(jax.random.key(3))

    @jax.jit
    @jax.vmap
    def estimates(key):
        state_key, action_key = jax.random.split(key)
        drawn = forward_tangents(
            env,
            state,
            transition.action,
            random_directions(state_key, 2, 6),
            random_directions(action_key, 2, 6),
        )
        return sobolev_td_loss(td_error, transition, drawn[2], WEIGHTS)

    draws = np.asarray(estimates(jax.random.split(jax.random.key(4), 8192)), np.float64)
    assert abs(draws.mean() - exact) < 5 * draws.std() / np.sqrt(draws.size)


@pytest.mark.parametrize("count", [0, 4])
def test_more_directions_than_dimensions_are_refused(count):
    with pytest.raises(ValueError, match="from 1 to 3"):
        random_directions(jax.random.key(0), count, 3)


def simple_batch(size=4):
    """Transitions of two numbers and one action, with tangents, all of them random."""
    numbers = np.random.default_rng(0)
    draw = lambda *shape: numbers.normal(size=(size, *shape)).astype(np.float32)  # noqa: E731
    transition = Transition(draw(2), draw(1), draw(), np.ones(size, np.float32), draw(2))
    tangents = Tangents(
        state=Transition(draw(2, 2), None, draw(2), None, draw(2, 2)),
        action=Transition(None, draw(1, 1), draw(1), None, draw(2, 1)),
    )
    return transition, tangents


def loss_of(parameter, transition, tangents, bound=1e3):
    def td_error(t):
        q = jnp.sin(parameter * t.observation[0]) * t.action[0] + t.observation[1]
        return q - t.reward - t.discount * t.next_observation.sum()

    terms = jax.vmap(lambda t, dt: sobolev_terms(td_error, t, dt, bound))(transition, tangents)
    return batch_loss(terms, WEIGHTS), terms


# Op by op every test would wait for a hundred programs.
_program = jax.jit(jax.value_and_grad(loss_of, has_aux=True))


def loss_and_gradient(*arguments):
    return jax.device_get(_program(*arguments))


def replaced(tree, value):
    """The first tangent of the first transition gets `value` in its reward."""
    reward = tree.state.reward.copy()
    reward[0, 0] = value
    state = Transition(tree.state.observation, None, reward, None, tree.state.next_observation)
    return Tangents(state, tree.action)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf, 1e30, 1e4])
def test_a_bad_tangent_takes_out_its_own_term_and_nothing_else(value):
    transition, tangents = simple_batch()
    (_, terms), gradient = loss_and_gradient(0.5, transition, replaced(tangents, value))
    (_, clean), _ = loss_and_gradient(0.5, transition, tangents)
    assert np.isfinite(gradient)
    assert not terms.state_valid[0, 0]
    assert np.sum(~terms.state_valid) == 1
    assert terms.action_valid.all()
    assert terms.value_valid.all()
    np.testing.assert_array_equal(terms.state[0], [0.0, clean.state[0, 1]])
    np.testing.assert_array_equal(terms.state[1:], clean.state[1:])
    # The mean divides by the three that are left.
    expected = (
        clean.value.mean()
        + 0.3 * (clean.state[1:, 0].sum() / 3 + clean.state[:, 1].mean())
        + 0.7 * clean.action[:, 0].mean()
    )
    np.testing.assert_allclose(batch_loss(terms, WEIGHTS), expected, rtol=1e-6)


def test_a_transition_that_is_not_finite_leaves_the_batch():
    transition, tangents = simple_batch()
    broken = jax.tree.map(np.copy, transition)
    broken.reward[2], broken.next_observation[2, 0] = np.nan, np.inf
    (loss, terms), gradient = loss_and_gradient(0.5, broken, tangents)
    keep = np.array([0, 1, 3])
    rest = jax.tree.map(lambda leaf: leaf[keep], (transition, tangents))
    (expected, _), expected_gradient = loss_and_gradient(0.5, *rest)
    np.testing.assert_array_equal(terms.value_valid, [True, True, False, True])
    assert not terms.state_valid[2].any()
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6)


@pytest.mark.parametrize("part", ["reward", "next_observation", "discount", "action"])
def test_a_transition_that_is_not_finite_leaves_td_errors_alone_that_divide_by_the_observation(
    part,
):
    transition, tangents = example_transition()
    broken = replace(transition, **{part: jnp.full_like(getattr(transition, part), jnp.nan)})

    @jax.jit
    @jax.value_and_grad
    def look(parameter, transition):
        def value(o):
            return jnp.sum(jnp.sin(parameter * o / jnp.linalg.norm(o)))

        def td_error(t):
            return value(t.observation) - t.reward - t.discount * value(t.next_observation)

        return sobolev_td_loss(td_error, transition, tangents, WEIGHTS)

    assert look(0.5, broken) == (0.0, 0.0)
    sound, gradient = look(0.5, transition)
    assert sound > 0
    assert gradient != 0


def test_what_follows_a_broken_transition_is_not_looked_at():
    # A simulation that diverged: marked by its reward, and beyond what a network can take.
    transition, tangents = example_transition()
    broken = replace(transition, reward=jnp.nan, next_observation=jnp.array([1e30, -1e30]))

    @jax.jit
    @jax.grad
    def look(parameter):
        def td_error(t):
            return parameter * (jnp.sum(t.observation) - jnp.sum(t.next_observation**2)) - t.reward

        return sobolev_td_loss(td_error, broken, tangents, WEIGHTS)

    assert look(0.5) == 0.0


def test_a_terminal_transition_knows_nothing_of_what_follows():
    transition, tangents = jax.tree.map(lambda leaf: leaf[0], simple_batch())
    elsewhere = Transition(
        transition.observation,
        transition.action,
        transition.reward,
        np.zeros((), np.float32),
        transition.next_observation + 7.0,
    )
    here = Transition(
        transition.observation,
        transition.action,
        transition.reward,
        np.zeros((), np.float32),
        transition.next_observation,
    )

    def td_error(t):
        return t.observation.sum() - t.reward - t.discount * jnp.sum(t.next_observation**2)

    terms = jax.jit(lambda t: sobolev_terms(td_error, t, tangents))
    first, second = terms(here), terms(elsewhere)
    for name in ("value", "state", "action"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def gradient_errors(state, action):
    """Errors whose gradients of the critic are these, where those of the target are 0."""

    def gradients(critic):
        critic = jnp.asarray(critic, float)
        return DirectionalDerivatives(critic, jnp.zeros_like(critic), jnp.ones(critic.shape, bool))

    count = jnp.shape(state)[:-1]
    return Errors(jnp.zeros(count), jnp.ones(count, bool), gradients(state), gradients(action))


def test_a_bounded_gradient_error_by_hand(float64):
    def total(state, action, bound):
        terms = squares(gradient_errors(state, action), bound)
        return jnp.sum(terms.state) + jnp.sum(terms.action), terms

    look = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    # The bound is on a transition's Euclidean norm, here 5, 1 and 0; it leaves directions alone.
    state, action = np.array([[3.0, 4.0], [0.6, 0.8], [0.0, 0.0]]), np.array([[-3.0], [2.0], [0]])
    (_, terms), gradients = look(state, action, 2.0)
    # 2 b |e| - b^2 = 2 * 2 * 5 - 4 = 16, split as 9 : 16; its gradient 2 b e / |e|. Direction by
    # direction it would be (2 * 2 * 3 - 4) + (2 * 2 * 4 - 4) = 20.
    np.testing.assert_allclose(terms.state, [[5.76, 10.24], [0.36, 0.64], [0.0, 0.0]], rtol=1e-12)
    np.testing.assert_allclose(gradients[0], [[2.4, 3.2], [1.2, 1.6], [0.0, 0.0]], rtol=1e-12)
    # 2 * 2 * 3 - 4 = 8 with gradient -4, whatever the state's error; at the bound, both agree.
    np.testing.assert_allclose(terms.action, [[8.0], [4.0], [0.0]], rtol=1e-12)
    np.testing.assert_allclose(gradients[1], [[-4.0], [4.0], [0.0]], rtol=1e-12)
    # Infinity is no bound, and no NaN either.
    (_, terms), gradients = look(state, action, jnp.inf)
    np.testing.assert_array_equal(terms.state, state**2)
    np.testing.assert_array_equal(gradients[0], 2 * state)
    np.testing.assert_array_equal(gradients[1], 2 * action)


@pytest.mark.parametrize("look", [mean_terms, mean_squares, lambda t: batch_loss(t, WEIGHTS)])
@pytest.mark.parametrize("shape", [(), (5, 3), (2, 5, 3)], ids=str)
def test_a_batch_has_one_axis(look, shape):
    terms = squares(gradient_errors(np.ones((*shape, 2)), np.ones((*shape, 1))))
    with pytest.raises(ValueError, match=r"terms\.(value|state) has .*one leading batch axis"):
        look(terms)


@pytest.mark.parametrize("weights", [(1.0, 1.0), 1.0, {"state": 1.0, "action": 1.0}], ids=str)
def test_weights_are_named(weights):
    terms = squares(gradient_errors(np.ones((3, 2)), np.ones((3, 1))))
    with pytest.raises(
        ValueError, match=r"weights is a \w+, but .* Weights\(state=1.0, action=1.0\)"
    ):
        batch_loss(terms, weights)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 3, 1), (3, 2)], ids=str)
def test_a_mask_is_not_broadcast_by_accident(shape):
    with pytest.raises(ValueError, match=r"the mask has shape .* but values have \(3, 3\)"):
        masked_mean(jnp.arange(9.0).reshape(3, 3), jnp.ones(shape, bool))


def test_a_mask_may_have_an_axis_of_size_one():
    kept = jnp.array([True, False, True])[:, None]
    found = masked_mean(jnp.arange(9.0).reshape(3, 3), kept)
    np.testing.assert_array_equal(found, [3.0, 4.0, 5.0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_are_computed_with_in_single(dtype):
    # All of these are exact in halves; 300^2, and 100.3 - 100.29, are not.
    transition = Transition(
        jnp.array([1.0, 0.0]), jnp.array([0.5]), jnp.ones(()), jnp.ones(()), jnp.ones(2)
    )
    tangents = Tangents(
        state=Transition(jnp.eye(2), None, jnp.array([300.0, 1.0]), None, jnp.eye(2)),
        action=Transition(None, jnp.eye(1), jnp.ones(1), None, jnp.ones((2, 1))),
    )

    @jax.jit
    def look(transition):
        def td_error(t):
            return t.observation @ jnp.array([100.3, 0.7]) - t.reward / 3

        return sobolev_errors(td_error, transition, tangents, 1e3)

    expected = look(transition)
    found = look(jax.tree.map(lambda leaf: leaf.astype(dtype), transition))
    assert found.state.valid.all()
    assert found.action.valid.all()
    for kind in ("state", "action"):
        one, other = (getattr(errors, kind) for errors in (expected, found))
        assert other.target.dtype == jnp.float32
        residuals = (errors.critic - errors.target for errors in (other, one))
        np.testing.assert_allclose(*residuals, rtol=1e-6)


class Resting(Cart):
    """A cart that sees its speed's size as well, which has no derivative at rest."""

    observation_size = 3

    def seen(self, physics):
        return jnp.append(physics, jnp.linalg.norm(physics[1:]))

    def at(self, position, speed):
        state = super().at(position, speed)
        return replace(state, observation=self.seen(state.physics))

    def step(self, state, action):
        after = super().step(state, action)
        return replace(after, observation=self.seen(after.physics))

    def perturb(self, state, displacement):
        physics = state.physics + displacement
        return replace(state, physics=physics, observation=self.seen(physics))


class Pushing(Cart):
    """A cart that any push speeds up a little, by a size that has no derivative without one."""

    def step(self, state, action):
        after = super().step(state, action)
        physics = after.physics + jnp.append(0.0, 0.1 * jnp.linalg.norm(action))
        return replace(after, physics=physics, observation=physics)


@pytest.mark.parametrize(
    ("cart", "action", "valid"),
    [
        (Resting(), 0.5, {"state": False, "action": True}),
        (Pushing(), 0.0, {"state": False, "action": False}),
        (Pushing(), 0.5, {"state": True, "action": True}),
    ],
    ids=["at rest", "no push", "sound"],
)
def test_derivatives_that_are_not_finite_leave_the_loss_in_reverse_as_in_forward_mode(
    cart, action, valid
):
    state, action = cart.at(1.0, 0.0), jnp.full(1, action)
    parameters = jnp.asarray(np.random.default_rng(0).normal(size=(4, cart.observation_size + 1)))

    def loss(parameters, transition, given):
        def q(o, a):
            return jnp.sum(jnp.tanh(parameters @ jnp.concatenate([o, a])))

        def td_error(t):
            target = t.reward + 0.9 * t.discount * q(t.next_observation, -t.next_observation[1:2])
            return q(t.observation, t.action) - target

        terms = squares(sobolev_errors(td_error, transition, given))
        return terms.value + jnp.sum(terms.state) + jnp.sum(terms.action), terms

    @jax.jit
    def look(parameters):
        transition, _, tangents = forward_tangents(cart, state, action, jnp.eye(2), jnp.eye(1))
        graded = jax.value_and_grad(loss, has_aux=True)
        return [
            graded(parameters, transition, given)
            for given in (tangents, TransitionMap(cart, state))
        ]

    ((value, terms), gradient), ((reverse, found), other) = look(parameters)
    for each in (terms, found):
        assert np.all(each.state_valid == valid["state"])
        assert np.all(each.action_valid == valid["action"])
    np.testing.assert_allclose(reverse, value, rtol=1e-5)
    np.testing.assert_allclose(other, gradient, rtol=1e-4, atol=1e-5)  # sums of float32


def test_what_would_leave_out_every_gradient_is_refused():
    def td_error(t):
        return t.observation[0] - t.reward

    transition, tangents = example_transition()
    with pytest.raises(ValueError, match="tangents is None, so no gradient would be fitted"):
        sobolev_td_loss(td_error, transition, None, WEIGHTS)  # pyright: ignore[reportArgumentType]
    for bound in (-1.0, 0.0, float("nan")):
        with pytest.raises(ValueError, match=f"tangent_bound={bound} must be above 0"):
            sobolev_td_loss(td_error, transition, tangents, WEIGHTS, bound)
    # One that is swept is known to no trace.
    swept = jax.vmap(lambda b: sobolev_td_loss(td_error, transition, tangents, WEIGHTS, b))
    assert swept(jnp.array([1e-3, 1e3])).tolist() == [6.56640625, swept(jnp.array([1e3])).item()]
