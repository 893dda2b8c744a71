"""Checkpoints on disk: folders that Orbax's `CheckpointManager` names, completes and removes.

    epoch_000012/default/
        arrays.npz      every array by name; a zip archive, with a CRC-32 of each
        manifest.json   format, what it belongs to, what wrote it; each array's name, shape, type
                        and CRC-32

Orbax writes a checkpoint beside its place and renames it when it is on disk: a folder named
`epoch_000012` is whole, whenever the process was killed. The files inside come from a handler of
our own, since Orbax's handlers write arrays of the host's memory in the first process alone, take
no empty arrays and keep no checksums.
"""

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.launch import run_folder, snapshot

FORMAT = 2
ITEM, MANIFEST, ARRAYS = "default", "manifest.json", "arrays.npz"
PARTIAL = ".orbax-checkpoint-tmp"  # how Orbax ends the name of what it has not completed
_NAME = re.compile(r"epoch_(\d+)")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: says where it is, what is wrong, what to do instead."""


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


class Writer:
    """Writes the checkpoints of one folder in the background and removes older ones.

    Args:
        folder: Theirs alone.
        keep: How many are kept; an older one goes when a newer one is whole.
        completed: Called, in another thread, when one is about to get its name.
    """

    def __init__(self, folder: Path, keep: int, completed: Callable[[], None] = lambda: None):
        self._folder, self._keep, self._completed = folder, keep, completed
        self._manager: Any = None
        self._epochs: int | None = None

    @property
    def busy(self) -> bool:
        """Whether one is being written."""
        return self._manager is not None and self._manager.is_saving_in_progress()

    def start(
        self, epochs: int, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]
    ) -> None:
        """Begins to write one; `finish` has to follow.

        Args:
            epochs: How many are done.
            arrays: By name; nobody may change them meanwhile.
            about: The rest of the manifest.

        Raises:
            OSError, ValueError: If that cannot be done; nothing is left of it.
        """
        self._epochs = epochs
        try:
            if self._manager is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._manager = _open_manager(self._folder, self._keep, self._completed)
            self._manager.save(epochs, args=_save_arguments()(arrays, about), force=True)
        except BaseException:
            self._give_up()
            raise

    def finish(self) -> None:
        """Waits until the one that was begun is whole.

        Raises:
            OSError, ValueError: If it cannot be written, as on a full disk; nothing is left of it.
        """
        try:
            self._manager.wait_until_finished()
        except BaseException:
            self._give_up()
            raise
        # Orbax writes down the place of the folder, which may be moved or given to somebody else.
        for marker in step_path(self._folder, self._epochs or 0).rglob("commit_success.txt"):
            marker.write_text("The checkpoint is whole.\n")

    def close(self) -> None:
        """Ends Orbax's threads."""
        if self._manager is not None:
            with contextlib.suppress(Exception):  # what failed was raised before
                self._manager.close()
            self._manager = None

    def _give_up(self) -> None:
        # The next manager looks at what is on disk: this one counts what it could not write.
        self.close()
        for path in leftovers(self._folder):
            shutil.rmtree(path, ignore_errors=True)


def step_path(folder: Path, epochs: int) -> Path:
    """Where Orbax puts a checkpoint."""
    return folder / f"epoch_{epochs:06}"


def present(folder: Path) -> list[Path]:
    """Whole checkpoints of a folder, the oldest first."""
    return sorted(
        (path for path in folder.glob("epoch_*") if _NAME.fullmatch(path.name)), key=_epochs
    )


def leftovers(folder: Path) -> list[Path]:
    """What a process left that was killed while it wrote."""
    return list(folder.glob(f"*{PARTIAL}"))


def newest(
    folder: Path,
    fingerprint: Mapping[str, Any],
    like: Mapping[str, tuple[tuple[int, ...], str]] | None = None,
    names: Collection[str] | None = None,
) -> tuple[Checkpoint | None, dict[Path, CheckpointError]]:
    """The last good checkpoint of a folder, and what is wrong with those after it.

    Args:
        folder: Where they are.
        fingerprint: What it has to belong to.
        like: Shapes and types of all arrays whose names begin with `state/`; None for any.
        names: Which arrays to read; None for all.
    """
    problems: dict[Path, CheckpointError] = {}
    for path in reversed(present(folder)):
        try:
            manifest = read_manifest(path)
            _check_owner(path, manifest, fingerprint)
            if like is not None:
                _check_shapes(path, manifest, like)
            return Checkpoint(path, _epochs(path), manifest, read(path, manifest, names)), problems
        except CheckpointError as error:
            problems[path] = error
    return None, problems


