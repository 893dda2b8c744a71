"""Compiled programs that a later start loads, without tracing: keys, files, and what goes wrong.

JAX's own cache of compiled programs is asked with a traced program, and tracing physics in Python
takes longer than all that it saves. So a training's executables are kept under a key that needs no
tracing: the source code of this project, versions, device, flags, configuration, shapes.

    programs/DIGEST       an executable, by the text of its program: the same after another change
    programs/KEY-learn    which of them a training takes

As with JAX's cache, loading runs what the folder holds: files of another user are not loaded, and
nobody else should be able to write there.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pickle
import platform
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import psutil
from jax._src.config import persistent_cache_min_compile_time_secs
from jax.experimental import serialize_executable

import envs
from experiments.launch import provenance
from experiments.launch.quiet_loads import without_preferences

#: Beside JAX's compiled programs.
FOLDER = "programs"
_FORMAT = 1
_MOST_BYTES, _MOST_FILES = 2**30, 200
_VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy", "mujoco", "mujoco-mjx", "gymnasium")
_VARIABLES = ("JAX_", "XLA_", "LIBTPU_", "CUDA_", "NVIDIA_", "TF_")
_PATHS = ("JAX_COMPILATION_CACHE_DIR",)


class NotKept(Exception):
    """A program that cannot be loaded or kept; the message says why."""


@dataclass(frozen=True)
class Kept:
    """The programs of one training that are kept, or will be.

    Attributes:
        folder: Where they lie.
        key: Distinguishes this training's programs from all others.
        setting: Distinguishes machines, versions and flags, for executables of the same text.
    """

    folder: Path
    key: str
    setting: str = ""
    _made: dict[str, tuple[str, bool]] = field(default_factory=dict, compare=False, repr=False)

    def link(self, name: str) -> Path:
        """The file that says which executable a program is."""
        return self.folder / f"{self.key}-{name}"

    @property
    def state_bytes(self) -> int | None:
        """Bytes of the training's state on each device; None if nothing is kept."""
        try:
            return int(json.loads(_read(self.link("init")))["state_bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def load(self, name: str) -> Any:
        """A compiled program; None if it is not kept.

        Raises:
            NotKept: If what is kept cannot be used.
        """
        path = self.link(name)
        try:
            linked = json.loads(_read(path))
            if (linked["key"], linked["name"]) != (self.key, name):
                raise ValueError("it is of another program")
            path = self.folder / str(linked["digest"])
            return _load(path)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever it is, the program can be traced
            raise NotKept(f"{path} cannot be used ({_one_line(error)})") from error

    def load_all(self, names: Sequence[str], tell: Callable[[str], None]) -> dict[str, Any] | None:
        """All of these programs; None, with a line said, if one of them cannot be used."""
        try:
            found = {name: self.load(name) for name in names}
        except NotKept as error:
            tell(f"{error}: tracing and compiling anew")
            return None
        return None if None in found.values() else found

    def compile(self, name: str, lowered: Any, options: Mapping[str, Any]) -> Any:
        """Compiles a lowered program, or loads what was compiled of the same text."""
        # The text lacks arguments that are not used, and the names of all.
        call = [str(part) for part in (lowered.args_info, lowered.in_tree, lowered.out_tree)]
        about = (self.setting, name, sorted(options.items()), call, lowered.as_text())
        digest = hashlib.sha256(repr(about).encode()).hexdigest()[:40]
        with contextlib.suppress(Exception):  # damaged ones are replaced
            compiled = _load(self.folder / digest)
            self._made[name] = digest, False
            return compiled
        compiled, fresh = _compile(lowered, options)
        if fresh:
            self._made[name] = digest, True
        return compiled

    def save(self, name: str, compiled: Any, state_bytes: int = 0) -> None:
        """Keeps what `compile` returned, whole or not at all.

        Args:
            name: Of the program.
            compiled: The program.
            state_bytes: See the property.

        Raises:
            NotKept: If it cannot be kept: it calls Python, a source file was edited while it was
                traced, or the disk is full.
        """
        if name not in self._made:
            return
        digest, fresh = self._made[name]
        try:
            if _edited():
                raise ValueError("a source file was edited after this process began")
            if fresh:
                if _calls_python(compiled):
                    raise ValueError("it calls Python")
                payload, arguments, results = serialize_executable.serialize(compiled)
                trees = [jax.tree.unflatten(t, range(t.num_leaves)) for t in (arguments, results)]
                _write(
                    self.folder / digest,
                    pickle.dumps((digest, _devices_of(compiled), payload, *trees)),
                )
            linked = {
                "key": self.key,
                "name": name,
                "digest": digest,
                "state_bytes": state_bytes,
            }
            _write(self.link(name), json.dumps(linked).encode())
            _remove_old(self.folder)
        except Exception as error:  # a training is worth more than its second start
            raise NotKept(
                f"the compiled program {name} is not kept for a later start ({_one_line(error)})"
            ) from error

    def save_all(
        self,
        programs: Mapping[str, Callable[[], Any]],
        state_bytes: int,
        tell: Callable[[str], None],
    ) -> None:
        """Keeps programs that may still compile: functions that wait for them."""
        try:
            for name, program in programs.items():
                self.save(name, program(), state_bytes)
        except NotKept as error:
            tell(str(error))


def find(env: str, identity: Mapping[str, Any], arguments: Any, devices: int) -> Kept | None:
    """The kept programs of a training; None where programs cannot be told apart, or are not kept.

    A file that is edited while the process starts may be imported before and hashed after: then
    nothing is kept.

    Args:
        env: The environment's name. Only this project's own are known by their source.
        identity: Whatever else shapes the programs: agent, configuration, as JSON.
        arguments: Of the first program: their structure, shapes and types count.
        devices: Over which they are laid out.
    """
    where = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    switched_on = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    if not where or not switched_on or "://" in where or jax.process_count() > 1:
        return None
    versions = _versions()
    if not envs.is_own(env) or versions is None or _edited():
        return None
    shapes = [(str(leaf.shape), str(leaf.dtype)) for leaf in jax.tree.leaves(arguments)]
    program = {
        "env": env,
        "identity": identity,
        "structure": str(jax.tree.structure(arguments)),
        "shapes": shapes,
        "devices": devices,
        "source": provenance.source(),
    }
    setting = {
        "format": _FORMAT,
        "machine": _machine(),
        "versions": versions,
        "flags": {name: repr(value) for name, value in sorted(jax.config.values.items())},
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(_VARIABLES) and name not in _PATHS
        },
    }
    del setting["flags"]["jax_compilation_cache_dir"]
    return Kept(Path(where) / FOLDER, _digest([setting, program]), _digest(setting))


def _digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _compile(lowered: Any, options: Mapping[str, Any]) -> tuple[Any, bool]:
    """The compiled program, and whether it is fresh: not from JAX's cache, nor put there.

    On CPU an executable that was loaded cannot be kept again: its functions are lost.
    """
    thread, found = threading.get_ident(), []

    def listen(event: str, **_: Any) -> None:
        if event.endswith("/cache_hits") and threading.get_ident() == thread:
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        with persistent_cache_min_compile_time_secs(float("inf")):
            compiled = lowered.compile(dict(options))
    finally:
        jax.monitoring.unregister_event_listener(listen)
    return compiled, not found


def _read(path: Path) -> bytes:
    """The content of a file, less its checksum; ValueError if it is another, or another user's."""
    if hasattr(os, "getuid") and path.stat().st_uid not in (os.getuid(), 0):
        raise ValueError("it belongs to another user")
    checksum, _, content = path.read_bytes().partition(b"\n")
    if checksum.decode("ascii", "replace") != hashlib.sha256(content).hexdigest():
        raise ValueError("its checksum is another")
    return content


def _write(path: Path, content: bytes) -> None:
    """Writes a file with a checksum, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix="new-", delete=False) as file:
        try:
            file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _load(path: Path) -> Any:
    """A compiled program; any error if it is not there, or damaged."""
    digest, numbers, payload, arguments, results = pickle.loads(_read(path))
    if digest != path.name:
        raise ValueError("it is another program")
    present = {device.id: device for device in jax.local_devices()}
    with without_preferences():
        compiled = serialize_executable.deserialize_and_load(
            payload,
            jax.tree.structure(arguments),
            jax.tree.structure(results),
            execution_devices=[present[number] for number in numbers],
        )
    with contextlib.suppress(OSError):
        os.utime(path)  # the least recently used is removed first
    return compiled


def _versions() -> dict[str, str] | None:
    """Of all that programs are traced with; None if one of them is a working copy."""
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if '"editable": true' in (distribution.read_text("direct_url.json") or ""):
            return None
        found[name] = distribution.version
    return found


def _edited() -> bool:
    """Whether a file of this project is newer than this process, which may have imported another.

    Up to a second of the time before the process counts too: the system rounds when it began.
    """
    start = psutil.Process().create_time() - 1
    try:
        return any(path.stat().st_mtime >= start for path in provenance.source_files().values())
    except FileNotFoundError:  # removed just now
        return True


def _machine() -> list[str]:
    """What compiled programs run on: an executable for another processor may not."""
    device = jax.devices()[0]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return [*_device(device), hashlib.sha256(line.encode()).hexdigest()]
    return [*_device(device), platform.processor(), platform.node()]


def _device(device: Any) -> list[str]:
    runtime = str(getattr(device.client, "platform_version", ""))
    where = [device.platform, device.device_kind, platform.machine(), platform.system()]
    return [*where, runtime, str(os.cpu_count())]


def _devices_of(compiled: Any) -> list[int]:
    """Numbers of the devices that a program runs on."""
    found = jax.tree.leaves((compiled.input_shardings, compiled.output_shardings))
    return sorted({device.id for sharding in found for device in sharding.device_set})


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _calls_python(compiled: Any) -> bool:
    """Whether a program needs this very process: functions that it calls back."""
    unloaded = getattr(compiled._executable, "_unloaded_executable", None)
    parts = ("host_callbacks", "keepalive", "ordered_effects", "unordered_effects")
    return any(getattr(unloaded, part, None) for part in parts)


def _remove_old(folder: Path) -> None:
    """Removes the least recently used files, beyond a size and a number."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    left = 0
    for count, (_, size, path) in enumerate(sorted(found, reverse=True), 1):
        left += size
        if left > _MOST_BYTES or count > _MOST_FILES:
            with contextlib.suppress(OSError):
                path.unlink()
