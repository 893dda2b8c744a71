"""The toy: its loss at Q*, its program against one written by hand, and what it writes."""

import functools
import itertools
import json
import math
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.launch import run_folder
from experiments.report import rows
from experiments.report.rows import Rows
from experiments.report.table import number
from experiments.studies import command as studies
from experiments.studies import merging
from experiments.studies.toy import __main__ as command
from experiments.studies.toy import tables
from experiments.studies.toy.critics import CRITICS, MAIN
from experiments.studies.toy.figures import figures
from experiments.studies.toy.fit import CHUNK, Sizes, make_fit, stack
from experiments.studies.toy.options import RATES, Job, Options, prepare
from experiments.studies.toy.systems import (
    DISCOUNT,
    MEASURES,
    Surface,
    grid,
    make_systems,
    optimal,
    transitions,
)
from experiments.studies.toy.variants import PAIR, SOBOLEV, VARIANTS, Variant

TINY = Options(
    systems=("smooth",), critics=(), transitions=4, sizes=(4, 8), seeds=6, iterations=2, updates=3
)
SIZES = Sizes(iterations=60, updates=50, capacity=48)


@pytest.fixture(scope="module")
def fitted():
    """Quadratic features on the linear system, by every variant: Q* is within reach."""
    system, count = make_systems()["linear"], 16
    keys = jax.random.split(jax.random.key(0), 2)
    targets = tuple(sorted({variant.gradient_target for variant in VARIANTS}))
    data = transitions(system, keys, SIZES.capacity)
    critic = CRITICS["quadratic"]
    program = jax.jit(make_fit(critic.module, SIZES, targets))
    runs = stack(VARIANTS, targets, keys, data, count)
    rate, discount = jnp.float32(critic.learning_rate), jnp.float32(DISCOUNT)
    found = jax.device_get(program(runs, rate, discount))
    parts = [np.asarray(part, np.float64).reshape(len(VARIANTS), len(keys), -1) for part in found]
    return {
        variant.name: Surface(*each)
        for variant, each in zip(VARIANTS, zip(*parts, strict=True), strict=True)
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
    ends = [fitted[variant.name].value[0] for variant in VARIANTS]
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
    runs = stack(PAIR, ("bellman",), keys, data, CHUNK)
    value, state, action = program(runs, jnp.float32(0.1), jnp.float32(0.0))
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
    jobs = list(prepare(toy).jobs.values())
    assert len(jobs) == len(set(jobs))
    assert len({len(job.variants) for job in jobs}) == 1
    named = {
        (job.critic, job.system, job.transitions, variant.name)
        for job in jobs
        for variant in job.variants
    }
    for system in toy.systems:
        assert {(MAIN, system, 4, variant.name) for variant in VARIANTS} <= named
        assert {("quadratic", system, 4, variant.name) for variant in PAIR} <= named
        assert {(MAIN, system, 8, variant.name) for variant in PAIR} <= named
    # Programs that need no control do not pay for one.
    assert all(
        job.gradient_targets == ("bellman",)
        or {variant.gradient_target for variant in job.variants} != {"bellman"}
        for job in jobs
    )
    tuning = prepare(replace(toy, study="tuning")).jobs.values()
    assert {job.learning_rate for job in tuning if job.critic == "quadratic"} == set(RATES)


@pytest.mark.slow
def test_the_command_writes_tables_figures_and_rows(tmp_path, capsys):
    folder = tmp_path / "runs" / "toy"
    sizes = "--transitions 4 --sizes 4 8 --seeds 6 --iterations 2 --updates 3"
    arguments = f"--systems smooth --critics swish {sizes} --output {folder}".split()
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    for part in ("Sobolev", "paper, plain MLP", "3.56", "Numbers of transitions"):
        assert part in printed
    text = (folder / "results.json").read_text()
    assert not {"NaN", "Infinity"} & set(text.replace(",", " ").split())
    assert [table["title"] for table in json.loads(text)["tables"]] == [
        "Controls, smooth", "Critics", "Numbers of transitions",
    ]  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {
        "configuration.json", "rows.csv", "arrays", "results.json", "table.md", "tables",
        "cuts.png", "surfaces_smooth.png", "sizes.png", "controls.png",
    }  # fmt: skip
    measured = Rows(rows.read(folder), {"transitions": 4})
    assert len(measured) == (len(VARIANTS) + len(PAIR)) * 6
    # The table says what the rows say.
    large = measured.where(transitions=8)
    plain, sobolev = (large.where(variant=variant.name) for variant in PAIR)
    ratio = np.median(plain.column("value") / sobolev.column("value"))
    assert tables.factors(sobolev, plain)["value"].median == pytest.approx(ratio)
    last = (folder / "table.md").read_text().splitlines()[-1]
    assert last.startswith("| smooth | 8 | Sobolev |")
    assert last.split(" | ")[6].startswith(f"{number(ratio)} [")
    assert command.main(arguments) == 2  # nothing is overwritten
    # Nothing is missing: nothing is measured, and the same is drawn; one figure is enough.
    one_figure = replace(command.STUDY, figures=lambda rows: itertools.islice(figures(rows), 1))
    main = functools.partial(studies.main, one_figure)
    before = (folder / "table.md").read_text()
    assert main(["--resume", str(folder)]) == 0
    assert (folder / "table.md").read_text() == before
    merged = tmp_path / "merged"
    assert main(["--report", str(folder), "--output", str(merged)]) == 0
    assert (merged / "rows.csv").read_text() == (folder / "rows.csv").read_text()
    assert (merged / "cuts.png").read_bytes() == (folder / "cuts.png").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"systems": ("linaer",)},
            r"--systems 'linaer' is unknown \(did you mean 'linear'\?\): choose one of linear",
        ),
        ({"systems": ()}, "--systems names none"),
        ({"critics": ("mlp",)}, "--critics 'mlp' is unknown: choose one of quadratic, tanh"),
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


