"""Training on the C engine beside its MJX twin: what is refused, what is drawn, and all of it."""

import dataclasses
import json

import pytest

from experiments.launch import run_folder
from experiments.studies.engine import curves, training
from experiments.studies.engine.training import EngineTraining, experiments
from sobolax.losses import Weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "lqr"], "--task 'lqr' is unknown: choose from ant"),
        (["--task", "hopper", "--steps", "512"], "learning_starts=1024 leaves nothing"),
        (["--resume", "nowhere"], "nowhere holds no configuration.json"),
    ],
)
def test_bad_input(arguments, message, assert_refused):
    assert_refused(training.main, arguments, message)


def test_a_run_of_another_command_is_not_gone_on_with(tmp_path, assert_refused):
    run_folder.write_json(tmp_path / run_folder.CONFIGURATION, {"experiment": {}})
    assert_refused(training.main, ["--resume", str(tmp_path)], "was not written by")


def test_both_sides_are_trained_alike(tmp_path):
    asked = EngineTraining(task="ant", state_weight=3.0, seed=5)
    sides = experiments(asked, tmp_path)
    engine, twin = sides[curves.ENGINE], sides[curves.TWIN]
    assert (engine.env, twin.env) == ("gymnasium:Ant-v5", "ant")
    assert engine.env_args["integrator"] == "euler"
    assert Weights(engine.hyper.state_weight, engine.hyper.action_weight) == Weights(3.0, 0.1)
    same = {"env": "", "env_args": {}, "output": None}
    assert dataclasses.replace(engine, **same) == dataclasses.replace(twin, **same)


def test_curves_of_both_are_drawn_and_told(tmp_path):
    estimate = {"mean": 2.0, "low": 1.0, "high": 3.0, "count": 2, "total": 2}
    names = (curves.RETURN, curves.RETURN_OVER_TRAINING)
    variant = {"metrics": dict.fromkeys(names, estimate), "whole_run": {"gradients_dropped": 0.25}}
    results = {
        "variants": {
            "plain": variant | {"label": "SAC"},
            "sobolev": variant | {"label": "Sobolev SAC"},
        },
        "paired_differences": {"sobolev - plain": dict.fromkeys(names, estimate)},
        "timing": {"steady_steps_per_second": 123.4},
    }
    for side in (curves.ENGINE, curves.TWIN):
        (tmp_path / side).mkdir()
        run_folder.write_json(tmp_path / side / run_folder.RESULTS, results)
        rows = [
            {"epoch": epoch, "variant": name, "environment_steps": 8 * epoch, "seconds": epoch}
            | {curves.RETURN: seed + epoch}
            for epoch in range(3)
            for name in ("plain", "sobolev")
            for seed in range(2)
        ]
        run_folder.append_lines(tmp_path / side / run_folder.METRICS, rows)
    told = curves.write(tmp_path, {"engine_training": {"task": "hopper"}})
    assert [row[:2] for row in told.rows] == [
        (side, label)
        for side in ("C engine, differences", "MJX, exact")
        for label in ("SAC", "Sobolev SAC")
    ]
    assert told.rows[0][4] == "–"
    assert told.rows[1][4].startswith("+2")
    assert told.rows[1][-2:] == ("25.00%", "123")
    assert (tmp_path / curves.TABLE).read_text() == told.markdown()
    assert (tmp_path / curves.CURVES).stat().st_size > 10_000


@pytest.mark.slow
def test_both_engines_train_and_a_finished_run_is_only_told(tmp_path, capsys):
    folder = tmp_path / "out"
    asked = ["--task", "hopper", "--steps", "1280", "--num-envs", "8", "--seeds", "1"]
    asked += ["--gradient-steps", "1", "--epochs", "2", "--evaluation-episodes", "1"]
    assert training.main([*asked, "--output", str(folder)]) == 0
    for side in (curves.ENGINE, curves.TWIN):
        results = json.loads((folder / side / run_folder.RESULTS).read_text())
        assert results["epochs"] == 2
        assert results["variants"]["sobolev"]["whole_run"]["gradients_dropped"] < 0.1
    first = (folder / curves.TABLE).read_text()
    capsys.readouterr()
    assert training.main(["--resume", str(folder)]) == 0
    assert "compiling" not in capsys.readouterr().out
    assert (folder / curves.TABLE).read_text() == first
