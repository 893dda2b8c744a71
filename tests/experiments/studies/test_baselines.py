"""Other people's agents on our environments: rows, what is left out, resuming, merging, numbers."""

import functools
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.bench.peers.installation import PeerUnavailable
from experiments.bench.peers.workers import protocol
from experiments.launch import run_folder
from experiments.report import rows as kit
from experiments.report.results import RETURN
from experiments.report.rows import Rows
from experiments.studies import command as skeleton
from experiments.studies.baselines import __main__ as command
from experiments.studies.baselines import curves, figures, tables, worker
from experiments.studies.baselines.measure import measure
from experiments.studies.baselines.options import PPO_ROUND, Options, configure_peer, prepare
from experiments.studies.payoff.options import Options as PayoffOptions
from experiments.studies.payoff.variants import CHOICES

# Says what a training would, at once; one of a seed in the file `broken` fails in its second epoch.
FAKE = """
import sys
sys.path.insert(0, {workers!r})
import protocol
channel = protocol.Channel()
given = protocol.read_config(shared={fields!r})
print("a library that prints")
channel.ready({{"fake": "1.0"}})
for epoch in range(given["evaluations"]):
    if epoch and str(given["seed"]) in open({broken!r}).read().split():
        sys.exit("out of luck")
    steps = given["timesteps"] * (epoch + 1) // given["evaluations"]
    channel.say(
        "epoch", environment_steps=steps, evaluation_return=float(given["seed"] + epoch),
        evaluation_length=10.0, seconds=3.0 + epoch, train_seconds=2.5 + epoch,
        cpu_seconds=5.0 + epoch, compile_seconds=2.0,
    )
"""
FLAGS = ["--tasks", "pendulum", "--regime", "few", "--seeds", "2", "--shrink", "25"]


@pytest.fixture
def run(tmp_path):
    """Runs the command with workers that only pretend to train."""
    path, broken = tmp_path / "fake.py", tmp_path / "broken"
    broken.write_text("")
    workers = str(Path(protocol.__file__).parent)
    path.write_text(FAKE.format(workers=workers, fields=worker.FIELDS, broken=str(broken)))

    def call(*flags, fail=(), missing=""):
        def install(library):
            if missing:
                raise PeerUnavailable(missing)

        def command_of(library):
            return [sys.executable, str(path)]

        broken.write_text(" ".join(map(str, fail)))
        measured = functools.partial(measure, install=install, command_of=command_of)
        return skeleton.main(replace(command.STUDY, measure=measured), list(map(str, flags)))

    return call


