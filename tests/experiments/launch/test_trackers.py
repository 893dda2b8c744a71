"""The real tools, offline: what they hold after a run that was stopped and resumed."""

import importlib.util
import json
import struct

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments.launch import run_folder, trackers
from experiments.launch.tracking import Tracking
from tests.experiments import synthetic
from tests.experiments.launch.test_tracking import Told, track

NAMES = tuple(trackers.TRACKERS)
CONFIGURATION = {"seeds": 4, "hyper": {"state_weight": 0.5}, "env": "pendulum"}
# Other people's threads and files, which they close at the end of the process.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(params=NAMES)
def tool(request, tmp_path, monkeypatch):
    module = trackers.TRACKERS[request.param][0]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"the extra {request.param!r} is not installed: make test-trackers")
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    monkeypatch.chdir(tmp_path)
    return request.param


def test_a_stopped_and_resumed_run_is_one_run_there(tool, tmp_path):
    folder, told, history = tmp_path / "run", Told(), synthetic.history(epochs=5)
    folder.mkdir()
    track(folder, history, range(3), told, (tool,))
    track(folder, history, [1, 2], told, (tool,))  # stopped again before anything new
    picture = folder / "learning_curves.png"
    figure = plt.figure(figsize=(1, 1))
    figure.savefig(picture)
    plt.close(figure)
    configurations = {name: CONFIGURATION | {"variant": name} for name in ("plain", "sobolev")}
    with Tracking(told, (tool,), folder, configurations) as tracking:
        tracking.epoch(history, 5)
        tracking.figures([picture])
    assert not told.warnings
    read = READERS[tool]
    for index, variant in enumerate(("plain", "sobolev")):
        points, settings, pictures = read(folder, variant)
        assert [step for step, _ in points] == [1000, 2000, 3000, 4000, 5000]
        wanted = [epoch["evaluation_return"][index].mean() for epoch in history.epochs]
        np.testing.assert_allclose([value for _, value in points], wanted, rtol=1e-6)
        assert settings  # of the first opening
        assert pictures


def test_a_tool_that_is_not_reachable_stops_nothing(tmp_path, monkeypatch):
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("the extra 'mlflow' is not installed: make test-trackers")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = Told()
    track(tmp_path, synthetic.history(epochs=3), range(3), told, ("mlflow", "tensorboard"))
    [warning] = told.warnings
    assert warning.startswith("tracking by mlflow ends here, the run does not")
    assert len(_tensorboard(tmp_path, "plain")[0]) == 3


def _tensorboard(folder, variant):
    from tensorboardX.proto.event_pb2 import Event

    points, settings, pictures = [], False, False
    where = folder / run_folder.TRACKING / "tensorboard" / variant
    for path in sorted(where.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += length + 16
            for value in event.summary.value:
                if value.tag == "mean/evaluation_return":
                    points.append((event.step, value.simple_value))
                settings |= value.tag.startswith("configuration")
                pictures |= value.HasField("image")
    return points, settings, pictures


def _wandb(folder, variant):
    from wandb.proto.wandb_internal_pb2 import Record

    points, settings, pictures, ids = [], False, False, set()
    files = (folder / run_folder.TRACKING / "wandb").glob("offline-run-*/*.wandb")
    for path in sorted(files, key=lambda path: path.stat().st_mtime_ns):
        records = [Record.FromString(text) for text in _log_records(path.read_bytes())]
        [run] = {record.run.run_id: record.run for record in records if record.run.run_id}.values()
        if run.display_name != f"run/{variant}":
            continue
        ids.add(run.run_id)
        settings |= any(item.key == "hyper" or item.key == "seeds" for item in run.config.update)
        for record in records:
            row = {
                item.key or "/".join(item.nested_key): item.value_json
                for item in record.history.item
            }
            if "mean/evaluation_return" in row:
                points.append((int(row["_step"]), json.loads(row["mean/evaluation_return"])))
            pictures |= any(name.startswith("figures/learning_curves") for name in row)
    assert len(ids) == 1
    return points, settings, pictures


def _log_records(data):
    """The records of LevelDB's log format: blocks of 32 KiB, records in pieces."""
    place, whole = 7, b""  # after W&B's own header
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # full, last
            yield whole
            whole = b""


def _mlflow(folder, variant):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{(folder / run_folder.TRACKING).resolve() / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("sobolax")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    [run] = [run for run in runs if run.info.run_name == f"run/{variant}"]
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "mean/evaluation_return")
    points = [(metric.step, metric.value) for metric in history]
    pictures = [entry.path for entry in client.list_artifacts(run.info.run_id, "figures")]
    return points, run.data.params, pictures


def _trackio(folder, variant):
    from trackio.sqlite_storage import SQLiteStorage

    assert SQLiteStorage.get_runs("sobolax") == ["run/plain", "run/sobolev"]
    logs = SQLiteStorage.get_logs("sobolax", f"run/{variant}")
    points = [
        (row["step"], row["mean/evaluation_return"])
        for row in logs
        if "mean/evaluation_return" in row
    ]
    pictures = [row for row in logs if "figures/learning_curves" in row]
    return points, SQLiteStorage.get_run_config("sobolax", f"run/{variant}"), pictures


READERS = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
