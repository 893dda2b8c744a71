"""One checkpoint on disk: arrays that Orbax writes, and a manifest that says what they are.

    epoch-000012/
        manifest.json   format, epochs done, what it belongs to, what wrote it; every array's name,
                        shape, type and checksum, every file's size and checksum
        arrays/         Orbax's own files

It is written beside its place as `epoch-000012.partial` and renamed when all of it is on disk: a
folder without that ending is whole, whenever the process was killed.
"""

import contextlib
import json
import logging
import shutil
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.launch import run_folder

FORMAT = 1
MANIFEST, ARRAYS = "manifest.json", "arrays"
PARTIAL, REMOVED = ".partial", ".removed"  # what a killed process may leave


class CheckpointError(ValueError):
    """A checkpoint that cannot be taken: says where it lies, what is wrong, what to do instead."""


def write(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Writes a checkpoint; what lies at the path is replaced once the new one is whole.

    Args:
        path: Its folder.
        arrays: By name; nobody may change them meanwhile.
        about: The rest of the manifest.

    Raises:
        OSError, ValueError: If it cannot be written, such as on a full disk; nothing is left.
    """
    partial = path.with_name(path.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        entries = [
            {
                "name": name,
                "shape": value.shape,
                "dtype": str(value.dtype),
                "crc32": _checksum(value),
            }
            for name, value in arrays.items()
        ]
        # By number: names may hold what a file system minds. Orbax takes no empty array.
        filled = {str(i): value for i, value in enumerate(arrays.values()) if value.size}
        write_arrays(partial / ARRAYS, filled)
        # Read back: the checkpoint that this one takes the place of is not needed any more.
        files = _files(partial / ARRAYS)
        if not files:
            raise OSError(f"Orbax wrote nothing into {partial / ARRAYS}")
        manifest = {"format": FORMAT, **about, "arrays": entries, "files": files}
        run_folder.write_whole(partial / MANIFEST, json.dumps(run_folder.plain(manifest), indent=1))
        remove(path)
        partial.rename(path)
        run_folder.synchronise(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def read_manifest(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
        CheckpointError: If it is damaged, or of another format.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        found, writer = manifest["format"], manifest["written_by"]["versions"]["sobolax"]
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
    try:
        files, listed = manifest["files"], manifest["arrays"]
        entries = {
            entry["name"]: (str(index), tuple(entry["shape"]), entry["dtype"], entry["crc32"])
            for index, entry in enumerate(listed)
            if names is None or entry["name"] in names
        }
        unlike = _unlike(files, _files(path / ARRAYS))
    except (KeyError, TypeError, AttributeError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__}, {error}") from error
    if unlike:  # Orbax is not asked to make sense of what is known to be damaged
        raise CheckpointError(f"{path} is damaged: {unlike}")
    missing = sorted(set(names or ()) - entries.keys())
    if missing:
        raise CheckpointError(f"{path} holds no {missing[0]}")
    filled = [key for key, shape, _, _ in entries.values() if 0 not in shape]
    try:
        stored = read_arrays(path / ARRAYS, filled)
    except Exception as error:  # Orbax and TensorStore have no one class for what damage leads to
        text = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} is damaged: its arrays cannot be read ({type(error).__name__}: {text})"
        ) from error
    arrays = {}
    for name, (key, shape, dtype, checksum) in entries.items():
        value = stored[key] if key in stored else np.zeros(shape, np.dtype(dtype))
        if (value.shape, str(value.dtype), _checksum(value)) != (shape, dtype, checksum):
            raise CheckpointError(f"{path} is damaged: the checksum of {name} is another")
        arrays[name] = value
    return arrays


def remove(path: Path) -> None:
    """Removes a checkpoint so that no half of one is ever seen under its name."""
    if path.exists():
        rest = path.with_name(path.name + REMOVED)
        shutil.rmtree(rest, ignore_errors=True)
        shutil.rmtree(path.rename(rest))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays with Orbax into a new folder."""
    import orbax.checkpoint as ocp

    with _quiet(), _checkpointer() as checkpointer:
        checkpointer.save(path.absolute(), args=ocp.args.PyTreeSave(dict(arrays)))
    # Orbax marks a whole checkpoint with a file whose text is where it lay; it will move.
    marker = path / "commit_success.txt"
    if marker.exists():
        marker.write_text("The checkpoint is whole.\n")


def read_arrays(path: Path, keys: Collection[str]) -> dict[str, np.ndarray]:
    """Reads some of the arrays that `write_arrays` wrote."""
    import orbax.checkpoint as ocp

    with _quiet(), _checkpointer() as checkpointer:
        return checkpointer.restore(
            path.absolute(),
            args=ocp.args.PyTreeRestore(
                item=dict.fromkeys(keys, 0),
                restore_args={key: ocp.RestoreArgs(restore_type=np.ndarray) for key in keys},
                partial_restore=True,
            ),
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from printing the tracebacks of errors that it raises, too."""
    logger = logging.getLogger("absl")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _checkpointer() -> Any:
    # Imported late: it takes seconds, for which nobody who asks for --help should wait.
    import orbax.checkpoint as ocp

    process, handlers = jax.process_index(), ocp.type_handlers
    # Every process has folders of its own, which are no other's business.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"{process}"
    )
    registry = handlers.create_type_handler_registry(
        # Nobody changes what is handed over: a second copy in memory would be for nothing.
        (np.ndarray, _numpy_handler()(deepcopy_host_arrays=False)),
        (jax.Array, handlers.ArrayHandler()),  # none comes, but Orbax warns where it is missing
    )
    handler = ocp.PyTreeCheckpointHandler(
        type_handler_registry=registry, multiprocessing_options=alone
    )
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _numpy_handler() -> Any:
    """Orbax's handler of NumPy arrays, which in processes but the first would write nothing."""
    from orbax.checkpoint.type_handlers import NumpyHandler

    if jax.process_index() == 0:
        return NumpyHandler

    import asyncio

    import tensorstore
    from orbax.checkpoint._src.serialization import tensorstore_utils

    class EveryProcess(NumpyHandler):
        """Writes as `NumpyHandler` does in the first process."""

        async def _background_serialize(self, values: Any, infos: Any, args: Any = None) -> None:
            async def write(value: np.ndarray, info: Any, arg: Any) -> None:
                await info.await_path_creation()
                specification = tensorstore_utils.build_array_write_spec(
                    info=info,
                    arg=arg,
                    global_shape=value.shape,
                    local_shape=value.shape,
                    dtype=value.dtype,
                    use_ocdbt=info.is_ocdbt_checkpoint,
                    process_index=jax.process_index(),
                )
                array = await tensorstore.open(
                    tensorstore.Spec(specification.json), create=True, context=info.ts_context
                )
                await array.write(value)

            await asyncio.gather(*map(write, values, infos, args))

    return EveryProcess


def _files(folder: Path) -> dict[str, list[int]]:
    """Size and checksum of every file below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            checksum = 0
            with path.open("rb") as file:
                while part := file.read(2**20):
                    checksum = zlib.crc32(part, checksum)
            found[path.relative_to(folder).as_posix()] = [path.stat().st_size, checksum]
    return found


def _unlike(saved: Mapping[str, list[int]], found: Mapping[str, list[int]]) -> str | None:
    """How the first file that is not as it was saved differs; None if all are."""
    for name in dict.fromkeys([*saved, *found]):
        one, other = saved.get(name), found.get(name)
        if one == other:
            continue
        if other is None:
            return f"{ARRAYS}/{name} is missing"
        if one is None:
            return f"{ARRAYS}/{name} does not belong to it"
        if one[0] != other[0]:
            return f"{ARRAYS}/{name} has {other[0]} bytes, not {one[0]}"
        return f"the checksum of {ARRAYS}/{name} is another"
    return None


def _checksum(value: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
