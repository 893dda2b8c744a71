"""The payoff study: what it concludes from numbers, what it trains, what it refuses."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from experiments.launch import run_folder
from experiments.report import rows as kit
from experiments.report.intervals import paired_difference
from experiments.report.results import RETURN
from experiments.report.rows import Rows
from experiments.studies import ant, first_order_agents
from experiments.studies.payoff import __main__ as command
from experiments.studies.payoff import figures, summary, tables
from experiments.studies.payoff.measure import mean_q
from experiments.studies.payoff.options import Options, configure, prepare
from experiments.studies.payoff.tasks import REGIMES
from experiments.studies.payoff.variants import CHOICES, PLAIN
from sobolax.cart import Cart

SEEDS = 6


def make_rows(returns, task="hopper", regime="few"):
    """Rows of two epochs; `returns` maps a variant to the returns of its seeds in the second."""
    return Rows(
        [
            {
                "job": f"{task} {variant}",
                "task": task,
                "regime": regime,
                "variant": variant,
                "seed": seed,
                "epoch": epoch,
                "environment_steps": 100 * (epoch + 1),
                "seconds": 10.0 + (epoch + 1) * (2.0 if variant == PLAIN else 3.0),
                "mean_q": 0.1 * seed,
                RETURN: value - 10 * (1 - epoch),
            }
            for variant, values in returns.items()
            for seed, value in enumerate(values)
            for epoch in (0, 1)
        ]
    )


def test_scores_are_means_over_epochs_and_over_the_last_tenth():
    rows = make_rows({PLAIN: [20.0, 30.0]}).where(variant=PLAIN)
    assert summary.score(rows, summary.OVER_TRAINING) == {0: 15.0, 1: 25.0}
    assert summary.score(rows, summary.FINAL) == {0: 20.0, 1: 30.0}
    assert summary.score(rows, summary.AFTER_FIRST) == {0: 20.0, 1: 30.0}


def test_differences_are_paired_by_seed_and_leave_out_what_has_no_partner():
    plain = [10.0, 20.0, 30.0, 40.0, 50.0]
    ours = [11.0, 22.0, math.nan, 44.0, 55.0, 1e6]
    found = summary.compare(make_rows({PLAIN: plain, "raw": ours}), "raw", summary.FINAL)
    # The third is not finite, and the sixth has no partner.
    assert (found.difference.mean, found.difference.count) == (3.0, 4)
    assert found.gain.mean == pytest.approx(0.1)
    assert (found.value.count, found.value.total) == (5, 6)
    # Of five pairs one is left out, which a table marks.
    assert found.difference.total == 5


def test_a_frozen_run_is_no_result():
    """It is evaluated as it was when it froze, and that is no return of its training."""
    rows = [
        {**row, "frozen": float(row["seed"] == 1 and row["epoch"] == 1)}
        for row in make_rows({PLAIN: [20.0, 30.0, 40.0], "raw": [21.0, 31.0, 41.0]})
    ]
    found = summary.compare(Rows(rows), "raw", summary.FINAL)
    assert (found.value.count, found.value.total) == (2, 3)
    assert (found.difference.count, found.difference.total) == (2, 3)
    np.testing.assert_array_equal(
        Rows(rows).where(variant=PLAIN, epoch=1).sound(RETURN), [20.0, np.nan, 40.0]
    )


def test_times_too_short_to_measure_have_no_ratio():
    rows = [{**row, "seconds": 1.0} for row in make_rows({PLAIN: [1.0, 2.0], "raw": [1.0, 3.0]})]
    [table, *_] = tables.tables(Rows(rows))
    assert [dict(zip(table.headings, row, strict=True))["time, / plain"] for row in table.rows] == [
        None,
        None,
    ]


def test_a_gain_is_relative_to_the_size_of_plain_and_its_interval_covers_it():
    draw = np.random.default_rng(0)
    plain = -100 + draw.normal(size=10)
    found = summary.gain(plain + 25 + 0.1 * draw.normal(size=10), plain)
    # Less negative is better.
    assert found.mean == pytest.approx(0.25, abs=0.01)
    assert found.low is not None
    assert found.high is not None
    assert 0.24 < found.low < found.mean < found.high < 0.26


@pytest.mark.parametrize("pairs", [3, 5, 10])
def test_the_interval_of_a_gain_covers_it_as_often_as_it_says(pairs):
    """A bootstrap's, with so few pairs, does not."""
    draw, size, covered = np.random.default_rng(1), 2000, 0
    for _ in range(size):
        plain = 20 + draw.normal(size=pairs)
        found = summary.gain(26 + draw.normal(size=pairs), plain)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.3 <= found.high
    # 4 standard deviations of a share of 0.95 in 2,000.
    assert abs(covered / size - 0.95) < 0.02