def read_manifest(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
        CheckpointError: If it is damaged, or of another format.
    """
    try:
        manifest = json.loads((path / ITEM / MANIFEST).read_text())
        found, writer = manifest["format"], manifest["written_by"]["versions"]["sobolax"]
        for entry in manifest["arrays"]:
            _ = entry["name"], tuple(entry["shape"]), entry["dtype"], entry["crc32"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is damaged: it has no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {MANIFEST} cannot be read ({error})") from error
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
    """Arrays of a checkpoint by name, checked against their checksums.

    Args:
        path: Its folder.
        manifest: What `read_manifest` gave.
        names: Which ones; None for all.

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
                entry, member = entries[name], archive.getinfo(_member(name))
                with archive.open(member) as file:  # checks the CRC-32 as it reads
                    value = np.lib.format.read_array(file, allow_pickle=False)
                # NumPy's format knows no bfloat16.
                value = value.view(np.dtype(entry["dtype"])) if value.dtype.kind == "V" else value
                found = [list(value.shape), str(value.dtype), member.CRC]
                if found != [list(entry["shape"]), entry["dtype"], entry["crc32"]]:
                    raise ValueError("it is not what the manifest says")
                arrays[name] = value
    except Exception as error:  # zipfile and NumPy have no one class for what damage leads to
        text = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} is damaged: {ARRAYS} cannot be read at {name} ({type(error).__name__}: {text})"
        ) from error
    return arrays


def write(folder: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Writes the two files of a checkpoint into a folder of Orbax's."""
    write_arrays(folder / ARRAYS, arrays)
    with zipfile.ZipFile(folder / ARRAYS) as archive:
        entries = [
            {
                "name": name,
                "shape": value.shape,
                "dtype": str(value.dtype),
                "crc32": archive.getinfo(_member(name)).CRC,
            }
            for name, value in arrays.items()
        ]
    manifest = run_folder.plain({"format": FORMAT, **about, "arrays": entries})
    run_folder.write_whole(folder / MANIFEST, json.dumps(manifest, indent=1))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays into a new file, as `numpy.savez` does, whatever their names and types."""
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, value in arrays.items():
                if value.dtype.kind == "V":
                    value = value.view(f"V{value.dtype.itemsize}")
                with archive.open(_member(name), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, value, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _check_owner(path: Path, manifest: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> None:
    unlike = run_folder.differences(manifest.get("fingerprint"), fingerprint, known=True)
    if unlike:
        raise CheckpointError(
            f"{path} belongs to another experiment (there -> here): {'; '.join(unlike[:5])}"
        )


def _check_shapes(
    path: Path, manifest: Mapping[str, Any], like: Mapping[str, tuple[tuple[int, ...], str]]
) -> None:
    there = {
        entry["name"]: (tuple(entry["shape"]), entry["dtype"])
        for entry in manifest["arrays"]
        if entry["name"].startswith(snapshot.STATE)
    }

    def describe(found: tuple[tuple[int, ...], str] | None) -> str:
        return "missing" if found is None else f"{found[1]} {found[0]}"

    for name in dict.fromkeys([*like, *there]):
        if like.get(name) != there.get(name):
            raise CheckpointError(
                f"{path} holds the state of another program: {name.removeprefix(snapshot.STATE)} "
                f"is {describe(there.get(name))} there and {describe(like.get(name))} here"
            )


def _member(name: str) -> str:
    return f"{name}.npy"


def _epochs(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def _open_manager(folder: Path, keep: int, completed: Callable[[], None]) -> Any:
    import orbax.checkpoint as ocp  # it takes a second, for which nobody who reads should wait

    # Orbax prints tracebacks of errors that it raises, too.
    logging.getLogger("absl").addFilter(_not_from_orbax)
    process = jax.process_index()
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
                # Its signals are shared by all processes, and each has folders of its own.
                create_directories_asynchronously=False,
            ),
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=process,
                active_processes={process},
                barrier_sync_key_prefix=f"{process}",
            ),
        ),
    )


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname


@functools.cache
def _save_arguments() -> Any:
    """What Orbax's manager takes for `write`, by arrays and the rest of the manifest."""
    import orbax.checkpoint as ocp
    from orbax.checkpoint import future

    class Handler(ocp.AsyncCheckpointHandler):
        """Writes in a thread of Orbax's."""

        async def async_save(self, directory: Any, args: Any) -> Any:
            async def work() -> None:
                self.save(directory, args)

            return [future.CommitFutureAwaitingContractedSignals(work(), name="arrays")]

        def save(self, directory: Any, args: Any) -> None:
            write(Path(directory), args.arrays, args.about)

        def restore(self, directory: Any, args: Any = None) -> Any:
            path = Path(directory).parent
            return read(path, read_manifest(path))

    @ocp.args.register_with_handler(Handler, for_save=True, for_restore=True)
    @dataclass
    class Arguments(ocp.args.CheckpointArgs):
        """Arrays by name, and what the manifest says besides."""

        arrays: Mapping[str, np.ndarray]
        about: Mapping[str, Any]

    return Arguments
