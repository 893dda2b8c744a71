import dataclasses
import json
import math

import numpy as np
import pytest

import envs
from experiments.launch import run_folder
from experiments.launch.progress import Progress
from experiments.report import rows
from experiments.report.rows import Rows
from experiments.studies.scaling import __main__ as command
from experiments.studies.scaling import analysis, figures, measure, tables
from experiments.studies.scaling.families import LABELS
from experiments.studies.scaling.options import DEFAULTS
from experiments.studies.scaling.references import (
    TASKS,
    References,
    _compile_evaluation,
    measure_references,
)
from experiments.studies.scaling.variants import make_groups, prepare
from tests.experiments import stubs

TINY = [
    *("--sizes", "1", "2", "--seeds", "2", "--steps", "40", "--epoch-steps", "32"),
    *("--steps-per-dimension", "8"),
    *("--learning-starts", "32", "--batch-size", "8", "--hidden-sizes", "4"),
    *("--plain-budget", "2", "--plain-more-budget", "1", "--weights", "1", "--control-sizes", "2"),
    *("--scale-free-weights", "1", "--control-weights", "1", "--plain-learning-rates", "0.003"),
    *("--timing-steps", "32", "--evaluation-episodes", "2"),
    *("--groups", "gradients", "plain", "plain_more", "gradients_more"),
]


OPTIONS = {"env": "point_mass", "share": 0.9, "seeds": 6, "learning_starts": 100}


def variant(family, steps, budget, config="λ = 1", gradient_steps=0.5, best=None):
    """A row for each seed, without the number of dimensions."""
    reached = [1.0 if step is not None else 0.2 for step in steps]
    updates = 1e-3 if family.startswith("plain") else 2e-3
    return [
        {
            "family": family,
            "config": config,
            "seed": seed,
            "gradient_steps": gradient_steps,
            "budget": budget,
            "steps": step,
            "share_at_shared_steps": reached[seed],
            "best_share": (best or reached)[seed],
            "seconds_per_step": 1e-5,
            "seconds_per_update": updates,
        }
        for seed, step in enumerate(steps)
    ]


def size(n, variants):
    about = {"job": f"n = {n}", "n": n, "nothing": -33.0 * n, "reference": -2.0 * n}
    return [{**about, **row} for rows in variants for row in rows]


def measured(*sizes):
    return Rows([row for size in sizes for row in size], OPTIONS)


def one(variants, n=1):
    (found,) = analysis.sizes_of(measured(size(n, variants)))
    return found


def synthetic(numbers=(1, 2, 4, 8)):
    """Plain SAC needs 500 n² steps but has 20,000, gradients 400 √n, a control forever."""
    made = []
    for n in numbers:
        jitter = np.array([0.9, 0.95, 1.0, 1.0, 1.05, 1.1])
        plain = [int(x) if x <= 20_000 else None for x in 500 * n**2 * jitter]
        gradients = [int(x) for x in 400 * math.sqrt(n) * jitter]
        never = [None] * 6
        variants = [
            variant("plain", never, 20_000, "lr 1"),
            variant("plain", plain, 20_000, "lr 2"),
            variant("plain_more", never, 10_000, "lr 1", 2.0),
            variant("both", gradients, 4096),
            variant("both", [*gradients[:3], None, None, None], 4096, "λ = 10"),
            variant("shuffled", never, 4096),
        ]
        made.append(size(n, variants))
    return made


def sizes_of(numbers=(1, 2, 4, 8)):
    return analysis.sizes_of(measured(*synthetic(numbers)))


def test_reached_is_the_first_evaluation_at_or_above():
    shares = np.array([[0.1, 0.95, np.nan], [0.9, 0.2, np.nan], [0.5, 0.99, -3.0]])
    assert measure.reaching(np.array([10, 20, 30]), shares, 0.9) == [20, 10, None]


def test_what_is_needed_knows_what_is_censored():
    (found,) = one([variant("both", [3, 1, 2, None, 4, 5], 9)]).variants
    needed = found.needed("steps")
    assert (needed.median, needed.low, needed.high) == (3.5, 1, math.inf)
    assert found.reached == 5
    (half,) = one([variant("both", [1, 2, None, None], 9)]).variants
    assert half.needed("steps").median == math.inf  # no majority


