"""The comparison of weightings: what it concludes from numbers, what it writes, what it refuses."""

import json
from dataclasses import asdict

import numpy as np
import pytest

import envs
from experiments.report.intervals import estimate, paired_difference
from experiments.studies.weighting import __main__ as command
from experiments.studies.weighting import fitting, report, summary, tables
from experiments.studies.weighting.rules import CONSTANTS, PLAIN, RULES, find_rules
from experiments.studies.weighting.summary import BEST, OVER_TRAINING, SCORE
from experiments.studies.weighting.tasks import TASKS, find_tasks
from sobolax.training import normalization
from sobolax.weighting import WEIGHTINGS

SEEDS = 4


def make_results(task="toy", returns=None, seeds=SEEDS):
    """What a task's file holds, with made-up returns; no rule differs unless told otherwise."""
    noise = np.random.default_rng(0).normal(size=(len(RULES), seeds))
    rules = {}
    for rule, row in zip(RULES, noise, strict=True):
        values = (returns or {}).get(rule.name, -10 + 0.1 * row)
        measures = {SCORE: list(values), OVER_TRAINING: list(np.asarray(values) - 5)}
        measures |= {name: [0.5] * seeds for name in ("value_error", *summary.RATIOS)}
        entry = asdict(rule) | {"group": rule.group, "constant": rule.constant}
        rules[rule.name] = entry | {"huber_delta": str(rule.huber_delta), "measures": measures}
    seconds = {"one gradient": {"members": 8, "updates": 10, "compile": 1.0, "train": 2.0}}
    about = {"task": task, "score": "return", "amount": "1,024 steps", "seeds": seeds}
    return about | {"seconds": seconds, "rules": rules}


def test_every_weighting_has_a_row_and_so_has_every_order_of_magnitude():
    assert {rule.weighting for rule in RULES} == set(WEIGHTINGS)
    assert len({rule.name for rule in RULES}) == len(RULES)
    constants = [rule.weight for rule in RULES if rule.constant]
    assert constants == list(CONSTANTS)
    assert max(constants) / min(constants) == pytest.approx(1e5)
    assert len({rule.group for rule in RULES}) == 3


def test_the_best_constant_is_judged_on_seeds_that_did_not_choose_it():
    # The first half of the seeds likes 0.1, the second half 10; nobody likes what it is judged by.
    results = make_results(
        returns={"constant_0.1": [-1.0, -2.0, -8.0, -7.0], "constant_10": [-6.0, -5.0, -3.0, -4.0]}
    )
    best = summary.find_best(results)
    assert best is not None
    assert best.rules == ("constant_10", "constant_0.1")
    np.testing.assert_allclose(best.values(results, SCORE), [-6.0, -5.0, -8.0, -7.0])
    assert summary.rows(results)[BEST] == "best constant (10 or 0.1)"
    # Every difference is paired by seed.
    found = summary.difference(results, "constant_0.1", BEST, SCORE)
    assert found == estimate([5.0, 3.0, 0.0, 0.0])


def test_a_constant_that_diverged_is_not_the_best():
    results = make_results(
        returns={"constant_100": [np.nan, 0.0, 0.0, 0.0], "constant_1": [-1.0, -2.0, -1.0, -2.0]}
    )
    best = summary.find_best(results)
    # The second half saw nothing wrong with 100: what the first half made of it stays in sight.
    assert best is not None
    assert best.rules == ("constant_100", "constant_1")
    values = best.values(results, SCORE)
    assert np.isnan(values[0])
    assert tables.text(estimate(values)).endswith("*")


def test_the_summary_holds_paired_differences():
    results = make_results()
    rows = summary.summarise(results)["rows"]
    one, plain = (summary.column(results, name, SCORE) for name in ("scale_free_1", PLAIN))
    assert rows["scale_free_1"][SCORE]["minus_plain"] == asdict(paired_difference(one, plain))
    assert rows[PLAIN][SCORE]["minus_plain"] is None
    assert list(rows).index(BEST) == list(rows).index("constant_100") + 1


