"""Checkpoints of a training: when to take them, how many to keep, what to do with bad ones."""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.launch import provenance, run_folder
from experiments.launch.checkpoint_files import (
    Checkpoint,
    CheckpointError,
    Shapes,
    Writer,
    leftovers,
    newest,
    prepare_to_write,
    present,
    remove,
    step_path,
)
from experiments.launch.configuration import CheckpointRule

# The automatic rule gives checkpoints one part in so many of a run's time.
SHARE = 50
# The first one may cost more than that of the time until then: until it is there, a killed run
# begins anew.
FIRST_SHARE = 10
# The assumed cost of the first one; a slow disk.
_SECONDS, _BYTES_PER_SECOND = 0.1, 1e8


class Checkpoints:
    """The checkpoints of one training, in the folder `checkpoints` of its own.

    They are written in the background, one at a time, while the training goes on. `news` returns
    the problems. `fingerprint` identifies this training, and without a `rule` it takes none.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any], rule: CheckpointRule | None):
        self.folder = folder / run_folder.CHECKPOINTS
        self.saved = self.failed = 0
        self.blocking_seconds = self.background_seconds = 0.0
        self._rule = rule
        self._about: dict[str, Any] = {"fingerprint": run_folder.plain(fingerprint)}
        self._writer = Writer(self.folder, rule.keep if rule else 1, self._completed)
        self._writing: int | None = None  # epochs of the checkpoint being written
        self._began, self._blocked, self._ended = -math.inf, 0.0, 0.0
        self._opened = time.perf_counter()
        self._resumed = False
        self._cost = _SECONDS
        self._news: list[str] = []

    def due(self) -> bool:
        """Whether the rule calls for a checkpoint now."""
        if self._rule is None:
            return False
        if self._writer.busy:
            return self._rule.seconds == 0
        self.wait()
        now, first = time.perf_counter(), not self.saved + self.failed
        if self._rule.seconds is not None:
            return now - self._began >= self._rule.seconds
        if first and self._resumed:
            return True
        spent = self.blocking_seconds + self.background_seconds
        share = FIRST_SHARE if first else SHARE
        return now - self._opened >= share * (spent + self._cost)

    def save(
        self,
        epochs: int,
        take: Callable[[], dict[str, np.ndarray]],
        warnings: Sequence[str] = (),
    ) -> None:
        """Starts to write what `take` copies, once the previous checkpoint is written."""
        about = self._manifest(warnings)
        self._began = time.perf_counter()
        self.wait()
        try:
            self._writer.start(epochs, take(), about)
            self._writing = epochs
        except Exception as error:  # training goes on after any failure
            self._fail(epochs, error)
        self._blocked = time.perf_counter() - self._began
        self.blocking_seconds += self._blocked

    def wait(self) -> None:
        """Waits for pending writes; Ctrl-C interrupts the wait."""
        while self._writer.busy:
            time.sleep(0.01)
        if self._writing is None:
            return
        epochs, self._writing = self._writing, None
        try:
            self._writer.finish()
            self.saved += 1
        except Exception as error:
            self._ended = time.perf_counter()
            self._fail(epochs, error)
        spent = max(0.0, self._ended - self._began - self._blocked)
        self.background_seconds += spent
        self._cost = self._blocked + spent

    def news(self) -> list[str]:
        """Returns the problems since the last call."""
        news, self._news = self._news, []
        return news

    def open(self, size: int) -> list[str]:
        """Prepares for training; returns notes on checkpoints of `size` bytes."""
        self._opened = time.perf_counter()
        self._cost = _SECONDS + size / _BYTES_PER_SECOND
        if self._rule is None:
            return []
        prepare_to_write()
        kept = "the last one is" if self._rule.keep == 1 else f"the last {self._rule.keep} are"
        size_text = f"a checkpoint takes up to {size / 2**20:,.1f} MiB"
        text = f"{size_text}; {kept} kept until the run is complete"
        free = shutil.disk_usage(self.folder.parent).free
        if free < (self._rule.keep + 1) * size:
            text += f" (only {free / 2**20:,.1f} MiB are free there: some may fail)"
        return [f"{text}, in {self.folder}"]

    def restore(self, like: Shapes) -> Checkpoint | None:
        """Reads the last good checkpoint, if any; sets bad ones aside and adds them to `news`.

        Raises:
            CheckpointError: If there are checkpoints and none is good.
        """
        found, problems = newest(self.folder, self._about["fingerprint"], like)
        if found is None and problems:
            raise CheckpointError(
                f"no checkpoint can be resumed from: {'; '.join(map(str, problems.values()))}. "
                f"Train anew into another folder, or remove {self.folder} to begin again in this"
            )
        self._set_aside(problems)
        for path in leftovers(self.folder):
            self._news.append(f"{path} was being written when the run ended; it is removed")
        remove(leftovers(self.folder))
        self._resumed = found is not None
        return found

    def finish(
        self, epochs: int, arrays: Mapping[str, np.ndarray], warnings: Sequence[str] = ()
    ) -> bool:
        """Saves the final policies and history; returns whether it worked (`news` says why not)."""
        self.wait()
        folder = self.folder.with_name(run_folder.POLICY)
        path = step_path(folder, epochs)
        found, problems = newest(folder, self._about["fingerprint"])
        if found is not None and found.path == path:
            return True  # after as many epochs, the same
        self._set_aside(problems)
        writer = Writer(folder, keep=1)
        try:
            writer.start(epochs, arrays, self._manifest(warnings))
            writer.finish()
            return True
        except Exception as error:
            self._news.append(
                f"the policies could not be saved in {path}: {run_folder.write_problem(error)}"
            )
            return False
        finally:
            writer.close()

    def close(self) -> None:
        """Ends the background threads."""
        self._writer.close()

    def clear(self) -> None:
        """Removes the checkpoints of a complete training."""
        remove([*leftovers(self.folder), *present(self.folder)])
        # The user removes those that were set aside.
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _completed(self) -> None:
        self._ended = time.perf_counter()

    def _manifest(self, warnings: Sequence[str]) -> dict[str, Any]:
        # In the foreground: it runs git, and forking beside a computation is unsafe.
        if "written_by" not in self._about:
            self._about["written_by"] = provenance.describe()
        return self._about | {"warnings": list(warnings)}

    def _set_aside(self, problems: Mapping[Path, CheckpointError]) -> None:
        for path, problem in problems.items():
            names = (path.with_name(f"{path.name}.unusable{i or ''}") for i in range(1000))
            aside = path.rename(next(name for name in names if not name.exists()))
            self._news.append(f"{problem}; it is set aside as {aside.name}")

    def _fail(self, epochs: int, error: Exception) -> None:
        self.failed += 1
        self._news.append(
            f"the checkpoint after epoch {epochs} failed: {run_folder.write_problem(error)}; "
            "training goes on, and the next one is tried"
        )
