"""`--track`: what trackers are sent, once, and that none of them stops a run."""

import json

import numpy as np
import pytest

from experiments import train
from experiments.launch import command_line, run_folder, trackers
from experiments.launch.configuration import to_json
from experiments.launch.history import History, summary
from experiments.launch.progress import Silent
from experiments.launch.tracking import STATE, Tracking
from experiments.sweep.__main__ import main as sweep
from tests.experiments import stubs, synthetic


class Recorder:
    """A tool that keeps what it is given, whoever opens it again."""

    def __init__(self, place):
        self.id, self.place = f"id of {place.variant}", place
        self.opened.append(place)

    def log(self, metrics, step):
        self.logged.append((self.place.variant, step))

    def figure(self, path, step):
        assert path.read_bytes().startswith(b"\x89PNG")
        self.drawn.append((self.place.variant, path.stem))

    def close(self):
        self.closed.append(self.place.variant)


@pytest.fixture
def recorder(monkeypatch):
    """The only tracker there is, under W&B's name; its module is one that is there."""
    empty = {name: [] for name in ("opened", "logged", "drawn", "closed")}
    recorder = type("Recorder", (Recorder,), empty)
    monkeypatch.setitem(trackers.TRACKERS, "wandb", ("json", recorder))
    return recorder


class Told(Silent):
    def __init__(self):
        self.warnings, self.closed = [], False

    def warn(self, text):
        self.warnings.append(text)

    def close(self):
        self.closed = True


CONFIGURATIONS = {"plain": {"seeds": 4}, "sobolev": {"seeds": 4}}


def track(folder, history, epochs, told, names=("wandb",)):
    """A run whose epochs end one after another."""
    with Tracking(told, names, folder, CONFIGURATIONS) as tracking:
        for epoch in epochs:
            done = History(history.variants, history.seeds)
            done.epochs, done.seconds = history.epochs[: epoch + 1], history.seconds[: epoch + 1]
            tracking.epoch(done, len(history.epochs))


def test_a_summary_is_means_and_spread_of_sound_seeds():
    history = History(synthetic.two_variants(), 3)
    frozen = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    metrics = {
        "environment_steps": np.array([64.0] * 5 + [32.0]),
        "evaluation_return": np.array([1.0, 2.0, 3.0, 1.0, 5.0, 1e9]),
        "value_error": np.array([1.0, np.nan, 3.0, np.inf, np.nan, 2.0]),
        "frozen": np.array(frozen),
        "frozen_at": np.array([-1.0] * 5 + [32.0]),
    }
    history.add(metrics, 2.5)
    plain, step = summary(history, 0, 0)
    assert step == 64
    assert plain["mean/evaluation_return"] == 2.0
    assert plain["std/evaluation_return"] == 1.0
    assert plain["seed/evaluation_return_2"] == 3.0
    assert (plain["mean/value_error"], plain["std/value_error"]) == (2.0, np.sqrt(2.0))
    assert plain["mean/seconds"] == 2.5
    sobolev, step = summary(history, 1, 0)
    assert step == 64
    assert sobolev["mean/evaluation_return"] == 3.0  # without the frozen run
    assert sobolev["mean/frozen"] == 1 / 3
    assert sobolev["mean/frozen_at"] == 32  # of those that were
    assert "mean/frozen_at" not in plain
    assert "mean/value_error" not in sobolev
    assert "seed/evaluation_return_2" not in sobolev


def test_a_resumed_run_sends_what_is_missing_and_nothing_twice(recorder, tmp_path):
    history, told = synthetic.history(epochs=5), Told()
    track(tmp_path, history, range(3), told)
    # Epochs after the last checkpoint are measured again.
    track(tmp_path, history, [1, 2, 3, 4], told)
    assert sorted(recorder.logged) == [
        (variant, 1000 * (epoch + 1)) for variant in ("plain", "sobolev") for epoch in range(5)
    ]
    first, _, again, _ = recorder.opened
    assert (first.continues, first.step, first.group) == (False, 1000, tmp_path.name)
    assert (again.continues, again.id, again.step) == (True, "id of plain", 4000)
    assert first.configuration == CONFIGURATIONS["plain"]
    assert recorder.closed == ["plain", "sobolev"] * 2
    assert not told.warnings
    assert told.closed
    # A tracker that the run did not have before gets all of it.
    (tmp_path / run_folder.TRACKING / STATE).unlink()
    recorder.logged.clear()
    track(tmp_path, history, [4], told)
    assert len(recorder.logged) == 10


