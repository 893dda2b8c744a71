"""Checkpoints on disk: folders that Orbax's `CheckpointManager` names, completes and removes.

    epoch_000012/default/
        arrays.npz      every array by name; a zip archive, with a CRC-32 of each
        manifest.json   format, what it belongs to, what wrote it; each array's name, shape, type
                        and CRC-32

Orbax writes a checkpoint beside its place and renames it when it is whole. The files inside are a
handler's of our own: Orbax's handlers write arrays of the host's memory in the first process alone,
take no empty arrays and keep no checksums.
"""

import contextlib
import functools
import importlib
import json
import logging
import math
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import jax
import numpy as np

from experiments.launch import json_files, provenance, run_folder, snapshot
from experiments.launch.history import METRICS, SECONDS

FORMAT = 2
ITEM, MANIFEST, ARRAYS = "default", "manifest.json", "arrays.npz"
PARTIAL = ".orbax-checkpoint-tmp"  # how Orbax ends the name of what it has not completed
_NAME = re.compile(r"epoch_([0-9]{6,18})")
_SHAPE = {
    "format": Any,
    "written_by": provenance.WRITER,
    "arrays": list[dict[str, Any]],
    "warnings?": list[str],  # older files lack them
}
_ARRAY = {"name": str, "shape": list[int], "dtype": str, "crc32": int}
Arrays = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[tuple[int, ...], str]]  # shape and type by name, `snapshot.describe`


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names its path, the problem and the fix."""


@dataclass(frozen=True)
class Checkpoint:
    """An undamaged checkpoint: its folder, epochs done, manifest, and arrays by name."""

    path: Path
    epochs: int
    manifest: Mapping[str, Any]
    arrays: dict[str, np.ndarray]


class Writer:
    """Writes the checkpoints of one folder in the background.

    Keeps at most `keep`: a complete newer one replaces the oldest. `completed` is called, in
    another thread, when one is about to get its final name.
    """

    def __init__(self, folder: Path, keep: int, completed: Callable[[], None] = lambda: None):
        self._folder, self._keep, self._completed = folder, keep, completed
        self._manager: Any = None
        self._writing = folder

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._manager is not None and self._manager.is_saving_in_progress()

    def start(self, epochs: int, arrays: Arrays, about: Mapping[str, Any]) -> None:
        """Starts to write arrays, which must not change meanwhile; `about` goes into the manifest.

        Raises:
            OSError, ValueError: If it fails; nothing is left on disk.
        """
        self._writing = step_path(self._folder, epochs)
        try:
            if self._manager is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                remove(leftovers(self._folder))
                self._manager = _open_manager(self._folder, self._keep, self._completed)
            self._manager.save(epochs, args=_save_arguments()(arrays, about), force=True)
        except BaseException:
            self._give_up()
            raise

    def finish(self) -> None:
        """Waits until the pending checkpoint is complete; raises as `start` does."""
        try:
            self._manager.wait_until_finished()
        except BaseException:
            self._give_up()
            raise
        # Orbax records the folder's path, which may be moved or shared.
        with contextlib.suppress(OSError):
            for marker in self._writing.rglob("commit_success.txt"):
                marker.write_text("The checkpoint is whole.\n")

    def close(self) -> None:
        """Ends Orbax's threads."""
        if self._manager is not None:
            with contextlib.suppress(Exception):  # failures were raised before
                self._manager.close()
            self._manager = None

    def _give_up(self) -> None:
        # The next manager reads the disk: this one counts checkpoints that it failed to write.
        self.close()
        remove(leftovers(self._folder))


def prepare_to_write() -> None:
    """Imports Orbax, which takes seconds, in a thread of its own."""
    Thread(target=importlib.import_module, args=("orbax.checkpoint",), daemon=True).start()


def step_path(folder: Path, epochs: int) -> Path:
    """The path of a checkpoint, as Orbax names it."""
    return folder / f"epoch_{epochs:06}"


def present(folder: Path) -> list[Path]:
    """Complete checkpoints of a folder, the oldest first."""
    found = [int(match[1]) for path in folder.glob("*") if (match := _NAME.fullmatch(path.name))]
    paths = [step_path(folder, epochs) for epochs in sorted(set(found))]
    return [path for path in paths if path.is_dir() and not path.is_symlink()]


def leftovers(folder: Path) -> list[Path]:
    """Partial checkpoints, left by processes that were killed while writing."""
    return list(folder.glob(f"*{PARTIAL}"))


