import dataclasses
import json
import math

import numpy as np
import pytest

import envs
from experiments.launch import run_folder
from experiments.studies.scaling import __main__ as command
from experiments.studies.scaling import analysis, plots, report, tables
from experiments.studies.scaling.measure import reaching
from experiments.studies.scaling.options import DEFAULTS, parse, prepare
from experiments.studies.scaling.references import (
    TASKS,
    References,
    _compile_evaluation,
    measure_references,
)
from experiments.studies.scaling.variants import make_groups

TINY = [
    *("--sizes", "1", "2", "--seeds", "2", "--steps", "40", "--epoch-steps", "32"),
    *("--steps-per-dimension", "8"),
    *("--learning-starts", "32", "--batch-size", "8", "--hidden-sizes", "4"),
    *("--plain-budget", "2", "--plain-more-budget", "1", "--weights", "1", "--control-sizes", "2"),
    *("--scale-free-weights", "1", "--control-weights", "1", "--plain-learning-rates", "0.003"),
    *("--timing-steps", "32", "--evaluation-episodes", "2"),
    *("--groups", "gradients", "plain", "plain_more", "gradients_more"),
]


def variant(family, steps, budget, setting="λ = 1", gradient_steps=0.5):
    reached = [1.0 if step is not None else 0.2 for step in steps]
    return {
        "family": family,
        "setting": setting,
        "gradient_steps": gradient_steps,
        "budget": budget,
        "steps": steps,
        "shares_at_shared_steps": reached,
        "best_shares": reached,
    }


def size(n, variants):
    price = {"seconds_per_step": 1e-5, "seconds_per_update": 1e-3}
    return {
        "env": "point_mass",
        "n": n,
        "share": 0.9,
        "controller": "a controller",
        "nothing": -33.0 * n,
        "reference": -2.0 * n,
        "learning_starts": 100,
        "shared_steps": 4096,
        "variants": variants,
        "prices": {"plain": price, "gradients": {**price, "seconds_per_update": 2e-3}},
    }


def synthetic(numbers=(1, 2, 4, 8)):
    """Plain SAC needs 500 n² steps but has 20,000, gradients 400 √n, a control forever."""
    made = []
    for n in numbers:
        jitter = np.array([0.9, 0.95, 1.0, 1.05, 1.1])
        plain = [int(x) if x <= 20_000 else None for x in 500 * n**2 * jitter]
        gradients = [int(x) for x in 400 * math.sqrt(n) * jitter]
        never = [None] * 5
        variants = [
            variant("plain", never, 20_000, "lr 1"),
            variant("plain", plain, 20_000, "lr 2"),
            variant("plain_more", never, 10_000, "lr 1", 2.0),
            variant("both", gradients, 4096),
            variant("both", [*gradients[:3], None, None], 4096, "λ = 10"),
            variant("shuffled", never, 4096),
        ]
        made.append(size(n, variants))
    return made


def test_reached_is_the_first_evaluation_at_or_above():
    shares = np.array([[0.1, 0.95, np.nan], [0.9, 0.2, np.nan], [0.5, 0.99, -3.0]])
    assert reaching(np.array([10, 20, 30]), shares, 0.9) == [20, 10, None]


def test_a_median_knows_what_is_censored():
    found = analysis.median([3, 1, 2, math.inf, 4])
    assert (found.middle, found.low, found.high) == (3, 1, math.inf)
    assert found.coverage == pytest.approx(1 - 2 / 2**5)
    assert analysis.median([1, 2, math.inf, math.inf]).middle == math.inf  # no majority
    ten = analysis.median(range(10))
    assert (ten.low, ten.high) == (1, 8)  # 97.9 %; the next would be 89.1 %


def test_an_interval_of_the_median_covers_it():
    draw = np.random.default_rng(0)
    for count in (5, 9, 20):
        found = [analysis.median(draw.exponential(size=count)) for _ in range(2000)]
        held = np.mean([one.low <= math.log(2) <= one.high for one in found])
        assert held >= found[0].coverage - 0.02


def test_exponents_are_found_and_censored_sizes_are_left_out():
    sizes = synthetic()
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
    (one,) = synthetic((4,))
    assert analysis.best(one, ["plain"])["setting"] == "lr 2"
    assert analysis.best(one, ["both"])["setting"] == "λ = 1"
    close, far = variant("zero", [None] * 2, 9, "close"), variant("zero", [None] * 2, 9, "far")
    close["best_shares"], far["best_shares"] = [0.8, 0.8], [None, 0.1]
    assert analysis.best(size(1, [far, close]), ["zero"])["setting"] == "close"
    assert analysis.best(one, ["random"]) is None


def test_advantages_are_bounds_where_plain_sac_did_not_get_there():
    small, *_, large = synthetic()
    found = analysis.advantage(small, "steps")
    assert (found.ratio, found.bound) == (500 / 400, False)
    assert found.careful == pytest.approx(450 / 440, rel=1e-2)
    # More updates had the smaller budget, and nobody knows what came after it.
    found = analysis.advantage(large, "steps")
    assert found.bound
    assert found.ratio == pytest.approx(10_000 / 1131, rel=1e-3)
    # In time a step without updates is cheap, an update with gradients twice as dear.
    time = analysis.advantage(small, "seconds")
    assert time.ratio == pytest.approx((500e-5 + 200e-3) / (400e-5 + 300e-3))
    never = size(1, [variant("plain", [5], 9), variant("both", [None], 9)])
    assert math.isnan(analysis.advantage(never, "steps").ratio)