@pytest.mark.parametrize("broken", ["__init__", "log", "close"])
def test_a_tracker_that_fails_is_left_out_and_says_so_once(broken, recorder, tmp_path, monkeypatch):
    def offline(*_):
        raise ConnectionError("no route to host")

    works = type("Works", (Recorder,), {n: [] for n in ("opened", "logged", "drawn", "closed")})
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", ("json", works))
    told = Told()
    with monkeypatch.context() as patched:
        patched.setattr(recorder, broken, offline)
        track(tmp_path, synthetic.history(epochs=3), range(3), told, ("wandb", "mlflow"))
    [warning] = told.warnings
    assert "tracking by wandb ends here, the run does not: ConnectionError: no route" in warning
    assert len(works.logged) == 6
    assert works.closed == ["plain", "sobolev"]
    assert told.closed
    # A resumed run tries again.
    recorder.logged.clear()
    track(tmp_path, synthetic.history(epochs=3), range(3), told, ("wandb", "mlflow"))
    assert len(recorder.logged) == (0 if broken == "close" else 6)
    assert len(works.logged) == 6


def test_a_run_is_tracked_and_resumed(recorder, one_commit, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    monkeypatch.setattr(train, "compile_program", stubs.compile_nothing)
    told = Told()
    folder = tmp_path / "run"
    monkeypatch.setattr(train, "console_progress", lambda console: stubs.Interrupting(2))
    assert train.main([*stubs.TINY, "--track", "wandb", "--output", str(folder)]) == 130
    assert [step for _, step in recorder.logged] == [8, 8]
    assert recorder.closed == ["plain", "sobolev"]
    monkeypatch.setattr(train, "console_progress", lambda console: told)
    recorder.drawn.clear()
    assert train.main(["--resume", str(folder)]) == 0  # with the trackers that the run has
    for variant in ("plain", "sobolev"):
        assert [step for name, step in recorder.logged if name == variant] == [8, 16, 24]
        assert (variant, "learning_curves") in recorder.drawn
    assert not told.warnings
    found = {place.variant: place.configuration for place in recorder.opened}
    assert found["plain"]["hyper"]["state_weight"] == 0
    assert found["sobolev"]["hyper"]["state_weight"] > 0
    assert found["sobolev"]["config"]["batch_size"] == 16
    assert found["sobolev"]["variant"] == "sobolev"
    assert "jax" in found["sobolev"]["versions"]
    assert json.loads(json.dumps(found)) == found


def test_what_cannot_be_tracked_is_refused_before_anything_compiles(
    tmp_path, monkeypatch, assert_refused
):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    tiny = ["--env", "pendulum"]
    message = (
        "--track wandb needs wandb, which is not installed: run pip install --editable '.[wandb]' "
        "in the checkout"
    )
    assert_refused(train.main, [*tiny, "--track", "wandb"], message)
    assert_refused(train.main, [*tiny, "--track", "wanb"], "did you mean 'wandb'")
    assert_refused(sweep, [*tiny, "--track", "wandb"], "--track is for experiments.train")
    # A folder of that name is found as a package without files.
    folder = type("Spec", (), {"origin": None})
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: folder)
    assert_refused(train.main, [*tiny, "--track", "wandb"], message)


def test_the_record_of_what_was_sent_is_checked(tmp_path, capsys):
    configuration = json.dumps({"experiment": to_json(command_line.parse(stubs.TINY))})
    (tmp_path / "configuration.json").write_text(configuration)
    (tmp_path / run_folder.TRACKING).mkdir()
    (tmp_path / run_folder.TRACKING / STATE).write_text('{"wandb": {"plain": "x"}}')
    assert train.main(["--resume", str(tmp_path)]) == 2
    assert f"{STATE} is damaged" in capsys.readouterr().err
    (tmp_path / run_folder.TRACKING / STATE).unlink()
    (tmp_path / run_folder.TRACKING).rmdir()
    (tmp_path / run_folder.TRACKING).symlink_to(tmp_path.parent)
    assert train.main(["--resume", str(tmp_path)]) == 2
    assert "tracking has to be a folder, but is a link" in capsys.readouterr().err