def test_every_evaluation_is_a_row_and_what_failed_is_left_for_resume(run, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(*FLAGS, "--output", folder, fail=[1]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left out: pendulum few brax_ppo 1: pendulum few brax_ppo 1 ended with status 1" in said
    assert "out of luck" in said
    found = kit.read(folder)
    # Nothing of a training that was cut short stays.
    assert [row["job"] for row in found] == [
        *["pendulum few brax_ppo 0"] * 2,
        *["pendulum few brax_sac 0"] * 2,
    ]
    assert found[-1] == {
        "job": "pendulum few brax_sac 0",
        "task": "pendulum",
        "regime": "few",
        "variant": "brax_sac",
        "seed": 0,
        "epoch": 1,
        "environment_steps": 409,
        "evaluation_return": 1.0,
        "evaluation_length": 10.0,
        "seconds": 4.0,
        "train_seconds": 3.5,
        "cpu_seconds": 6.0,
        "compile_seconds": 2.0,
        "packages": "fake 1.0",
    }
    log = folder / "logs" / "pendulum-few-brax_ppo-1.log"
    log.write_text("of the training that was cut short")
    assert run("--resume", folder) == 0
    jobs = list(dict.fromkeys(row["job"] for row in kit.read(folder)))
    assert jobs == [f"pendulum few brax_{agent} {at}" for at in (0, 1) for agent in ("ppo", "sac")]
    assert log.read_text() == "a library that prints\n"


def test_a_library_that_cannot_be_installed_is_left_out_with_its_reason(run, tmp_path, capsys):
    assert run(*FLAGS, "--output", tmp_path / "run", missing="no network") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("left out: all that needs brax: no network") == 1
    assert not kit.read(tmp_path / "run")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks", "hoper"], "did you mean 'hopper'?"),
        (["--peers", "brax"], "--peers 'brax' is unknown"),
        (["--peers"], "--peers names none: choose from brax_ppo, brax_sac"),
        (
            ["--regime", "all"],
            "--regime 'all' is unknown: choose one of few, few_1, few_16, many, long, long_64",
        ),
        (["--seeds", "0"], "--seeds 0 must be at least 1"),
        (["--first-seed", "-1"], "--first-seed -1 must be from 0"),
        (["--timeout", "0"], "--timeout 0.0 must be above 0"),
        (
            ["--ppo-timesteps", "1000000"],
            "must be a multiple of 51200, 50 evaluations of 1024 steps: take 1024000",
        ),
        (["--until", "shac"], "--variants and --until choose what --report shows"),
        (["--sac-timesteps", "4096"], "--sac-timesteps 4096 must be at least 4256: 4096 steps"),
    ],
)
def test_bad_input_is_one_line_and_status_2(flags, message, assert_refused, monkeypatch):
    def nothing(*_, **__):
        raise AssertionError("something was started")

    monkeypatch.setattr("subprocess.Popen", nothing)
    assert_refused(command.main, flags, message)


def test_sac_has_the_sizes_of_ours_and_ppo_whole_rounds():
    sac = configure_peer(Options(), "hopper", "brax_sac")
    assert (sac["timesteps"], sac["evaluations"], sac["sizes"]["num_envs"]) == (102_400, 20, 8)
    assert (sac["sizes"]["grad_updates_per_step"], sac["hidden_sizes"]) == (4, [128, 128])
    assert configure_peer(Options(), "pusher", "brax_ppo")["discounting"] == 0.95
    ppo = configure_peer(Options(), "hopper", "brax_ppo")
    assert ppo["sizes"]["batch_size"] * ppo["sizes"]["num_minibatches"] == ppo["sizes"]["num_envs"]
    assert ppo["sizes"]["num_envs"] * ppo["sizes"]["unroll_length"] == PPO_ROUND
    for shrink in (1, 7, 10_000):
        small = configure_peer(Options(shrink=shrink), "hopper", "brax_ppo")
        assert small["timesteps"] % (small["evaluations"] * PPO_ROUND) == 0
    jobs = prepare(Options(tasks=("pendulum",), seeds=2, first_seed=3)).jobs
    assert [job.config["seed"] for job in jobs.values()] == [3, 3, 4, 4]
    assert {*worker.FIELDS} == {*next(iter(jobs.values())).config}


def make_rows(variant, steps, seconds, returns, seeds=2, job="", **more):
    return [
        {
            "job": job or f"hopper many {variant} {seed}",
            "task": "hopper",
            "regime": "many",
            "variant": variant,
            "seed": seed,
            "epoch": epoch,
            "environment_steps": at,
            "seconds": time,
            RETURN: value + seed,
            **more,
        }
        for seed in range(seeds)
        for epoch, (at, time, value) in enumerate(zip(steps, seconds, returns, strict=True))
    ]