def remove(paths: Iterable[Path]) -> None:
    """Removes folders, ignoring errors."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def newest(
    folder: Path,
    fingerprint: Mapping[str, Any],
    like: Shapes | None = None,
    names: Collection[str] | None = None,
    optional: Collection[str] = (),
) -> tuple[Checkpoint | None, dict[Path, CheckpointError]]:
    """The last good checkpoint of a folder, and the problems of those after it.

    A good one belongs to `fingerprint` and its state has the shapes and types of `like` (None for
    any). `names` are the arrays to read (None for all), and those of `optional` that are there.
    """
    problems: dict[Path, CheckpointError] = {}
    for path in reversed(present(folder)):
        try:
            manifest = read_manifest(path)
            _check(path, manifest, fingerprint, like)
            there = {entry["name"] for entry in manifest["arrays"]}
            wanted = None if names is None else {*names, *there.intersection(optional)}
            arrays = read(path, manifest, wanted)
            return Checkpoint(path, int(path.name[6:]), manifest, arrays), problems
        except CheckpointError as error:
            problems[path] = error
    return None, problems


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads a checkpoint's manifest; CheckpointError if it is damaged or of another format."""
    try:
        manifest = json_files.read(path / ITEM / MANIFEST, _SHAPE)
        for index, entry in enumerate(manifest["arrays"]):
            json_files.check(entry, _ARRAY, f"arrays[{index}]")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is damaged: it has no {MANIFEST}") from error
    except ValueError as error:
        why = str(error).removeprefix(f"{path / ITEM / MANIFEST} is damaged: ")
        raise CheckpointError(f"{path} is damaged: {MANIFEST} cannot be read ({why})") from error
    found, writer = manifest["format"], manifest["written_by"]["versions"].get("sobolax")
    if found != FORMAT:
        older = "an older" if isinstance(found, int) and found < FORMAT else "another"
        raise CheckpointError(
            f"{path} has {older} format, {found} (this version reads {FORMAT}): sobolax {writer}, "
            "which wrote it, can go on from it"
        )
    return manifest


def read(
    path: Path, manifest: Mapping[str, Any], names: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """Arrays of a checkpoint by name, some or all, checked against their checksums.

    Raises:
        CheckpointError: If it is damaged or lacks one of them.
    """
    entries = {entry["name"]: entry for entry in manifest["arrays"]}
    missing = sorted(set(names or ()) - entries.keys())
    if missing:
        raise CheckpointError(f"{path} holds no {missing[0]}")
    arrays, name = {}, "the list of arrays"
    try:
        with zipfile.ZipFile(path / ITEM / ARRAYS) as archive:
            for name in entries if names is None else names:
                entry, member = entries[name], archive.getinfo(f"{name}.npy")
                _check_size(archive, member, entry)
                with archive.open(member) as file:  # checks the CRC-32 as it reads
                    value = np.lib.format.read_array(file, allow_pickle=False)
                # NumPy's format has no bfloat16.
                value = value.view(np.dtype(entry["dtype"])) if value.dtype.kind == "V" else value
                found = [list(value.shape), str(value.dtype), member.CRC]
                if found != [list(entry["shape"]), entry["dtype"], entry["crc32"]]:
                    raise ValueError("it is not what the manifest says")
                arrays[name] = value
    except Exception as error:  # damage raises many classes in zipfile and NumPy
        text = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} is damaged: {ARRAYS} cannot be read at {name} ({type(error).__name__}: {text})"
        ) from error
    return arrays


def _check_size(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, entry: Mapping[str, Any]
) -> None:
    """Checks, before memory is taken, that an array is as large as manifest and file say."""
    size = math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError("it is compressed, which no checkpoint is")
    with archive.open(member) as file:
        first = np.lib.format.read_magic(file) == (1, 0)
        formats = np.lib.format
        read_header = formats.read_array_header_1_0 if first else formats.read_array_header_2_0
        shape, _, dtype = read_header(file)
        stored = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or min(shape, default=0) < 0 or stored != size:
            raise ValueError("it is not what the manifest says")
        left = member.file_size - file.tell()
        if stored != left:
            raise ValueError(f"it says {stored:,} bytes, but has {left:,}")


