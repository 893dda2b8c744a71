"""The search over the weights, with a training of which nothing is compiled."""

import numpy as np
import pytest

from experiments import train
from experiments.launch import run_folder
from tests.experiments import stubs

optuna = pytest.importorskip(
    "optuna", reason="the extra 'optuna' is not installed: make test-trackers"
)


def test_trials_are_runs_with_the_weights_of_the_trial(tmp_path, monkeypatch):
    from examples.optuna_weights import search

    monkeypatch.setattr(train, "compile_program", stubs.compile_nothing)
    monkeypatch.setattr(train, "draw", lambda *_: None)
    found = search(stubs.TINY, 2, tmp_path, ("tensorboard",))
    states = [trial.state for trial in found.trials]
    assert states == [optuna.trial.TrialState.COMPLETE] * 2
    last = np.arange(stubs.SEEDS).mean() + stubs.EPOCHS - 1  # what the stub's last epoch earns
    for trial in found.trials:
        folder = tmp_path / f"trial_{trial.number:03d}"
        assert trial.value == last
        assert len(trial.intermediate_values) == stubs.EPOCHS
        hyper = run_folder.read_experiment(folder).hyper
        weights = {name: getattr(hyper, name) for name in trial.params}
        assert weights == trial.params
        assert list((folder / "tracking" / "tensorboard" / "sobolev").iterdir())
    assert len({trial.params["state_weight"] for trial in found.trials}) == 2
