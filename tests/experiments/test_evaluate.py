"""What an evaluation says of trained policies."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluate
from experiments.launch import policy, run_folder
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


def test_what_was_frozen_is_read_from_lines_whose_last_may_be_torn(tmp_path):
    job = SimpleNamespace(variants=[SimpleNamespace(name=name) for name in ("a", "b")], seeds=2)
    lines = [
        {"epoch": epoch, "variant": variant, "seed": seed, "frozen": float(variant == "b") * seed}
        for epoch in (0, 1)
        for variant in ("a", "b")
        for seed in (0, 1)
    ]
    run_folder.append_lines(tmp_path / run_folder.METRICS, lines)
    with (tmp_path / run_folder.METRICS).open("a") as file:
        file.write('{"epoch": 2, "vari')
    assert policy.read_frozen(job, tmp_path, 2).tolist() == [[False, False], [False, True]]
    assert not policy.read_frozen(job, tmp_path / "nowhere", 2).any()


def test_the_next_free_path_replaces_nothing(tmp_path):
    path = tmp_path / "replay.html"
    assert run_folder.free_path(path) == path
    for name in ("replay.html", "replay-2.html"):
        (tmp_path / name).touch()
    assert run_folder.free_path(path).name == "replay-3.html"