def test_means_at_equal_steps_and_returns_at_equal_time_by_hand():
    # The first epoch of 12 s compiles: it counts as the median of the others, 2 s.
    assert curves.times(np.array([12.0, 14.0, 16.0, 19.0])).tolist() == [2.0, 4.0, 6.0, 9.0]
    ours = make_rows("shac", [100, 200, 300], [12.0, 14.0, 16.0], [0.0, 10.0, 10.0])
    theirs = make_rows("brax_ppo", [200, 1000], [55.0, 58.0], [0.0, 80.0], compile_seconds=50.0)
    rows = Rows([*ours, *theirs])
    table, in_time = tables.tables(rows)
    lines = {row[1]: dict(zip(table.headings, row, strict=True)) for row in table.rows}
    shac, ppo = lines[CHOICES["shac"].label], lines["Brax's PPO"]
    assert "hopper: steps 200 to 300, time 6 s" in table.note
    # From 200 to 300 steps, 0 to 10 in theirs; seeds are 0.5 above on average.
    assert (shac["mean, equal steps"].mean, ppo["mean, equal steps"].mean) == (10.5, 5.5)
    # After 6 s, theirs are evaluated at 3 s and 6 s.
    assert (shac["return, equal time"].mean, ppo["return, equal time"].mean) == (10.5, 80.5)
    assert (shac["time, s"], ppo["time, s"]) == (6.0, 6.0)
    assert (shac["compiling, s"], ppo["compiling, s"]) == (None, 50.0)
    # SHAC ends first, after 6 s. Its means from 0.6 s on: 0 until 2 s, 10 from 4 s on, by seeds.
    (line,) = (dict(zip(in_time.headings, row, strict=True)) for row in in_time.rows)
    assert (line["agent"], line["beside"], line["time, s"]) == ("SHAC", "Brax's PPO", 6.0)
    assert line["return at that time"].mean == 10.5
    assert line["difference"].mean == -70.0
    assert line["p of ranks"] == pytest.approx(1 / 3)  # the least of two and two
    assert line["mean over that time"].mean == pytest.approx(0.5 + 30.0 / 5.4)
    named = tables.tables(Rows(list(rows), {"until": "brax_ppo"}))[1]
    assert [row[1] for row in named.rows] == ["Brax's PPO"]
    (one,) = curves.curves(rows.where(seed=0), "brax_ppo")
    assert one.at_time(4.5) == 40.0
    assert np.isnan(one.at_time(1.0))
    ((name, figure),) = figures.figures(rows)
    assert name == "returns_many"
    assert len(figure.axes) == 2
    # Of the seeds' returns, 0 to 81, however wide an interval over two of them is.
    assert [axes.get_ylim() for axes in figure.axes] == [pytest.approx((-4.05, 85.05))] * 2


def test_curves_without_common_steps_have_no_mean_of_them():
    rows = [*make_rows("plain", [10], [1.0], [0.0]), *make_rows("brax_sac", [20], [1.0], [0.0])]
    table, _ = tables.tables(Rows(rows))
    assert "steps none" in table.note
    assert [row[5].mean for row in table.rows] == [None, None]


def test_variants_of_another_version_are_left_out():
    rows = Rows(make_rows("once", [10], [1.0], [0.0]))
    assert tables.tables(rows) == []
    assert list(figures.figures(rows)) == []


def test_runs_of_ours_are_merged_with_those_of_the_peers(run, tmp_path, capsys):
    theirs, ours, both = (tmp_path / name for name in ("theirs", "ours", "both"))
    run(*FLAGS, "--output", theirs)
    ours.mkdir()
    options = run_folder.plain(vars(PayoffOptions(shrink=25)))
    written = {"study": "first_order_agents", "options": options}
    (ours / "configuration.json").write_text(json.dumps(written))
    kit.write(ours, make_rows("shac", [100, 200], [1.0, 2.0], [0.0, 5.0], job="hopper many shac"))
    capsys.readouterr()
    assert run("--report", ours, theirs, "--output", both) == 0
    assert {row["variant"] for row in kit.read(both)} == {"shac", "brax_ppo", "brax_sac"}
    page = (both / "table.md").read_text()
    assert "| hopper | SHAC | 2 |" in page
    assert "| pendulum | Brax's SAC | 2 |" in page
    assert {path.name for path in both.glob("*.png")} == {"returns_few.png", "returns_many.png"}
    # A merged run can be merged again, and an unlike one cannot.
    assert run("--report", both, "--output", tmp_path / "again") == 0
    written["options"]["shrink"] = 1
    (ours / "configuration.json").write_text(json.dumps(written))
    assert run("--report", ours, theirs, "--output", tmp_path / "no") == 2
    assert "differ in shrink: 1 -> 25" in capsys.readouterr().err
    # Others do not take ours, and ours no others.
    assert run("--resume", ours) == 2
    assert "is no run of python -m experiments.studies.baselines" in capsys.readouterr().err