def test_exponents_are_found_and_censored_sizes_are_left_out():
    sizes = sizes_of()
    gradients = analysis.exponent(sizes, "both")
    assert gradients is not None
    assert gradients.value == pytest.approx(0.5, abs=1e-3)
    assert gradients.low < 0.5 < gradients.high
    assert gradients.factor == pytest.approx(400, rel=1e-2)
    plain = analysis.exponent(sizes, "plain")
    assert plain is not None
    assert plain.sizes == (1, 2, 4)  # 32,000 steps are more than its budget
    assert plain.value == pytest.approx(2, abs=1e-3)
    assert analysis.exponent(sizes, "shuffled") is None


def test_the_best_setting_is_chosen_by_median_then_by_seeds_then_by_return():
    (four,) = sizes_of((4,))
    assert four.best(["plain"]).config == "lr 2"
    assert four.best(["both"]).config == "λ = 1"
    close = variant("zero", [None] * 2, 9, "close", best=[0.8, 0.8])
    far = variant("zero", [None] * 2, 9, "far", best=[None, 0.1])
    assert one([far, close]).best(["zero"]).config == "close"
    assert four.best(["random"]) is None


def test_advantages_are_bounds_where_plain_sac_did_not_get_there():
    small, *_, large = sizes_of()
    found = analysis.advantage(small, "steps")
    assert (found.ratio, found.bound) == (500 / 400, False)
    assert found.careful == pytest.approx(450 / 440, rel=1e-2)
    # More updates had the smaller budget, and what came after it is unknown.
    found = analysis.advantage(large, "steps")
    assert found.bound
    assert found.ratio == pytest.approx(10_000 / 1131, rel=1e-3)
    # In time a step without updates is cheap, an update with gradients costs twice as much.
    time = analysis.advantage(small, "seconds")
    assert time.ratio == pytest.approx((500e-5 + 200e-3) / (400e-5 + 300e-3))
    never = one([variant("plain", [5], 9), variant("both", [None], 9)])
    assert math.isnan(analysis.advantage(never, "steps").ratio)


def test_plain_sacs_best_is_named_for_steps_and_for_time():
    quick = variant("plain", [200] * 6, 9000, "lr 1", gradient_steps=0.5)
    frugal = variant("plain_more", [150] * 6, 9000, "lr 2", gradient_steps=8.0)
    table = tables.advantages([one([quick, frugal, variant("both", [100] * 6, 9000)])])
    [row] = table.texts()
    cells = dict(zip(table.headings, row, strict=True))
    assert cells["plain SAC's best, in steps"] == "plain SAC, more updates; lr 2"
    assert cells["plain SAC's best, in time"] == "plain SAC; lr 1"
    assert (cells["steps"], cells["time"]) == ("1.50", "52.0")


def test_exponents_are_of_the_medians_in_the_table():
    half = {n: variant("plain", [100] * 3 + [100 * n**3] * 3, 10_000) for n in (1, 2)}
    sizes = analysis.sizes_of(measured(*(size(n, [own]) for n, own in half.items())))
    medians = [own.variants[0].needed("steps").median for own in sizes]
    assert medians == [100, 450]
    fitted = analysis.exponent(sizes, "plain")
    assert fitted is not None
    assert fitted.value == pytest.approx(math.log2(4.5))


def test_returns_of_runs_that_diverged_are_the_worst():
    rows_of_seeds = variant("both", [1] * 6, 9)
    shares = [0.9, 0.95, math.nan, math.nan, math.nan, -math.inf]
    lost = [
        {**row, "share_at_shared_steps": share}
        for row, share in zip(rows_of_seeds, shares, strict=True)
    ]
    [[_, cell]] = tables.returns([one([lost])]).rows
    assert (cell.median, cell.high) == (-math.inf, 0.95)


def test_a_run_that_was_frozen_does_not_get_there(tmp_path, monkeypatch):
    options = dataclasses.replace(
        DEFAULTS["point_mass"], sizes=(2,), seeds=2, groups=("plain",), plain_budget=1,
        plain_learning_rates=(1e-3,), plain_reward_scales=(1.0,), steps=512, steps_per_dimension=0,
    )  # fmt: skip

    class Program:
        def initialise(self, keys, hypers):
            return None

        def epoch(self, state, hypers, epoch):
            high = -33.0 if epoch == 0 else 0.0
            frozen = np.array([epoch > 0, False])
            return None, {"evaluation_return": np.full(2, high), "frozen": frozen}

    monkeypatch.setattr(measure, "compile_program", lambda *_: Program())
    [(name, job)] = prepare(options).jobs.items()
    references = References(np.full(4, -33.0), np.zeros(4))
    path = tmp_path / "curves.jsonl"
    found = measure._train(options, name, job, references, path, Progress())
    assert [row["steps"] for row in found] == [None, 256]
    assert np.isnan([row["final_share"] for row in found]).tolist() == [True, False]