def write(folder: Path, arrays: Arrays, about: Mapping[str, Any]) -> None:
    """Writes the two files of a checkpoint into a folder that Orbax made."""
    write_arrays(folder / ARRAYS, arrays)
    with zipfile.ZipFile(folder / ARRAYS) as archive:
        checksums = [archive.getinfo(f"{name}.npy").CRC for name in arrays]
    entries = [
        {"name": name, "shape": value.shape, "dtype": str(value.dtype), "crc32": checksum}
        for (name, value), checksum in zip(arrays.items(), checksums, strict=True)
    ]
    manifest = run_folder.plain({"format": FORMAT, **about, "arrays": entries})
    run_folder.write_whole(folder / MANIFEST, json.dumps(manifest, indent=1))


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Writes arrays into a new file, as `numpy.savez` does, whatever their names and types."""
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, value in arrays.items():
                if value.dtype.kind == "V":
                    value = value.view(f"V{value.dtype.itemsize}")
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, value, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _check(
    path: Path, manifest: Mapping[str, Any], fingerprint: Mapping[str, Any], like: Shapes | None
) -> None:
    unlike = run_folder.differences(manifest.get("fingerprint"), fingerprint, known=True)
    if unlike:
        raise CheckpointError(
            f"{path} belongs to another experiment (there -> here): {'; '.join(unlike[:5])}"
        )
    _check_history(path, manifest, fingerprint)
    if like is None:
        return
    entries = [entry for entry in manifest["arrays"] if entry["name"].startswith(snapshot.STATE)]
    there = {entry["name"]: (tuple(entry["shape"]), entry["dtype"]) for entry in entries}
    for name in dict.fromkeys([*like, *there]):
        if like.get(name) != there.get(name):
            one, other = (
                f"{found[name][1]} {found[name][0]}" if name in found else "missing"
                for found in (there, like)
            )
            raise CheckpointError(
                f"{path} holds the state of another program: {name.removeprefix(snapshot.STATE)} "
                f"is {one} there and {other} here"
            )


def _check_history(path: Path, manifest: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> None:
    """Checks that a checkpoint's measurements are those of as many epochs as its name says."""
    epochs, runs = int(path.name[6:]), (len(fingerprint["variants"]), fingerprint["seeds"])
    there = {entry["name"]: (*entry["shape"],) for entry in manifest["arrays"]}
    wrong = [
        name
        for name, shape in there.items()
        if name.startswith(METRICS) and shape != (epochs, *runs)
    ]
    if wrong or there.get(SECONDS) != (epochs,) or not 0 < epochs <= fingerprint["epochs"]:
        raise CheckpointError(
            f"{path} is damaged: what it measured is not that of {epochs} epochs of this training"
        )


def _open_manager(folder: Path, keep: int, completed: Callable[[], None]) -> Any:
    import orbax.checkpoint as ocp  # imported here, since reading does not need it

    # Orbax prints tracebacks of errors that it raises, too.
    logging.getLogger("absl").addFilter(_not_from_orbax)
    me = jax.process_index()
    return ocp.CheckpointManager(
        folder.absolute(),
        options=ocp.CheckpointManagerOptions(
            step_prefix="epoch",
            step_format_fixed_length=6,
            preservation_policy=ocp.checkpoint_managers.LatestN(keep),
            save_root_metadata=False,
            create=False,
            async_options=ocp.options.AsyncOptions(
                post_finalization_callback=completed,
                # All processes share its signals, but each has folders of its own.
                create_directories_asynchronously=False,
            ),
            multiprocessing_options=ocp.options.MultiprocessingOptions(me, {me}, f"{me}"),
        ),
    )


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname


@functools.cache
def _save_arguments() -> Any:
    """The class of arguments that Orbax's manager passes to `write`."""
    import orbax.checkpoint as ocp
    from orbax.checkpoint import future

    class Handler(ocp.AsyncCheckpointHandler):
        async def async_save(self, directory: Any, args: Any) -> Any:
            async def work() -> None:
                self.save(directory, args)

            return [future.CommitFutureAwaitingContractedSignals(work(), name="arrays")]

        def save(self, directory: Any, args: Any) -> None:
            write(Path(directory), args.arrays, args.about)

        def restore(self, directory: Any, args: Any = None) -> Any:
            raise NotImplementedError  # `read` does without Orbax

    @ocp.args.register_with_handler(Handler, for_save=True, for_restore=True)
    @dataclass
    class Arguments(ocp.args.CheckpointArgs):
        arrays: Arrays
        about: Mapping[str, Any]

    return Arguments
