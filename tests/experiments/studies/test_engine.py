"""Both engines: what Jacobians are compared by, what is refused, what is drawn, and all of it."""

import dataclasses
import json
import math

import numpy as np
import pytest

from experiments.launch import run_folder
from experiments.launch.history import RETURN
from experiments.report import rows
from experiments.report.intervals import estimate
from experiments.report.rows import Rows
from experiments.studies.engine import __main__ as command
from experiments.studies.engine import training
from experiments.studies.engine.measure import compared
from experiments.studies.engine.training import ENGINE, TWIN, Options, experiments
from sobolax.losses import Weights


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (command.main, ["--tasks", "lqr"], "--tasks 'lqr' is unknown: choose one of ant"),
        (command.main, ["--states", "0"], "--states 0 must be at least 1"),
        (training.main, ["--task", "lqr"], "--task 'lqr' is unknown: choose one of ant"),
        (training.main, ["--task", "hopper", "--steps", "512"], "learning_starts=1024 leaves"),
        (training.main, ["--resume", "nowhere"], "nowhere holds no configuration.json"),
    ],
)
def test_bad_input(main, arguments, message, assert_refused):
    assert_refused(main, arguments, message)


def test_a_run_of_another_command_is_not_resumed(tmp_path, assert_refused):
    run_folder.write_json(tmp_path / run_folder.CONFIGURATION, {"experiment": {}})
    assert_refused(training.main, ["--resume", str(tmp_path)], "is no run of")


def test_cosine_and_error_by_hand():
    expected = np.array([[[3.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]])
    found = np.array([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 1.0], [0.0, 0.0]]])
    same, across = compared(found, expected)
    assert same == pytest.approx((1.0, 0.0))
    assert across == pytest.approx((0.0, math.sqrt(2)))


def test_tables_of_jacobians():
    costs = {"engine step": 1e-6, "engine Jacobian": 3e-6, "MJX step": 2e-6, "MJX Jacobian": 8e-6}
    made = [
        {"task": "Hopper-v5", "part": "reward", "constraints": where, "state": at, "cosine": cosine}
        | {"error": 0.25, "directions": 15, **costs}
        for where, cosines in (("touching", [1.0, 0.5, 1.0]), ("apart", [1.0]))
        for at, cosine in enumerate(cosines)
    ]
    agreement, cost = command.tables(Rows(made))
    assert [row[:4] for row in agreement.rows] == [
        ("Hopper-v5", "reward", "touching", 3),
        ("Hopper-v5", "reward", "apart", 1),
    ]
    assert agreement.rows[0][4:7] == (0.0, 0.5, pytest.approx(2 / 3))
    [(task, directions, *numbers)] = cost.rows
    assert (task, directions) == ("Hopper-v5", 15)
    assert numbers == pytest.approx([1, 3, 2, 8, 3, 4, 3 / 8])


def test_both_sides_are_trained_alike():
    sides = experiments(Options(task="ant", state_weight=3.0, seed=5))
    engine, twin = sides[ENGINE], sides[TWIN]
    assert (engine.env, twin.env) == ("gymnasium:Ant-v5", "ant")
    assert engine.env_args["integrator"] == "euler"
    assert Weights(engine.hyper.state_weight, engine.hyper.action_weight) == Weights(
        3.0, twin.hyper.action_weight
    )
    same = {"env": "", "env_args": {}}
    assert dataclasses.replace(engine, **same) == dataclasses.replace(twin, **same)


def test_curves_of_both_are_drawn_and_told():
    made = [
        {"side": side, "epoch": epoch, "variant": name, "seed": seed, "seconds": 1.0 + epoch}
        | {"environment_steps": 8.0 * epoch, "gradients_dropped": 0.25, "frozen": 0.0}
        | {RETURN: (2.0 if name == "sobolev" else 0.0) + seed + epoch}
        for side in (ENGINE, TWIN)
        for epoch in range(3)
        for name in ("plain", "sobolev")
        for seed in range(2)
    ]
    made[-1]["frozen"] = 1.0
    measured = Rows(made, {"task": "hopper"})
    [table] = training.tables(measured)
    assert [row[:2] for row in table.rows] == [
        (side, label)
        for side in ("C engine, differences", "MJX, exact")
        for label in ("plain", "with gradients")
    ]
    plain, sobolev, _, frozen = (dict(zip(table.headings, row, strict=True)) for row in table.rows)
    assert plain["gain, at the end"] is None
    assert sobolev["return, at the end"] == estimate([4.0, 5.0])
    assert sobolev["return, all epochs"] == estimate([3.0, 4.0])
    assert sobolev["gain, at the end"] == estimate([2.0, 2.0])
    assert sobolev["gradients, dropped"] == 0.25
    assert sobolev["steps/s, all runs"] == 4 * 16 / 2
    assert frozen["return, at the end"] == estimate([4.0, np.nan])
    assert "| with gradients | 4.50 [" in table.markdown()
    [(name, figure)] = training.figures(measured)
    assert name == "curves"
    assert len(figure.axes[0].lines) == 4


@pytest.mark.slow
def test_both_engines_train_and_a_finished_run_is_only_drawn(tmp_path, capsys):
    folder = tmp_path / "out"
    flags = ["--task", "hopper", "--steps", "1280", "--num-envs", "8", "--seeds", "1"]
    flags += ["--gradient-steps", "1", "--epochs", "2", "--evaluation-episodes", "1"]
    assert training.main([*flags, "--output", str(folder)]) == 0
    for side in (ENGINE, TWIN):
        results = json.loads((folder / side / run_folder.RESULTS).read_text())
        assert results["epochs"] == 2
        assert results["variants"]["sobolev"]["whole_run"]["gradients_dropped"] < 0.1
    assert len(rows.read(folder)) == 2 * 2 * 2  # sides, variants, epochs
    first = (folder / "table.md").read_text()
    assert (folder / "curves.png").stat().st_size > 10_000
    capsys.readouterr()
    assert training.main(["--resume", str(folder)]) == 0
    assert "compiling" not in capsys.readouterr().out
    assert (folder / "table.md").read_text() == first


@pytest.mark.slow
def test_differences_of_the_engine_are_the_twins_gradients(tmp_path):
    folder = tmp_path / "out"
    flags = ["--tasks", "half_cheetah", "--states", "4", "--steps", "3", "--repetitions", "1"]
    assert command.main([*flags, "--output", str(folder)]) == 0
    groups = list(Rows(rows.read(folder)).groups("part", "constraints"))
    assert groups
    for _, some in groups:
        assert np.median(some.column("cosine")) > 0.9999
    assert "Numerical against exact" in (folder / "table.md").read_text()
