"""What other people's agents may hand to the loss, and what is said of it."""

import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from sobolax.cart import example_transition
from sobolax.loss_input import GradientsWarning, check_td_error
from sobolax.losses import Weights, sobolev_errors, sobolev_td_loss, sobolev_terms

TRANSITION, TANGENTS = example_transition()
KERNEL = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)


def hidden(t):
    return KERNEL @ jnp.concatenate([t.observation, t.action])


def of(activation):
    return lambda t: activation(hidden(t)).sum() - t.reward


def stopped_target(t):
    return hidden(t).sum() - jax.lax.stop_gradient(t.reward + t.next_observation.sum())


def stopped_critic(t):
    return jax.lax.stop_gradient(hidden(t)).sum() - t.reward


@pytest.mark.parametrize(
    ("td_error", "message"),
    [
        (of(jax.nn.relu), "ReLU.*smooth activation"),
        (of(lambda x: jnp.maximum(x, 0.0)), "ReLU"),
        (of(jax.nn.leaky_relu), "ReLU"),
        (stopped_target, "transition.reward: gradients of the target are stopped"),
        (stopped_critic, "nor with transition.action: the critic has no gradients"),
        (of(jnp.round), "rounding"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_gradients_that_are_lost_are_told(td_error, message, wrap):
    with pytest.warns(GradientsWarning, match=message):
        jax.jit(lambda t, dt: sobolev_terms(wrap(td_error), t, dt))(TRANSITION, TANGENTS)


@pytest.mark.parametrize("name", ["swish", "tanh", "gelu", "softplus", "elu", "sigmoid"])
def test_smooth_critics_are_left_in_peace(name):
    def target(t):  # the smaller of two critics is no ReLU, and no bootstrap is no mistake
        return jnp.minimum(t.next_observation[0], t.next_observation[1]) * t.discount

    for td_error in (of(getattr(jax.nn, name)), lambda t: of(jnp.tanh)(t) - target(t)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_td_error(td_error, TRANSITION)


def test_a_relu_in_the_critic_is_seen_through_a_batch_and_a_gradient():
    def loss(kernel, batch, tangents):
        def one(t, dt):
            def td_error(t):
                return jax.nn.relu(kernel @ t.observation).sum() - t.reward

            return sobolev_td_loss(td_error, t, dt, Weights(1.0, 1.0))

        return jax.vmap(one)(batch, tangents).mean()

    batch, tangents = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), (TRANSITION, TANGENTS))
    with pytest.warns(GradientsWarning, match="ReLU"):
        jax.jit(jax.grad(loss))(KERNEL[:, :2], batch, tangents)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("observation", jnp.array([1, 2])),
        ("action", jnp.array([1])),
        ("discount", jnp.array(True)),
    ],
)
def test_parts_without_gradients_are_refused_by_name(part, value):
    with pytest.raises(ValueError, match=rf"transition\.{part} is (int32|bool), which has no slop"):
        sobolev_errors(of(jnp.tanh), replace(TRANSITION, **{part: value}), TANGENTS)


def state_part(**parts):
    return replace(TANGENTS, state=replace(TANGENTS.state, **parts))


NOTHING = replace(
    TANGENTS.state, observation=None, action=None, reward=None, discount=None, next_observation=None
)


@pytest.mark.parametrize(
    ("tangents", "message"),
    [
        (state_part(reward=jnp.zeros((2, 1))), r"state\.reward has shape \(2, 1\), but.*has \(\)"),
        (
            state_part(next_observation=jnp.zeros((3, 2))),
            r"observation has.*\(2, directions\)",
        ),
        (state_part(reward=jnp.zeros(5)), r"state\.reward has 5 dir.*state\.observation has 2"),
        (replace(TANGENTS, action=NOTHING), r"tangents\.action is None in all parts"),
        (replace(TANGENTS, action=None), r"tangents\.action is a NoneType, but must be a"),
        (TRANSITION, r"tangents\.state is a NoneType"),
        (jax.tree.map(lambda leaf: leaf[None], TANGENTS), "vmap it over a batch"),
    ],
)
def test_tangents_of_another_structure_are_refused_by_leaf(tangents, message):
    with pytest.raises(ValueError, match=message):
        sobolev_errors(of(jnp.tanh), TRANSITION, tangents)


@pytest.mark.parametrize(
    ("td_error", "message"),
    [
        (lambda t: t.observation - t.reward, r"array of shape \(2,\) for one transition"),
        (lambda t: (t.reward, t.discount), "a tuple for one transition"),
    ],
)
def test_a_td_error_is_one_number(td_error, message):
    with pytest.raises(ValueError, match=message):
        sobolev_errors(td_error, TRANSITION, TANGENTS)
