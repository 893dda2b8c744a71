"""The tools behind `--track`: one class each, a `Tracker` of `experiments.launch.tracking`.

What a tool writes lies in the run's `tracking/`, unless the tool's own variables say otherwise
(`WANDB_MODE`, `MLFLOW_TRACKING_URI`, ...); Trackio's projects are in its own folder. Packages are
imported when a run is opened.
"""

import contextlib
import contextvars
import importlib
import importlib.util
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sobolax.checks import check_choice

_PROJECT = "sobolax"


@dataclass(frozen=True)
class Place:
    """What a run of a tool is opened with.

    Attributes:
        folder: Where the tool writes.
        group: What the variants of a run have in common: the name of the run's folder.
        variant: The variant.
        configuration: What was set, as JSON.
        id: Of the run to continue, as the tool gave it; for a new run, text that no other has.
        continues: Whether there is such a run.
        step: The first step that it will get.
    """

    folder: Path
    group: str
    variant: str
    configuration: Mapping[str, Any]
    id: str
    continues: bool
    step: int

    @property
    def name(self) -> str:
        """What the tool calls the run."""
        return f"{self.group}/{self.variant}"


class TensorBoard:
    """Event files, by tensorboardX; the steps that are sent again replace those there."""

    def __init__(self, place: Place):
        tensorboard = importlib.import_module("tensorboardX")
        self.id, step = place.variant, place.step if place.continues else None
        # By default a file is named after the second: a quick resume would overwrite the last one.
        self._writer = tensorboard.SummaryWriter(
            str(place.folder / "tensorboard" / place.variant),
            purge_step=step,
            filename_suffix=f".{place.step}",
        )
        if not place.continues:
            text = json.dumps(place.configuration, indent=2)
            self._writer.add_text("configuration", f"```json\n{text}\n```", place.step)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Writes them."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def figure(self, path: Path, step: int) -> None:
        """Writes it."""
        from matplotlib.image import imread

        self._writer.add_image(path.stem, imread(path)[..., :3], step, dataformats="HWC")

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


class Wandb:
    """Weights & Biases, offline unless `WANDB_MODE` says otherwise."""

    def __init__(self, place: Place):
        self._wandb = importlib.import_module("wandb")
        self.id = place.id
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=place.id,
            name=place.name,
            group=place.group,
            config=dict(place.configuration),
            dir=str(place.folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow",
            reinit="create_new",  # the variants are open at the same time
            settings=self._wandb.Settings(silent=True, console="off"),
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Hands them to W&B's own process, which writes or sends them."""
        self._run.log(dict(metrics), step=step, commit=True)

    def figure(self, path: Path, step: int) -> None:
        """Hands it over as well, one step on: that of the last epoch is written."""
        self._run.log({f"figures/{path.stem}": self._wandb.Image(str(path))})

    def close(self) -> None:
        """Waits until all is written or sent."""
        self._run.finish()


class MLflow:
    """MLflow, in a file of SQLite unless `MLFLOW_TRACKING_URI` names a server."""

    def __init__(self, place: Place):
        mlflow = importlib.import_module("mlflow")
        self._entities, uri, store = mlflow.entities, None, place.folder.resolve()
        if "MLFLOW_TRACKING_URI" in os.environ:
            # A server that is down is tried for minutes by default, while the training waits.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        else:
            uri = f"sqlite:///{store / 'mlflow.db'}"
        self._client = mlflow.MlflowClient(uri)
        if place.continues:
            self.id = place.id
            self._client.update_run(self.id, status="RUNNING")
            return
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        found = self._client.get_experiment_by_name(experiment)
        files = None if uri is None else (store / "mlflow").as_uri()
        number = (
            self._client.create_experiment(experiment, artifact_location=files)
            if found is None
            else found.experiment_id
        )
        tags = {"group": place.group}
        run = self._client.create_run(number, tags=tags, run_name=place.name)
        self.id = run.info.run_id
        params = [
            self._entities.Param(name, str(value)[:6000])
            for name, value in flat(place.configuration)
        ]
        for start in range(0, len(params), 100):  # MLflow takes no more at once
            self._client.log_batch(self.id, params=params[start : start + 100])

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Writes or sends them."""
        now = int(1000 * time.time())
        rows = [self._entities.Metric(name, value, now, step) for name, value in metrics.items()]
        self._client.log_batch(self.id, metrics=rows)

    def figure(self, path: Path, step: int) -> None:
        """Writes or sends it."""
        self._client.log_artifact(self.id, str(path), "figures")

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self.id)


class Trackio:
    """Trackio, on this machine unless `TRACKIO_SPACE_ID` or `TRACKIO_SERVER_URL` says otherwise."""

    def __init__(self, place: Place):
        self._trackio = importlib.import_module("trackio")
        self.id = place.name if not place.continues else place.id
        with _silent():
            # Trackio ends the run that it finds in the context: each has its own.
            self._run = contextvars.Context().run(
                self._trackio.init,
                project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
                name=self.id,
                group=place.group,
                config=dict(place.configuration),
                resume="must" if place.continues else "never",
                embed=False,
            )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Hands them to a thread, which writes them within half a second."""
        self._run.log(dict(metrics), step=step)

    def figure(self, path: Path, step: int) -> None:
        """Hands it over as well."""
        self._run.log({f"figures/{path.stem}": self._trackio.Image(str(path))}, step=step)

    def close(self) -> None:
        """Waits until all is written."""
        with _silent():
            self._run.finish()


#: By the name of the extra: the module, and what opens a run of the tool.
TRACKERS: dict[str, tuple[str, Callable[[Place], Any]]] = {
    "tensorboard": ("tensorboardX", TensorBoard),
    "wandb": ("wandb", Wandb),
    "mlflow": ("mlflow", MLflow),
    "trackio": ("trackio", Trackio),
}


def check(names: Sequence[str]) -> tuple[str, ...]:
    """Names of trackers without repetitions; imports nothing.

    Raises:
        ValueError: If there is no such tracker, or its package is not installed.
    """
    for name in names:
        check_choice("--track ", name, TRACKERS)
        module = TRACKERS[name][0]
        found = importlib.util.find_spec(module)
        # A folder of this name, which W&B leaves where it runs, is found as well, but is no file.
        if found is None or found.origin is None:
            raise ValueError(
                f"--track {name} needs {module}, which is not installed: run pip install "
                f"--editable '.[{name}]' in the checkout"
            )
    return tuple(dict.fromkeys(names))


def flat(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested objects of JSON, by dotted names.

    Example:
        >>> list(flat({"hyper": {"tau": 0.005}, "seeds": 3}))
        [('hyper.tau', 0.005), ('seeds', 3)]
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flat(value, f"{name}.{key}" if name else key)
    else:
        yield name, values


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drops what a tool prints to where a run shows its progress."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
