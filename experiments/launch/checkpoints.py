"""Checkpoints of a training: when they are taken, how they are written, and how many stay."""

import errno
import math
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.launch import checkpoint_files, run_folder
from experiments.launch.checkpoint_choice import Checkpoint, newest, present
from experiments.launch.checkpoint_files import PARTIAL, REMOVED, CheckpointError

# What the automatic rule allows checkpoints to take of a run: one part in so many.
SHARE = 50
# What one is thought to cost before one was taken; a slow disk.
_SECONDS, _BYTES_PER_SECOND = 0.1, 1e8
UNUSABLE = ".unusable"


@dataclass(frozen=True)
class CheckpointRule:
    """When checkpoints are taken, and how many stay.

    Attributes:
        seconds: Least time between the beginnings of two; 0 for one after every epoch. None for
            as often as keeps their cost under 2 % of the training's time so far: another is taken
            when 50 times what all of them took, and the next one will, has passed. (The first one
            after a resume is taken after its first epoch.)
        keep: How many are kept.
    """

    seconds: float | None = None
    keep: int = 2

    def check(self) -> None:
        """Raises ValueError, with the mend, for what cannot work."""
        if self.keep < 1:
            raise ValueError(
                f"--keep-checkpoints {self.keep} must be at least 1; --no-checkpoints takes none"
            )
        if self.seconds is not None and not 0 <= self.seconds < float("inf"):
            raise ValueError(
                f"--checkpoint-seconds {self.seconds} must be 0 (one after every epoch) or more; "
                "--no-checkpoints takes none"
            )