def test_tables_and_plots_are_written_once(tmp_path, capsys):
    first, second = tmp_path / "one", tmp_path / "two"
    far = make_results("pendulum", {"constant_100": [-1e6, -2e6, np.nan, -1e6]})
    for folder, results in ((first, make_results()), (second, far)):
        folder.mkdir()
        (folder / "configuration.json").write_text('{"sweep": {}}')
        text = json.dumps(results, default=float).replace("NaN", "null")
        (folder / f"{results['task']}.json").write_text(text)
    output = tmp_path / "merged"
    flags = ["report", "--runs", str(second), str(first), "--output", str(output)]
    assert command.main(flags) == 0
    assert {path.name for path in output.iterdir()} == {report.TABLE, report.PLOT, report.SPEED}
    for plot in (report.PLOT, report.SPEED):
        assert (output / plot).read_bytes().startswith(b"\x89PNG")
    text = (output / report.TABLE).read_text()
    for rule in RULES:
        assert text.count(f"\n| {rule.label} |") == 5  # in short, and two tables for each task
    assert text.index("toy, return") < text.index("pendulum, return")
    assert "-1.3e+06 [" in text  # over the three finite seeds
    assert "in short" in capsys.readouterr().out
    assert command.main(flags) == 2
    assert (output / report.TABLE).read_text() == text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks", "pendulm"], "no task 'pendulm' (did you mean 'pendulum'"),
        (["--rules", "grad-norm"], "no rule 'grad-norm'"),
        (["--rules", "scale-free-1.0"], "did you mean 'scale_free_1'"),
        (["--seeds", "1"], "--seeds 1 must be at least 2"),
        (["--seed", "-1"], "--seed -1 must be"),
        (["--steps", "100"], "must be a multiple"),
        (["--steps", "0"], "--steps 0 must be at least 1"),
        (["--tasks", "pendulum", "--steps", "256"], "leaves nothing"),
        (["--output", "a-file"], "is a file"),
        (["--output", "another"], "is not empty"),
        (["report", "--runs", "another", "--output", "new"], "holds no results"),
        (["report", "--runs", "run", "run", "--output", "new"], "holds 'toy', and so does another"),
        (["report", "--runs", "run", "--output", "another"], "is not empty"),
    ],
)
def test_bad_input_is_one_line_and_status_2(flags, message, tmp_path, assert_refused):
    (tmp_path / "a-file").write_text("kept")
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "thesis.json").write_text("{}")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "toy.json").write_text(json.dumps(make_results(), default=float))
    tasks = ["--tasks", "toy"] if flags[0] not in ("report", "--tasks") else []
    assert_refused(command.main, [*flags, *tasks], message)


def test_the_toy_knows_the_optimum():
    toy = find_tasks(["toy"])[0]
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


def test_names():
    assert [rule.name for rule in find_rules(["huber"])] == [PLAIN, "huber"]
    assert find_rules(()) == RULES
    assert [task.name for task in find_tasks(["reacher", "toy"])] == ["toy", "reacher"]
    with pytest.raises(ValueError, match="choose from toy, pendulum, reacher"):
        find_tasks(())
    assert {task.environment for task in TASKS} == {"scalar", "pendulum", "reacher"}


@pytest.mark.slow
def test_a_tiny_sweep_leaves_everything(tmp_path, capsys):
    folder = tmp_path / "runs" / "sweep"
    rules = ["constant_1", "scale_free_1", "conflict_free", "line_search_1"]
    flags = ["--tasks", "toy", "--rules", *rules, "--seeds", "2", "--steps", "320"]
    assert command.main([*flags, "--output", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == {
        "configuration.json", "toy", "toy.json", report.TABLE, report.PLOT, report.SPEED,
    }  # fmt: skip
    results = json.loads((folder / "toy.json").read_text())
    assert set(results["rules"]) == {PLAIN, *rules}
    assert [len(found["measures"][SCORE]) for found in results["rules"].values()] == [2] * 5
    # The effective weights are those that the rules say.
    weights = {name: found["measures"]["state_ratio"] for name, found in results["rules"].items()}
    assert weights[PLAIN] == [0.0, 0.0]
    assert weights["constant_1"] == weights["line_search_1"] == pytest.approx([1.0, 1.0])
    assert weights["scale_free_1"] != pytest.approx([1.0, 1.0])
    lines = [path.read_text().splitlines() for path in folder.glob("toy/*/metrics.jsonl")]
    assert sum(map(len, lines)) == 8 * 5 * 2  # epochs, rules, seeds
    # The table that was shown is the one that can be drawn again from the files.
    told = capsys.readouterr().out
    assert "toy, line search: epoch 8/8" in told
    assert "λs" in told
    assert summary.summarise(results) == results["summary"]
