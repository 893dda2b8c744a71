"""The skeleton of all studies: rows on disk as they come, resuming, merging, refusing."""

import importlib
import json
import re
import shutil
from dataclasses import dataclass

import numpy as np
import pytest

from experiments.launch import run_folder
from experiments.report import rows
from experiments.report.figure import band, panels
from experiments.report.intervals import estimate
from experiments.report.table import Table
from experiments.studies import ant, command, study
from experiments.studies.payoff import __main__ as payoff
from experiments.studies.study import Done, Plan


@dataclass(frozen=True)
class Options:
    """Squares of numbers.

    Attributes:
        numbers: Which.
        scale: Of the noise.
        marked: One of the numbers, that figures mark.
    """

    numbers: tuple[int, ...] = (1, 2, 3)
    scale: float = 0.5
    marked: int = 1


class Squares:
    """A study that is done at once, and can be stopped before a job."""

    def __init__(self, stop_before=None):
        self.stop_before, self.measured = stop_before, []

    def prepare(self, options):
        if options.scale <= 0:
            raise ValueError(f"--scale {options.scale} must be positive")
        return Plan(options, {f"{number} squared": number for number in options.numbers}, "all")

    def measure(self, plan, progress):
        for name, number in reversed(plan.jobs.items()):
            if number == self.stop_before:
                raise KeyboardInterrupt
            self.measured.append(number)
            noise = plan.options.scale * np.random.default_rng(number).normal(size=4)
            found = [
                {
                    "number": number,
                    "seed": seed,
                    "square": value,
                    "note": 'a, "b"' if seed else None,
                }
                for seed, value in enumerate(number**2 + noise)
            ]
            yield Done(name, found, {"noise": noise})

    def tables(self, measured):
        lines = [
            (
                str(number),
                estimate(some.column("square")),
                len(measured.arrays(some[0]["job"])["noise"]),
            )
            for (number,), some in measured.groups("number")
        ]
        return [Table("All squares", ("number", "square", "seeds"), lines, note="Of numbers.")]

    def figures(self, measured):
        figure, axes = panels(1, 1, 3.0, 2.0)
        groups = list(measured.groups("number"))
        band(
            axes[0, 0],
            [key[0] for key, _ in groups],
            [estimate(g.column("square")) for _, g in groups],
            "black",
        )
        yield "squares", figure


def run(flags, stop_before=None):
    made = Squares(stop_before)
    functions = made.prepare, made.measure, made.tables, made.figures
    squares = study.Study(
        "squares",
        Options,
        *functions,
        fixed=("scale",),
        selects={"numbers": lambda row, options: row["number"] in options.numbers},
        draws={"marked": lambda row, options: row["number"] == options.marked},
        columns={
            "job": None,
            "number": dict.fromkeys(range(10)),
            "seed": int,
            "square": float,
        },
        unique=("number", "seed"),
    )
    return command.main(squares, [str(flag) for flag in flags]), made.measured