def test_a_gain_excludes_zero_where_the_paired_difference_does():
    draw = np.random.default_rng(2)
    verdicts = set()
    for shift in np.linspace(0, 6, 60):
        plain = -10 + draw.normal(size=5)
        values = plain + shift + 3 * draw.normal(size=5)
        gain, difference = summary.gain(values, plain), paired_difference(values, plain)
        verdicts.add(gain.low > 0)
        assert (gain.low > 0) == (difference.low > 0)
    assert verdicts == {True, False}


def test_a_gain_over_what_may_be_zero_has_no_interval():
    found = summary.gain([5.0, 6.0, 7.0], [-2.0, 1.0, 2.0])
    assert found.mean == pytest.approx(17.0)
    assert found.low is found.high is None


def test_the_sign_flip_test_is_exact():
    # All of ten differences positive: of 2^10 signs, two are as extreme.
    assert summary.sign_flip_test(np.arange(1.0, 11.0)) == pytest.approx(2 / 2**10)
    assert summary.sign_flip_test(np.arange(1.0, 18.0)) == pytest.approx(2 / 2**17)
    assert summary.sign_flip_test(np.arange(1.0, 31.0)) == pytest.approx(2 / 2**30)
    # 1 and -1: every one of the four is as extreme as a mean of zero.
    assert summary.sign_flip_test([1.0, -1.0]) == 1.0
    assert summary.sign_flip_test([1.0]) is None


@pytest.mark.parametrize("differences", [[3, 1, -2, 2, 4, -1, 0.5], np.linspace(-1, 1.7, 12)])
def test_the_sign_flip_test_counts_all_signs(differences):
    signs = np.array([*itertools.product([1, -1], repeat=len(differences))])
    sums = np.abs(signs @ differences)
    as_far = np.mean(sums >= sums[0] - 1e-12)
    assert summary.sign_flip_test(differences) == pytest.approx(as_far, abs=1e-15)


def test_many_pairs_are_drawn():
    assert summary.sign_flip_test(np.arange(-19.0, 31.0)) == pytest.approx(0.0115, abs=0.002)


def test_holms_correction_by_hand():
    # 4 * 0.01, then 3 * 0.02, then max(2 * 0.03, before), then the largest.
    found = summary.holm([0.03, 0.01, None, 0.5, 0.02])
    assert found == [pytest.approx(0.06), pytest.approx(0.04), None, 0.5, pytest.approx(0.06)]


def test_probability_of_improvement_and_interquartile_mean_by_hand():
    # (1 > 0), (1 = 1), (3 > 0), (3 > 1): 3.5 of 4.
    assert summary.probability_of_improvement([1.0, 3.0], [0.0, 1.0]) == 3.5 / 4
    assert summary.interquartile_mean([-100.0, 1.0, 2.0, 100.0]) == 1.5
    assert summary.interquartile_mean([]) is None


def test_the_mean_of_q_is_what_the_actors_loss_is_made_of():
    # loss = temperature * log-probability - Q, of Q = 5, temperature 0.5, log-probability -2.
    assert mean_q({"actor_loss": -6.0, "temperature": 0.5, "entropy": 2.0}) == 5.0


def test_variants_differ_from_plain_in_what_they_say():
    plain, _ = configure("hopper", "few", PLAIN)
    assert plain.first_order == "off"
    raw, hyper = configure("hopper", "few", "raw")
    assert (raw.first_order, hyper.state_weight, hyper.action_weight) == ("cached", 0.1, 0.1)
    more, _ = configure("hopper", "few", "more_updates")
    assert (more.gradient_steps, more.updates) == (2 * plain.gradient_steps, 2 * plain.updates)
    longer, _ = configure("hopper", "few", "more_data")
    assert longer.total_timesteps == longer.replay_capacity == 2 * plain.total_timesteps
    for regime, chosen in REGIMES.items():
        sized, _ = configure("hopper", regime, PLAIN)
        said = f"{sized.total_timesteps:,} transitions"
        assert chosen.about.startswith(said)


