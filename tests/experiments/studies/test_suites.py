"""The table of environments: what it says of trials known."""

import json

import pytest

from experiments.studies.suites import __main__ as suites
from experiments.studies.suites import catalogue, report, trial


def tried(label="a", faults=None, numerical=False, error=None, timed_out=False):
    found = {"faults": faults or {}, "tangent_error": 2e-9, "judged": 1.0, "precision": "float64"}
    found |= {"steps": 7}
    return {
        "label": label,
        "report": None if error else found,
        "error": error,
        "numerical": numerical,
        "reverse_mode": None if error else True,
        "timed_out": timed_out,
        "versions": {"jax": "0.0"},
    }


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (tried(), trial.WORKS),
        (tried(numerical=True), trial.BY_DIFFERENCES),
        (tried(faults={"tangents": "they are wrong"}), trial.BY_DIFFERENCES),
        (tried(faults={"reverse mode": "no", "finite tangents": "no"}), trial.BY_DIFFERENCES),
        (tried(faults={"tangents": "wrong", "perturb": "moves nothing"}), trial.FAILS),
        (tried(error="ValueError: no"), trial.FAILS),
        (tried(error="it took longer than 3 s", timed_out=True), trial.NOT_TRIED),
        (tried(error="suite 'x' needs y, which is not installed"), trial.NOT_TRIED),
    ],
)
def test_verdicts(one, said):
    assert trial.verdict(one)[0] == said


def test_reasons_are_told_and_counted():
    page = report.page(
        [tried("a"), tried("b", faults={"perturb": "moves | nothing"})], "python -m command"
    )
    assert "Written by `python -m command`" in page
    assert "1 works, 1 does not work" in page
    assert "jax 0.0" in page
    assert "went 7 steps" in page
    assert "perturb: moves / nothing" in page
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {len(report.HEADINGS) + 1}


def test_a_later_trial_replaces_an_earlier_one_unless_it_was_none():
    old = [tried("b"), tried("a")]
    new = [tried("a", error="it took longer than 1 s", timed_out=True), tried("b", error="no")]
    found = report.merged(old, new, ("a", "b"))
    assert [(one["label"], one["error"]) for one in found] == [("a", None), ("b", "no")]


def test_the_catalogue_is_chosen_from_by_parts_of_names():
    names = [one.label for one in catalogue.chosen(("pendulum", "reacher[backend=spring"))]
    assert names == ["pendulum", "brax:reacher[backend=spring]"]  # a whole name is that alone
    assert len(catalogue.chosen(())) == len(catalogue.candidates()) > 90


def test_a_trial_runs_in_a_process_of_its_own(tmp_path):
    [lqr] = catalogue.chosen(("lqr",))
    one = trial.run(lqr, steps=3, states=1, timeout=300)
    assert trial.verdict(one) == (trial.WORKS, "")
    assert one["report"]["tangent_error"] < 1e-8
    assert "jax" in one["versions"]
    assert json.dumps(one)
    broken = catalogue.Candidate("lqr", {"dimension": 0})
    assert trial.verdict(trial.run(broken, 3, 1, 300))[0] == trial.FAILS


def test_all_are_tried_and_written_in_the_catalogues_order(tmp_path, monkeypatch, capsys):
    def instant(candidate, steps, states, timeout):
        return tried(candidate.label) | {"steps": steps}

    monkeypatch.setattr(trial, "run", instant)
    asked = ["--names", "gymnax:", "--processes", "3", "--page", str(tmp_path / "page.md")]
    assert suites.main([*asked, "--output", str(tmp_path / "out")]) == 0
    labels = [one.label for one in catalogue.chosen(("gymnax:",))]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [one["label"] for one in results["trials"]] == labels
    lines = (tmp_path / "out" / "trials.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["label"] for line in lines) == sorted(labels)
    assert (tmp_path / "page.md").read_text() == (tmp_path / "out" / "table.md").read_text()
    assert f"{len(labels)} of {len(labels)}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--names", "zzz"], "'zzz' is in no name"),
        (["--steps", "0"], "--steps 0 must be at least 1"),
        (["--processes", "0"], "--processes 0 must be at least 1"),
        (["--timeout", "0"], "must be above 0"),
        (["--page", "nowhere/page.md"], "there is no folder nowhere"),
        (["--add", "nowhere"], "holds no trials.jsonl"),
    ],
)
def test_bad_input_of_suites(arguments, message, capsys):
    assert suites.main(arguments) == 2
    assert message in capsys.readouterr().err
