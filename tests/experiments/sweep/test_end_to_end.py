"""A tiny sweep trained whole, in shards, after an interrupt and over several devices."""

import json
import re
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.launch import run_folder
from experiments.launch.sweep import progress, shards
from experiments.launch.sweep.policies import load_sweep_policy
from experiments.launch.sweep.progress import Relay
from experiments.report.results import RETURN
from experiments.sweep.__main__ import main
from tests.experiments import stubs
from tests.forced_devices import run_on_eight_devices

ROOT = Path(__file__).parents[3]
SEEDS, EPOCHS = 2, 3
TINY = [
    # Compiles fast: one network, no gradients.
    *("--env", "pendulum", "--agent", "q_learning", "--first-order", "off"),
    *("--seeds", str(SEEDS), "--total-timesteps", "192", "--epochs", str(EPOCHS)),
    *("--num-envs", "4", "--gradient-steps", "1", "--learning-starts", "16"),
    *("--batch-size", "8", "--replay-capacity", "64", "--hidden-sizes", "8"),
    *("--evaluation-episodes", "2", "--report-states", "0"),
]
# The last one diverges: it freezes, and the others are unaffected.
CONFIGS = ["--critic-learning-rate", "1e-3", "3e-3", "1e30"]
RUNS = 3 * SEEDS


@pytest.fixture(scope="module")
def compiled():
    """Programs by width: each is compiled once for the whole file."""
    return {}


@pytest.fixture(autouse=True)
def compile_once(compiled, tmp_path, monkeypatch):
    # The cache of compiled programs is the process's: leave its place alone.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    original = shards.compile_program

    def compile_program(training, keys, hypers, devices):
        if len(keys) not in compiled:
            compiled[len(keys)] = original(training, keys, hypers, devices)
        return compiled[len(keys)]

    monkeypatch.setattr(shards, "compile_program", compile_program)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("sweep") / "whole"


@pytest.fixture
def whole_sweep(whole, compile_once, capsys):
    if not whole.exists():
        assert main([*TINY, *CONFIGS, "--output", str(whole)]) == 0
        (whole / "printed.txt").write_text(capsys.readouterr().out)
    return whole


