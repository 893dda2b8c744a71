"""What an evaluation says of trained policies."""

import errno
import os
from dataclasses import asdict
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluate
from experiments.launch import run_folder
from experiments.report.intervals import estimate
from sobolax.cart import Cart


def test_frozen_runs_are_named_and_left_out_of_means():
    variants = [
        SimpleNamespace(name=name, label=name, weights={"state": 0.0})
        for name in ("plain", "sobolev")
    ]
    found = SimpleNamespace(
        job=SimpleNamespace(
            training=SimpleNamespace(act=lambda policy, seen: policy),
            variants=variants,
            seeds=2,
        ),
        environment=Cart(),
        policies=jnp.array([[0.0], [0.0], [1.0], [0.5]]),
        epochs=3,
        source=SimpleNamespace(name="epoch"),
        frozen=np.array([[False, False], [True, False]]),
    )
    results = evaluate.evaluate_run(found, 4, 0)
    plain, sobolev = (results["variants"][one.name] for one in variants)
    assert (plain["frozen"], sobolev["frozen"]) == ([], [0])
    assert sobolev["return"]["mean"] == pytest.approx(sobolev["per_seed"][1]["mean"])
    assert (sobolev["return"]["count"], sobolev["return"]["total"]) == (1, 2)
    [difference] = results["paired_differences"].values()
    assert difference["count"] == 1
    assert evaluate.table(results, "cart").note.endswith("left out of means: sobolev, seed 0.")


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """Evaluates the run in `tmp_path`, of which nothing is computed; lists what was."""
    variant = {
        "label": "SAC",
        "return": asdict(estimate([1.0, 2.0])),
        "standard_deviation": 0.5,
        "length": 7.0,
        "nonfinite": 0,
        "frozen": [],
    }
    results = {"variants": {"plain": variant}, "interval": "over seeds", "episodes": 3}
    found = SimpleNamespace(
        experiment=SimpleNamespace(env="cart", env_args={}),
        job=SimpleNamespace(variants=["plain"], seeds=2),
        environment=Cart(),
        source="epoch_000003",
        epochs=3,
    )
    made = []

    def evaluate_run(*_):
        made.append(results)
        return results

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    monkeypatch.setattr(evaluate, "load_run", lambda *_: found)
    monkeypatch.setattr(evaluate, "evaluate_run", evaluate_run)
    return made


@pytest.mark.parametrize("flags", [[], ["--output", "RUN/mine.json"]])
def test_a_folder_that_takes_no_file_is_known_before_anything_is_evaluated(
    flags, evaluated, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    flags = [flag.replace("RUN", str(tmp_path)) for flag in flags]
    assert evaluate.main([str(tmp_path), *flags]) == 2
    assert "is not writable; name another file with --output" in capsys.readouterr().err
    assert not evaluated


def test_what_cannot_be_written_is_printed(evaluated, tmp_path, monkeypatch, capsys):
    def full(path, values):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_folder, "write_json", full)
    assert evaluate.main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "cart, 3 episodes, mean and 95 % interval over seeds" in printed.out
    assert "No space left" in printed.err
    assert len(evaluated) == 1


def test_the_next_free_path_replaces_nothing(tmp_path):
    path = tmp_path / "replay.html"
    assert run_folder.free_path(path) == path
    for name in ("replay.html", "replay-2.html"):
        (tmp_path / name).touch()
    assert run_folder.free_path(path).name == "replay-3.html"
