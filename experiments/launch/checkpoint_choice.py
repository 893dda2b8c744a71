"""Which checkpoint of a folder to take: the last good one."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.launch import checkpoint_files, run_folder
from experiments.launch.checkpoint_files import CheckpointError

_NAME = re.compile(r"epoch-(\d+)")


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


def newest(
    folder: Path,
    fingerprint: Mapping[str, Any] | None,
    check: Callable[[Path, Mapping[str, Any]], None] = lambda path, manifest: None,
    names: Collection[str] | None = None,
) -> tuple[Checkpoint | None, dict[Path, CheckpointError]]:
    """The last good checkpoint of a folder, and what is wrong with those after it.

    Args:
        folder: Where they lie.
        fingerprint: What it has to belong to; None for anything.
        check: Raises CheckpointError, given path and manifest, for one that does not fit.
        names: Which arrays to read; None for all.
    """
    problems: dict[Path, CheckpointError] = {}
    for path in reversed(present(folder)):
        try:
            return read(path, fingerprint, check, names), problems
        except CheckpointError as error:
            problems[path] = error
    return None, problems


def read(
    path: Path,
    fingerprint: Mapping[str, Any] | None,
    check: Callable[[Path, Mapping[str, Any]], None] = lambda path, manifest: None,
    names: Collection[str] | None = None,
) -> Checkpoint:
    """One checkpoint, if it is good.

    Raises:
        CheckpointError: If it is damaged, of another format, or does not fit.
    """
    manifest = checkpoint_files.read_manifest(path)
    if fingerprint is not None:
        unlike = run_folder.differences(manifest.get("fingerprint"), fingerprint, known=True)
        if unlike:
            raise CheckpointError(
                f"{path} belongs to another experiment (there -> here): {'; '.join(unlike[:5])}"
            )
    try:
        check(path, manifest)
        epochs = int(manifest["epochs"])
    except (KeyError, TypeError) as error:
        reason = f"{type(error).__name__}, {error}"
        raise CheckpointError(
            f"{path} is damaged: its manifest makes no sense ({reason})"
        ) from error
    return Checkpoint(path, epochs, manifest, checkpoint_files.read(path, manifest, names))


def present(folder: Path) -> list[Path]:
    """Whole checkpoints of a folder, the oldest first."""
    found = {path: _NAME.fullmatch(path.name) for path in folder.glob("epoch-*")}
    numbers = {path: int(match[1]) for path, match in found.items() if match}
    return sorted(numbers, key=lambda path: numbers[path])
