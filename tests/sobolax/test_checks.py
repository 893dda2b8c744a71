"""What the loss is handed is checked while it is traced."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax.agents.sac import Hyperparameters
from sobolax.cart import Cart, example_transition
from sobolax.checks import check_structure
from sobolax.losses import Weights, sobolev_errors, weighted_sum
from sobolax.transition import Tangents

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


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("reward", jnp.zeros(3), r"reward has shape \(3,\), but must be one.*vmap it over a batch"),
        ("discount", jnp.ones((3, 1)), r"discount has shape \(3, 1\), but must be one number"),
        ("discount", None, r"discount is None, but must be an array: give 1\.0 where"),
        (
            "observation",
            {"x": jnp.zeros(2)},
            r"observation is a dict, but must be an array: .*ravel",
        ),
        ("action", None, r"action is None, but must be an array: give"),
    ],
)
def test_what_is_not_one_transition_is_refused_by_name(part, value, message):
    with pytest.raises(ValueError, match=rf"transition\.{message}"):
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
        (Tangents(TANGENTS.action, TANGENTS.state), "state and action are swapped"),
        (Tangents(TANGENTS.action, TANGENTS.action), "along the action are given twice"),
        (Tangents(TANGENTS.state, TANGENTS.state), "along the state are given twice"),
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"discount": jnp.float32(1.5)}, r"sac\.Hyperparameters: discount=1\.5 must be at most 1"),
        ({"discount": np.float32(1.5)}, "discount=1.5 must be at most 1"),
        ({"discount": jnp.array([0.9, 1.5])}, "must be at most 1"),
        ({"discount": "0.9"}, "discount='0.9' is a str, but must be a real number"),
        ({"discount": None}, "discount=None is a NoneType"),
        ({"discount": True}, "discount=True is bool"),
        ({"discount": [0.9]}, "is a list"),
        ({"discount": np.array("0.9")}, "must be a real number"),
        ({"discount": np.array([None])}, "is object"),
        ({"tau": 0.5j}, "tau=0.5j is a complex"),
        ({"tau": np.complex64(1)}, "is complex64"),
        ({"tau": 10**400}, "is object"),
        ({"tau": jax.random.key(0)}, "is key<fry>"),
        ({"tau": jnp.array(jnp.nan)}, "tau=nan must be finite and at least 0"),
        ({"state_weight": jnp.array(-1.0)}, "state_weight=-1.0 must be finite and at least 0"),
        ({"action_weight": np.float64("inf")}, "action_weight=inf must be finite"),
        ({"state_weight": 1e39}, "at least 0, and is inf in float32"),
        ({"reward_scale": 1e39}, r"reward_scale=1e\+39 must be finite, and is inf in float32"),
        ({"reward_scale": float("inf")}, "reward_scale=inf must be finite$"),
        ({"reward_scale": 1e-60}, "must be above 0, and is 0.0 in float32"),
        ({"huber_delta": np.int8(0)}, "huber_delta=0 must be above 0"),
        ({"initial_temperature": np.inf}, "initial_temperature=inf must be finite"),
        ({"target_entropy": jnp.inf}, "target_entropy=inf must be finite"),
    ],
    ids=str,
)
def test_numbers_that_cannot_work_are_refused_whatever_holds_them(changes, message):
    with pytest.raises(ValueError, match=message):
        Hyperparameters(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"discount": np.float64(0.9)},
        {"discount": jnp.ones(3)},
        {"discount": jnp.bfloat16(0.9)},
        {"discount": jax.ShapeDtypeStruct((), "float32")},
        {"state_weight": 0},
        {"huber_delta": np.inf, "tangent_bound": jnp.inf},
    ],
    ids=str,
)
def test_numbers_that_work_are_taken_as_they_are(changes):
    found = Hyperparameters(**changes)
    assert all(getattr(found, name) is value for name, value in changes.items())


def test_transformations_put_hyperparameters_together_unchecked():
    hyper = Hyperparameters()
    axes = jax.tree.map(lambda _: 0, hyper)  # a reward scale of 0 would be refused
    stacked = jax.tree.map(lambda value: jnp.full(2, value), hyper)
    assert jax.tree.map(lambda _: None, hyper).discount is None
    double = jax.vmap(lambda h: replace(h, discount=2 * h.discount).discount, in_axes=(axes,))
    np.testing.assert_allclose(double(stacked), 1.98, rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (Weights(jnp.nan, 0.0), "Weights: state=nan must be finite and at least 0"),
        (Weights(0.0, jnp.array(-1.0)), "action=-1.0 must be"),
        (Weights(0.0, 0.0, float("inf")), "value=inf must be"),
        (Weights(jnp.ones(2), 0.0), r"state has shape \(2,\), but must be one number"),
        (Weights("1", 0.0), "state='1' is a str"),
        (Weights(None, 0.0), "state=None is a NoneType"),
    ],
    ids=str,
)
def test_weights_that_cannot_work_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        weighted_sum((1.0, 1.0, 1.0), weights)


class Typed(Cart):
    """A cart whose observation, or reward, has a type of its own."""

    def __init__(self, observation="float32", reward="float32"):
        self.types = observation, reward

    def at(self, position, speed):
        return self._typed(super().at(position, speed))

    def step(self, state, action):
        state = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), state)
        return self._typed(super().step(state, action.astype(jnp.float32)))

    def _typed(self, state):
        observation, reward = self.types
        return replace(
            state,
            observation=state.observation.astype(observation),
            reward=state.reward.astype(reward),
            discount=state.discount.astype(observation),
        )


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (("float16", "float16"), "observation is float16, in which the update of a critic drowns"),
        (("bfloat16", "bfloat16"), "observation is bfloat16, .* give float32 or float64"),
        (("float32", "bfloat16"), "reward is bfloat16, but must be float32 as the observation"),
    ],
)
def test_environments_of_half_precision_are_refused_by_name(types, message):
    with pytest.raises(ValueError, match=f"environment 'cart': {message}"):
        check_structure(Typed(*types))


class Giving(Cart):
    """A cart whose states have another part."""

    def __init__(self, **parts):
        self.parts = parts

    def at(self, position, speed):
        return replace(super().at(position, speed), **self.parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"observation": {"x": jnp.zeros(2)}}, "a dict as observation, .*ravel_pytree"),
        ({"observation": None}, "None as observation"),
        ({"reward": None}, "None as reward, but it must be an array: give one number"),
        ({"discount": (jnp.ones(()),)}, "a tuple as discount"),
    ],
)
def test_states_whose_parts_are_no_arrays_are_refused_by_name(parts, message):
    with pytest.raises(ValueError, match=f"environment 'cart': reset gives {message}"):
        check_structure(Giving(**parts))


@pytest.mark.parametrize(
    ("attribute", "names", "size"),
    [
        ("state_names", ("position",), 2),
        ("state_names", ("position", "speed", "time"), 2),
        ("state_names", ("position", "position"), 2),
        ("state_names", "ab", 2),
        ("action_names", (), 1),
    ],
)
def test_names_that_are_not_one_for_each_coordinate_are_refused(attribute, names, size):
    cart = Cart()
    setattr(cart, attribute, names)
    with pytest.raises(ValueError, match=f"'cart': {attribute} is .* must be {size} different"):
        check_structure(cart)


class Reaching(Cart):
    """A cart whose action is read in some way."""

    def __init__(self, size, read, state_size=2):
        self.action_size, self.read, self.state_size = size, read, state_size

    def step(self, state, action):
        return super().step(state, self.read(action)[None])

    def perturb(self, state, displacement):
        return super().perturb(state, displacement[0] + jnp.stack([0.0, displacement[1]]))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (Reaching(1, lambda a: a[1]), r"step reads action\[1\], but action_size says 1"),
        (Reaching(2, lambda a: jnp.clip(a, -1, 1)[3]), r"reads action\[3\], .* says 2"),
        (Reaching(2, lambda a: 2.0 * a[-3] + a[0]), r"reads action\[-1\]"),
        (Reaching(1, lambda a: jax.jit(lambda b: b[1])(a)), r"reads action\[1\]"),
        (Reaching(2, lambda a: a @ jnp.ones(3)), r"step\(state, action of shape \(2,\)\) failed"),
        (Reaching(1, lambda a: a[0], 1), r"reads displacement\[1\], but state_size says 1"),
        (Reaching(True, lambda a: a[0]), "action_size is True, but must be a whole number"),
    ],
    ids=range(7),
)
def test_sizes_that_are_less_than_what_is_read_are_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        check_structure(environment)


@pytest.mark.parametrize("read", [lambda a: a[1], lambda a: a[-2], lambda a: jnp.sum(a[0:2])])
def test_sizes_that_are_read_to_the_end_pass(read):
    check_structure(Reaching(2, read))
