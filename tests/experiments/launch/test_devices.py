"""`--devices`: what devices share, what is refused, and resuming on as many or on others."""

import jax
import pytest

from experiments import train
from experiments.launch import devices
from tests.experiments.stubs import TINY
from tests.forced_devices import run_on_eight_devices


@pytest.fixture
def eight(monkeypatch):
    """One device that is counted eight times: enough where nothing is computed."""
    present = [jax.devices()[0]] * 8
    monkeypatch.setattr(jax, "local_devices", lambda: present)
    monkeypatch.setattr(jax, "local_device_count", lambda: 8)


def test_several_runs_stay_whole_and_a_single_one_is_split(eight):
    found = {
        (asked, runs): devices.lay_out(asked, runs)
        for asked, runs in [(8, 1), ("all", 1), (1, 1), (8, 8), (3, 6), ("all", 6), ("all", 20)]
    }
    split = {case: layout.mesh is not None for case, layout in found.items()}
    assert split == dict.fromkeys(found, False) | {(8, 1): True, ("all", 1): True}
    assert [layout.devices for layout in found.values()] == [8, 8, 1, 8, 3, 6, 8]
    assert found[8, 1].mesh.shape == {"data": 8}


ALONE = "--devices 8 --no-compare --seeds 1"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("--devices 0", "--devices 0 must be from 1 to 8"),
        ("--devices 9", "XLA_FLAGS=--xla_force_host_platform_device_count=N splits"),
        ("--devices 5", "--devices 5 is more than the 4 runs, variants times seeds"),
        (ALONE, "num_envs=4 must be a multiple of the number of devices=8: the nearest are 8"),
        (
            f"{ALONE} --num-envs 8 --batch-size 20",
            "batch_size=20 must be a multiple of the number of devices=8: the nearest are 16 or 24",
        ),
    ],
)
def test_what_cannot_be_shared_is_an_error_before_anything_is_written(
    flags, text, eight, tmp_path, capsys
):
    given = dict(zip(TINY[::2], TINY[1::2], strict=True))
    own = [word for word in flags.split() if word.startswith("--")]
    rest = [word for name, value in given.items() if name not in own for word in (name, value)]
    assert train.main([*rest, *flags.split(), "--output", str(tmp_path / "never")]) == 2
    assert text in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "never").exists()


SCRIPT = """
import json, shutil, sys
from pathlib import Path
import jax, numpy as np
from experiments import train
from experiments.launch import provenance
from experiments.launch.policy import load_policy
from experiments.launch.progress import Silent

provenance._commit = lambda: None
folder = Path(sys.argv[1])
TINY = [
    *"--env point_mass --env-args dimension=2 --seeds 1 --no-compare".split(),
    *"--total-timesteps 512 --epochs 4 --num-envs 8 --gradient-steps 1".split(),
    *"--learning-starts 32 --batch-size 16 --replay-capacity 256 --hidden-sizes 8".split(),
    *"--evaluation-episodes 8 --report-states 0 --checkpoint-seconds 0".split(),
]
compile_program, compiled = train.compile_program, {}

def once(training, keys, hypers, devices):
    count = training.mesh and training.mesh.size
    if count not in compiled:
        compiled[count] = compile_program(training, keys, hypers, devices)
    return compiled[count]

train.compile_program = once

class Interrupting(Silent):
    def epoch(self, history, epochs):
        if len(history.epochs) == after:
            raise KeyboardInterrupt

train.console_progress = lambda console: Interrupting()

def run(name, *flags, until=None, status=0):
    global after
    after = until
    assert train.main([*flags]) == status
    lines = map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines())
    lines = [{key: value for key, value in row.items() if key != "seconds"} for row in lines]
    results = json.loads((folder / name / "results.json").read_text())
    arrays = until or jax.tree.leaves(load_policy(folder / name).parameters)
    return lines, results["warnings"], arrays

whole, warnings, policy = run("whole", *TINY, "--devices", "8", "--output", str(folder / "whole"))
assert not warnings and len(whole) == 4
begun = str(folder / "begun")
run("begun", *TINY, "--devices", "all", "--output", begun, until=2, status=130)
assert json.loads((folder / "begun" / "configuration.json").read_text())["devices"] == 8
shutil.copytree(begun, folder / "other")

same, warnings, its = run("begun", "--resume", begun)
assert same == whole and not warnings, warnings
assert len(policy) == len(its) and all(map(np.array_equal, policy, its))

other, warnings, its = run("other", "--resume", str(folder / "other"), "--devices", "1")
assert any("begun with --devices 8" in text and "--devices 1" in text for text in warnings)
assert set(compiled) == {8, None}
for row, one in zip(whole, other, strict=True):
    for name, value in row.items():
        if isinstance(value, float):
            # Single precision, and an epoch or two of updates on rounding's differences.
            np.testing.assert_allclose(one[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
memory = [compiled[count].memory.state for count in (8, None)]
assert memory[0] < memory[1]
print("equal")
"""


@pytest.mark.slow
def test_a_run_over_eight_devices_resumes_on_eight_bit_for_bit_and_on_one(tmp_path):
    run_on_eight_devices(SCRIPT, str(tmp_path))
