"""Training on other people's environments, with everything that a run leaves."""

import json

import pytest

from experiments import train
from experiments.launch import run_folder

_SMALL = {
    "seeds": 1,
    "total-timesteps": 128,
    "num-envs": 4,
    "learning-starts": 64,
    "epochs": 1,
    "evaluation-episodes": 2,
    "report-states": 2,
    "report-horizon": 3,
    "hidden-sizes": 8,
    "batch-size": 16,
    "gradient-steps": 1,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Brax uses what JAX gives up
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param("gymnasium:InvertedPendulum-v5", [], marks=pytest.mark.slow),
        pytest.param(
            "brax:inverted_pendulum",
            ["backend=generalized", "episode_length=5"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_leaves_results_plots_and_page(name, arguments, tmp_path, capsys):
    given = ["--env-args", *arguments] if arguments else []
    given += [word for flag, value in _SMALL.items() for word in (f"--{flag}", str(value))]
    folder = tmp_path / "run"
    assert train.main(["--env", name, *given, "--no-checkpoints", "--output", str(folder)]) == 0
    results = json.loads((folder / run_folder.RESULTS).read_text())
    assert set(results["variants"]) == {"plain", "sobolev"}
    for variant in results["variants"].values():
        assert variant["metrics"]["evaluation_return"]["mean"] is not None
        assert variant["whole_run"]["gradients_dropped"] == 0
    page = (folder / run_folder.REPLAY).read_text()
    assert name in page
    assert (folder / run_folder.LEARNING_CURVES).stat().st_size > 10_000
    assert name in capsys.readouterr().out
