"""One sweep over a Ray cluster: a real one on this machine, whose workers get killed."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from experiments.launch import provenance, run_folder
from experiments.launch.cluster import ray_tasks
from experiments.launch.cluster.ray_sweep import Messages, connected
from experiments.launch.progress import Step
from experiments.launch.sweep import shards
from experiments.launch.sweep.machines import Machines
from experiments.launch.sweep.progress import Overview
from tests.experiments import stubs

ROOT = Path(__file__).parents[4]
SWEEP = [
    *("--env", "lqr", "--num-envs", "4", "--learning-starts", "8", "--batch-size", "8"),
    *("--replay-capacity", "256", "--hidden-sizes", "8", "8", "--gradient-steps", "1"),
    *("--evaluation-episodes", "2", "--report-states", "0", "--seeds", "2"),
    *("--state-weight", "0.1", "1", "--action-weight", "0", "1", "--checkpoint-seconds", "0"),
    *("--total-timesteps", "9600", "--epochs", "60"),
]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
# Two shards at a time, however many cores there are.
LOCAL = ["--ray", "local", "--ray-cpus", str(max((os.cpu_count() or 2) // 2, 1))]


class Driver:
    """The command, whose lines can be waited for."""

    def __init__(self, *arguments):
        self.lines = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "experiments.sweep", *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, pattern):
        """What matches first, among the lines that are to come."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found
        raise AssertionError(f"{pattern} never came:\n{''.join(self.lines)}")

    def finish(self, status=0):
        """All it said, on one line."""
        self.lines += self._process.communicate(timeout=900)[0].splitlines(keepends=True)
        assert self._process.returncode == status, "".join(self.lines)
        return " ".join("".join(self.lines).split())

    def interrupt(self):
        self._process.send_signal(signal.SIGINT)

    def end(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def drive():
    """Starts drivers; none outlives the test."""
    started = []

    def start(*arguments):
        started.append(Driver(*arguments))
        return started[-1]

    yield start
    for driver in started:
        driver.end()


def planned_alike(folder, copy):
    """A new sweep with the same shards, of which nothing is trained."""
    copy.mkdir()
    for name in (run_folder.CONFIGURATION, shards.PLAN):
        shutil.copy(folder / name, copy / name)
    return copy


@pytest.mark.slow
@needs_ray
def test_a_shard_goes_on_where_its_worker_was_killed(tmp_path, drive):
    folder = tmp_path / "cluster"
    driver = drive(*SWEEP, *LOCAL, "--output", folder)
    # Each shard says where it is, in any order.
    killed = int(driver.wait_for(r"shard 1/2: begins at .*, process (\d+)")[1])
    driver.wait_for(r"shard 1/2: epoch 10/")
    os.kill(killed, signal.SIGKILL)
    again = int(driver.wait_for(r"shard 1/2: its worker was lost.*, process (\d+)")[1])
    assert again != killed
    taken = int(driver.wait_for(r"shard 1/2: goes on after epoch (\d+)")[1])
    assert taken >= 7  # one of epoch 9 may still have been in writing
    text = driver.finish()
    assert text.count("worker was lost") == 1
    assert "shard 2/2: epoch 60/60" in text
    assert "(2 of 2 shards are over)" in text
    assert "Best: " in text
    # The same shards, one after the other, in one process and without Ray.
    plain = planned_alike(folder, tmp_path / "plain")
    drive("--resume", plain).finish()
    assert stubs.outcome(folder) == stubs.outcome(plain)
    text = drive("--resume", folder, *LOCAL).finish()
    assert "is complete: nothing is left to do" in text


@pytest.mark.slow
@needs_ray
def test_a_shard_that_fails_for_good_stops_no_other(tmp_path, drive):
    folder = tmp_path / "interrupted"
    driver = drive(*SWEEP, *LOCAL, "--output", folder)
    driver.wait_for(r"shard 2/2: epoch 5/")
    driver.interrupt()
    assert f"Go on with: python -m experiments.sweep --resume {folder}" in driver.finish(130)
    broken = shards.shard_folder(folder, 1) / run_folder.CHECKPOINTS
    manifests = list(broken.glob("*/default/manifest.json"))
    assert manifests
    for manifest in manifests:
        manifest.write_text("{}")
    text = drive("--resume", folder, *LOCAL).finish(1)
    assert "shard 2/2 failed: no checkpoint can be resumed from" in text
    assert "1 of 2 shards failed" in text
    assert "shard 1/2: done" in text
    assert "worker was lost" not in text  # an error is not tried again
    error = shards.shard_folder(folder, 1) / "error.txt"
    assert "CheckpointError" in error.read_text()
    assert not (folder / run_folder.RESULTS).exists()
    shutil.rmtree(broken)
    text = drive("--resume", folder, *LOCAL).finish()
    assert "Best: " in text
    plain = planned_alike(folder, tmp_path / "plain")
    drive("--resume", plain).finish()
    assert stubs.outcome(folder) == stubs.outcome(plain)


# A cluster of two machines that are none, beside one that trains nothing; a line removes one.
CLUSTER = """
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
print("address", cluster.address, flush=True)
input()
cluster.remove_node(workers[0], allow_graceful=False)
print("removed", flush=True)
input()
cluster.shutdown()
"""


@pytest.mark.slow
@needs_ray
def test_shards_of_a_lost_machine_go_on_at_another(tmp_path, drive):
    folder = tmp_path / "cluster"
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
    ) as cluster:
        assert cluster.stdin is not None
        assert cluster.stdout is not None
        lines = iter(cluster.stdout.readline, "")
        address = next(line.split()[1] for line in lines if line.startswith("address"))
        driver = drive(*SWEEP, "--ray", address, "--output", folder)
        driver.wait_for("2 machines of the cluster can train 2 shards at a time")
        driver.wait_for(r"shard 1/2: epoch 5/")
        cluster.stdin.write("\n")
        cluster.stdin.flush()
        assert any(line.startswith("removed") for line in lines)
        text = driver.finish()
        cluster.communicate("\n", timeout=120)
    assert text.count("worker was lost") == 1
    assert re.search(r"goes on after epoch \d+", text)
    assert "(2 of 2 shards are over)" in text
    plain = planned_alike(folder, tmp_path / "plain")
    drive("--resume", plain).finish()
    assert stubs.outcome(folder) == stubs.outcome(plain)


