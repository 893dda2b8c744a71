"""The toy: its loss at Q*, its program against one written by hand, and what it writes."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.studies.toy import __main__ as command
from experiments.studies.toy import study, tables
from experiments.studies.toy.critics import CRITICS, MAIN
from experiments.studies.toy.fit import CHUNK, Sizes, make_fit, stack
from experiments.studies.toy.options import Toy, prepare
from experiments.studies.toy.study import Job, plan
from experiments.studies.toy.systems import (
    DISCOUNT,
    MEASURES,
    grid,
    make_systems,
    optimal,
    transitions,
)
from experiments.studies.toy.variants import ARMS, PAIR, PLAIN, SOBOLEV, Variant

TINY = Toy(
    systems=("smooth",), critics=(), transitions=4, sizes=(4, 8), seeds=6, iterations=2, updates=3
)
SIZES = Sizes(iterations=60, updates=50, capacity=48)


@pytest.fixture(scope="module")
def fitted():
    """Quadratic features on the linear system, by every variant: Q* is within reach."""
    system, count = make_systems()["linear"], 16
    keys = jax.random.split(jax.random.key(0), 2)
    targets = tuple(sorted({variant.gradient_target for variant in ARMS}))
    data = transitions(system, keys, SIZES.capacity)
    critic = CRITICS["quadratic"]
    program = jax.jit(make_fit(critic.module, SIZES, targets))
    members = stack(ARMS, targets, keys, data, count)
    rate, discount = jnp.float32(critic.learning_rate), jnp.float32(DISCOUNT)
    found = jax.device_get(program(members, rate, discount))
    parts = [np.asarray(part, np.float64).reshape(len(ARMS), len(keys), -1) for part in found]
    return {
        variant.name: study.Surface(*each)
        for variant, each in zip(ARMS, zip(*parts, strict=True), strict=True)
    }


def test_a_critic_that_can_hold_q_star_finds_it_and_its_gradients(fitted):
    reference = optimal(make_systems()["linear"])
    # γ^60 = 1.8e-3 of the height is not yet there, squared; gradients converge far faster.
    for name, bound in (("plain", 1e-5), ("sobolev", 1e-8)):
        errors = fitted[name].errors(reference)
        assert np.max(errors["value"]) < 1e-4
        assert max(np.max(errors[part]) for part in ("state", "action")) < bound


def test_wrong_gradients_are_felt(fitted):
    reference = optimal(make_systems()["linear"])
    worst = np.max(fitted["plain"].errors(reference)["state"])
    for name in ("zero", "unit_norm", "shuffled", "random"):
        assert np.min(fitted[name].errors(reference)["state"]) > 100 * worst, name


def test_all_arms_of_a_seed_begin_alike_and_end_apart(fitted):
    ends = [fitted[variant.name].value[0] for variant in ARMS]
    for index, one in enumerate(ends):
        assert not any(np.array_equal(one, other) for other in ends[:index])


def test_one_iteration_equals_ordinary_least_squares_by_hand():
    """Of plain learning towards a target that is zero: the reward is what is fitted."""
    system = make_systems()["linear"]
    keys = jax.random.split(jax.random.key(1), 1)
    sizes = Sizes(iterations=1, updates=1500, capacity=CHUNK)
    data = transitions(system, keys, CHUNK)
    program = jax.jit(make_fit(CRITICS["quadratic"].module, sizes, ("bellman",)))
    # With a discount of zero nothing but the reward is left: -(s² + 0.1 a²), and its gradients.
    members = stack(PAIR, ("bellman",), keys, data, CHUNK)
    value, state, action = program(members, jnp.float32(0.1), jnp.float32(0.0))
    states, actions = grid()
    for variant in range(2):
        np.testing.assert_allclose(value[variant], -(states**2) - 0.1 * actions**2, atol=1e-4)
        np.testing.assert_allclose(state[variant], -2 * states, atol=1e-4)
        np.testing.assert_allclose(action[variant], -0.2 * actions, atol=1e-4)


def test_q_star_and_its_gradients_agree_with_differences():
    for system in make_systems().values():
        surface = optimal(system)
        assert not any(np.isnan(getattr(surface, name)).any() for name in MEASURES)
        side = int(np.sqrt(surface.value.size))
        values, gradients = (part.reshape(side, side) for part in (surface.value, surface.state))
        step = 2 / side
        differences = (values[2:] - values[:-2]) / (2 * step)
        # Averages over 0.08 of the state; at kinks of `contact` they average both sides.
        assert np.median(np.abs(differences - gradients[1:-1])) < 0.05


def test_a_study_names_every_fit_once():
    toy = replace(TINY, critics=("quadratic", MAIN), systems=("linear", "contact"))
    jobs = plan(toy)
    assert len(jobs) == len(set(jobs))
    assert len({len(job.variants) for job in jobs}) == 1
    told = {
        (job.critic, job.system, job.count, variant.name)
        for job in jobs
        for variant in job.variants
    }
    for system in toy.systems:
        assert {(MAIN, system, 4, variant.name) for variant in ARMS} <= told
        assert {("quadratic", system, 4, variant.name) for variant in PAIR} <= told
        assert {(MAIN, system, 8, variant.name) for variant in PAIR} <= told
    # Programs that need no control do not pay for one.
    assert all(
        job.gradient_targets == ("bellman",)
        or {variant.gradient_target for variant in job.variants} != {"bellman"}
        for job in jobs
    )
    tuning = plan(replace(toy, study="tuning"))
    assert {job.learning_rate for job in tuning if job.critic == "quadratic"} == set(study.RATES)


def test_the_command_writes_tables_plots_and_numbers(tmp_path, capsys):
    folder = tmp_path / "runs" / "toy"
    sizes = "--transitions 4 --sizes 4 8 --seeds 6 --iterations 2 --updates 3"
    arguments = f"--systems smooth --critics swish {sizes} --output {folder}".split()
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    for part in ("Sobolev", "paper, plain MLP", "3.56", "Numbers of transitions"):
        assert part in printed
    text = (folder / command.RESULTS).read_text()
    assert not {"NaN", "Infinity"} & set(text.replace(",", " ").split())
    results = json.loads(text)
    assert len(results["fits"]) == len(ARMS) + len(PAIR)
    assert all(len(fit["errors"][name]) == 6 for fit in results["fits"] for name in MEASURES)
    assert {path.name for path in folder.iterdir()} == {
        "toy.json", "table.md", "cuts.png", "surfaces_smooth.png", "sizes.png", "controls.png",
    }  # fmt: skip
    # The table says what the numbers say.
    [plain] = study.pick(results, variant=PLAIN.name, transitions=8)
    [sobolev] = study.pick(results, variant=SOBOLEV.name, transitions=8)
    ratio = np.median(np.divide(plain["errors"]["value"], sobolev["errors"]["value"]))
    assert tables.factors(sobolev, plain)["value"].median == pytest.approx(ratio)
    rows = tables.sizes(results).rows
    assert rows[-1][:3] == ("smooth", "8", "Sobolev")
    assert rows[-1][6].startswith(f"{ratio:.2g} [")
    assert command.main(arguments) == 2  # nothing is overwritten


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"systems": ("linaer",)},
            "--systems 'linaer' is unknown: choose from linear, smooth, steep",
        ),
        ({"systems": ()}, "--systems names none"),
        ({"critics": ("mlp",)}, "--critics 'mlp' is unknown: choose from quadratic, tanh"),
        ({"transitions": 0}, "--transitions 0 must be from 1"),
        ({"sizes": ()}, "rising numbers"),
        ({"sizes": (16, 8)}, "rising numbers"),
        ({"sizes": (0, 8)}, "rising numbers"),
        ({"seeds": 0}, "--seeds 0 must be from 1"),
        ({"iterations": 0}, "--iterations 0 must be"),
        ({"updates": 10**6}, "--updates 1000000 must be"),
        ({"seed": -1}, "--seed -1 must be from 0"),
    ],
)
def test_bad_input_is_refused_before_anything_compiles(change, message):
    with pytest.raises(ValueError, match=message):
        prepare(replace(TINY, **change))


def test_an_arm_names_a_gradient_target_that_there_is():
    with pytest.raises(ValueError, match="'smooth' is not one of bellman, zero"):
        Variant("mine", "mine", gradient_target="smooth")


def test_members_share_their_data_and_have_as_much_as_they_should():
    keys = jax.random.split(jax.random.key(0), 2)
    data = transitions(make_systems()["contact"], keys, 6)
    variants = (SOBOLEV, Variant("more", "more", more_data=3))
    members = stack(variants, ("bellman",), keys, data, 2)
    assert members.count.tolist() == [2, 2, 6, 6]
    assert members.state_weight.tolist() == [1.0, 1.0, 0.0, 0.0]
    observations = members.transitions.observation
    np.testing.assert_array_equal(observations[:2], observations[2:])
    assert not np.array_equal(observations[0], observations[1])
    assert isinstance(
        Job("quadratic", "linear", 2, variants, ("bellman",), 0.1).variants[0], Variant
    )


def test_tuning_says_which_rate_serves_plain_learning_best():
    def fit(critic, system, rate, variant, error):
        errors = {name: np.full(6, error) for name in MEASURES}
        names = ("critic", "system", "transitions", "learning_rate", "variant", "errors")
        return dict(zip(names, (critic, system, 4, rate, variant, errors), strict=True))

    results = {
        "toy": {"transitions": 4},
        "critics": {"tanh": {"label": "tanh"}},
        "fits": [
            fit("tanh", "linear", 0.1, "plain", 1e-4),
            fit("tanh", "smooth", 0.1, "plain", 1e-2),
            fit("tanh", "linear", 0.01, "plain", 4.0),
            fit("tanh", "smooth", 0.01, "plain", 9.0),
            fit("tanh", "linear", 0.1, "sobolev", 1e-9),
        ],
    }
    listing = tables.best_rates(results)
    assert listing.headings == ("critic", "0.01", "0.1")
    assert listing.rows == [("tanh", "6", "1.0e-3")]
