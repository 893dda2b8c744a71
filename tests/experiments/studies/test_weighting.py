"""The comparison of weightings: what it concludes from numbers, what it writes, what it refuses."""

import json

import numpy as np
import pytest

import envs
from experiments.report import rows
from experiments.report.intervals import estimate, paired_difference
from experiments.report.rows import Rows
from experiments.report.table import text
from experiments.studies.weighting import __main__ as command
from experiments.studies.weighting import fitting, summary, tables
from experiments.studies.weighting.measure import OVER_TRAINING, RATIOS, SCORE
from experiments.studies.weighting.options import Options, prepare
from experiments.studies.weighting.rules import CONSTANTS, PLAIN, RULES
from experiments.studies.weighting.summary import BEST
from experiments.studies.weighting.tasks import TASKS
from sobolax.training import normalization
from sobolax.weighting import WEIGHTINGS

SEEDS = 4


def make_rows(task="toy", returns=None, seeds=SEEDS):
    """What was measured on a task, with made-up returns; no rule differs but by noise."""
    noise = np.random.default_rng(0).normal(size=(len(RULES), seeds))
    made = []
    for rule, row in zip(RULES, noise, strict=True):
        scores = (returns or {}).get(rule, -10 + 0.1 * row)
        for seed, score in enumerate(scores):
            measures = {SCORE: score, OVER_TRAINING: score - 5}
            measures |= dict.fromkeys(("value_error", *RATIOS), 0.5)
            made.append({"job": task, "task": task, "rule": rule, "seed": seed, **measures})
    return Rows(made, {"steps": None})


def test_every_weighting_has_a_row_and_so_has_every_order_of_magnitude():
    rules = RULES.values()
    assert {rule.weighting for rule in rules} == set(WEIGHTINGS)
    assert list(RULES) == [rule.name for rule in rules]
    constants = [rule.weight for rule in rules if rule.constant]
    assert constants == list(CONSTANTS)
    assert max(constants) / min(constants) == pytest.approx(1e5)
    assert len({rule.group for rule in rules}) == 3


def test_the_best_constant_is_judged_on_seeds_that_did_not_choose_it():
    # The first half of the seeds likes 0.1, the second half 10; none its own judge.
    measured = make_rows(
        returns={"constant_0.1": [-1.0, -2.0, -8.0, -7.0], "constant_10": [-6.0, -5.0, -3.0, -4.0]}
    )
    best = summary.find_best(measured)
    assert best is not None
    assert best.rules == ("constant_10", "constant_0.1")
    np.testing.assert_allclose(best.values(measured, SCORE), [-6.0, -5.0, -8.0, -7.0])
    assert summary.lines(measured)[BEST] == "best constant (10 or 0.1)"
    # Every difference is paired by seed.
    found = summary.difference(measured, "constant_0.1", BEST, SCORE)
    assert found == estimate([5.0, 3.0, 0.0, 0.0])


def test_a_constant_that_diverged_is_not_the_best():
    measured = make_rows(
        returns={"constant_100": [np.nan, 0.0, 0.0, 0.0], "constant_1": [-1.0, -2.0, -1.0, -2.0]}
    )
    best = summary.find_best(measured)
    # The second half saw nothing wrong with 100: what the first half made of it stays in sight.
    assert best is not None
    assert best.rules == ("constant_100", "constant_1")
    values = best.values(measured, SCORE)
    assert np.isnan(values[0])
    assert text(estimate(values)).endswith("*")


def test_the_tables_hold_paired_differences():
    measured = make_rows()
    one, plain = (measured.where(rule=name).column(SCORE) for name in ("scale_free_1", PLAIN))
    table = tables.scores("toy", measured)
    cells = {row[0]: dict(zip(table.headings, row, strict=True)) for row in table.rows}
    difference = "digits of Q*, − plain"
    assert cells["scale-free 1"][difference] == paired_difference(one, plain)
    assert cells["plain (λ = 0)"][difference] is None
    lines = list(summary.lines(measured))
    assert lines.index(BEST) == lines.index("constant_100") + 1


