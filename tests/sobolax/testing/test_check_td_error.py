"""Gradients that are lost in a TD error are found before it is trained with."""

import warnings

import jax
import jax.numpy as jnp
import pytest

from sobolax.cart import example_transition
from sobolax.losses import sobolev_terms
from sobolax.testing import GradientsWarning, check_td_error

TRANSITION, TANGENTS = example_transition()
KERNEL = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)


def hidden(t):
    return KERNEL @ jnp.concatenate([t.observation, t.action])


def of(activation):
    return lambda t: activation(hidden(t)).sum() - t.reward


def stopped_target(t):
    return hidden(t).sum() - jax.lax.stop_gradient(t.reward + t.next_observation.sum())


def stopped_bootstrap(t):
    value = jax.lax.stop_gradient(jnp.tanh(t.next_observation).sum())
    return hidden(t).sum() - (t.reward + t.discount * value)


def stopped_critic(t):
    return jax.lax.stop_gradient(hidden(t)).sum() - t.reward


@pytest.mark.parametrize(
    ("td_error", "message"),
    [
        (of(jax.nn.relu), "ReLU.*smooth activation"),
        (of(lambda x: jnp.maximum(x, 0.0)), "ReLU"),
        (of(jax.nn.leaky_relu), "ReLU"),
        (stopped_target, "transition.reward: gradients of the target are stopped"),
        (stopped_bootstrap, "transition.next_observation.*stopped"),
        (stopped_critic, "nor with transition.action: the critic has no gradients"),
        (of(jnp.round), "rounding"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_gradients_that_are_lost_are_named(td_error, message, wrap):
    with pytest.warns(GradientsWarning, match=message):
        check_td_error(wrap(td_error), TRANSITION, TANGENTS)


def test_the_loss_itself_looks_for_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sobolev_terms(of(jax.nn.relu), TRANSITION, TANGENTS)


@pytest.mark.parametrize("name", ["swish", "tanh", "gelu", "softplus", "elu", "sigmoid"])
def test_smooth_critics_are_left_in_peace(name):
    def target(t):  # the smaller of two critics is no ReLU, and no bootstrap is no mistake
        return jnp.minimum(t.next_observation[0], t.next_observation[1]) * t.discount

    for td_error in (of(getattr(jax.nn, name)), lambda t: of(jnp.tanh)(t) - target(t)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_td_error(td_error, TRANSITION, TANGENTS)


def test_a_relu_is_seen_inside_of_a_network_under_vmap():
    def td_error(t):
        twins = jax.vmap(lambda kernel: jax.nn.relu(kernel @ t.observation).sum())
        return twins(jnp.stack([KERNEL[:, :2]] * 2)).min() - t.reward

    with pytest.warns(GradientsWarning, match="ReLU"):
        check_td_error(td_error, TRANSITION, TANGENTS)


def test_what_the_loss_cannot_work_with_is_refused():
    with pytest.raises(ValueError, match=r"tangents\.state is a NoneType"):
        check_td_error(of(jnp.tanh), TRANSITION, TRANSITION)