def test_the_table_in_as_much_time_comes_from_the_rows_beside_the_page(tmp_path):
    results = Path(__file__).parents[3] / "docs" / "results"
    files = ["baselines_rows.csv", "payoff_shac_rows.csv"]
    flags = ["--tasks", "hopper", "--variants", "plain", "shac_16", "brax_ppo", "--seeds", "5"]
    sources = [str(results / name) for name in files]
    report = ["--report", *sources, *flags, "--until", "shac_16", "--output", str(tmp_path / "a")]
    assert command.main(report) == 0
    tables = json.loads((tmp_path / "a" / "results.json").read_text())["tables"]
    (table,) = (one for one in tables if one["title"].startswith("In as much time"))
    rows = [dict(zip(table["headings"], row, strict=True)) for row in table["rows"]]
    beside = {row["beside"]: row for row in rows}
    page = (results / "shac.md").read_text(encoding="utf-8").replace("−", "-").replace(",", "")
    (line,) = (line for line in page.splitlines() if line.startswith("| hopper | 45 |"))
    stated = [
        list(map(int, numbers)) for numbers in re.findall(r"\+(\d+) \[(-?\d+) (-?\d+)\]", line)
    ]
    columns = ("difference", "difference of means")
    found = [beside[name][column] for column in columns for name in ("plain", "Brax's PPO")]
    for (middle, low, high), one in zip(stated, found, strict=True):
        assert [one["mean"], one["low"], one["high"]] == pytest.approx([middle, low, high], abs=1.0)


def test_compilation_within_compilation_counts_once(monkeypatch):
    found, now = worker.Compilation(), iter([11.0, 12.0, 20.0, 21.0, 30.0])
    monkeypatch.setattr(worker.time, "perf_counter", lambda: next(now))
    event = "/jax/core/compile/backend_compile_duration"
    for seconds in (0.5, 1.5, 15.0, 1.0):  # the first two are within the third
        found.listen(event, seconds)
    found.listen("/jax/other", 5.0)
    assert found.within(0.0, 40.0) == 16.0
    assert found.within(20.0, 40.0) == 1.0
    assert found.within(0.0, 20.0) == 15.0


@pytest.mark.slow
def test_brax_trains_on_our_pendulum(tmp_path):
    folder = tmp_path / "run"
    flags = ["--tasks", "pendulum", "--seeds", "1", "--ppo-timesteps", "122880"]
    flags += ["--ppo-evaluations", "6", "--sac-timesteps", "4400", "--timeout", "600"]
    assert command.main([*flags, "--output", str(folder)]) == 0
    rows = Rows(kit.read(folder))
    ppo, sac = (rows.where(variant=name) for name in ("brax_ppo", "brax_sac"))
    returns = ppo.column(RETURN)
    assert max(returns[-2:]) > returns[0] + 100  # it begins near -1,200
    assert ppo.column("environment_steps").tolist() == [20_480 * at for at in range(1, 7)]
    assert len(sac) == 20
    for column in ("seconds", "train_seconds", "cpu_seconds", "compile_seconds"):
        assert (np.diff(ppo.column(column)) >= 0).all()
    alone = ppo.column("train_seconds") + ppo.column("compile_seconds")
    assert (alone < ppo.column("seconds")).all()
    assert (ppo.column("compile_seconds")[0] > ppo.column("compile_seconds")[-1] / 2).all()
    assert "brax 0.14.2" in ppo[0]["packages"]