def test_updates_begin_after_the_first_steps():
    (small,) = sizes_of((1,))
    assert small.best(["both"]).costs("updates")[0] == (360 - 100) / 2
    (never,) = one([variant("both", [None], 9)]).variants
    assert never.costs("seconds").tolist() == [math.inf]


def write_run(folder, sizes, **options):
    folder.mkdir()
    saved = {"study": "scaling", "options": {**OPTIONS, **options}}
    run_folder.write_json(folder / "configuration.json", saved)
    rows.write(folder, list(measured(*sizes)))
    return str(folder)


def test_runs_are_merged_variant_by_variant(tmp_path, capsys):
    first = write_run(tmp_path / "first", synthetic((1, 2)))
    second = write_run(tmp_path / "second", synthetic((4, 8)))
    third = write_run(tmp_path / "third", [size(8, [variant("random", [None] * 6, 4096)])])
    page = tmp_path / "page"
    assert command.main(["--report", first, second, third, "--output", str(page)]) == 0
    text = (page / "table.md").read_text()
    assert "| plain SAC | 500 [450, 550] 6/6 | 2,000" in text
    assert "> 20,000 [> 20,000, > 20,000] 0/6" in text
    plain = "plain SAC, more updates; lr 1 | plain SAC; lr 1"
    assert f"| 8 | λ_s and λ_a; λ = 1 | {plain} | > 8.84 |" in text
    assert "random gradients, same norm" in text
    assert "0.500 [" in text
    assert (page / "scaling.png").stat().st_size > 10_000
    assert command.main(["--report", first, "--output", str(page)]) == 2
    assert "holds another run" in capsys.readouterr().err
    other = str(tmp_path / "other")
    assert command.main(["--report", second, second, "--output", other]) == 2
    assert "holds '4, plain, lr 1', and so does another" in capsys.readouterr().err
    short = write_run(tmp_path / "short", [], learning_starts=9)
    assert command.main(["--report", first, short, "--output", other]) == 2
    longer = write_run(tmp_path / "longer", synthetic((4,)), learning_starts=9)
    capsys.readouterr()
    assert command.main(["--report", first, longer, "--output", other]) == 2
    assert "differ in learning_starts: 100 -> 9" in capsys.readouterr().err


def test_tables_do_with_a_single_seed_and_size():
    single = size(1, [variant("both", [None], 9), variant("plain", [5], 9)])
    for table in tables.tables(measured(single)):
        assert table.markdown()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sizes", "0"], "--sizes 0 must be one or more, from 1 on"),
        (["--env", "chain", "--sizes", "1"], "--sizes 1: joints"),
        (["--seeds", "0"], "--seeds 0 must be at least 1"),
        (["--share", "1"], "--share 1.0 must be between 0 and 1"),
        (["--weights", "-1"], "--weights -1.0 must be"),
        (
            ["--controls", "shufled"],
            "--controls 'shufled' is unknown (did you mean 'shuffled'?): choose one of zero",
        ),
        (["--epoch-steps", "100"], "--epoch-steps 100 must be a multiple of --num-envs 8"),
        (["--steps-per-dimension", "-1"], "--steps-per-dimension -1 must be at least 0"),
        (["--groups"], "--groups"),
        (["--tau", "2"], "tau=2.0"),
        (["--learning-starts", "99999"], "learning_starts=99999"),
        (["--trust", "soft"], "which first_order='reverse' never computes"),
        (["--gradient-units", "std", "--source", "cached"], "gradient_units='std' is unknown"),
        (["--output", "a-file"], "is a file"),
    ],
)
def test_bad_input_is_one_line_and_status_2(flags, message, tmp_path, assert_refused):
    (tmp_path / "a-file").write_text("kept")
    assert_refused(command.main, flags, message)


def test_units_and_trust_are_those_of_gradients_and_in_their_labels():
    changes = {"source": "cached", "gradient_units": "observation_std", "trust": "soft"}
    groups = make_groups(dataclasses.replace(DEFAULTS["chain"], **changes), 2)
    by_name = {group.name: group for group in groups}
    assert by_name["plain"].config.trust == "full"
    assert by_name["gradients"].config.trust == "soft"
    assert by_name["gradients"].config.gradient_units == "observation_std"
    assert by_name["gradients"].configs[0] == "λ = 1, observation_std, soft trust"


