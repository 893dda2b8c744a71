"""What several test files share; how tests are compiled, shared out to processes and counted."""

import functools
import gc
import os
import threading
import time
from pathlib import Path

import jax
import pytest
from xdist.scheduler import LoadFileScheduling

from experiments.launch.devices import flags_to_compile_quickly

# As `make test` has it: commands under test would otherwise make a cache where they are called.
_CACHE = os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".cache" / "jax")
)
jax.config.update("jax_compilation_cache_dir", _CACHE)
_STARTED = pytest.StashKey[float]()
_QUICKLY = flags_to_compile_quickly()
# Files that compile the same environments, or the same training, as one.
_TOGETHER = {
    f"tests/envs/test_{name}.py": "environments"
    for name in ("derivatives", "host_engine", "mujoco", "protocol")
} | {
    f"tests/experiments/{name}.py": "trainings"
    for name in ("test_train", "launch/test_checkpoints", "launch/test_resume")
}
# What takes longest begins first, or one process would be left with it at the end.
_FIRST = ("tests/envs", "tests/sobolax/mjx")


class _Scheduling(LoadFileScheduling):
    """Whole files to a process, as their fixtures are compiled, and some files together."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return _TOGETHER.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.option.dist == "loadfile":
        config.option.loadscopereorder = False
        return _Scheduling(config, log)
    return None


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.nodeid.startswith(_FIRST))


def _keep_contexts():
    """Keeps MLIR's context, one in every thread, but for those within another one.

    JAX makes one for every program, with all dialects: 6 of the 20 ms that a program of one
    operation takes to compile, and the tests compile some thousands. Where a JAX has no such
    function, they take that much longer.
    """
    try:
        from jax._src.interpreters import mlir
        from jax._src.lib.mlir import ir

        make = mlir.make_ir_context
    except (ImportError, AttributeError):
        return
    kept = threading.local()

    @functools.wraps(make)
    def get():
        if ir.Context.current is not None:
            return make()
        if not hasattr(kept, "context"):
            kept.context = make()
        return kept.context

    mlir.make_ir_context = get


def pytest_configure(config):
    config.stash[_STARTED] = time.monotonic()
    # Tracing makes millions of objects that live on: looking through them again and again for
    # cycles, of which there are few, takes a sixteenth of the time.
    gc.set_threshold(1_000_000, 20, 100)
    # A fast test runs its programs a few times: optimising them costs more than it saves. Processes
    # that tests start inherit this; the slow tests run what users run.
    flags = os.environ.get("XLA_FLAGS", "")
    if "not slow" in config.option.markexpr and _QUICKLY not in flags:
        os.environ["XLA_FLAGS"] = f"{_QUICKLY} {flags}"
        _keep_contexts()


def pytest_unconfigure(config):
    """Ends the output with a line such as `Tests: 868 passed, 12 skipped in 5 min 12 s`."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or reporter is None:
        return
    kinds = ("failed", "error", "passed", "skipped", "xfailed")
    counts = [f"{len(reporter.stats[kind])} {kind}" for kind in kinds if kind in reporter.stats]
    if counts:
        minutes, seconds = divmod(round(time.monotonic() - config.stash[_STARTED]), 60)
        reporter.write_line(f"Tests: {', '.join(counts)} in {minutes} min {seconds} s")


@pytest.fixture
def float64():
    """Runs a test in double precision, where rounding hides nothing."""
    with jax.enable_x64(True):
        yield