@pytest.mark.parametrize("shrink", [1, 400])
def test_every_variant_fits_every_regime(shrink):
    environment = Cart()
    for regime, variant in itertools.product(REGIMES, CHOICES):
        config, hyper = configure("hopper", regime, variant, shrink)
        window = getattr(config, "horizon", 1) * config.num_envs
        if regime == "few_16" and window == 1_024 and shrink == 1:
            # Windows of 64 environments and 16 steps do not divide 5,120 into 10 epochs.
            with pytest.raises(ValueError, match="total_timesteps=5120 must be a multiple"):
                config.check(environment)
            continue
        config.check(environment)
        assert type(hyper) is config.make_agent(environment).hyperparameters


def test_shac_takes_the_steps_of_sac():
    sac, _ = configure("hopper", "few", PLAIN)
    shac, hyper = configure("hopper", "few", "shac_gradients")
    assert (shac.total_timesteps, shac.epochs) == (sac.total_timesteps, sac.epochs)
    assert (shac.first_order, hyper.state_weight) == ("reverse", 0.1)
    regime = first_order_agents.DEFAULTS.regimes[0]
    for task, variant in itertools.product(
        first_order_agents.DEFAULTS.tasks, first_order_agents.DEFAULTS.variants
    ):
        assert configure(task, regime, variant)[0].total_timesteps == 102_400


def test_seeds_are_cut_into_programs_and_blocks_hold_whole_pairs():
    options = Options(
        tasks=("reacher",), variants=(PLAIN, "raw"), seeds=5, first_seed=10, seeds_per_program=3
    )
    assert list(prepare(options).jobs) == [
        "reacher few plain 10-12",
        "reacher few raw 10-12",
        "reacher few plain 13-14",
        "reacher few raw 13-14",
    ]
    (regime,), (task,) = ant.DEFAULTS.regimes, ant.DEFAULTS.tasks
    assert (task, configure(task, regime, PLAIN)[0].total_timesteps) == ("ant", 204_800)


def test_tables_and_figures_of_what_was_measured():
    draw = np.random.default_rng(0)
    plain = 100 + draw.normal(size=SEEDS)
    returns = {PLAIN: plain, "raw": plain + 50, "shuffled": plain - 20 + draw.normal(size=SEEDS)}
    two = [make_rows(returns), make_rows(returns, "walker2d")]
    rows = Rows([row for one in two for row in one])
    whole, short, *_ = tables.tables(rows)
    lines = {tuple(row[:2]): dict(zip(whole.headings, row, strict=True)) for row in whole.rows}
    line = lines["hopper", CHOICES["raw"].label]
    assert line["time, / plain"] == 1.5
    assert line["P(better)"] == 1.0
    # 2 / 2^6 for each of four rows, by Holm.
    assert line["p, Holm"] == pytest.approx(4 * 2 / 2**6)
    ahead = {row[0]: row[-1] for row in short.rows}
    assert ahead == {CHOICES["raw"].label: 2, CHOICES["shuffled"].label: 0}
    drawn = dict(figures.figures(rows))
    assert set(drawn) == {"returns_few", "hopper_few", "walker2d_few"}
    # Without plain there is nothing to compare with, and no error.
    alone, critics = tables.tables(make_rows({"raw": plain}))
    assert critics.title == "Critics, few"
    only = dict(zip(alone.headings, alone.rows[0], strict=True))
    assert only["over training"].mean == pytest.approx(np.mean(plain) - 5)
    assert only["over training, − plain"].mean is None
    assert only["pairs"] == 0


def test_actors_are_compared_in_the_physics_that_they_learned_in_too():
    names = "shac_16", "shac_16_one_iteration"
    rows = make_rows({names[0]: [20.0, 30.0, 40.0], names[1]: [10.0, 21.0, 29.0]})
    for row in rows:
        row |= {"actor_gradient_norm": 2.0 * row["epoch"], "windows_cut": 5, "windows_dropped": 0}
        if row["variant"] == names[1]:
            row["own_return"] = row[RETURN] + 3
    options = {"baseline": names[0]}
    table = tables.actors("few", Rows(list(rows), options=options))
    plain, ours = (dict(zip(table.headings, row, strict=True)) for row in table.rows)
    assert (plain["steps cut, %"].mean, plain["norm of the actor's gradient"].mean) == (5.0, 1.0)
    assert plain["final there"] is None
    assert ours["final there"].mean == 23.0
    assert ours["final there, − shac_16"].mean == -7.0
    assert ours["over training there, − shac_16"].mean == -7.0
    # One that was frozen has no mean, and is starred rather than left out silently.
    list(rows)[-1]["frozen"] = 1
    _, ours = tables.actors("few", Rows(list(rows), options=options)).rows
    assert (ours[2].count, ours[2].total) == (2, 3)


