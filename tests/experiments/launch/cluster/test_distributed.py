"""One sweep over several processes: real ones on this machine, with four devices each."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.launch import memory, run_folder
from experiments.launch.sweep import flags as command_line
from experiments.launch.sweep.machines import Machines
from experiments.launch.sweep.policies import load_sweep_policy
from tests.experiments import stubs

ROOT = Path(__file__).parents[4]
SWEEP = [
    *("--env", "lqr", "--num-envs", "4", "--learning-starts", "8", "--batch-size", "8"),
    *("--replay-capacity", "256", "--hidden-sizes", "8", "8", "--gradient-steps", "1"),
    *("--evaluation-episodes", "2", "--report-states", "0", "--seeds", "2"),
    *("--state-weight", "0.1", "1", "--action-weight", "0", "1", "--checkpoint-seconds", "0"),
]
SHORT = [*SWEEP, "--total-timesteps", "640", "--epochs", "8"]
# Time enough to be killed in.
LONG = [*SWEEP, "--total-timesteps", "9600", "--epochs", "60"]


def start(arguments, devices=4, **variables):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONUNBUFFERED": "1"} | variables
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.sweep", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, status=0):
    text = process.communicate(timeout=900)[0]
    assert process.returncode == status, text
    return " ".join(text.split())


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def pair(*arguments, each=((), ())):
    """Two processes of one sweep."""
    found = ["--distributed", "--coordinator", f"localhost:{free_port()}", "--processes", "2"]
    return [start([*arguments, *found, "--process", index, *own]) for index, own in enumerate(each)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The sweep in one process: the same devices, with the same runs on each."""

    def run(arguments, name):
        folder = tmp_path_factory.mktemp("alone") / name
        finish(start([*arguments, "--devices", 8, "--output", folder], devices=8))
        return folder

    return run


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path, alone):
    # Here they find each other by Slurm's variables.
    slurm = {
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
    }
    processes = [
        start(
            [*SHORT, "--distributed", "--output", tmp_path / "pair"],
            **slurm,
            SLURM_PROCID=str(index),
            SLURM_LOCALID=str(index),
        )
        for index in range(2)
    ]
    first, second = map(finish, processes)
    assert "2 processes on 1 machine share the sweep; this one has its runs 1 to 4." in first
    assert "process 1: 2 processes on 1 machine share the sweep" in second
    assert "Best: " in first
    assert "Best: " not in second
    found, expected = tmp_path / "pair", alone(SHORT, "short")
    assert stubs.outcome(found) == stubs.outcome(expected)
    folders = sorted(path for path in found.iterdir() if path.is_dir())
    assert [path.name for path in folders] == ["part-0001-of-0002", "part-0002-of-0002", "tables"]
    for process in pair("--resume", found):
        assert "is complete: nothing is left to do" in finish(process)
    # Policies lie where they were trained.
    for config in json.loads((found / run_folder.RESULTS).read_text())["order"]:
        one, other = (load_sweep_policy(folder, config, seed=1) for folder in (found, expected))
        jax.tree.map(np.testing.assert_array_equal, one.parameters, other.parameters)
    shutil.rmtree(folders[1])
    with pytest.raises(ValueError, match="is not here, it is where that part was trained"):
        load_sweep_policy(found, "state_weight=1 action_weight=1")


@pytest.mark.slow
def test_killed_processes_go_on_from_their_own_checkpoints(tmp_path, alone):
    folder = tmp_path / "killed"
    processes = pair(*LONG, "--output", folder)
    # One after the other, so that they have come to different epochs. Without process 0, which
    # all others report to, no other goes on.
    for index, least in ((1, 5), (0, 15)):
        own = folder / f"part-{index + 1:04d}-of-0002" / "shards" / "000"
        wait_until(lambda own=own, least=least: epochs(own) >= least, processes[: index + 1])
        processes[index].send_signal(signal.SIGKILL)
        processes[index].communicate()
    assert not (folder / run_folder.RESULTS).exists()
    assert "add --distributed" in finish(start(["--resume", folder]), 2)
    first, second = map(finish, pair("--resume", folder))
    taken = [int(re.search(r"goes on after epoch (\d+)", text)[1]) for text in (first, second)]
    assert taken[0] >= 12  # the one of 14 may still have been in writing
    assert 2 <= taken[1] < taken[0]
    assert stubs.outcome(folder) == stubs.outcome(alone(LONG, "long"))