@pytest.mark.slow
@needs_ray
def test_what_the_cluster_has_not_is_said(drive):
    text = drive(*SWEEP, "--ray", "local", "--ray-cpus", "10000").finish(2)
    assert "no machine of the cluster has --ray-cpus 10000 and --ray-gpus 0" in text


@needs_ray
def test_a_cluster_that_is_not_there_is_named(tmp_path, drive):
    address = "localhost:1"
    text = drive(*SWEEP, "--ray", address, "--output", tmp_path / "none").finish(2)
    assert f"no Ray cluster could be reached at {address}" in text
    assert not (tmp_path / "none").exists()


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ValueError, match=r"pip install 'ray>=2.50'"),
        connected(Machines(ray="auto")),
    ):
        pass


def test_what_all_shards_tell_is_one_view():
    console = Console(file=io.StringIO(), width=200)
    overview = Overview(console, shards=3, epochs=10, places=2)
    overview.hear(0, "begins", "a, process 1")
    overview.hear(1, "begins", "b, process 2")
    overview.hear(0, "step", asdict(Step(4, 10, ["480 steps"], 60.0)))
    # Ten seconds an epoch: one minute is left of this shard, and then comes the third.
    assert overview.left == 60 + 100
    overview.hear(0, "begins", "c, process 3")
    overview.hear(1, "warn", "look")
    overview.over(0)
    text = console.file.getvalue()
    assert "shard 1/3: begins at a, process 1" in text
    assert "shard 1/3: epoch 4/10  480 steps  1:00 left, 2:40 for all" in text
    assert "WARNING: shard 1/3: its worker was lost; it goes on at c, process 3" in text
    assert "WARNING: shard 2/3: look" in text
    assert "shard 1/3: done (1 of 3 shards are over)" in text


def test_on_a_terminal_every_shard_that_trains_has_a_row():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    overview = Overview(console, shards=3, epochs=10, places=2)
    overview.hear(0, "begins", "here")
    overview.hear(1, "begins", "there")
    overview.hear(1, "phase", "compiling")
    overview.hear(0, "step", asdict(Step(4, 10, ["480 steps"], 61.0)))
    overview.over(0)
    overview.hear(1, "step", asdict(Step(5, 10, ["600 steps"], 61.0)))
    plain = Console(file=io.StringIO(), width=120)
    plain.print(overview.rendered())
    overview.close()
    rows = plain.file.getvalue().splitlines()
    assert len(rows) == 2
    assert re.search(r"shard 2/3: there .* 5/10 +1:01 +600 steps", rows[0])
    assert re.search(r"all .* 9/30 .* 1 of 3 shards are over", rows[1])


def test_a_machine_says_whether_it_sees_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_tasks, "_SEEN_SECONDS", 0.0)
    here = {"versions": provenance.describe()["versions"]}
    with pytest.raises(ValueError, match="it does not see"):
        ray_tasks.look(tmp_path / "seen", here)
    assert not (tmp_path / "seen").exists()
    (tmp_path / run_folder.CONFIGURATION).touch()
    with pytest.raises(ValueError, match=r"another sobolax .* versions.jax: 0 -> "):
        ray_tasks.look(tmp_path / "seen", {"versions": here["versions"] | {"jax": "0"}})
    assert not (tmp_path / "seen").exists()
    ray_tasks.look(tmp_path / "seen", here)
    assert (tmp_path / "seen").exists()


def test_what_a_shard_says_reaches_the_driver_whatever_a_killed_worker_left(tmp_path):
    messages = Messages(
        [shards.shard_folder(tmp_path, index) / ray_tasks.MESSAGES for index in (0, 1)]
    )
    path = shards.shard_folder(tmp_path, 1) / ray_tasks.MESSAGES
    path.parent.mkdir(parents=True)
    console = Console(file=io.StringIO(), width=200)
    overview = Overview(console, shards=2, epochs=10)
    messages.show(overview)
    path.write_text('\n{"kind": "begins", "value": "a"}\n\n{"kind": "no')
    messages.show(overview)
    with path.open("a") as file:
        file.write('\n{"kind": "note", "value": "goes on"}\n')
    messages.show(overview)
    assert console.file.getvalue().splitlines() == [
        "shard 2/2: begins at a",
        "shard 2/2: goes on",
    ]
