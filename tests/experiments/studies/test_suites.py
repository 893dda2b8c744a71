"""The table of environments: its verdicts on known trials."""

import pytest

from experiments.report import rows as kit
from experiments.studies.suites import __main__ as suites
from experiments.studies.suites import catalogue, trial


def printed(faults=None, numerical=False):
    """The result of a process."""
    return {"report": {"faults": faults or {}}, "numerical": numerical}


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (printed(), trial.WORKS),
        (printed(numerical=True), trial.BY_DIFFERENCES),
        (printed({"tangents": "they are wrong"}), trial.BY_DIFFERENCES),
        (printed({"reverse mode": "no", "finite tangents": "no"}), trial.BY_DIFFERENCES),
        (printed({"tangents": "wrong", "perturb": "moves nothing"}), trial.FAILS),
        ({"error": "ValueError: no"}, trial.FAILS),
        ({"error": "it took longer than 3 s", "timed_out": True}, trial.NOT_TRIED),
        ({"error": "suite 'x' needs y, which is not installed"}, trial.NOT_TRIED),
    ],
)
def test_verdicts(found, verdict):
    assert trial.verdict(found)[0] == verdict


def test_environments_are_chosen_by_parts_of_their_names():
    names = [one.label for one in catalogue.chosen(("pendulum", "reacher[backend=spring"))]
    assert names == ["pendulum", "brax:reacher[backend=spring]"]  # a whole name is that alone
    assert len(catalogue.chosen(())) == len(catalogue.candidates()) > 90


@pytest.mark.slow
def test_an_environment_runs_in_a_process_of_its_own():
    [lqr] = catalogue.chosen(("lqr",))
    row = trial.run(lqr, steps=3, states=1, timeout=300)
    assert (row["verdict"], row["why"]) == (trial.WORKS, "")
    assert row["tangent_error"] < 1e-8
    assert "jax " in row["packages"]
    broken = catalogue.Candidate("lqr", {"dimension": 0})
    assert trial.run(broken, 3, 1, 300)["verdict"] == trial.FAILS


def test_rows_come_in_the_catalogues_order_and_resume_tries_what_was_not_tried(
    tmp_path, monkeypatch, capsys
):
    labels = [one.label for one in catalogue.chosen(("gymnax:",))]
    missing = labels[1]

    def instant(candidate, steps, states, timeout):
        row = {"environment": candidate.label, "verdict": trial.WORKS, "tangent_error": 2e-9}
        row |= {"judged": 1.0, "precision": "float64", "reverse_mode": True, "why": "a | b"}
        row |= {"packages": "gymnax 0.0"}
        if candidate.label == missing:
            row |= {"verdict": trial.NOT_TRIED, "why": "it is not installed"}
        return row

    monkeypatch.setattr(trial, "run", instant)
    folder = tmp_path / "out"
    flags = ["--names", "gymnax:", "--processes", "3", "--output", str(folder)]
    assert suites.main(flags) == 0
    assert f"{missing}: unknown: it is not installed" in " ".join(capsys.readouterr().out.split())
    others = [label for label in labels if label != missing]
    assert [row["environment"] for row in kit.read(folder)] == others
    missing = ""
    assert suites.main(["--resume", str(folder)]) == 0
    assert [row["environment"] for row in kit.read(folder)] == labels
    page = (folder / "table.md").read_text()
    assert f"{len(labels)} works. Versions: gymnax 0.0." in page
    assert f"| `{labels[0]}` | works | 2.0e-9 | 1.00 | float64 | yes | a / b |" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--names", "zzz"], "'zzz' is in no name"),
        (["--steps", "0"], "--steps 0 must be at least 1"),
        (["--processes", "0"], "--processes 0 must be at least 1"),
        (["--timeout", "0"], "must be above 0"),
    ],
)
def test_bad_input_of_suites(arguments, message, capsys):
    assert suites.main(arguments) == 2
    assert message in capsys.readouterr().err