def test_updates_begin_after_the_prefill():
    (one,) = synthetic((1,))
    found = analysis.best(one, ["both"])
    assert analysis.values(one, found, "updates")[0] == (360 - 100) / 2
    assert analysis.values(one, variant("both", [None], 9), "seconds") == [math.inf]


def test_a_report_is_drawn_from_what_lies_on_disk(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, sizes in ((first, synthetic((1, 2))), (second, synthetic((2, 4, 8)))):
        folder.mkdir()
        for one in sizes:
            run_folder.write_json(report.size_path(folder, one["n"]), one)
    apart = size(8, [variant("random", [None] * 5, 4096)])
    third = tmp_path / "third"
    third.mkdir()
    run_folder.write_json(report.size_path(third, 8), apart)
    arguments = ["report", "--runs", str(first), str(second), str(third), "--output"]
    assert command.main([*arguments, str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / report.PAGE).read_text()
    assert "| plain SAC | 500 [450, 550] 5/5 | 2,000" in page
    assert "> 20,000 [> 20,000, > 20,000] 0/5" in page
    assert "| 8 | plain SAC, more updates; lr 1 | λ_s and λ_a; λ = 1 | > 8.84 |" in page
    assert "random gradients, same norm" in page
    assert "0.50 [" in page
    assert (tmp_path / "page" / report.PLOT).stat().st_size > 10_000
    assert command.main([*arguments, str(tmp_path / "page")]) == 2
    assert "is not empty" in capsys.readouterr().err
    short = tmp_path / "short"
    short.mkdir()
    run_folder.write_json(report.size_path(short, 8), {**apart, "shared_steps": 9})
    assert command.main([*arguments[:3], str(short), *arguments[3:], str(tmp_path / "other")]) == 2
    assert "n = 8: shared_steps is" in capsys.readouterr().err
    other = {**apart, "env": "chain"}
    run_folder.write_json(report.size_path(third, 16), other)
    assert command.main([*arguments, str(tmp_path / "other")]) == 2
    assert command.main(["report", "--runs", str(tmp_path), "--output", str(tmp_path / "x")]) == 2


def test_tables_do_with_a_single_seed_and_size():
    for listing in tables.listings(
        [size(1, [variant("both", [None], 9), variant("plain", [5], 9)])]
    ):
        assert listing.markdown()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sizes", "0"], "--sizes 0 must be one or more, from 1 on"),
        (["--env", "chain", "--sizes", "1"], "--sizes 1: joints"),
        (["--seeds", "0"], "--seeds 0 must be at least 1"),
        (["--share", "1"], "--share 1.0 must be between 0 and 1"),
        (["--weights", "-1"], "--weights -1.0 must be"),
        (["--controls", "shufled"], "--controls 'shufled' is unknown: choose from zero"),
        (["--epoch-steps", "100"], "--epoch-steps 100 must be a multiple of --num-envs 8"),
        (["--steps-per-dimension", "-1"], "--steps-per-dimension -1 must be at least 0"),
        (["--groups"], "--groups"),
        (["--tau", "2"], "tau=2.0"),
        (["--learning-starts", "99999"], "learning_starts=99999"),
        (["--output", "a-file"], "is a file"),
    ],
)
def test_bad_input_is_one_line_and_status_2(flags, message, tmp_path, assert_refused):
    (tmp_path / "a-file").write_text("kept")
    assert_refused(command.main, flags, message)


@pytest.mark.parametrize("env", DEFAULTS)
def test_defaults_are_sound(env, tmp_path):
    prepared = prepare(dataclasses.replace(parse(["--env", env]), output=tmp_path / "new"))
    for n in prepared.scaling.sizes:
        assert prepared.environments[n].action_size == n
        names = [variant.name for group in prepared.groups(n) for variant in group.variants]
        assert len(set(names)) == len(names)
    assert prepared.scaling.env == env


def test_settings_name_what_a_report_must_tell_apart():
    scaling = dataclasses.replace(DEFAULTS["point_mass"], groups=("gradients", "gradients_more"))
    usual = [setting for group in make_groups(scaling, 8) for setting in group.settings]
    changed = dataclasses.replace(scaling, reward_scale=0.5)
    other = [setting for group in make_groups(changed, 8) for setting in group.settings]
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
    assert set(plots._LOOKS) == set(tables.LABELS)
    assert len(set(plots._LOOKS.values())) == len(tables.LABELS)


@pytest.mark.slow
def test_a_tiny_measurement_leaves_everything(tmp_path, capsys):
    folder = tmp_path / "run"
    assert command.main([*TINY, "--output", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == {
        "configuration.json", "curves-01.jsonl", "curves-02.jsonl", "size-01.json",
        "size-02.json", "scaling.md", "scaling.png",
    }  # fmt: skip
    two = json.loads((folder / "size-02.json").read_text())
    assert {variant["family"] for variant in two["variants"]} == set(tables.LABELS)
    assert all(len(variant["steps"]) == 2 for variant in two["variants"])
    assert two["prices"]["gradients"]["seconds_per_step"] > 0
    lines = run_folder.read_lines(folder / "curves-02.jsonl")
    assert {line["steps"] for line in lines} <= {32, 64, 96, 128}
    assert "Tuned plain SAC over" in capsys.readouterr().out