def test_runs_are_merged_into_one_page(tmp_path, capsys):
    folders = {"toy": tmp_path / "one", "pendulum": tmp_path / "two"}
    far = {"constant_100": [-1e6, -2e6, np.nan, -1e6]}
    for task, folder in folders.items():
        folder.mkdir()
        saved = {"study": "weighting", "options": {"steps": None}}
        (folder / "configuration.json").write_text(json.dumps(saved))
        rows.write(folder, list(make_rows(task, far if task == "pendulum" else None)))
    output = tmp_path / "merged"
    flags = ["--report", str(folders["pendulum"]), str(folders["toy"]), "--output", str(output)]
    assert command.main(flags) == 0
    assert (output / "weighting.png").read_bytes().startswith(b"\x89PNG")
    page = (output / "table.md").read_text()
    for rule in RULES.values():
        assert page.count(f"\n| {rule.label} |") == 5  # in short, and two tables for each task
    assert page.index("toy, digits") < page.index("pendulum, return")
    assert "-1.3e6 [" in page  # over the three finite seeds
    assert "in short" in capsys.readouterr().out
    assert command.main(flags) == 2
    assert (output / "table.md").read_text() == page
    saved = {"study": "weighting", "options": {"steps": 2048}}
    (folders["toy"] / "configuration.json").write_text(json.dumps(saved))
    capsys.readouterr()
    assert command.main([*flags[:-1], str(tmp_path / "other")]) == 2
    assert "differ in steps: None -> 2048" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks", "pendulm"], "'pendulm' is unknown (did you mean 'pendulum'?): choose one of"),
        (["--tasks"], "--tasks names none: choose from toy, pendulum, reacher"),
        (["--rules", "grad-norm"], "--rules 'grad-norm' is unknown"),
        (["--rules", "scale-free-1.0"], "did you mean 'scale_free_1'"),
        (["--seeds", "1"], "--seeds 1 must be at least 2"),
        (["--seed", "-1"], "--seed -1 must be"),
        (["--steps", "100"], "must be a multiple"),
        (["--steps", "0"], "--steps 0 must be at least 1"),
        (["--tasks", "pendulum", "--steps", "256"], "leaves nothing"),
        (["--trust", "soft"], "--trust soft needs observations that training normalises"),
        (
            ["--tasks", "pendulum", "--trust", "softly"],
            "trust='softly' is unknown (did you mean 'soft'?)",
        ),
        (["--output", "a-file"], "is a file"),
        (["--output", "another"], "is not empty"),
        (["--report", "another", "--output", "new"], "holds no rows.csv"),
    ],
)
def test_bad_input_is_one_line_and_status_2(flags, message, tmp_path, assert_refused):
    (tmp_path / "a-file").write_text("kept")
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "thesis.json").write_text("{}")
    tasks = [] if flags[0] == "--tasks" else ["--tasks", "toy"]
    assert_refused(command.main, [*flags, *tasks], message)


def test_the_toy_knows_the_optimum():
    toy = TASKS["toy"]
    env = envs.make(toy.environment, **toy.parameters)

    def compare(q):
        normalizer = normalization.init(1)
        return fitting.compare(env, lambda state, normalizer, o, a: q(o, a), None, normalizer)

    exact = compare(env.optimal_q)
    assert (
        exact["value_error"] == exact["state_gradient_error"] == exact["action_gradient_error"] == 0
    )
    # A tenth too much everywhere.
    close = compare(lambda o, a: 1.1 * env.optimal_q(o, a))
    assert close["state_gradient_error"] == pytest.approx(0.1, rel=1e-4)
    assert close["action_gradient_error"] == pytest.approx(0.1, rel=1e-4)
    assert close[fitting.DIGITS] == pytest.approx(-np.log10(close["value_error"]), abs=1e-5)
    # As good as no gradient at all.
    assert compare(lambda o, a: 0.0 * o[0])["state_gradient_error"] == pytest.approx(1.0)


def test_jobs_hold_the_rules_of_each_program():
    jobs = prepare(Options(tasks=("reacher", "toy"), rules=("huber",))).jobs
    assert list(jobs) == ["toy, one gradient", "reacher, one gradient"]
    assert [rule.name for rule in jobs["toy, one gradient"].rules] == [PLAIN, "huber"]
    every = prepare(Options(tasks=("toy",))).jobs.values()
    assert {rule.name for job in every for rule in job.rules} == set(RULES)
    assert {task.environment for task in TASKS.values()} == {"scalar", "pendulum", "reacher"}


@pytest.mark.slow
def test_a_tiny_run_leaves_everything(tmp_path, capsys):
    folder = tmp_path / "runs" / "weighting"
    rules = ["constant_1", "scale_free_1", "conflict_free", "line_search_1"]
    flags = ["--tasks", "toy", "--rules", *rules, "--seeds", "2", "--steps", "320"]
    assert command.main([*flags, "--output", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == {
        "configuration.json", "rows.csv", "training", "results.json", "table.md", "tables",
        "weighting.png",
    }  # fmt: skip
    measured = Rows(rows.read(folder))
    assert set(measured.distinct("rule")) == {PLAIN, *rules}
    # The effective weights are those that the rules say.
    weights = {rule: some.column("state_ratio") for (rule,), some in measured.groups("rule")}
    assert all(len(found) == 2 for found in weights.values())
    assert weights[PLAIN] == pytest.approx([0.0, 0.0])
    for rule in ("constant_1", "line_search_1"):
        assert weights[rule] == pytest.approx([1.0, 1.0])
    assert weights["scale_free_1"] != pytest.approx([1.0, 1.0])
    lines = [path.read_text().splitlines() for path in folder.glob("training/*/metrics.jsonl")]
    assert sum(map(len, lines)) == 8 * 5 * 2  # epochs, rules, seeds
    printed = capsys.readouterr().out
    assert "toy, line search: epoch 8/8" in printed
    assert "λs" in printed