def test_variants_of_one_physics_are_compared_in_it():
    names = "shac_16_one_iteration", "shac_16_one_iteration_implicit"
    rows = make_rows({names[0]: [10.0, 21.0], names[1]: [20.0, 32.0]})
    for row in rows:
        row["own_return"] = row[RETURN] + (7 if row["variant"] == names[1] else 3)
    table = tables.actors("few", Rows(list(rows), options={"baseline": names[0]}))
    base, ours = (dict(zip(table.headings, row, strict=True)) for row in table.rows)
    assert base[f"final there, − {names[0]}"] is None
    assert ours[f"final there, − {names[0]}"].mean == pytest.approx(10.5 + 4)


def test_gradients_are_compared_with_more_of_plain():
    more = 100 + np.random.default_rng(0).normal(size=SEEDS)
    returns = {PLAIN: more - 20, "more_updates": more, "raw": more + 5, "shuffled": more - 50}
    [table] = [table for table in tables.tables(make_rows(returns)) if "Beside" in table.title]
    [row] = [dict(zip(table.headings, row, strict=True)) for row in table.rows]
    assert (row["variant"], row["beside"]) == tuple(
        CHOICES[name].label for name in ("raw", "more_updates")
    )
    assert row["over training, difference"].mean == pytest.approx(5)
    assert row["gain, %"].mean == pytest.approx(100 * 5 / (np.mean(more) - 5))
    assert row["p, Holm"] == pytest.approx(2 / 2**SEEDS)
    assert row["time, ratio"] == 1.0