class Checkpoints:
    """The checkpoints of one training, in the folder `checkpoints` of its own.

    A thread writes them, one at a time, while the training goes on. What the thread has to say
    waits until `news` is asked. (Orbax has a checkpointer that works in the background by itself;
    it holds training up while it copies and checks, and does not say when it is done.)

    Attributes:
        saved: How many were written.
        failed: How many could not be.
        blocking_seconds: What training waited for: copies.
        background_seconds: What the thread took.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any], rule: CheckpointRule | None):
        """Looks at nothing and writes nothing yet.

        Args:
            folder: Where the training keeps what is its own.
            fingerprint: What tells this training from any other, as JSON knows it.
            rule: When they are taken; None for never.
        """
        self.folder = folder / run_folder.CHECKPOINTS
        self.saved = self.failed = 0
        self.blocking_seconds = self.background_seconds = 0.0
        self._rule = rule
        self._about = {"fingerprint": run_folder.plain(fingerprint)}
        self._thread: threading.Thread | None = None
        self._opened, self._began = time.perf_counter(), -math.inf
        self._resumed = False
        self._cost = _SECONDS
        self._news: list[str] = []

    def due(self) -> bool:
        """Whether the rule wants one now."""
        if self._rule is None:
            return False
        if self._thread is not None and self._thread.is_alive() and self._rule.seconds != 0:
            return False
        now, first = time.perf_counter(), not self.saved + self.failed
        if self._rule.seconds is not None:
            return now - self._began >= self._rule.seconds
        if first and self._resumed:
            return True
        spent = self.blocking_seconds + self.background_seconds
        return now - self._opened >= SHARE * (spent + self._cost)

    def save(self, epochs: int, take: Callable[[], dict[str, np.ndarray]]) -> None:
        """Begins to write one; waits for the one before where the rule wants every epoch.

        Args:
            epochs: How many are done.
            take: Gives the arrays, which belong to this class from then on.
        """
        self._say_who_writes()
        self._began = time.perf_counter()
        self.wait()
        arrays = take()
        blocked = time.perf_counter() - self._began
        self.blocking_seconds += blocked
        self._thread = threading.Thread(target=self._write, args=(epochs, arrays, blocked))
        self._thread.start()

    def wait(self) -> None:
        """Waits until nothing is being written; Ctrl-C gets through."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.1)

    def news(self) -> list[str]:
        """What went wrong since this was asked last."""
        told, self._news = self._news, []
        return told

    def open(self, size: int) -> list[str]:
        """Is called when training begins.

        Args:
            size: Bytes of a checkpoint, uncompressed.

        Returns:
            What a user should know: how big they are, where they are, for how long.
        """
        self._opened = time.perf_counter()
        self._cost = _SECONDS + size / _BYTES_PER_SECOND
        if self._rule is None:
            return []
        kept = "the last one is" if self._rule.keep == 1 else f"the last {self._rule.keep} are"
        told = f"a checkpoint takes up to {_mebibytes(size)}; {kept} kept until the run is complete"
        free = shutil.disk_usage(self.folder.parent).free
        if free < (self._rule.keep + 1) * size:
            told += f" (only {_mebibytes(free)} are free there: some may fail)"
        return [f"{told}, in {self.folder}"]

    def restore(self, check: Callable[[Path, Mapping[str, Any]], None]) -> Checkpoint | None:
        """Reads the last good one; what is not usable is set aside and told in `news`.

        Args:
            check: Raises CheckpointError, given path and manifest, for one that does not fit.

        Returns:
            None if there never was one.

        Raises:
            CheckpointError: If there are some and none is good.
        """
        found, problems = newest(self.folder, self._about["fingerprint"], check)
        if found is None and problems:
            raise CheckpointError(
                f"no checkpoint can be gone on from: {'; '.join(map(str, problems.values()))}. "
                f"Train anew into another folder, or remove {self.folder} to begin again in this"
            )
        for path, problem in problems.items():
            aside = _free_name(path)
            path.rename(aside)
            self._news.append(f"{problem}; it is set aside as {aside.name}")
        for path in _leftovers(self.folder):
            if path.name.endswith(PARTIAL):
                self._news.append(f"{path} was being written when the run ended; it is removed")
            shutil.rmtree(path, ignore_errors=True)
        self._resumed = found is not None
        return found

    def finish(self, epochs: int, arrays: Mapping[str, np.ndarray]) -> bool:
        """Saves the policies at the end.

        Args:
            epochs: How many are done.
            arrays: Those of the policies, and of the history.

        Returns:
            Whether it worked; `news` says why not.
        """
        self.wait()
        self._say_who_writes()
        path = self.folder.with_name(run_folder.POLICY)
        try:
            self._put(path, epochs, arrays)
        except Exception as error:
            self._news.append(f"the policies could not be saved in {path}: {_reason(error)}")
            return False
        return True

    def clear(self) -> None:
        """Removes the checkpoints of a training that is complete, which nothing needs any more."""
        if not self.folder.exists():
            return
        for checkpoint in [*present(self.folder), *_leftovers(self.folder)]:
            checkpoint_files.remove(checkpoint)
        if not any(self.folder.iterdir()):  # what was set aside is the user's to remove
            self.folder.rmdir()

    def _say_who_writes(self) -> None:
        # Not in the thread: it asks git, and a process is not forked beside a computation.
        if "written_by" not in self._about:
            self._about["written_by"] = run_folder.provenance()

    def _put(self, path: Path, epochs: int, arrays: Mapping[str, np.ndarray]) -> None:
        checkpoint_files.write(path, arrays, {"epochs": epochs, **self._about})

    def _write(self, epochs: int, arrays: dict[str, np.ndarray], blocked: float) -> None:
        import orbax.checkpoint  # noqa: F401  (takes a second, once: no part of what one costs)

        assert self._rule is not None
        start = time.perf_counter()
        path = self.folder / f"epoch-{epochs:06}"
        try:
            self._put(path, epochs, arrays)
            self.saved += 1
            # The new one is whole: only now may an older one go.
            for older in present(self.folder)[: -self._rule.keep]:
                checkpoint_files.remove(older)
        except Exception as error:  # whatever it is, training goes on
            self.failed += 1
            self._news.append(
                f"the checkpoint after epoch {epochs} failed: {_reason(error)}; "
                "training goes on, and the next one is tried"
            )
        spent = time.perf_counter() - start
        self.background_seconds += spent
        self._cost = blocked + spent


def _leftovers(folder: Path) -> list[Path]:
    return [*folder.glob(f"*{PARTIAL}"), *folder.glob(f"*{REMOVED}")]


def _free_name(path: Path) -> Path:
    """A name for what is set aside."""
    names = (path.with_name(f"{path.name}{UNUSABLE}{i or ''}") for i in range(1000))
    return next(name for name in names if not name.exists())


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    # TensorStore says so at the end of the text of an error of its own.
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
        return "the disk is full"
    return f"{type(error).__name__}: {text if len(text) < 300 else '... ' + text[-300:]}"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