def test_a_variant_names_a_gradient_target_that_there_is():
    with pytest.raises(ValueError, match="'smooth' is unknown: choose one of bellman, zero"):
        Variant("mine", "mine", gradient_target="smooth")


def test_variants_share_their_data_and_have_as_much_as_they_should():
    keys = jax.random.split(jax.random.key(0), 2)
    data = transitions(make_systems()["contact"], keys, 6)
    variants = (SOBOLEV, Variant("more", "more", more_data=3))
    runs = stack(variants, ("bellman",), keys, data, 2)
    assert runs.count.tolist() == [2, 2, 6, 6]
    assert runs.state_weight.tolist() == [1.0, 1.0, 0.0, 0.0]
    observations = runs.transitions.observation
    np.testing.assert_array_equal(observations[:2], observations[2:])
    assert not np.array_equal(observations[0], observations[1])
    assert isinstance(
        Job("quadratic", "linear", 2, variants, ("bellman",), 0.1).variants[0], Variant
    )


def test_a_seed_that_diverged_is_the_worst():
    def rows_of(error):
        return Rows([dict.fromkeys(MEASURES, one) for one in error])

    plain = [1.0] * 20
    gone = tables.factors(rows_of([math.nan] * 20), rows_of(plain))["value"]
    assert (gone.median, gone.low, gone.high) == (0, 0, 0)
    few = tables.factors(rows_of([0.5] * 9 + [math.nan] * 11), rows_of(plain))["value"]
    assert (few.median, few.high) == (0, 2)
    other = tables.factors(rows_of(plain), rows_of([math.nan] * 12 + plain[12:]))["value"]
    assert (other.median, other.low) == (math.inf, 1)
    assert tables.factors(rows_of([math.inf]), rows_of([math.nan]))["value"].median == 0


@pytest.mark.parametrize(
    "change",
    [{"study": "tuning"}, {"transitions": 8}, {"sizes": (4,)}, {"iterations": 1}, {"updates": 1}],
    ids=lambda change: next(iter(change)),
)
def test_runs_that_tables_and_figures_would_confuse_are_not_merged(change, tmp_path):
    folders = [tmp_path / "smooth", tmp_path / "linear"]
    for folder, options in zip(folders, (TINY, replace(TINY, **change)), strict=True):
        system = folder.name
        folder.mkdir()
        saved = {"study": "toy", "options": {**asdict(options), "systems": (system,)}}
        run_folder.write_json(folder / run_folder.CONFIGURATION, saved)
        rows.write(folder, [{"job": f"{system}, swish", "system": system, "value": 1.0}])
    with pytest.raises(ValueError, match=f"differ in {next(iter(change))}: "):
        merging.merge(command.STUDY, folders)


def test_tuning_says_which_rate_serves_plain_learning_best():
    def fit(system, rate, variant, error):
        names = ("critic", "system", "transitions", "learning_rate", "variant", "value")
        return dict(zip(names, ("tanh", system, 4, rate, variant, error), strict=True))

    table = tables.best_rates(
        Rows(
            [
                fit("linear", 0.1, "plain", 1e-4),
                fit("smooth", 0.1, "plain", 1e-2),
                fit("linear", 0.01, "plain", 4.0),
                fit("smooth", 0.01, "plain", 9.0),
                fit("linear", 0.1, "sobolev", 1e-9),
            ],
            {"transitions": 4},
        )
    )
    assert table.headings == ("critic", "0.01", "0.1")
    assert table.texts() == [["MLP 32 × 32, tanh", "6.00", "0.00100"]]