@pytest.fixture
def too_little(whole_sweep):
    """`--memory` for four runs, so that six need two shards of three."""
    need = results(whole_sweep)["plan"]["need"]
    return str((need["device"] + need["host"]) * 4 // RUNS + 1)


@pytest.fixture
def split_sweep(whole, too_little, capsys):
    folder = whole.with_name("split")
    if not folder.exists():
        assert main([*TINY, *CONFIGS, "--memory", too_little, "--output", str(folder)]) == 0
        (folder / "printed.txt").write_text(capsys.readouterr().out)
    return folder


def results(folder):
    return json.loads((folder / run_folder.RESULTS).read_text())


def test_a_sweep_leaves_everything_and_flags_the_frozen(whole_sweep):
    found = results(whole_sweep)
    assert found["order"][-1] == "critic_learning_rate=1e+30"
    frozen = {name: variant["frozen_at"] for name, variant in found["variants"].items()}
    assert frozen["critic_learning_rate=0.001"] == [None] * SEEDS
    assert all(0 < step <= 192 for step in frozen["critic_learning_rate=1e+30"])
    assert found["variants"]["critic_learning_rate=1e+30"]["metrics"][RETURN]["mean"] is None
    assert found["plan"]["width"] == RUNS
    rows = stubs.lines(whole_sweep)
    assert len(rows) == EPOCHS * RUNS
    assert all(value is not None for row in rows for value in row.values())
    assert rows[1]["variant"] == "critic_learning_rate=0.001"
    assert rows[1]["seed"] == 1
    names = {path.name for path in whole_sweep.iterdir()}
    assert {"configuration.json", "plan.json", "table.md", "tables", "line.png", "shards"} <= names
    printed = (whole_sweep / "printed.txt").read_text()
    for part in ("All 6 runs are one program", "may be taken", "a checkpoint takes", "epoch 3/3"):
        assert part in printed
    assert "2 runs frozen" in printed
    assert main(["--resume", str(whole_sweep)]) == 0  # and nothing is done


def assert_close(found, expected):
    """The same rows, to rounding: programs of other widths may sum in another order."""
    for row, other in zip(found, expected, strict=True):
        numbers = {name: value for name, value in other.items() if name not in ("variant", "seed")}
        assert (row["variant"], row["seed"]) == (other["variant"], other["seed"])
        assert {name: row[name] for name in numbers} == pytest.approx(numbers, rel=1e-3, abs=1e-4)


def test_a_split_sweep_finds_the_same(whole_sweep, split_sweep):
    printed = (split_sweep / "printed.txt").read_text()
    assert "6 runs are 2 shards of up to 3" in printed
    assert f"shard 2/2: epoch {EPOCHS}/{EPOCHS}" in printed
    assert results(split_sweep)["plan"]["shards"] == [[0, 3], [3, 6]]
    assert_close(stubs.lines(split_sweep), stubs.lines(whole_sweep))


class Interrupting(Relay):
    """Ctrl-C when the second shard has done two epochs, and has a checkpoint of the first."""

    def epoch(self, history, epochs):
        super().epoch(history, epochs)
        if self._send.args == (1,) and len(history.epochs) == 2:
            raise KeyboardInterrupt


def test_a_policy_is_read_back_from_the_shard_it_lies_in(whole_sweep, split_sweep):
    for config, seed in (("critic_learning_rate=0.003", 1), (None, 0)):
        one, other = (
            load_sweep_policy(folder, config, seed) for folder in (whole_sweep, split_sweep)
        )
        # To rounding: a program of three runs may sum in another order than one of six.
        close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
        jax.tree.map(close, one.parameters, other.parameters)
    start = one.environment.reset(jax.random.key(0))
    assert one(start.observation).shape == (1,)
    with pytest.raises(ValueError, match=r"no configuration 'best' .* critic_learning_rate=0\.001"):
        load_sweep_policy(split_sweep, "best")


@pytest.mark.slow
def test_a_sweep_goes_on_within_a_shard(split_sweep, too_little, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "resumed"
    flags = [*TINY, *CONFIGS, "--memory", too_little, "--checkpoint-seconds", "0"]
    with monkeypatch.context() as patch:
        patch.setattr(progress, "Relay", Interrupting)
        assert main([*flags, "--output", str(folder)]) == 130
    assert "--resume" in capsys.readouterr().out
    assert not (folder / run_folder.RESULTS).exists()
    assert main(["--resume", str(folder)]) == 0
    printed = capsys.readouterr().out
    # Nothing of the first shard, nor of the second one's first epoch, is computed again.
    assert re.findall(r"^(shard \d/\d: epoch \d)/\d  ", printed, re.MULTILINE) == [
        "shard 2/2: epoch 2",
        "shard 2/2: epoch 3",
    ]
    assert "goes on after epoch 1" in printed
    assert stubs.lines(folder) == stubs.lines(split_sweep)
    assert results(folder)["order"] == results(split_sweep)["order"]


@pytest.mark.slow
def test_parts_share_a_folder_and_the_last_one_merges(whole_sweep, tmp_path, capsys):
    folder = tmp_path / "parts"
    command = [*TINY, *CONFIGS, "--output", str(folder)]
    assert main([*command, "--part", "2/3"]) == 0
    assert "not complete yet: " in capsys.readouterr().out
    assert main(command) == 2  # which would merge it
    assert "part-0001-of-0003/shards/000 (runs 1 to 2); " in capsys.readouterr().err
    # What is there has the second configuration with all of its seeds.
    assert main(["--merge", str(folder)]) == 1
    assert "left out: " in capsys.readouterr().out
    assert results(folder)["order"] == ["critic_learning_rate=0.003"]
    assert main([*command, "--part", "1/3"]) == 0
    assert main([*command, "--part", "3/3", "--seed", "3"]) == 2
    assert "experiment.seed: 0 -> 3" in capsys.readouterr().err
    assert main([*command, "--part", "2/2"]) == 2
    assert "run as many parts" in capsys.readouterr().err
    assert main(["--resume", str(folder), "--part", "3/3"]) == 0
    assert "Best: " in capsys.readouterr().out
    for again in ([*command, "--part", "3/3"], command, ["--resume", str(folder)]):
        assert main(again) == 0
        assert "is complete: nothing is left to do" in capsys.readouterr().out
    assert_close(stubs.lines(folder), stubs.lines(whole_sweep))
    assert len(results(folder)["plan"]["parts"]) == 3
    assert not results(folder)["missing"]
    policy = load_sweep_policy(folder, "critic_learning_rate=0.003", seed=1)
    assert policy.parameters is not None


def test_too_little_memory_for_one_is_an_error_before_anything_is_written(tmp_path, capsys):
    folder = tmp_path / "never"
    assert main([*TINY, *CONFIGS, "--memory", "1kB", "--output", str(folder)]) == 2
    assert "the state of a run alone takes" in capsys.readouterr().err
    assert not folder.exists()


DEVICES = """
import sys
import jax
from experiments.launch.sweep import shards
from experiments.sweep.__main__ import main

compile_program = shards.compile_program

def compile_and_look(training, keys, hypers, devices):
    program = compile_program(training, keys, hypers, devices)
    state = program.initialise(keys, hypers)
    for leaf in jax.tree.leaves(state):
        assert leaf.sharding.device_set == set(jax.devices())
    # What was brought to the host goes on where it was.
    placed, first = (jax.tree.leaves(tree)[0] for tree in (program.place(state.agent), state.agent))
    assert placed.sharding.is_equivalent_to(first.sharding, 2)
    return program

shards.compile_program = compile_and_look
assert main(sys.argv[1:]) == 0
print("equal")
"""


@pytest.mark.slow
def test_a_sweep_over_eight_devices(whole_sweep, tmp_path):
    folder = tmp_path / "devices"
    flags = [*TINY, *CONFIGS, "--devices", "8", "--output", str(folder)]
    run_on_eight_devices(DEVICES, *flags)
    assert results(folder)["plan"]["width"] == 8
    assert results(folder)["plan"]["need"]["devices"] == 8
    one, eight = stubs.lines(whole_sweep), stubs.lines(folder)
    assert len(one) == len(eight)
    for row, other in zip(one, eight, strict=True):
        assert (row["variant"], row["seed"], row["frozen_at"]) == (
            other["variant"],
            other["seed"],
            other["frozen_at"],
        )
        assert other["value_loss"] == pytest.approx(row["value_loss"], rel=1e-3, abs=1e-4)