def wait_until(happens, processes):
    for _ in range(6000):
        if happens():
            return
        assert all(process.poll() is None for process in processes), "one of them ended early"
        time.sleep(0.05)
    raise AssertionError("nothing happened")


def epochs(folder):
    path = folder / run_folder.METRICS
    return len({row["epoch"] for row in stubs.read_lines(path)}) if path.exists() else 0


@pytest.mark.slow
def test_different_arguments_are_refused_everywhere(tmp_path):
    output = ("--output", str(tmp_path / "refused"))
    own = (output, (*output, "--tau", "0.01"))
    for process in pair(*SHORT, each=own):
        text = finish(process, 2)
        assert "process 1 was started otherwise than process 0" in text
        assert "sweep.experiment.hyper.tau: 0.005 -> 0.01" in text
    assert not (tmp_path / "refused").exists()


@pytest.mark.slow
def test_what_is_wrong_on_one_is_told_on_all(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    own = (("--output", str(tmp_path / "new")), ("--output", str(tmp_path / "full")))
    for process in pair(*SHORT, each=own):
        assert "process 1: --output" in finish(process, 2)


@pytest.mark.slow
def test_an_unreachable_coordinator_is_named_in_time():
    where = f"localhost:{free_port()}"
    flags = ["--distributed", "--coordinator", where, "--processes", 2, "--join-seconds", 2]
    text = finish(start([*SHORT, *flags, "--process", 1]), 2)
    assert f"process 1 reached no coordinator at {where} within 2 s" in text
    text = finish(start([*SHORT, *flags, "--process", 0]), 2)
    assert "not all of the other 1 processes came within 2 s" in text


def test_without_a_cluster_the_processes_have_to_be_named():
    hidden = {name: "" for name in os.environ if name.startswith(("SLURM_", "OMPI_"))}
    text = finish(start([*SHORT, "--distributed"], **hidden), 2)
    assert "say --coordinator HOST:PORT --processes N --process I" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--distributed --coordinator a:1 --processes 2 --process 2", "must be from 0 to 1"),
        ("--distributed --coordinator a:1 --processes 2 --process -1", "must be from 0 to 1"),
        ("--distributed --coordinator a:1 --processes 1 --process 0", "must be at least 2"),
        ("--distributed --coordinator a --processes 2 --process 0", "must be HOST:PORT"),
        ("--distributed --coordinator a:1", "without --processes and --process"),
        ("--coordinator a:1 --processes 2 --process 0", "need --distributed"),
        ("--distributed --join-seconds 0", "must be at least 1"),
        ("--distributed --ray auto", "different ways to do the same"),
        ("--ray-gpus 2", "need --ray"),
        ("--ray ray://a:1", "must be auto, local, or HOST:PORT"),
        ("--ray auto --devices 2", "a task has --ray-gpus devices"),
        ("--ray auto --ray-cpus 0", "must be at least 1"),
        ("--ray auto --ray-gpus -1", "must be at least 0"),
        ("--ray auto --ray-retries -1", "must be at least 0"),
        ("--part 0/8 --output a", "must be I/N with I from 1 to N"),
        ("--part 9/8 --output a", "must be I/N with I from 1 to N"),
        ("--part 2 --output a", "must be I/N with I from 1 to N"),
        ("--part 1/8", "--part needs --output FOLDER"),
        ("--part 1/8 --output a --ray auto", "different ways to do the same"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_read(flags, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        command_line.read([*SHORT, *flags.split()])


def test_a_sweep_that_is_taken_up_may_run_elsewhere(tmp_path):
    command = command_line.read(["--resume", str(tmp_path), "--ray", "auto", "--ray-cpus", "4"])
    assert command.machines == Machines(ray="auto", ray_cpus=4)
    with pytest.raises(ValueError, match="leave out --seeds"):
        command_line.read(["--resume", str(tmp_path), "--ray", "auto", "--seeds", "4"])


def test_processes_on_one_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 70)
    monkeypatch.setattr(memory, "largest_held", lambda: 10)
    assert memory.find_budget(1).host == int(0.85 * 70)
    # 80 for two, of which each holds 10 already.
    assert memory.find_budget(1, sharers=2).host == int(0.85 * 30)
    assert memory.find_budget(1, sharers=2, limit=25).host == int(0.85 * 15)
    assert memory.find_budget(1, sharers=20).host == 0
