"""The conformance test finds what is broken: an environment that keeps all promises, and others
that break one each."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax.environment import State
from sobolax.tangents.forward import forward_tangents
from sobolax.testing import NonconformingEnvironment, check_environment


class Sound:
    """A damped point on a line, pushed; it terminates far from the middle."""

    name = "sound"
    observation_size, action_size, state_size = 2, 1, 2
    episode_length = 20
    reverse_mode = True

    def reset(self, key):
        start = jax.random.uniform(key, (2,), jnp.result_type(float), minval=-1.0)
        return self.state_at(start, jnp.zeros((), start.dtype))

    def state_at(self, physics, reward):
        observation = jnp.stack([jnp.sin(physics[0]), physics[1]])
        discount = 1.0 - (jnp.abs(physics[0]) > 4.0).astype(physics.dtype)
        return State(physics, observation, reward, discount, {})

    def step(self, state, action):
        position, speed = state.physics
        speed = 0.9 * speed + 0.5 * action[0] - 0.1 * jnp.sin(position)
        return self.state_at(jnp.stack([position + speed, speed]), -(position**2) - action[0] ** 2)

    def perturb(self, state, displacement):
        physics = state.physics + displacement
        observation = jnp.stack([jnp.sin(physics[0]), physics[1]])
        still = jnp.all(displacement == 0)
        # The value stays; the gradient is that of the observation.
        kept = state.observation + observation - jax.lax.stop_gradient(observation)
        return replace(state, physics=physics, observation=jnp.where(still, kept, observation))


class IntegerObservation(Sound):
    def state_at(self, physics, reward):
        state = super().state_at(physics, reward)
        return replace(state, observation=jnp.round(10 * state.observation).astype(int))


class NamedObservations(Sound):
    def state_at(self, physics, reward):
        state = super().state_at(physics, reward)
        return replace(state, observation={"all": state.observation})


class NoReward(Sound):
    def state_at(self, physics, reward):
        return replace(super().state_at(physics, reward), reward=None)


class TruthValue(Sound):
    def state_at(self, physics, reward):
        state = super().state_at(physics, reward)
        return replace(state, discount=state.discount.astype(bool))


class OtherStructure(Sound):
    def step(self, state, action):
        return replace(super().step(state, action), metrics={"extra": jnp.zeros(())})


class WeakType(Sound):
    def reset(self, key):
        return replace(super().reset(key), reward=jnp.asarray(0.0))


class WrongSize(Sound):
    observation_size = 3


class PythonBranch(Sound):
    def step(self, state, action):
        return state if action[0] > 0 else super().step(state, action)


class Counter(Sound):
    def __init__(self):
        self.calls = 0

    def step(self, state, action):
        self.calls += 1
        next_state = super().step(state, action)
        return replace(next_state, reward=next_state.reward + self.calls)


class Diary(Sound):
    last = 0

    def step(self, state, action):
        self.last = object()
        return super().step(state, action)


class FirstReward(Sound):
    def reset(self, key):
        state = super().reset(key)
        return replace(state, reward=state.reward + 1)


class Stillborn(Sound):
    def reset(self, key):
        state = super().reset(key)
        return replace(state, discount=jnp.zeros_like(state.discount))


class SmoothEnd(Sound):
    def step(self, state, action):
        next_state = super().step(state, action)
        return replace(next_state, discount=jnp.exp(-(next_state.physics[0] ** 2)))


class DiscountedTwice(Sound):
    def step(self, state, action):
        next_state = super().step(state, action)
        return replace(next_state, discount=0.99 * next_state.discount)


class MixedBatch(Sound):
    """Its callback adds up all that it is given, lanes included."""

    def step(self, state, action):
        total = jax.pure_callback(
            lambda x: np.full(np.shape(x)[:-1], np.sum(x), x.dtype),
            jax.ShapeDtypeStruct((), state.physics.dtype),
            jax.lax.stop_gradient(state.physics),
            vmap_method="broadcast_all",
        )
        next_state = super().step(state, action)
        return replace(next_state, reward=next_state.reward + total)


class Exploding(Sound):
    def step(self, state, action):
        next_state = super().step(state, action)
        physics = jnp.where(jnp.abs(next_state.physics) > 2.0, jnp.inf, next_state.physics)
        return replace(next_state, physics=physics)


class TimeLimit(Sound):
    """A third number counts steps, and ends the episode."""

    def reset(self, key):
        state = super().reset(key)
        return replace(state, physics=(state.physics, jnp.zeros((), jnp.int32)))

    def step(self, state, action):
        inner = replace(state, physics=state.physics[0])
        next_state, count = super().step(inner, action), state.physics[1] + 1
        physics = jnp.clip(next_state.physics, -2.0, 2.0)
        discount = 1.0 - (count >= self.episode_length).astype(physics.dtype)
        return replace(next_state, physics=(physics, count), discount=discount)

    def perturb(self, state, displacement):
        moved = super().perturb(replace(state, physics=state.physics[0]), displacement)
        return replace(moved, physics=(moved.physics, state.physics[1]))


class TimeLimitAndFalls(TimeLimit):
    """Some of its episodes end for good before the limit."""

    def step(self, state, action):
        next_state = super().step(state, action)
        fallen = jnp.abs(next_state.physics[0][0]) > 1.5
        return replace(next_state, discount=jnp.where(fallen, 0.0, next_state.discount))


class TimeLimitAndManyFalls(TimeLimit):
    """It falls at large actions, so that no random episode lasts."""

    def step(self, state, action):
        next_state = super().step(state, action)
        fallen = jnp.abs(action[0]) > 0.5
        return replace(next_state, discount=jnp.where(fallen, 0.0, next_state.discount))


class AutomaticReset(TimeLimit):
    """As a training wrapper does it: the step that ends an episode gives a first state."""

    def step(self, state, action):
        next_state = super().step(state, action)
        first = self.reset(jax.random.key(7))
        over = next_state.discount == 0
        return jax.tree.map(lambda a, b: jnp.where(over, a, b), first, next_state)


class RestlessPerturb(Sound):
    def perturb(self, state, displacement):
        moved = super().perturb(state, displacement)
        return replace(moved, observation=moved.observation * (1 + 1e-6))


class StalePerturb(Sound):
    """It moves the physics and shows the observation of before."""

    def perturb(self, state, displacement):
        return replace(state, physics=state.physics + displacement)


class OtherUnits(Sound):
    """Its perturb observes in other units than reset and step."""

    def perturb(self, state, displacement):
        moved = super().perturb(state, displacement)
        still = jnp.all(displacement == 0)
        return replace(moved, observation=jnp.where(still, 1.0, 10.0) * moved.observation)


class RewardingPerturb(Sound):
    def perturb(self, state, displacement):
        moved = super().perturb(state, displacement)
        return replace(moved, reward=state.reward + displacement[0])


class TooManyDirections(Sound):
    state_size = 3

    def perturb(self, state, displacement):
        return super().perturb(state, displacement[:2])


class DependentDirections(Sound):
    state_size = 3

    def perturb(self, state, displacement):
        return super().perturb(state, displacement[:2] + displacement[2])


class OnlySeen(Sound):
    """What it goes on from is its observation."""

    def state_at(self, physics, reward):
        state = super().state_at(physics, reward)
        return replace(state, physics=(), observation=physics)

    def step(self, state, action):
        return super().step(replace(state, physics=state.observation), action)

    def perturb(self, state, displacement):
        return replace(state, observation=state.observation + displacement)


class NotFiniteTangents(Sound):
    def step(self, state, action):
        next_state = super().step(state, action)
        return replace(next_state, reward=next_state.reward + jnp.sqrt(0.0 * action[0] ** 2))


class StoppedGradient(Sound):
    def step(self, state, action):
        next_state = super().step(state, action)
        return replace(next_state, reward=jax.lax.stop_gradient(next_state.reward))


class WrongRule(Sound):
    def step(self, state, action):
        @jax.custom_jvp
        def push(force):
            return 0.5 * force

        push.defjvp(lambda primals, tangents: (push(*primals), tangents[0]))
        return super().step(state, 2 * push(action))


class Rough(Sound):
    """Ripples as long as the differences are wide."""

    def step(self, state, action):
        next_state = super().step(state, action)
        ripple = 1e-6 * jnp.sin(1e6 * jnp.sum(next_state.physics))
        return replace(
            next_state,
            observation=next_state.observation + ripple,
            reward=next_state.reward + ripple,
        )


class Clipped(Sound):
    def step(self, state, action):
        return super().step(state, jnp.clip(action, -1.0, 1.0))


class SecondClipped(Sound):
    action_size = 2

    def step(self, state, action):
        return super().step(state, action[:1] + jnp.clip(action[1:], -1.0, 1.0))


class NoReverse(Sound):
    def step(self, state, action):
        next_state = super().step(state, action)
        physics = jax.lax.while_loop(
            lambda carry: carry[0] < 1,
            lambda carry: (carry[0] + 1, 2 * carry[1]),
            (0, state.physics),
        )[1]
        return replace(next_state, reward=next_state.reward + physics[0])


class OtherTangents(Sound):
    def __init__(self):
        def tangents(key, *arguments):
            transition, state, found = forward_tangents(self, *arguments)
            return transition, state, replace(found, state=found.action)

        self.own_derivatives = {"analytic": tangents, "mujoco_fd": "there is none"}


class WrongTangents(Sound):
    def __init__(self):
        def tangents(key, *arguments):
            transition, state, found = forward_tangents(self, *arguments)
            return transition, state, jax.tree.map(lambda leaf: 1.01 * leaf, found)

        self.own_derivatives = {"analytic": tangents}


class OtherTransition(Sound):
    """Its own derivatives are right, and the reward beside them is not."""

    def __init__(self):
        def tangents(key, *arguments):
            transition, state, found = forward_tangents(self, *arguments)
            return replace(transition, reward=2 * transition.reward), state, found

        self.own_derivatives = {"analytic": tangents}


class OtherNextState(Sound):
    """Its own derivatives are right, and the state beside them is the one before the step."""

    def __init__(self):
        def tangents(key, state, *arguments):
            transition, _, found = forward_tangents(self, state, *arguments)
            return transition, state, found

        self.own_derivatives = {"analytic": tangents}


BROKEN = [
    (IntegerObservation, "structure", "observation is int.*has no gradients"),
    (NamedObservations, "structure", "a dict as observation, .*ravel_pytree"),
    (NoReward, "structure", "None as reward, but it must be an array"),
    (TruthValue, "structure", r"discount is bool.*1\.0 - done\.astype"),
    (OtherStructure, "structure", "step.*another structure than reset"),
    (WeakType, "structure", r"state.reward is weakly typed"),
    (WrongSize, "structure", r"shape \(2,\), but observation_size says \(3,\)"),
    (PythonBranch, "structure", r"step\(state, action.*failed"),
    (Counter, "purity", "step is another function at its second call"),
    (Diary, "purity", "attribute 'last'.*state.physics"),
    (FirstReward, "reset", "reward other than 0"),
    (Stillborn, "reset", "discount is not 1"),
    (SmoothEnd, "termination", "discount moves with"),
    (DiscountedTwice, "termination", r"discount is 0\.99 .* discount factor .* agent"),
    (MixedBatch, "vmap and jit", r"state.reward under vmap than alone.*vmap_method"),
    (Exploding, "rollout", r"state.physics is not finite after \d+ steps"),
    (TimeLimit, "termination", "every episode that reaches step 20 .*truncates"),
    (TimeLimitAndFalls, "termination", "every episode that reaches step 20 .*truncates"),
    (TimeLimitAndManyFalls, "termination", "every episode that reaches step 20 .*truncates"),
    (AutomaticReset, "automatic reset", "at step 20 state.observation depends neither"),
    (RestlessPerturb, "perturb", "changes state.observation"),
    (StalePerturb, "perturb", "moves no number of state.observation"),
    (OtherUnits, "perturb", r"moves state.observation by [\d.]+ for a displacement of 1e-15"),
    (RewardingPerturb, "perturb", "changes state.reward"),
    (TooManyDirections, "perturb", "direction 2 of perturb moves nothing"),
    (DependentDirections, "perturb", "in 2 independent directions, but state_size is 3"),
    (OnlySeen, "perturb", "state.physics holds no floating-point number"),
    (NotFiniteTangents, "finite tangents", "tangent of transition.reward is not finite"),
    (StoppedGradient, "tangents", "transition.reward moves by .* gradients are stopped"),
    (WrongRule, "tangents", r"transition.\w+(\[\d\])? moves by .* per unit of action\[0\]"),
    (Rough, "tangents", "agree in only"),
    (Clipped, "actions at their limits", "halved at exactly ±1.*clip"),
    (SecondClipped, "actions at their limits", r"along action\[1\] is halved at exactly ±1"),
    (NoReverse, "reverse mode", "reverse mode fails.*reverse_mode = False"),
    (OtherTangents, "own derivatives: analytic", "tangents_of_block"),
    (WrongTangents, "own derivatives: analytic", "differs by 0.01"),
    (OtherTransition, "own derivatives: analytic", "transition.reward is not that of step"),
    (OtherNextState, "own derivatives: analytic", "state.physics is not that of step"),
]


def test_a_sound_environment_passes_everything_in_double_precision():
    report = check_environment(Sound())
    assert report.precision == "float64"
    assert not report.faults
    assert report.steps == 21
    assert {"structure", "purity", "perturb", "tangents", "reverse mode"} <= set(report.passed)
    # Rounding alone: 1e-16 / 1e-6.
    assert report.tangent_error < 1e-8
    assert report.judged == 1.0
    assert report.notes == []


def test_real_and_imaginary_parts_of_physics_are_two_freedoms():
    class Complex(Sound):
        def state_at(self, physics, reward):
            return replace(super().state_at(physics, reward), physics=jax.lax.complex(*physics))

        def step(self, state, action):
            return super().step(self._apart(state), action)

        def perturb(self, state, displacement):
            moved = super().perturb(self._apart(state), displacement)
            return replace(moved, physics=jax.lax.complex(*moved.physics))

        def _apart(self, state):
            return replace(state, physics=jnp.stack([state.physics.real, state.physics.imag]))

    assert not check_environment(Complex, steps=3).faults


@pytest.mark.parametrize(("broken", "check", "message"), BROKEN)
def test_each_broken_promise_is_found_by_its_check(broken, check, message):
    with pytest.raises(NonconformingEnvironment, match="breaks its protocol") as caught:
        check_environment(broken, states=1)
    faults = caught.value.report.faults
    assert check in faults, faults
    with pytest.raises(ValueError, match=message):
        raise ValueError(faults[check].replace("\n", " "))


def test_what_is_broken_breaks_little_else():
    """Otherwise findings would be ambiguous. The first error of a structure ends the list."""
    with pytest.raises(NonconformingEnvironment) as caught:
        check_environment(Clipped, steps=3)
    assert list(caught.value.report.faults) == ["actions at their limits"]


def test_an_environment_in_single_precision_is_held_to_less():
    class Single(Sound):
        def reset(self, key):
            state = super().reset(key)
            return jax.tree.map(
                lambda leaf: leaf.astype(jnp.float32) if leaf.dtype != bool else leaf, state
            )

    report = check_environment(Single, steps=3)
    assert report.precision == "float32"
    assert 1e-8 < report.tangent_error < 2e-2
    assert any("float32 only" in note for note in report.notes)


def test_a_random_key_in_the_state_is_no_trouble():
    class Keyed(Sound):
        def reset(self, key):
            state = super().reset(key)
            return replace(state, physics=(state.physics, key))

        def step(self, state, action):
            inner, key = state.physics
            next_state = super().step(replace(state, physics=inner), action)
            return replace(next_state, physics=(next_state.physics, jax.random.fold_in(key, 1)))

        def perturb(self, state, displacement):
            moved = super().perturb(replace(state, physics=state.physics[0]), displacement)
            return replace(moved, physics=(moved.physics, state.physics[1]))

    assert not check_environment(Keyed, steps=3, states=1).faults


def test_a_limit_that_is_not_reached_is_told():
    assert "time limit was not seen" in check_environment(Sound(), steps=3).notes[0]

    class Falling(TimeLimit):
        """Its episodes end after three steps, whatever the policy."""

        def step(self, state, action):
            next_state = super().step(state, action)
            fallen = next_state.physics[1] >= 3
            return replace(next_state, discount=jnp.where(fallen, 0.0, next_state.discount))

    [note] = check_environment(Falling, states=1).notes
    assert note.startswith("episodes of random actions ended before the time limit")


@pytest.mark.parametrize("arguments", [{"steps": 0}, {"states": 0}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="must be at least 1"):
        check_environment(Sound(), **arguments)