@pytest.mark.parametrize(
    ("env", "sizes"),
    [
        ("point_mass", DEFAULTS["point_mass"].sizes),
        ("chain", (2,)),
        # Long chains are traced at length.
        pytest.param("chain", DEFAULTS["chain"].sizes, marks=pytest.mark.slow),
    ],
)
def test_defaults_are_sound(env, sizes):
    assert DEFAULTS[env].env == env
    controls = tuple(n for n in DEFAULTS[env].control_sizes if n in sizes)
    plan = prepare(dataclasses.replace(DEFAULTS[env], sizes=sizes, control_sizes=controls))
    assert {job.n for job in plan.jobs.values()} == set(plan.options.sizes)
    for n in plan.options.sizes:
        jobs = [job for job in plan.jobs.values() if job.n == n]
        assert {job.environment.action_size for job in jobs} == {n}
        names = [variant.name for job in jobs for variant in job.group.variants]
        assert len(set(names)) == len(names)


def test_settings_name_what_a_report_must_tell_apart():
    scaling = dataclasses.replace(DEFAULTS["point_mass"], groups=("gradients", "gradients_more"))
    usual = [config for group in make_groups(scaling, 8) for config in group.configs]
    changed = dataclasses.replace(scaling, reward_scale=0.5)
    other = [config for group in make_groups(changed, 8) for config in group.configs]
    assert len(usual) == len(other)
    smoothed = {f"reward × {scale:g}" for scale in (0.1, 1)}
    assert not {*usual} & {*other} - smoothed
    # A control is held against the gradients of its own program, index by index.
    (gradients, more) = make_groups(scaling, 8)
    named = dict(zip(gradients.families, gradients.variants, strict=True))
    for name in ("zero", "unit_norm", "shuffled", "random"):
        assert gradients.gradient_targets[named[name].hyper.gradient_target] == name
    assert gradients.gradient_targets[named["both"].hyper.gradient_target] == "bellman"
    assert gradients.weightings[named["scale_free"].hyper.weighting] == "scale_free"
    assert named["frozen"].hyper.policy_response == 0
    assert named["state_only"].hyper.action_weight == named["action_only"].hyper.state_weight == 0
    assert more.config.gradient_steps == 4 * gradients.config.gradient_steps


def test_the_reference_is_optimal_and_on_the_episodes_of_the_runs():
    environment = envs.make("point_mass", dimension=2)
    found = measure_references("point_mass", environment, epochs=2, episodes=64)
    task = TASKS["point_mass"]
    (gain,) = task.candidates(environment)
    evaluate = _compile_evaluation(environment, task.policy, 64)
    assert float(evaluate(gain, 0)) == found.controller[0]
    for factor in (0.8, 1.25):
        assert float(evaluate(factor * gain, 0)) < found.controller[0]
    # Doing nothing: 100 steps at a position uniform in [-1, 1] in each of two dimensions.
    assert found.nothing.mean() == pytest.approx(-100 * 2 / 3, rel=0.15)
    assert found.nothing[0] != found.nothing[1]  # other episodes


def test_shares_go_from_nothing_to_the_controller():
    references = References(np.array([-10.0, -20.0]), np.array([0.0, -10.0]))
    returns = np.array([[[-10.0, 0.0]], [[-15.0, -30.0]]])
    assert references.shares(returns).tolist() == [[[0, 1]], [[0.5, -1]]]


def test_every_family_has_a_look_of_its_own():
    assert set(figures._LOOKS) == set(LABELS)
    assert len(set(figures._LOOKS.values())) == len(LABELS)


@pytest.mark.slow
def test_a_tiny_run_leaves_everything(tmp_path, capsys):
    folder = tmp_path / "run"
    assert command.main([*TINY, "--output", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == {
        "configuration.json", "curves", "rows.csv", "results.json", "table.md", "tables",
        "scaling.png",
    }  # fmt: skip
    two = Rows(rows.read(folder)).where(n=2)
    assert set(two.distinct("family")) == set(LABELS)
    assert all(len(own) == 2 for _, own in two.groups("family", "config"))
    assert (two.column("seconds_per_step") > 0).all()
    lines = [line for path in folder.glob("curves/02-*") for line in stubs.read_lines(path)]
    assert {line["steps"] for line in lines} <= {32, 64, 96, 128}
    assert json.loads((folder / "results.json").read_text())["options"]["sizes"] == [1, 2]
    assert "Tuned plain SAC over" in capsys.readouterr().out
