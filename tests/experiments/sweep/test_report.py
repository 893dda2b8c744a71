"""What sweeps conclude, draw and write, from made-up returns."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from experiments.launch.configuration import defaults
from experiments.launch.history import History
from experiments.launch.sweep.configs import Axis, make_configs, name_of, parse_axis
from experiments.launch.sweep.definition import Sweep
from experiments.launch.sweep.merging import Merged
from experiments.report.results import RETURN
from experiments.report.table import text
from experiments.sweep import plots, report, tables
from experiments.sweep.summary import make_results, sentence


def sweep_of(seeds=3, **words):
    varied = [parse_axis(name, text.split()) for name, text in words.items()]
    experiment = replace(defaults("pendulum"), seeds=seeds)
    return Sweep(experiment, tuple(varied), make_configs(varied, None, 0))


def history_of(sweep, returns, frozen=None):
    """Two epochs that end with these returns `(configs, seeds)`."""
    history = History(sweep.variants, sweep.experiment.seeds)
    for epoch in range(2):
        metrics = {
            "environment_steps": np.full(np.shape(returns), 100 * (epoch + 1)),
            RETURN: np.asarray(returns, float) - (1 - epoch),
        }
        if frozen is not None:
            metrics |= {"frozen": frozen, "frozen_at": np.where(frozen, 150, -1)}
        history.add({name: np.ravel(row) for name, row in metrics.items()}, float(epoch + 1))
    return history


def results_of(sweep, returns, frozen=None):
    made = make_results(merged_of(sweep, returns, frozen), start=0.0)
    return json.loads(json.dumps(made))  # what the file would give back


def merged_of(sweep, returns, frozen=None, folder=None):
    history = history_of(sweep, returns, frozen)
    return Merged(sweep, folder, history, 1.0, 1.0, {"width": 1}, [], [])


def test_configs_are_ranked_and_compared_with_the_best_by_seed():
    sweep = sweep_of(state_weight="0.1 1 10")
    # Seeds differ by much more than configs: only pairs separate them.
    results = results_of(sweep, [[-30, -20, -10], [-29, -18.9, -9.1], [-30.5, -17, -11]])
    assert results["order"] == ["state_weight=1", "state_weight=10", "state_weight=0.1"]
    assert results["close_to_best"] == ["state_weight=10"]
    assert "1 of the other 2 may be as good" in sentence(results)
    [row, *_] = [row for row in tables.make_table(results).rows if row[0] == "0.1"]
    assert text(row[2], signed=True).startswith("-1.00 [")
    assert row[3] == ""


def test_a_config_that_lost_seeds_is_flagged_and_comes_last():
    sweep = sweep_of(state_weight="0.1 1 10")
    frozen = np.array([[0, 0, 0], [0, 1, 1], [0, 0, 0]])
    returns = [[-3, -2, -1], [10, 10, 10], [-3, -2, math.nan]]
    results = results_of(sweep, returns, frozen)
    assert results["order"] == ["state_weight=0.1", "state_weight=1", "state_weight=10"]
    entry = results["variants"]["state_weight=1"]
    assert entry["frozen_at"] == [None, 150, 150]
    assert (entry["metrics"][RETURN]["mean"], entry["metrics"][RETURN]["count"]) == (10, 1)
    table = tables.make_table(results)
    assert [row[-1] for row in table.rows] == ["", "2 frozen", "1 not finite"]
    assert "2 configurations lost seeds" in sentence(results)
    nothing_left = results_of(sweep, returns, np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]]))
    assert "state_weight=1" not in nothing_left["close_to_best"]
    assert [row[0] for row in tables.make_table(nothing_left).rows] == ["0.1", "10", "1"]


@pytest.mark.parametrize(
    ("words", "panels", "cells"),
    [
        ({"state_weight": "0 1", "action_weight": "0.1 1 10"}, 1, 6),
        ({"state_weight": "0 1", "action_weight": "0.1 1 10", "discount": "0.9 0.99"}, 2, 6),
        (
            {
                "state_weight": "0 1",
                "action_weight": "0 1",
                "discount": "0.9 0.99",
                "tau": "0.1 1",
            },
            1,
            4,
        ),
    ],
)
def test_heat_maps_have_a_cell_for_every_pair(words, panels, cells):
    sweep = sweep_of(**words)
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(len(sweep.configs), 3))
    results = results_of(sweep, returns)
    up, right, found = plots.panels(results, RETURN)
    assert len(found) == panels
    assert all(len(one) == cells for one in found.values())
    if len(words) == 4:
        # The best over what is not shown.
        [shown] = found.values()
        for (a, b), name in shown.items():
            same = [
                np.mean(row)
                for config, row in zip(sweep.configs, returns, strict=True)
                if (config[up], config[right]) == (a, b)
            ]
            index = [name_of(config) for config in sweep.configs].index(name)
            assert np.mean(returns[index]) == max(same)


@pytest.mark.parametrize(
    ("words", "seeds", "kind"),
    [
        ({"state_weight": "0 1 10"}, 3, "line"),
        ({"state_weight": "0 1", "action_weight": "0.1 1 10"}, 1, "heat_map"),
        ({"state_weight": "0 1", "action_weight": "0 1", "discount": "0.9 0.99"}, 2, "heat_map"),
    ],
)
def test_a_report_leaves_results_table_and_plots(words, seeds, kind, tmp_path):
    sweep = sweep_of(seeds, **words)
    returns = np.random.default_rng(0).normal(size=(len(sweep.configs), seeds))
    returns[0, 0] = math.nan
    (tmp_path / f"{kind}.png").write_text("half of one")  # a process was killed while drawing
    report.write(merged_of(sweep, returns, folder=tmp_path), start=0.0)
    names = {path.name for path in tmp_path.iterdir()}
    plotted = {f"{kind}.png", f"{kind}_over_training.png"}
    assert (
        names
        == {"configuration.json", "results.json", "table.md", "tables", "metrics.jsonl"} | plotted
    )
    assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "table.md").read_text().count("\n| ") == len(sweep.configs) + 2
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["plan"] == {"width": 1}
    assert results["variants"][results["order"][0]]["metrics"][RETURN]["per_seed"]


def test_a_sweep_comes_back_from_json():
    sweep = replace(
        sweep_of(huber_delta="1 inf", state_weight="0.1 1"), devices=2, memory=123, checkpoints=None
    )
    again = Sweep.from_json(json.loads(json.dumps(sweep.to_json())))
    assert replace(again.experiment, env_args=dict(again.experiment.env_args)) == sweep.experiment
    assert again.configs == sweep.configs
    assert again.axes == sweep.axes
    assert (again.devices, again.memory, again.checkpoints) == (2, 123, None)
    drawn = (Axis("state_weight", bounds=(0.1, 1.0)),)
    assert (
        Sweep.from_json(json.loads(json.dumps(replace(sweep, axes=drawn).to_json()))).axes == drawn
    )
