"""Weightings of the loss's terms: each rule against numbers worked out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sobolax.losses import DirectionalDerivatives, Errors, Weights
from sobolax.weighting import (
    WEIGHTINGS,
    Signals,
    Weighting,
    check_weighting,
    choose,
    conflict_free,
    constant,
    constrained,
    gradient_norm_balance,
    guarded,
    make_weighting,
    measure_signals,
    relative_loss_progress,
    scale_free,
    scheduled,
    warm_up,
)

BASE = Weights(state=10.0, action=3.0)


def make_signals(terms=(1.0, 2.0, 3.0), target=(4.0, 2.0, 8.0), gram=None) -> Signals:
    """Signals from plain numbers; an identity for the gradients by default."""
    kind = jnp.result_type(float)

    def array(number):
        return number if isinstance(number, jax.Array) else np.asarray(number, kind)

    gram = array(np.eye(3) if gram is None else gram)
    return Signals(*[array(number) for number in (*terms, *target)], gram=gram)


def make_gram(vectors) -> np.ndarray:
    return np.asarray(vectors) @ np.asarray(vectors).T


def run(weighting, signals) -> list[tuple[float, float, float]]:
    """Weights of value, state and action at one update after the other."""
    state, seen = weighting.init(), []
    update = jax.jit(weighting.update)  # op by op it would be dozens of programs
    for at in signals:
        weights, state = update(state, at)
        seen.append((float(weights.value), float(weights.state), float(weights.action)))
    return seen


def assert_weights(found, expected, tolerance=1e-6):
    # A few float32 roundings.
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-7)


def test_constant_is_constant():
    found = run(constant(Weights(10.0, 3.0, value=0.5)), [make_signals()] * 2)
    assert_weights(found, [(0.5, 10.0, 3.0)] * 2)


def test_a_schedule_counts_updates_and_leaves_the_value():
    # Linear from 1 to 0 in 4 updates: 1, 3/4, 1/2.
    found = run(scheduled(BASE, optax.linear_schedule(1.0, 0.0, 4)), [make_signals()] * 3)
    assert_weights(found, [(1.0, 10.0, 3.0), (1.0, 7.5, 2.25), (1.0, 5.0, 1.5)])
    # The cosine is at 1, 1/2, 0 at the start, the middle and the end.
    found = run(make_weighting("schedule", BASE, 2), [make_signals()] * 3)
    assert_weights(found, [(1.0, 10.0, 3.0), (1.0, 5.0, 1.5), (1.0, 0.0, 0.0)])


def test_scale_free_divides_running_averages():
    first, second = make_signals(target=(4.0, 2.0, 8.0)), make_signals(target=(8.0, 2.0, 2.0))
    found = run(scale_free(BASE, decay=0.5), [first, second])
    # First, free of bias: 4/2 and 4/8. Then averages (4/2 + 8)/2 = 5, (2/2 + 2)/2 = 1.5 and
    # (8/2 + 2)/2 = 3 (all with the same bias): 5/1.5 and 5/3.
    assert_weights(found, [(1.0, 20.0, 1.5), (1.0, 100 / 3, 5.0)])


def test_scale_free_is_free_of_units():
    terms, target = np.array([1.0, 2.0, 3.0]), np.array([4.0, 2.0, 8.0])
    ((_, state, action),) = run(scale_free(BASE), [make_signals(terms, target)])
    # Rewards ten times as large: values and gradients too, their squares a hundred times.
    ((_, *rewarded),) = run(scale_free(BASE), [make_signals(100 * terms, 100 * target)])
    assert_weights(rewarded, (state, action))
    # The state in units ten times as large: gradients along it are ten times as large; the weighted
    # term, a weight times squared gradients, is the same.
    ((_, *other),) = run(scale_free(BASE), [make_signals(terms, target * [1.0, 100.0, 1.0])])
    assert_weights(other, (state / 100, action))


def test_signals_are_means_of_what_is_valid_summed_over_critics():
    # Two critics, four transitions, one direction; the target's gradient is 2 where it is valid.
    values = jnp.array([[1.0, 2.0], [3.0, 6.0], [1.0, 2.0], [3.0, 6.0]])
    known = jnp.ones((4, 2), bool)

    def measured(valid):
        valid = jnp.broadcast_to(valid[:, None, None], (4, 2, 1))
        target = jnp.where(valid, 2.0, 0.0)
        gradients = DirectionalDerivatives(jnp.zeros_like(target), target, valid)
        errors = Errors(jnp.zeros((4, 2)), known, gradients, gradients)
        return measure_signals(tuple(jnp.zeros(3)), errors, values)

    whole, half = measured(jnp.ones(4, bool)), measured(jnp.array([True, False, False, False]))
    assert float(whole.target_variance) == 1.0 + 4.0
    assert float(whole.state_target_square) == 2 * 4.0
    # Gradients that drop out make a weight neither larger nor smaller.
    assert float(half.state_target_square) == 2 * 4.0


@pytest.mark.parametrize("shape", [(4, 1), (4,), (2, 4)], ids=str)
def test_signals_are_of_the_values_that_the_errors_are_of(shape):
    still = jnp.zeros((4, 2, 1))
    gradients = DirectionalDerivatives(still, still, still == 0)
    errors = Errors(jnp.zeros((4, 2)), jnp.ones((4, 2), bool), gradients, gradients)
    with pytest.raises(ValueError, match=r"values have shape .* but errors.value has \(4, 2\)"):
        measure_signals(tuple(jnp.zeros(3)), errors, jnp.zeros(shape))


def test_targets_without_gradients_weigh_nothing():
    found = run(scale_free(BASE), [make_signals(target=(4.0, 0.0, 8.0))])
    assert_weights(found, [(1.0, 0.0, 1.5)])


def test_relative_loss_progress_by_hand():
    weighting = relative_loss_progress(
        Weights(state=2.0, action=0.0), temperature=1.0, smoothing=0.75, lookback=0.5
    )
    high = 1.0 + math.log(3.0)  # exp(high) / exp(1) = 3
    terms = [(1.0, 1.0, 7.0), (1.0, high, 5.0), (high, high, 9.0)]
    found = run(weighting, [make_signals(terms=at) for at in terms])
    # 1. Nothing to compare with: (1, 1).
    # 2. Since the first update, ratios 1 and high: 2 * (1/4, 3/4) = (0.5, 1.5).
    # 3. Since the first, ratios are equal: (1, 1). Since the second, high and 1: (1.5, 0.5).
    #    0.75 * (0.5 * (0.5, 1.5) + 0.5 * (1, 1)) + 0.25 * (1.5, 0.5) = (0.9375, 1.0625).
    # The action's base weight is 0: its term takes no part.
    assert_weights(found, [(1.0, 2.0, 0.0), (0.5, 3.0, 0.0), (0.9375, 2.125, 0.0)])


def test_relative_loss_progress_knows_no_units():
    terms = np.array([[1.0, 2.0, 3.0], [0.8, 2.0, 2.5], [0.9, 1.0, 2.0]])
    plain = run(relative_loss_progress(BASE), [make_signals(terms=at) for at in terms])
    units = [make_signals(terms=at * [1e-4, 1.0, 1e5]) for at in terms]
    assert_weights(run(relative_loss_progress(BASE), units), plain, tolerance=1e-5)
    assert plain[2][0] > plain[1][0]  # the value's term is the only one that grew at last


def test_gradient_norms_by_hand():
    weighting = gradient_norm_balance(Weights(state=10.0, action=0.0), asymmetry=1.0, rate=1.0)
    gram = np.diag([1.0, 9.0, 25.0])
    signals = [make_signals((1.0, 1.0, 1.0), gram=gram), make_signals((1.0, 3.0, 1.0), gram=gram)]
    # 1. Norms (1, 3), mean 2, both terms as at the start: factors (2, 2/3), at mean 1
    #    (1.5, 0.5): norms (1.5, 1.5).
    # 2. Terms are (1, 3) times those at the start, (0.5, 1.5) of their mean: norms are to be
    #    1.5 * (0.5, 1.5), factors (0.75, 0.75), at mean 1 (1, 1).
    # Base weights come on top, and the action's of 0 takes the action out.
    assert_weights(run(weighting, signals), [(1.5, 5.0, 0.0), (1.0, 10.0, 0.0)])


def test_gradient_norms_settle_at_the_base_weights_ratio():
    norms = np.array([2.0, 50.0, 0.1])
    weighting = gradient_norm_balance(BASE, asymmetry=0.0)
    signals = make_signals(gram=np.diag(norms**2))

    def step(state, _):
        weights, state = weighting.update(state, signals)
        return state, weights

    _, weights = jax.device_get(jax.lax.scan(step, weighting.init(), None, length=1000))
    value, state, action = weights.value[-1] * 2.0, weights.state[-1] * 50, weights.action[-1] * 0.1
    # 1000 updates of rate 0.025 close the remaining gap to exp(-25).
    assert_weights((state / value, action / value), (10.0, 3.0), tolerance=1e-4)


def conflict_free_vectors(vectors, base):
    ((value, state, action),) = run(conflict_free(base), [make_signals(gram=make_gram(vectors))])
    assert np.isfinite([value, state, action]).all()
    g_value = base.value * vectors[0]
    g_gradients = base.state * vectors[1] + base.action * vectors[2]
    return value * vectors[0] + state * vectors[1] + action * vectors[2], g_value, g_gradients


def test_conflict_free_by_hand():
    # Norms 2 and 3 * 2 = 6, mean 4: the value's factor is 4/2, that of gradients 4/6.
    vectors = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    found = run(conflict_free(Weights(3.0, 1.0)), [make_signals(gram=make_gram(vectors))])
    assert_weights(found, [(2.0, 2.0, 2 / 3)])


@pytest.mark.parametrize("conflict", [0.0, 0.9, -5.0])
def test_conflict_free_has_equal_positive_cosines(conflict):
    vectors = np.random.default_rng(0).normal(size=(3, 20)) * [[1.0], [3.0], [0.2]]
    vectors[1] += conflict * vectors[0]
    update, value, gradients = conflict_free_vectors(vectors, Weights(0.7, 2.0))
    onto = [g @ update / np.linalg.norm(g) for g in (value, gradients)]
    assert onto[0] > 0
    np.testing.assert_allclose(onto[0], onto[1], rtol=1e-4)  # float32 entries of the Gram matrix
    length = np.linalg.norm(update)
    np.testing.assert_allclose(length, (value + gradients) @ update / length, rtol=1e-4)


def test_conflict_free_where_there_is_no_angle():
    one, base = np.array([3.0, 4.0]), Weights(2.0, 1.0)
    zero = 0.0 * one
    update, value, gradients = conflict_free_vectors(np.stack([one, one, zero]), base)
    assert_weights(update, value + gradients)  # parallel: their sum
    update, *_ = conflict_free_vectors(np.stack([one, -one, zero]), base)
    np.testing.assert_allclose(update, 0.0, atol=1e-5)  # opposite: nothing helps both
    update, value, _ = conflict_free_vectors(np.stack([one, zero, zero]), base)
    assert_weights(update, value)
    update, _, gradients = conflict_free_vectors(np.stack([zero, one, one]), base)
    assert_weights(update, gradients)
    update, _, _ = conflict_free_vectors(np.stack([zero, zero, zero]), base)
    assert_weights(update, zero)


def test_gradients_must_be_handed_in():
    weighting = conflict_free(BASE)
    number = jnp.ones(())
    with pytest.raises(ValueError, match=r"Signals\.gram is None"):
        weighting.update(weighting.init(), Signals(*[number] * 6, gram=None))


def test_constrained_by_hand():
    weighting = constrained(Weights(2.0, 4.0), tolerance=0.5, rate=1.0, decay=0.0)
    above = make_signals(terms=(3.0, 1.0, 1.0), target=(2.0, 1.0, 1.0))
    below = make_signals(terms=(0.0, 1.0, 1.0), target=(2.0, 1.0, 1.0))
    # The bound is 1. First (3 - 1) / (3 + 1) = 0.5 above it: mu = exp(0.5), so that
    # mu / (1 + mu) = 0.6224593. Then (0 - 1) / (0 + 1) = -1: mu = exp(-0.5).
    expected = [
        (0.6224593, 2 * 0.3775407, 4 * 0.3775407),
        (0.3775407, 2 * 0.6224593, 4 * 0.6224593),
    ]
    assert_weights(run(weighting, [above, below]), expected)


def test_the_multiplier_rises_while_the_bound_is_violated_and_falls_after():
    weighting = constrained(BASE)
    values = np.repeat(np.float32([4.0, 0.0]), 2000)

    def step(state, value):
        weights, state = weighting.update(state, make_signals((value, 1.0, 1.0)))
        return state, (weights, state.log_multiplier)

    _, (weights, multiplier) = jax.device_get(jax.lax.scan(step, weighting.init(), values))
    assert (np.diff(multiplier[:1400]) > 0).all()
    assert (np.diff(multiplier[2600:3500]) < 0).all()
    assert float(multiplier.max()) == pytest.approx(math.log(1e6))  # and no further
    assert weights.value[1999] > 0.999999
    assert weights.state[1999] < 2e-5
    assert weights.value[-1] < weights.state[-1]


def test_a_warm_up_waits_and_then_rises_along_a_line():
    weighting = scheduled(Weights(2.0, 4.0), warm_up(wait=1, ramp=2))
    weights = run(weighting, [make_signals()] * 4)
    assert_weights(weights, [(1.0, 0.0, 0.0), (1.0, 1.0, 2.0), (1.0, 2.0, 4.0), (1.0, 2.0, 4.0)])
    # Of 20 updates two are waited for, and two more are the rise.
    found = run(make_weighting("warm_up", BASE, 20), [make_signals()] * 5)
    np.testing.assert_allclose([state for _, state, _ in found], [0.0, 0.0, 5.0, 10.0, 10.0])
    with pytest.raises(ValueError, match="ramp=-1 must be at least 0"):
        warm_up(0, -1)


def test_guarded_by_hand():
    """Fast: the last value. Slow: halves of what was before. On up to 1.5 times as much."""
    weighting = guarded(Weights(2.0, 4.0), tolerance=1.5, fast=0.0, slow=0.5)
    # Slow averages of value over variance: 1, (1 + 2 * 1.4) / 3 = 1.27, then 5.1 and 3.6.
    values = (1.0, 1.4, 8.0, 2.3)
    signals = [make_signals((value, 1.0, 1.0), target=(1.0, 1.0, 1.0)) for value in values]
    on, off = (1.0, 2.0, 4.0), (1.0, 0.0, 0.0)
    assert_weights(run(weighting, signals), [on, on, off, on])
    # A return that grows tenfold makes values larger, not worse.
    grown = [make_signals((100.0, 1.0, 1.0), target=(100.0, 1.0, 1.0))]
    assert_weights(run(weighting, [*signals[:1], *grown]), [on, on])
    with pytest.raises(ValueError, match="tolerance=1 must be above 1"):
        guarded(BASE, tolerance=1)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_without_gradients_the_loss_is_the_ordinary_one(name):
    weighting = make_weighting(name, Weights(0.0, 0.0), 10)
    signals = [make_signals(), make_signals((5.0, 0.1, 30.0), gram=np.diag([1e4, 1.0, 3.0]))]
    assert_weights(run(weighting, signals * 2), [(1.0, 0.0, 0.0)] * 4)


def test_no_gradient_flows_through_weights():
    def state_weight(value):
        weighting = constrained(BASE)
        return weighting.update(weighting.init(), make_signals((value, 1.0, 1.0)))[0].state

    assert jax.grad(state_weight)(1.0) == 0.0


def scan(weighting, state, signals):
    """The last state, and the weights of all updates, for signals with a leading time axis."""

    def step(state, at):
        weights, state = weighting.update(state, at)
        return state, weights

    return jax.lax.scan(step, state, signals)


def sweep(index, signals):
    weighting = choose(index, [make_weighting(name, BASE, 10) for name in WEIGHTINGS])
    assert weighting.needs_gradients
    return scan(weighting, weighting.init(), signals)[1]


def test_choose_is_the_chosen_one_also_in_a_batch():
    terms = [(1.0, 2.0, 3.0), (0.5, 2.0, 9.0), (2.0, 1.0, 3.0)]
    vectors = np.random.default_rng(1).normal(size=(3, 3, 5))
    signals = [make_signals(at, gram=make_gram(v)) for at, v in zip(terms, vectors, strict=True)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *signals)
    found = jax.jit(jax.vmap(sweep, in_axes=(0, None)))(jnp.arange(len(WEIGHTINGS)), stacked)
    for index, name in enumerate(WEIGHTINGS):
        alone = run(make_weighting(name, BASE, 10), signals)
        chosen = (found.value[index], found.state[index], found.action[index])
        assert_weights(np.stack(chosen, axis=1), alone, tolerance=1e-5)
    # No value loss runs away here, so "guarded" is "constant".
    assert len({tuple(row) for row in np.asarray(found.state).tolist()}) == len(WEIGHTINGS) - 1


def test_choose_needs_gradients_only_if_one_does():
    assert not choose(0, [constant(BASE), scale_free(BASE)]).needs_gradients
    with pytest.raises(ValueError, match="at least one"):
        choose(0, [])


def test_base_weights_may_be_traced_and_a_scan_compiles_once():
    @jax.jit
    def train(state_weight, states, signals):
        base = Weights(state_weight, 1.0)
        return scan(
            choose(0, [make_weighting(name, base, 10) for name in WEIGHTINGS]), states, signals
        )

    signals = jax.tree.map(lambda leaf: np.stack([leaf] * 3), make_signals())
    states = choose(0, [make_weighting(name, BASE, 10) for name in WEIGHTINGS]).init()
    states, first = train(jnp.asarray(2.0), states, signals)
    _, second = train(jnp.asarray(5.0), states, signals)
    assert train._cache_size() == 1
    assert_weights((first.state[-1], second.state[-1]), (2.0, 5.0))


def test_names():
    assert WEIGHTINGS == (
        "constant",
        "schedule",
        "scale_free",
        "relative_loss_progress",
        "gradient_norm_balance",
        "conflict_free",
        "constrained",
        "warm_up",
        "guarded",
    )
    with pytest.raises(ValueError, match=r"did you mean 'conflict_free'\?.*constant, schedule"):
        make_weighting("conflictfree", BASE, 10)
    with pytest.raises(ValueError, match="updates=0 must be at least 1"):
        make_weighting("schedule", BASE, 0)


@pytest.mark.parametrize("base", [BASE, Weights(1e3, 0.0), Weights(0.0, 0.0)])
def test_ours_pass_the_check(base):
    check_weighting(choose(2, [make_weighting(name, base, 10) for name in WEIGHTINGS]))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_each_of_ours_passes_the_check_in_double_precision_too(name, float64):
    weighting = make_weighting(name, BASE, 10)
    check_weighting(weighting)
    # And a state in single precision stays so, whatever the signals are.
    single = jax.tree.map(lambda leaf: leaf.astype("float32"), weighting.init())
    after = weighting.update(single, make_signals())[1]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(after)} <= {"float32"}


def custom(weight=lambda signals: signals.value, init=lambda: (), after=lambda state: state):
    def update(state, signals):
        return Weights(weight(signals), 1.0), after(state)

    return Weighting(init, update)


@pytest.mark.parametrize(
    ("weighting", "message"),
    [
        (custom(lambda s: -s.value), r"'typical' signals gives state=-1\.0, but .* at least 0"),
        (custom(lambda s: s.value / s.state), "'no gradients' signals gives state=inf"),
        (custom(lambda s: s.state / s.action), "'no gradients' signals gives state=nan"),
        (custom(lambda s: jnp.stack([s.value] * 2)), r"of shape \(2,\)"),
        (custom(init=lambda: 0.0), "weakly typed"),
        (custom(init=lambda: jnp.zeros(2), after=lambda s: (s, s)), "another structure"),
        (custom(init=lambda: jnp.zeros(2), after=lambda s: s[:1]), r"of shape \(1,\)"),
        (
            custom(init=lambda: jnp.zeros((), int), after=lambda s: s.astype(float)),
            "type float32, but init gives",
        ),
        (custom(init=lambda: jnp.zeros(()), after=lambda s: 1.0), "weakly typed"),
    ],
)
def test_the_check_refuses(weighting, message):
    with pytest.raises(ValueError, match=message):
        check_weighting(weighting)


def test_the_check_refuses_negative_base_weights_and_skips_traced_ones():
    with pytest.raises(ValueError, match=r"action=-1\.0"):
        check_weighting(constant(Weights(1.0, -1.0)))

    def traced(weight):
        check_weighting(constant(Weights(weight, 1.0)))
        return weight

    assert jax.jit(traced)(-1.0) == -1.0
    assert jax.vmap(traced)(-jnp.ones(1)) == -1.0
