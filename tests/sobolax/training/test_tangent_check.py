"""The sample of tangents that commands hold to central differences."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax import make_training
from sobolax.agents import sac
from sobolax.cart import Cart
from sobolax.tangents import Derivatives
from sobolax.training.gradient_warnings import find_warnings
from sobolax.training.tangent_check import is_checked

CONFIG = sac.Config(
    total_timesteps=64,
    num_envs=8,
    epochs=1,
    gradient_steps=0,
    learning_starts=16,
    batch_size=8,
    replay_capacity=64,
    hidden_sizes=(4,),
    evaluation_episodes=1,
    report_states=0,
)


def scaled(share):
    """A number, with `share` of its derivative."""

    @jax.custom_jvp
    def function(x):
        return x

    function.defjvp(lambda at, along: (at[0], share * along[0]))
    return function


def bounced(end):
    """The end of a step, with the speed turned round beyond half a metre."""
    position, speed = end.observation
    turned = jnp.where(jnp.abs(position) > 0.5, -0.9 * speed, speed)
    moved = jnp.stack([position, turned])
    return replace(end, physics=moved, observation=moved)


def seen(change):
    return lambda end, action: replace(end, observation=change(end.observation))


def paid(change):
    return lambda end, action: replace(end, reward=change(end))


def fading(end):
    """A discount that moves with the state."""
    return jnp.exp(-0.1 * end.observation[0] ** 2)


# What is wrong with a step, and how large the disagreement is then.
WRONG = {
    "half": (seen(scaled(0.5)), 0.5),
    "too long": (seen(scaled(1.5)), 0.5),
    "reversed": (seen(scaled(-1.0)), 2.0),
    "stopped": (seen(jax.lax.stop_gradient), 1.0),
    "reward": (paid(lambda end: scaled(1.5)(end.reward)), 0.5),
    "not a number": (paid(lambda end: scaled(jnp.nan)(end.reward)), np.inf),
    "fading": (lambda end, action: replace(end, discount=fading(end)), 1.0),
    "root": (paid(lambda end: jnp.sqrt(jnp.abs(0.0 * end.reward)) + end.reward), np.inf),
}
# Right tangents, of physics that is hard or beyond what differences can say.
RIGHT = {
    "plain": seen(lambda observation: observation),
    "far": seen(lambda observation: observation + 1e8),
    "rounded": seen(lambda observation: jnp.round(observation, 2)),
    "kinks": paid(lambda end: jnp.abs(jnp.sin(1e3 * end.observation[0]))),
    "edge": lambda end, action: replace(end, reward=jnp.maximum(0.0 * action[0], end.reward)),
    "clipped": lambda end, action: replace(end, reward=jnp.clip(action[0], -0.5, 0.5)),
    "constant": paid(lambda end: jnp.ones(())),
    "stiff": paid(lambda end: jnp.sin(1e6 * end.observation[0])),
    "impact": lambda end, action: bounced(end),
    "over": lambda end, action: replace(
        end, discount=(jnp.sin(1e3 * end.observation[0]) > 0).astype(jnp.float32)
    ),
}
STEPS = {name: step for name, (step, _) in WRONG.items()} | RIGHT


class Faulty(Cart):
    """A cart whose steps are one of `STEPS`, at a traced place in it."""

    episode_length = 5

    def __init__(self, fault):
        self.fault = fault

    def step(self, state, action):
        end = super().step(state, action)
        return jax.lax.switch(self.fault, list(STEPS.values()), end, action)


def looked(*names, **changes):
    """The numbers of trainings on carts with these faults, in one program."""
    hyper = sac.Hyperparameters()

    def check(fault):
        training = make_training(Faulty(fault), replace(CONFIG, **changes))
        return training.check(training.init(jax.random.key(1), hyper), hyper, jax.random.key(0))

    found = jax.device_get(jax.jit(jax.vmap(check))(jnp.array([*map(list(STEPS).index, names)])))
    return [{name: values[i] for name, values in found.items()} for i in range(len(names))]


@pytest.fixture(scope="module")
def found():
    return dict(zip(STEPS, looked(*STEPS), strict=True))


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_tangents_are_found_and_measured(found, fault):
    disagreement = WRONG[fault][1]
    # Differences are off by roundings, 1e-4 of the change.
    assert found[fault]["tangent_disagreement"] == pytest.approx(disagreement, rel=1e-2)
    [text] = find_warnings(found[fault], "cart").values()
    assert "environment 'cart': tangents are " in text
    how = "not finite" if disagreement == np.inf else f"off by {100 * disagreement:.0f} %"
    assert how in text


@pytest.mark.parametrize("fault", RIGHT)
def test_right_tangents_are_passed_over_in_silence_however_hard_the_physics(found, fault):
    assert find_warnings(found[fault], "cart") == {}


@pytest.mark.parametrize(
    "changes",
    [{"n_step": 3}, {"first_order": "reverse"}, {"state_directions": 1, "action_directions": 1}],
    ids=str,
)
def test_every_source_is_checked(changes):
    right, wrong = looked("plain", "half", **changes)
    assert right["tangent_disagreement"] < 1e-2
    assert wrong["tangent_disagreement"] == pytest.approx(0.5, rel=2e-2)


def test_a_reverse_pass_has_the_gradient_of_a_discount_that_moves():
    [metrics] = looked("fading", first_order="reverse")
    assert metrics["tangent_disagreement"] < 1e-2


def test_what_filters_do_on_purpose_is_no_fault():
    derivatives = Derivatives(max_norm=1e-3, max_disagreement=1e-9, smoothing_samples=2)
    [metrics] = looked("plain", derivatives=derivatives)
    assert metrics["tangent_disagreement"] < 1e-2


@pytest.mark.parametrize(
    "changes",
    [
        {"check_tangents": False},
        {"first_order": "off"},
        {"derivatives": Derivatives(method="differences")},
    ],
    ids=str,
)
def test_it_can_be_left_out(changes):
    config = replace(CONFIG, **changes)
    assert not is_checked(config)
    assert make_training(Cart(), config).check is None


def test_an_actor_through_the_simulator_has_tangents_to_check():
    assert is_checked(replace(CONFIG, first_order="off", actor_gradient="simulator"))


def test_a_warning_advises_what_the_agent_has():
    wrong = {"tangent_disagreement": 0.5}
    [replays] = find_warnings(wrong, "cart").values()
    assert "the entry; Derivatives(method='differences') does without" in replays
    assert "only first_order='reverse' has its gradient" in replays
    [windows] = find_warnings(wrong, "cart", windows=True).values()
    assert "agents with a replay buffer can do without" in windows
    assert "A discount that moves with the state is held constant by this one" in windows
    assert "first_order" not in windows
    assert "Derivatives(" not in windows


def test_warnings_are_of_the_worst_run_and_epoch():
    assert find_warnings({}, "cart") == {}
    assert find_warnings({"tangent_disagreement": [[np.nan, 0.1]]}, "cart") == {}
    assert find_warnings({"gradients_dropped": np.array([0.5, np.nan])}, "cart") == {}
    found = find_warnings({"gradients_dropped": [[0.0], [0.9]]}, "cart")
    assert found.keys() == {"gradients_dropped"}
    assert "90 % of all gradients were dropped" in found["gradients_dropped"]
    # Which of both it is, metrics do not say; a reverse pass has no bound to raise.
    assert "if that changes nothing, they are not finite" in found["gradients_dropped"]
    found = find_warnings({"actor_gradients_dropped": [[0.0], [0.9]]}, "cart")
    assert "for 90 % of all samples the actor had" in found["actor_gradients_dropped"]
    assert find_warnings({"windows_dropped": [0.5]}, "cart") == {}
    found = find_warnings({"windows_dropped": [0.0, 0.9]}, "cart")
    assert "90 % of all windows had no finite gradient" in found["windows_dropped"]
