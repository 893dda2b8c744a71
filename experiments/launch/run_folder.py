"""The folder of one run: its files, none of which is ever overwritten."""

import contextlib
import datetime
import errno
import fcntl
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.launch import json_files
from experiments.launch.configuration import CheckpointRule, Experiment, from_json

CONFIGURATION = "configuration.json"
METRICS = "metrics.jsonl"
RESULTS = "results.json"
LEARNING_CURVES = "learning_curves.png"
GRADIENT_ERROR = "gradient_error.png"
POLICY = "policy"
CHECKPOINTS = "checkpoints"
REPLAY = "replay.html"
TRACKING = "tracking"
_NEW = "new-files"
_LOST = "copy the file anew from where it was trained, or train again into another folder"

_RULE = CheckpointRule | None
_RESULTS = {
    "interrupted?": bool,
    "epochs?": int,
    "warnings?": list[str],
    "missing?": list[str],
    "order?": list[str],
}


class FolderError(ValueError):
    """A folder in which a run cannot write its files; nothing is changed there."""


class FolderInUseError(FolderError):
    """Another process trains in the folder."""


def choose(output: Path | None, env: str, variants: Iterable[str]) -> Path:
    """Chooses the folder of a new run; creates nothing.

    Raises:
        ValueError: If the folder is not empty.
    """
    if output is None:
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        name = f"{stamp}-{env}-{'-'.join(variants)}"
        candidates = [name, *(f"{name}-{count}" for count in range(2, 100))]
        return next(path for path in map(Path("runs").joinpath, candidates) if not path.exists())
    if output.is_symlink() and not output.exists():
        raise ValueError(f"--output {output} is a link to nothing: name a new or an empty folder")
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file: name a new or an empty folder")
    if output.is_dir() and any(output.iterdir()):
        what = "holds another run" if (output / CONFIGURATION).exists() else "is not empty"
        raise ValueError(f"--output {output} {what}: name a new or an empty folder")
    for parent in output.parents:
        if parent.exists():
            if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
                raise ValueError(f"--output {output} cannot be made: {parent} is not writable")
            break
    return output


def read_configuration(path: Path, shape: json_files.Shape = dict[str, Any]) -> dict[str, Any]:
    """Reads `configuration.json` of a run; `shape` is what it has to hold, besides other things.

    Raises:
        ValueError: If it is missing or unreadable.
    """
    try:
        return json_files.read(path / CONFIGURATION, shape)
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} holds no {CONFIGURATION}: name the folder of a run; if this is one, {_LOST}"
        ) from error
    except json_files.DamagedFileError as error:
        raise json_files.DamagedFileError(f"{error}. If it is of a run, {_LOST}") from error


def read_experiment(path: Path) -> Experiment:
    """Reads the experiment of a run's folder.

    Raises:
        ValueError: If the folder is not that of a run, or another version wrote it.
    """
    configuration = read_configuration(path)
    if "experiment" not in configuration:
        raise ValueError(f"{path} was not written by experiments.train: name such a run's folder")
    try:
        return from_json(configuration["experiment"])
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path / CONFIGURATION} is damaged, or of another version of sobolax: {error}. If it "
            f"is damaged, {_LOST}"
        ) from error


def read_rule(path: Path) -> CheckpointRule | None:
    """When a run takes checkpoints, as its `configuration.json` says; None for never.

    Raises:
        ValueError: If it is missing or damaged.
    """
    saved = read_configuration(path, {"checkpoints?": _RULE}).get("checkpoints")
    if saved is None:
        return None
    try:
        return CheckpointRule(**saved)
    except TypeError as error:
        raise ValueError(f"{path / CONFIGURATION} is of another version: {error}") from error


def read_devices(path: Path) -> int | None:
    """The devices that a run was told to train on; None if it was told nothing.

    Raises:
        ValueError: If `configuration.json` is missing or damaged.
    """
    return read_configuration(path, {"devices?": int | None}).get("devices")


def read_results(path: Path) -> dict[str, Any] | None:
    """Reads `results.json` of a run; None if it is missing.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        return json_files.read(path / RESULTS, _RESULTS)
    except FileNotFoundError:
        return None


def create(path: Path) -> None:
    """Makes the folder that `choose` returned.

    Raises:
        FolderError: If the system refuses it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{path} cannot be made: {error.strerror}") from error


def claim(env: str, variants: Iterable[str]) -> Path:
    """Makes a new folder of the name that `choose` finds: no other run can have the same.

    Raises:
        FolderError: If the system refuses it.
    """
    names = [*variants]
    while True:
        path = choose(None, env, names)
        try:
            path.mkdir(parents=True)
            return path
        except OSError as error:
            if not path.exists():  # otherwise a run of the same second took the name
                raise FolderError(f"{path} cannot be made: {error.strerror}") from error


