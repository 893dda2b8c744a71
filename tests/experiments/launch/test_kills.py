"""`kill -9` at random moments, inside a write too: what is resumed ends as if nothing happened."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.launch import checkpoint_files
from experiments.launch.progress import Silent
from experiments.launch.runner import train_runs
from tests.experiments import stubs
from tests.experiments.launch.killed_training import EPOCHS, toy_job

ROOT = Path(__file__).parents[3]
DRIVER = Path(__file__).with_name("killed_training.py")
TIMEOUT = 600  # seconds; for a machine that is busy with other work
LQR = [
    *("--env", "lqr", "--agent", "ddpg", "--seeds", "1"),
    *("--total-timesteps", "3200", "--epochs", "200"),
    *("--num-envs", "4", "--gradient-steps", "1", "--learning-starts", "16"),
    *("--batch-size", "8", "--replay-capacity", "256", "--hidden-sizes", "8", "--n-step", "2"),
    *("--evaluation-episodes", "2", "--report-states", "0", "--tangent-dtype", "bfloat16"),
]


class Life:
    """One process, which ends by itself or by being killed."""

    def __init__(self, folder: Path, cache: Path, *arguments: str):
        self.folder, self.marker = folder, folder.with_name("inside-a-write")
        self.marker.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), str(self.marker), *arguments],
            cwd=folder.parent,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "JAX_COMPILATION_CACHE_DIR": str(cache),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, what) -> bool:
        """Whether it came true before the process ended."""
        deadline = time.monotonic() + TIMEOUT
        while not what():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline
            time.sleep(0.002)
        return True

    def gets_on(self) -> None:
        """Waits until it has written a checkpoint that was not there when it began."""
        before = last_checkpoint(self.folder)
        assert self.wait_for(lambda: last_checkpoint(self.folder) > before)

    def kill(self, after: float) -> bool:
        """Whether it was killed, and had not ended by itself."""
        time.sleep(after)
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode == -signal.SIGKILL

    def end(self) -> str:
        """What it printed, at its own end."""
        out, _ = self.process.communicate(timeout=TIMEOUT)
        assert self.process.returncode == 0, out
        return out


def policy(folder: Path) -> dict[str, bytes]:
    [path] = (folder / "policy").glob("epoch_??????")
    arrays = checkpoint_files.read(path, checkpoint_files.read_manifest(path))
    return {
        name: value.tobytes() for name, value in arrays.items() if not name.endswith("/seconds")
    }


def last_checkpoint(folder: Path) -> int:
    return max((int(path.name[6:]) for path in folder.glob("checkpoints/epoch_??????")), default=0)


def was_inside_a_write(folder: Path) -> bool:
    """Whether the process that was killed left a part of a checkpoint."""
    return any(folder.rglob("epoch_*.orbax-checkpoint-tmp"))


@pytest.mark.slow
def test_a_killed_training_ends_as_if_nothing_happened(tmp_path):
    reference, folder, cache = tmp_path / "reference", tmp_path / "killed", tmp_path / "cache"
    reference.mkdir()
    train_runs(toy_job(), reference, Silent())
    # In the middle, and inside a write.
    life = Life(folder, cache, "toy", str(folder))
    life.gets_on()
    assert life.kill(random.uniform(0.0, 1.0))
    done = last_checkpoint(folder)
    assert 0 < done < EPOCHS
    life = Life(folder, cache, "toy", str(folder))
    life.gets_on()
    assert life.wait_for(life.marker.exists)
    assert life.kill(random.uniform(0.0, 0.05))
    assert was_inside_a_write(folder)
    assert done < last_checkpoint(folder) < EPOCHS
    Life(folder, cache, "toy", str(folder)).end()
    assert stubs.lines(folder) == stubs.lines(reference)
    assert policy(folder) == policy(reference)
    assert not was_inside_a_write(folder)


@pytest.mark.slow
def test_processes_of_one_run_keep_checkpoints_of_their_own(tmp_path):
    reference = tmp_path / "reference"
    reference.mkdir()
    train_runs(toy_job(), reference, Silent())
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    folders = [tmp_path / name / "run" for name in ("first", "second")]
    for folder in folders:
        folder.parent.mkdir()
    # They stop at epochs of their own: none waits for the other.
    lives = [
        Life(folder, tmp_path / "cache", "pair", port, str(index), str(folder), str(3 + 4 * index))
        for index, folder in enumerate(folders)
    ]
    for index, (life, folder) in enumerate(zip(lives, folders, strict=True)):
        assert f"resumed from {2 + 4 * index}, warnings: []" in life.end()
        assert stubs.lines(folder) == stubs.lines(reference)
        assert policy(folder) == policy(reference)


@pytest.mark.slow
def test_twenty_kills_leave_the_same_metrics(tmp_path, capsys):
    reference, folder, cache = tmp_path / "reference", tmp_path / "killed", tmp_path / "cache"
    Life(reference, cache, "train", *LQR, "--output", str(reference)).end()
    moments = ["start", "training", "write", "training", "write"] * 4
    random.shuffle(moments)
    inside, epochs = 0, []
    flags = [*LQR, "--output", str(folder), "--checkpoint-seconds", "0"]
    for moment in moments:
        if (folder / "configuration.json").exists():
            flags = ["--resume", str(folder)]
        life = Life(folder, cache, "train", *flags)
        if moment == "start":  # imports, reading the checkpoint, compiling
            assert life.kill(random.uniform(1.0, 12.0))
        else:
            life.gets_on()
            if moment == "training":
                assert life.kill(random.uniform(0.0, 2.0))
            else:
                assert life.wait_for(life.marker.exists)
                assert life.kill(random.uniform(0.0, 0.1))
                assert was_inside_a_write(folder)
        inside += was_inside_a_write(folder)
        epochs.append(last_checkpoint(folder))
    # Once more when training is done, while results are written.
    life = Life(folder, cache, "train", "--resume", str(folder))
    assert life.wait_for(lambda: any((folder / "policy").glob("epoch_??????")))
    assert life.kill(0.0)
    Life(folder, cache, "train", "--resume", str(folder)).end()
    assert stubs.lines(folder) == stubs.lines(reference)
    assert policy(folder) == policy(reference)
    results = [json.loads((path / "results.json").read_text()) for path in (folder, reference)]
    assert results[0]["variants"] == results[1]["variants"]
    names = [{path.name for path in one.iterdir()} for one in (folder, reference)]
    assert names[0] == names[1]
    out = Life(folder, cache, "train", "--resume", str(folder)).end()
    assert "is complete, with 200 epochs" in out
    with capsys.disabled():
        print(f"\n{len(moments) + 1} kills ({moments}, end), {inside} left a part of a checkpoint")
        print(f"last checkpoint after each: {epochs}")
    assert inside >= moments.count("write")
