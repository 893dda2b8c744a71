"""The whole way on a tiny problem: files, exit status, interrupts, and the policy read back."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sobolax
from experiments import train
from experiments.launch import program, run_folder
from experiments.launch.policy import load_policy
from tests.experiments import stubs

ROOT = Path(__file__).parents[2]
SEEDS, EPOCHS = 2, stubs.TRAINED_EPOCHS


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_run_leaves_everything(compile_once, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main(stubs.TRAINED) == 0
    printed = capsys.readouterr().out
    [folder] = (tmp_path / "runs").iterdir()
    assert files(tmp_path) == {"runs"}
    assert files(folder) == {
        "configuration.json",
        "metrics.jsonl",
        "results.json",
        "learning_curves.png",
        "gradient_error.png",
        "policy",
    }
    rows = stubs.read_lines(folder / "metrics.jsonl")
    assert len(rows) == EPOCHS * 2 * SEEDS
    assert {"evaluation_return", "value_error", "state_gradient_cosine"} <= rows[0].keys()
    results = json.loads((folder / "results.json").read_text())
    assert results["interrupted"] is False
    assert results["epochs"] == EPOCHS
    last = [row["evaluation_return"] for row in rows[-SEEDS:]]
    assert results["variants"]["sobolev"]["metrics"]["evaluation_return"]["per_seed"] == last
    assert results["timing"]["compile_seconds"] > 0
    configuration = json.loads((folder / "configuration.json").read_text())
    assert configuration["experiment"]["config"]["batch_size"] == 16
    assert configuration["versions"]["jax"] == jax.__version__
    for path in folder.rglob("*"):  # a run's folder may be handed on
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes()
    for part in (
        f"epoch {EPOCHS}/{EPOCHS}",
        "No replay.html",
        "Paired difference of returns",
        str(folder.name),
    ):
        assert part in printed

    # Variants are paired: with random actions only, before any update, they see the same.
    policy = load_policy(folder)
    other = load_policy(folder, "plain", 0)
    assert not np.allclose(
        jax.tree.leaves(policy.parameters)[0], jax.tree.leaves(other.parameters)[0]
    )
    start = jax.jit(policy.environment.reset)(jax.random.key(0))
    action = jax.jit(lambda: policy(start.observation))()
    assert action.shape == (policy.environment.action_size,)
    assert jnp.all(jnp.abs(action) <= 1)
    with pytest.raises(ValueError, match="no variant 'best' with seed 0"):
        load_policy(folder, "best")
    with pytest.raises(ValueError, match=r"holds no configuration\.json"):
        load_policy(tmp_path)
    shutil.copytree(folder, tmp_path / "older")
    changed = (folder / "configuration.json").read_text().replace("batch_size", "batch")
    (tmp_path / "older" / "configuration.json").write_text(changed)
    with pytest.raises(ValueError, match="another version of sobolax"):
        load_policy(tmp_path / "older")

    # A second run into the same folder is refused and changes nothing.
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert train.main([*stubs.TRAINED, "--output", str(folder)]) == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_interrupted_run_keeps_what_was_done(compile_once, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "console_progress", lambda console: stubs.Interrupting(2))
    folder = tmp_path / "run"
    assert train.main([*stubs.TRAINED, "--output", str(folder)]) == 130
    assert len(stubs.read_lines(folder / "metrics.jsonl")) == 2 * 2 * SEEDS
    results = json.loads((folder / "results.json").read_text())
    assert results["interrupted"] is True
    assert results["epochs"] == 2
    assert {"learning_curves.png", "gradient_error.png", "policy"} <= files(folder)
    assert "Interrupted after 2 epochs" in capsys.readouterr().out
    load_policy(folder)


def test_an_interrupt_while_compiling_leaves_a_readable_folder(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    monkeypatch.setattr(train, "compile_program", interrupted)
    folder = tmp_path / "run"
    assert train.main([*stubs.TRAINED, "--output", str(folder)]) == 130
    assert files(folder) == {"configuration.json", "results.json"}
    assert json.loads((folder / "results.json").read_text())["epochs"] == 0
    printed = capsys.readouterr().out
    assert "No epoch was finished: --resume goes on." in printed
    assert "variant" not in printed
    assert "replay.html" not in printed


@pytest.mark.slow
def test_ctrl_c_stops_a_process_in_good_order(tmp_path):
    folder = tmp_path / "run"
    flags = [
        *stubs.small_training(100_000),
        *stubs.WITH_REPORT,
        "--teacher",
        "fitted",
        "--output",
        str(folder),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *flags],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not (folder / run_folder.METRICS).exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "Interrupted after" in out
    results = json.loads((folder / "results.json").read_text())
    assert results["interrupted"] is True
    assert len(stubs.read_lines(folder / "metrics.jsonl")) == results["epochs"] * 2 * SEEDS


def test_members_share_keys_across_variants():
    from experiments.launch.configuration import Variant

    hypers = [sobolax.agents.sac.Hyperparameters(state_weight=w) for w in (0.0, 0.5)]
    keys, stacked = program.keys_and_hypers(
        [Variant("a", hypers[0]), Variant("b", hypers[1])], seeds=3, seed=1
    )
    data = jax.random.key_data(keys).reshape(2, 3, -1)
    assert (data[0] == data[1]).all()
    assert len({tuple(row) for row in data[0].tolist()}) == 3
    np.testing.assert_allclose(stacked.state_weight, [0, 0, 0, 0.5, 0.5, 0.5])
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(stacked))
