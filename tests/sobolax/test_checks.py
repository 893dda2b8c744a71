"""What the loss is handed is checked while it is traced."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from sobolax.cart import example_transition
from sobolax.losses import sobolev_errors

TRANSITION, TANGENTS = example_transition()


def td_error(t):
    return jnp.tanh(t.observation).sum() - t.reward


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("observation", jnp.array([1, 2])),
        ("action", jnp.array([1])),
        ("discount", jnp.array(True)),
    ],
)
def test_parts_without_gradients_are_refused_by_name(part, value):
    with pytest.raises(ValueError, match=rf"transition\.{part} is (int32|bool), which has no grad"):
        sobolev_errors(td_error, replace(TRANSITION, **{part: value}), TANGENTS)


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
        sobolev_errors(td_error, TRANSITION, tangents)


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
