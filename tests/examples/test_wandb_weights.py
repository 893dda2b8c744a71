"""A run of a W&B sweep, handed over as W&B's agent does; nothing is compiled, nothing is sent."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments import train
from experiments.launch import history, run_folder
from tests.experiments import stubs

wandb = pytest.importorskip(
    "wandb", reason="the extra 'wandb' is not installed: make test-trackers"
)


# W&B's own code warns on its way.
@pytest.mark.filterwarnings("default")
def test_a_run_of_the_sweep_has_the_weights_that_the_agent_hands_over(tmp_path, monkeypatch):
    from examples.wandb_weights import SWEEP, trial

    monkeypatch.setattr(train, "compile_program", stubs.compile_nothing)
    monkeypatch.setattr(train, "draw", lambda *_: None)
    weights = {"state_weight": 0.25, "action_weight": 2.0}
    assert set(SWEEP["parameters"]) == set(weights)
    handed = tmp_path / "config.yaml"
    handed.write_text(
        json.dumps({"wandb_version": 1} | {k: {"value": v} for k, v in weights.items()})
    )
    for name, value in {
        "MODE": "offline",
        "DIR": str(tmp_path),
        "SWEEP_ID": "sweep0",
        "RUN_ID": "run0",
        "SWEEP_PARAM_PATH": str(handed),
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    logged = []
    log = wandb.Run.log
    monkeypatch.setattr(wandb.Run, "log", lambda run, data: (logged.append(data), log(run, data)))
    with ThreadPoolExecutor(1) as thread:  # where the agent runs it
        results = thread.submit(trial, stubs.TINY, tmp_path).result()
    assert [set(row) for row in logged] == [{SWEEP["metric"]["name"]}] * stubs.EPOCHS
    last = results["variants"]["sobolev"]["metrics"][history.RETURN]["mean"]
    assert logged[-1]["evaluation_return"] == last
    hyper = run_folder.read_experiment(tmp_path / "trial_run0").hyper
    assert {name: getattr(hyper, name) for name in weights} == weights
