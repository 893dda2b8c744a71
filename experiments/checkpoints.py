"""Checkpoints of a training: when they are taken, how many stay, and which one to go on from."""

import errno
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import checkpoint_files, run_folder
from experiments.checkpoint_files import PARTIAL, REMOVED, CheckpointError

# What the automatic rule allows checkpoints to take of a run: one part in so many.
SHARE = 50
UNUSABLE = ".unusable"
_NAME = re.compile(r"epoch-(\d+)")


@dataclass(frozen=True)
class CheckpointRule:
    """When checkpoints are taken, and how many stay.

    Attributes:
        seconds: Least time between the beginnings of two; 0 for one after every epoch. None for
            a time that bounds the cost: one after the first epoch, and another when at least 50
            times as long has passed as the last one cost, so that they take no more than 2 % of a
            run.
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


@dataclass(frozen=True)
class Checkpoint:
    """A good checkpoint.

    Attributes:
        path: Its folder.
        epochs: How many were done.
        manifest: What it says of itself.
        arrays: What it holds, by name.
    """

    path: Path
    epochs: int
    manifest: Mapping[str, Any]
    arrays: dict[str, np.ndarray]


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

    def __init__(self, folder: Path, belongs_to: Mapping[str, Any], rule: CheckpointRule | None):
        """Looks at nothing and writes nothing yet.

        Args:
            folder: Where the training keeps what is its own.
            belongs_to: What tells this training from any other, as JSON knows it.
            rule: When they are taken; None for never.
        """
        self.folder = folder / run_folder.CHECKPOINTS
        self.saved = self.failed = 0
        self.blocking_seconds = self.background_seconds = 0.0
        self._rule = rule
        self._about = {"belongs_to": run_folder.plain(belongs_to)}
        self._thread: threading.Thread | None = None
        self._began: float | None = None
        self._cost = 0.0
        self._news: list[str] = []

    def due(self) -> bool:
        """Whether the rule wants one now."""
        if self._rule is None:
            return False
        if self._thread is not None and self._thread.is_alive() and self._rule.seconds != 0:
            return False
        if self._began is None:
            return True
        least = SHARE * self._cost if self._rule.seconds is None else self._rule.seconds
        return time.perf_counter() - self._began >= least

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

    def announce(self, size: int) -> list[str]:
        """What a user should know before training: how big they are, where they are, for how long.

        Args:
            size: Bytes of one, uncompressed.
        """
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
        found, problems = newest(self.folder, self._about["belongs_to"], check)
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


def newest(
    folder: Path,
    belongs_to: Mapping[str, Any] | None,
    check: Callable[[Path, Mapping[str, Any]], None] = lambda path, manifest: None,
    names: Collection[str] | None = None,
) -> tuple[Checkpoint | None, dict[Path, CheckpointError]]:
    """The last good checkpoint of a folder, and what is wrong with those after it.

    Args:
        folder: Where they lie.
        belongs_to: What it has to belong to; None for anything.
        check: Raises CheckpointError, given path and manifest, for one that does not fit.
        names: Which arrays to read; None for all.
    """
    problems: dict[Path, CheckpointError] = {}
    for path in reversed(present(folder)):
        try:
            return read(path, belongs_to, check, names), problems
        except CheckpointError as error:
            problems[path] = error
    return None, problems


def read(
    path: Path,
    belongs_to: Mapping[str, Any] | None,
    check: Callable[[Path, Mapping[str, Any]], None] = lambda path, manifest: None,
    names: Collection[str] | None = None,
) -> Checkpoint:
    """One checkpoint, if it is good.

    Raises:
        CheckpointError: If it is damaged, of another format, or does not fit.
    """
    manifest = checkpoint_files.read_manifest(path)
    if belongs_to is not None:
        unlike = run_folder.differences(manifest.get("belongs_to", {}), belongs_to)
        if unlike:
            raise CheckpointError(
                f"{path} belongs to another experiment (there -> here): {'; '.join(unlike[:5])}"
            )
    check(path, manifest)
    arrays = checkpoint_files.read(path, manifest, names)
    return Checkpoint(path, int(manifest["epochs"]), manifest, arrays)


def present(folder: Path) -> list[Path]:
    """Whole checkpoints of a folder, the oldest first."""
    found = {path: _NAME.fullmatch(path.name) for path in folder.glob("epoch-*")}
    numbers = {path: int(match[1]) for path, match in found.items() if match}
    return sorted(numbers, key=lambda path: numbers[path])


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