def test_with_more_transitions_only_the_ends_compare():
    """Their epochs are longer: means over them are over other steps."""
    returns = {PLAIN: [1.0, 2.0, 4.0], "more_data": [3.0, 4.0, 5.0], "raw": [2.0, 3.0, 6.0]}
    by_title = {table.title: table for table in tables.tables(make_rows(returns))}
    whole, beside = by_title["Returns, few"], by_title["Beside more of plain, few"]
    rows = {row[1]: dict(zip(whole.headings, row, strict=True)) for row in whole.rows}
    longer, raw = rows[CHOICES["more_data"].label], rows[CHOICES["raw"].label]
    assert longer["gain, %"] is longer["p, Holm"] is longer["over training, − plain"] is None
    assert longer["final, − plain"].mean == pytest.approx(5 / 3)
    assert raw["gain, %"] is not None
    [row] = [dict(zip(beside.headings, row, strict=True)) for row in beside.rows]
    assert row["over training, difference"] is row["gain, %"] is row["p, Holm"] is None
    assert row["final, difference"].mean == pytest.approx(-1 / 3)
    assert [row[0] for row in by_title["All tasks, few"].rows] == [CHOICES["raw"].label]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks", "hoper"], "did you mean 'hopper'?"),
        (
            ["--regimes", "all"],
            "--regimes 'all' is unknown: choose one of few, few_1, few_16, many, long, long_64",
        ),
        (["--variants"], "--variants names none: choose from plain, raw"),
        (["--seeds", "0"], "--seeds 0 must be at least 1"),
        (["--seeds-per-program", "0"], "--seeds-per-program 0 must be at least 1"),
        (["--first-seed", "-1"], "--first-seed -1 must be"),
        (["--baseline", "layer"], "--baseline layer is none of --variants plain raw soft_1"),
        (["--shrink", "0"], "--shrink 0 must be at least 1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(flags, message, assert_refused):
    assert_refused(command.main, flags, message)


@pytest.mark.slow
def test_the_command_trains_resumes_and_draws(tmp_path, capsys):
    folder = tmp_path / "run"
    flags = ["--tasks", "reacher", "--seeds", "2", "--seeds-per-program", "1", "--shrink", "500"]
    assert command.main([*flags, "--variants", PLAIN, "raw", "--output", str(folder)]) == 0
    page = (folder / "table.md").read_text()
    assert "| reacher | plain | 2 |" in page
    # The same seed starts the same, whatever variant or program it is in.
    assert command.main(["--resume", str(folder)]) == 0
    assert (folder / "table.md").read_text() == page
    assert "gradients as in the paper" in capsys.readouterr().out


def test_the_studies_that_share_rows_report_one_anothers_runs(tmp_path):
    for name, variant in (("ant", PLAIN), ("payoff", "soft_1")):
        folder = tmp_path / name
        folder.mkdir()
        options = run_folder.plain(vars(Options(tasks=("ant",))))
        written = {"study": name, "options": options}
        (folder / "configuration.json").write_text(json.dumps(written))
        own = make_rows({variant: [10.0, 20.0]}, "ant")
        kit.write(folder, [{"job": f"ant few {variant} 0-1", **row} for row in own])
    flags = ["--report", *(str(tmp_path / name) for name in ("ant", "payoff")), "--output"]
    for study in (command, ant):
        both = tmp_path / f"by {study.__name__}"
        assert study.main([*flags, str(both)]) == 0
        assert {row["variant"] for row in kit.read(both)} == {PLAIN, "soft_1"}


def write_run(folder, rows, **options):
    folder.mkdir()
    made = run_folder.plain(vars(Options(**options)))
    written = {"study": "payoff", "options": made}
    (folder / "configuration.json").write_text(json.dumps(written))
    kit.write(folder, list(rows))


def test_seeds_of_overlapping_blocks_count_once(tmp_path):
    for name, seeds in (("two", [1.0, 2.0]), ("three", [1.0, 2.0, 3.0])):
        rows = make_rows({PLAIN: seeds})
        write_run(tmp_path / name, [{**row, "job": f"hopper few plain {name}"} for row in rows])
    flags = ["--report", str(tmp_path / "two"), str(tmp_path / "three")]
    flags += ["--output", str(tmp_path / "new")]
    assert command.main(flags) == 2
    assert not (tmp_path / "new").exists()


def test_a_report_keeps_the_baseline_that_a_run_was_drawn_beside(tmp_path):
    rows = make_rows({"layer": [1.0, 2.0], "layer_soft_1": [3.0, 5.0]})
    write_run(tmp_path / "run", rows, variants=("layer", "layer_soft_1"), baseline="layer")
    assert command.main(["--report", str(tmp_path / "run"), "--output", str(tmp_path / "new")]) == 0
    assert "over training, − layer" in (tmp_path / "new" / "table.md").read_text()


def test_the_rows_beside_the_page_are_reported_beside_another_baseline(tmp_path):
    file = Path(__file__).parents[3] / "docs" / "results" / "payoff_walker2d_rows.csv"
    chosen = ["--variants", "layer", "layer_soft_1", "--first-seed", "20", "--seeds", "10"]
    flags = ["--report", str(file), *chosen, "--baseline", "layer", "--output"]
    assert command.main([*flags, str(tmp_path / "new")]) == 0
    found = kit.read(tmp_path / "new")
    assert {(row["variant"], row["seed"]) for row in found} == {
        (variant, seed) for variant in ("layer", "layer_soft_1") for seed in range(20, 30)
    }
    page = (tmp_path / "new" / "table.md").read_text()
    assert "over training, − layer" in page
    assert "| walker2d | plain, LayerNorm | 10 |" in page


def test_variants_of_one_figure_look_different():
    found = figures.looks(["plain", "soft_1", "soft_shuffled", "layer", "pave", "half_updates"])
    assert len({(str(look["color"]), str(look["linestyle"])) for look in found.values()}) == 6
    without = {found[name]["color"] for name in ("layer", "pave", "half_updates")}
    assert without == {"#777777"}
    assert found["soft_shuffled"]["linestyle"] == ":"


def test_an_epoch_without_updates_has_no_mean_q():
    rows = make_rows({PLAIN: [1.0, 2.0]})
    rows = [{**row, "mean_q": 3.0 * row["epoch"], "updates": row["epoch"]} for row in rows]
    steps, values = figures._by_epoch(Rows(rows), "mean_q")
    assert 0.0 not in np.concatenate(values)
    assert len(steps) == len({row["epoch"] for row in rows}) - 1
    assert len(figures._by_epoch(Rows(rows), RETURN)[0]) == len(steps) + 1