def free_path(path: Path) -> Path:
    """The path, or the next free one: `replay.html`, `replay-2.html`, ..."""
    others = (path.with_stem(f"{path.stem}-{count}") for count in itertools.count(2))
    return next(found for found in itertools.chain([path], others) if not found.exists())


def check_new_file(path: Path, flag: str = "--output") -> None:
    """Raises ValueError, naming the flag that gives the path, if no new file can be made there."""
    if path.exists():
        raise ValueError(f"{path} exists: name a new file with {flag}")
    if not path.parent.is_dir():
        raise ValueError(f"{flag} {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(
            f"{path} cannot be made: {path.parent} is not writable; name another file with {flag}"
        )


def check_places(path: Path, files: Iterable[str], folders: Iterable[str] = ()) -> None:
    """Checks that what a run will write in its folder has a place there; changes nothing.

    Links are refused: a run writes into its own folder alone, wherever the folder came from.

    Args:
        path: The run's folder; it may not exist yet.
        files: Names of files, which may exist.
        folders: Names of folders, which may exist; of what they hold, `epoch_...` are folders.

    Raises:
        FolderError: Naming what is in the way.
    """
    wanted = [(path / name, False) for name in files]
    for name in folders:
        wanted += [(path / name, True), *((one, True) for one in (path / name).glob("epoch_*"))]
    for place, is_folder in wanted:
        kind = "a folder" if is_folder else "a file"
        if place.is_symlink():
            found = "a link"
        elif not place.exists() or (place.is_dir() if is_folder else place.is_file()):
            continue
        else:
            found = "a folder" if place.is_dir() else "a file" if place.is_file() else "neither"
        raise FolderError(f"{place} has to be {kind}, but is {found}: move it away")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Locks a folder against other processes; the end of the process releases it.

    Raises:
        FolderInUseError: If another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUseError(f"another process trains in {path}: end it first") from error
        except OSError:
            pass  # some network file systems lock no folders
        yield
    finally:
        os.close(descriptor)


def differences(saved: Any, here: Any, name: str = "", known: bool = False) -> list[str]:
    """Every field in which two values of JSON differ, as `config.batch_size: 64 -> 128`.

    Args:
        saved: The saved value.
        here: The current value.
        name: Name of the whole value.
        known: Whether to ignore fields that `saved` lacks, which a newer version has added.
    """
    if not isinstance(saved, Mapping) or not isinstance(here, Mapping):
        if saved == here:
            return []
        return [f"{name}: {json_files.brief(saved)} -> {json_files.brief(here)}"]
    found = []
    for key in saved if known else dict.fromkeys([*saved, *here]):
        one, other = saved.get(key, "nothing"), here.get(key, "nothing")
        part = json_files.brief(f"{name}.{key}" if name else key)
        found += differences(one, other, part, known)
    return found


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a new file; non-finite numbers, which JSON lacks, become null."""
    if path.exists():
        raise FileExistsError(f"{path} exists")
    replace_json(path, values)


def replace_json(path: Path, values: Mapping[str, Any]) -> None:
    """As `write_json`, but replaces what is there, atomically."""
    write_whole(path, json.dumps(plain(values), indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A folder for new files, which replace those of the same names when all of them are whole."""
    beside = folder / _NEW
    if beside.exists():  # of a process that was killed
        shutil.rmtree(beside)
    beside.mkdir()
    try:
        yield beside
        for path in beside.iterdir():
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Writes or replaces a file atomically."""
    beside = path.with_name(path.name + ".partial")
    beside.unlink(missing_ok=True)  # of a process that was killed
    try:
        with beside.open("x", encoding="utf-8") as file:  # never through a link
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_problem(error: Exception) -> str:
    """Why a write failed, as a readable message."""
    text = " ".join(str(error).split())
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
        return "the disk is full"
    return f"{type(error).__name__}: {text if len(text) < 300 else '... ' + text[-300:]}"


def append_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends a line of JSON per row; the file is whole and readable after every call."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_lines(rows))


def replace_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rewrites all lines of such a file, atomically."""
    write_whole(path, _lines(rows))


def set_aside(path: Path) -> Path | None:
    """Copies a file of lines beside itself, under the next free number.

    Returns:
        The copy; None if there is nothing in the file.
    """
    if not path.stat().st_size:
        return None
    names = (f"{path.stem}_before_{number}{path.suffix}" for number in itertools.count(1))
    copy = next(copy for copy in map(path.with_name, names) if not copy.exists())
    write_whole(copy, path.read_text(encoding="utf-8", errors="replace"))
    return copy


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(plain(row), allow_nan=False) + "\n" for row in rows)


def plain(value: Any) -> Any:
    """Converts arrays, NumPy numbers, tuples and paths to JSON's types."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