def test_a_run_leaves_rows_tables_and_figures(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(["--output", folder]) == (0, [3, 2, 1])
    assert {path.name for path in folder.iterdir()} == {
        "configuration.json", "rows.csv", "arrays", "results.json", "table.md", "tables",
        "squares.png",
    }  # fmt: skip
    found = rows.read(folder)
    # In the plan's order, with the types and all digits they had.
    assert [row["number"] for row in found] == [1] * 4 + [2] * 4 + [3] * 4
    assert found[0]["square"] == 1 + 0.5 * np.random.default_rng(1).normal(size=4)[0]
    assert (found[0]["note"], found[1]["note"]) == (None, 'a, "b"')
    results = json.loads((folder / "results.json").read_text())
    assert results["options"] == {"numbers": [1, 2, 3], "scale": 0.5, "marked": 1}
    assert not results["interrupted"]
    cell = results["tables"][0]["rows"][0][1]
    assert cell["mean"] == pytest.approx(np.mean([row["square"] for row in found[:4]]))
    assert (
        (folder / "tables" / "all_squares.csv")
        .read_text()
        .startswith('number,square,"square, low","square, high",seeds\n1,')
    )
    assert "All squares" in (folder / "table.md").read_text()
    assert "All squares" in capsys.readouterr().out


def test_an_interrupted_run_keeps_what_is_done_and_goes_on_with_the_rest(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "run"
    run(["--output", whole])
    assert run(["--output", folder], stop_before=2) == (130, [3])
    assert json.loads((folder / "results.json").read_text())["interrupted"]
    assert len(rows.read(folder)) == 4
    assert run(["--resume", folder]) == (0, [2, 1])
    for name in ("rows.csv", "table.md"):
        assert (folder / name).read_text() == (whole / name).read_text()
    assert not json.loads((folder / "results.json").read_text())["interrupted"]
    assert run(["--resume", folder]) == (0, [])


def test_an_interrupt_before_anything_is_done_can_be_resumed(tmp_path):
    folder = tmp_path / "run"
    assert run(["--output", folder], stop_before=3) == (130, [])
    assert {path.name for path in folder.iterdir()} == {"configuration.json"}
    assert run(["--resume", folder]) == (0, [3, 2, 1])


def test_runs_are_merged(tmp_path):
    whole, one, other, merged = (tmp_path / name for name in ("whole", "one", "other", "merged"))
    run(["--output", whole])
    run(["--numbers", 1, 2, "--output", one])
    run(["--numbers", 3, "--output", other])
    assert run(["--report", one, other, "--output", merged]) == (0, [])
    for name in ("rows.csv", "table.md"):
        assert (merged / name).read_text() == (whole / name).read_text()
    assert len(list((merged / "arrays").iterdir())) == 3


def test_a_report_chooses_among_rows_and_says_how_it_was_drawn(tmp_path):
    part, whole, chosen = (tmp_path / name for name in ("part", "whole", "chosen"))
    run(["--numbers", 1, 3, "--output", part])
    run(["--output", whole])
    flags = ["--numbers", 3, 1, "--marked", 3]
    assert run(["--report", whole, *flags, "--output", chosen]) == (0, [])
    assert sorted({row["number"] for row in rows.read(chosen)}) == [1, 3]
    assert (chosen / "table.md").read_text() == (part / "table.md").read_text()
    saved = json.loads((chosen / "configuration.json").read_text())
    assert saved["chosen"] == {"numbers": [3, 1]}
    assert saved["options"] == {"numbers": [1, 2, 3], "scale": 0.5, "marked": 3}


def test_a_file_of_rows_is_reported_where_rows_are_enough(tmp_path, capsys):
    whole, file = tmp_path / "whole", tmp_path / "kept.csv"
    run(["--output", whole])
    file.write_bytes((whole / "rows.csv").read_bytes())
    drawn = []

    def draw(measured):
        drawn.extend(measured)
        return [Table("All squares", ("number",), [(str(row["number"]),) for row in measured])]

    made = Squares()
    squares = study.Study(
        "squares", Options, made.prepare, made.measure, draw, made.figures, columns={"job": None}
    )
    flags = ["--report", str(file), "--output"]
    assert command.main(squares, [*flags, str(tmp_path / "new")]) == 0
    assert drawn == rows.read(whole)
    without = study.Study("squares", Options, made.prepare, made.measure, draw, made.figures)
    assert command.main(without, [*flags, str(tmp_path / "newer")]) == 2
    assert "needs more than rows: name the folder of a run" in capsys.readouterr().err
    assert not (tmp_path / "newer").exists()


NAMES = ("payoff", "baselines", "derivatives", "engine", "horizon", "robots", "scaling")
NAMES += ("suites", "toy", "weighting", "ant", "first_order_agents")


@pytest.mark.parametrize("name", NAMES)
def test_every_study_says_how_long_it_takes_and_how_to_try_it(name):
    own = name in ("ant", "first_order_agents")
    module = importlib.import_module(f"experiments.studies.{name}{'' if own else '.__main__'}")
    made = payoff.STUDY if own else module.STUDY
    text = " ".join((module.ABOUT if own else made.options.__doc__).split())
    assert "on 2 cores" in text
    trial = re.search(r"[Ff]or a trial(?: of minutes)?: `?(--[^.`]+)", text)
    options, _ = command._read(made, trial[1].split(), getattr(module, "DEFAULTS", None))
    assert options != getattr(module, "DEFAULTS", made.options())


def test_a_study_of_other_defaults_has_its_own_help(capsys):
    for main, begins in (
        (ant.main, "The paper's experiment: SAC on Ant"),
        (payoff.main, "SAC with"),
    ):
        with pytest.raises(SystemExit, match="0"):
            main(["--help"])
        printed = capsys.readouterr().out
        assert begins in printed
        assert "How many seeds each variant gets." in printed
        assert ("SAC with gradients of several kinds" in printed) == (main is payoff.main)


def test_a_report_that_cannot_be_drawn_leaves_its_place_free(tmp_path, monkeypatch, capsys):
    run(["--output", tmp_path / "run"])
    again = ["--report", tmp_path / "run", "--output", tmp_path / "new"]
    file = tmp_path / "run" / "rows.csv"
    text = file.read_text()
    with monkeypatch.context() as patched:
        patched.setattr(Squares, "tables", lambda self, measured: measured.column("note"))
        assert run(again) == (2, [])
    assert "the column note of rows.csv holds more than numbers" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert run(again) == (0, [])
    assert file.read_text() == text


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two runs, rows of others, and a run of another study."""
    folder = tmp_path_factory.mktemp("written")
    run(["--output", folder / "run"])
    run(["--output", folder / "louder", "--scale", 2, "--numbers", 4])
    heading = "job,number,seed,square,noise\n"
    (folder / "bare.csv").write_text("job,square\n1 squared,2.0\n")
    for name, lines in {
        "odd": "77 squared,77,0,2.0,\n",
        "words": "1 squared,1,0,2.0,\n2 squared,2,one,2.0,\n",
        "halves": "1 squared,1,0.5,2.0,\n",
        "empty": "1 squared,1,0,2.0,\n1 squared,1,,2.0,\n",
        "spoilt": "1 squared,1,0,,\n1 squared,1,1,2.O,\n",
        "cut": "1 squared,1,0,2.0,\n1 squared,1",
        "twice": "1 squared,1,0,2.0,\n1 squared,1,1,2.0,\n1 squared,1,0,3.0,\n",
    }.items():
        (folder / f"{name}.csv").write_text(heading + lines)
    (folder / "picture.csv").write_bytes(b"\x89PNG\r\n\xff")
    shutil.copytree(folder / "run", folder / "edited")
    text = (folder / "run" / "rows.csv").read_text()
    (folder / "edited" / "rows.csv").write_text(text.replace("1 squared,1,2,", "1 squared,1,1,"))
    (folder / "other").mkdir()
    (folder / "other" / "configuration.json").write_text('{"study": "cubes", "options": {}}')
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--scale", "-1"], "--scale -1.0 must be positive"),
        (["--output", "run"], "holds another run"),
        (["--resume", "nowhere"], "holds no configuration.json"),
        (["--resume", "other"], "is no run of python -m experiments.studies.squares"),
        (["--resume", "run", "--scale", "2"], "scale: 0.5 -> 2.0"),
        (["--resume", "run", "--output", "elsewhere"], "output: run -> elsewhere"),
        (["--resume", "run", "--report", "run"], "exclude each other"),
        (["--report", "other", "--output", "new"], "holds no rows.csv"),
        (["--report", "run", "run", "--output", "new"], "holds '1 squared', and so does another"),
        (["--report", "run", "--output", "run"], "holds another run"),
        (["--report", "run", "louder", "--output", "new"], "differ in scale: 0.5 -> 2.0"),
        (["--report", "run", "--scale", "2", "--output", "new"], "--scale says how to measure"),
        (["--report", "run", "--numbers", "1", "7", "--output", "new"], "--numbers 7 leaves no"),
        (["--report", "run", "--marked", "7", "--output", "new"], "--marked 7 leaves no row"),
        (["--report", "bare.csv", "--output", "new"], "bare.csv has no column 'number'"),
        (["--report", "odd.csv", "--output", "new"], "rows whose number is 77"),
        (["--report", "words.csv"], "words.csv, line 3: seed is 'one', and not a whole number."),
        (["--report", "halves.csv"], "halves.csv, line 2: seed is 0.5, and not a whole number."),
        (["--report", "empty.csv"], "empty.csv, line 3: seed is empty, and not a whole number."),
        (["--report", "spoilt.csv"], "spoilt.csv, line 3: square is '2.O', and not a number."),
        (["--report", "cut.csv"], "line 3 has 2 entries, and the first 5. If it was cut short"),
        (["--report", "twice.csv"], "twice.csv, line 4: 1, 0 is on line 2 already"),
        (["--report", "edited"], "edited/rows.csv, line 4: 1, 1 is on line 3 already"),
        (["--report", "picture.csv"], "picture.csv is no text: name a file of rows"),
        (["--report", "nowhere.csv"], "--report nowhere.csv does not exist: name the folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(flags, message, written, tmp_path, monkeypatch, capsys):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(flags) == (2, [])
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


FOREIGN = "job,error\nhopper sac,0.5\n"


@pytest.mark.parametrize("flag", ["--resume", "--report"])
def test_rows_of_another_study_are_refused_by_job(flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(["--output", "run"], stop_before=2)
    file = tmp_path / "run" / "rows.csv"
    for content in (FOREIGN, "error\n0.5\n", file.read_text() + "4 squared,16,0,16.0,\n"):
        file.write_text(content)
        capsys.readouterr()
        assert run([flag, "run", *(["--output", "new"] if flag == "--report" else [])]) == (2, [])
        error = capsys.readouterr().err
        assert "no job of this run (those are '1 squared', '2 squared', '3 squared')" in error
        assert "move it away" in error
        assert error.count("\n") == 1
        assert file.read_text() == content
        assert not (tmp_path / "new").exists()


def test_a_folder_in_use_is_refused(tmp_path, capsys):
    folder = tmp_path / "run"
    run(["--output", folder], stop_before=2)
    with run_folder.locked(folder):
        assert run(["--resume", folder]) == (2, [])
    assert "another process" in capsys.readouterr().err
