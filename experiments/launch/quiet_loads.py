"""Lines that jaxlib prints for every program it loads on a CPU, and that say nothing: left out.

It compares the features that a program was compiled for with those of the processor, and two of
them, `prefer-no-gather` and `prefer-no-scatter`, are preferences of the compiler that no processor
lists. A line that names any other feature stays: that program is of another machine.
"""

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

_LINE = re.compile(
    rb"cpu_aot_loader\.cc:\d+\] .*Target machine feature \+prefer-no-(gather|scatter) is not "
)
_LOCK = threading.RLock()


@contextlib.contextmanager
def without_preferences() -> Iterator[None]:
    """Leaves those lines out of stderr; all else that any thread writes there comes afterwards.

    The lines come from C++, which knows the descriptor alone.
    """
    with _LOCK, contextlib.ExitStack() as opened:
        try:
            caught = opened.enter_context(tempfile.TemporaryFile())
            before = os.dup(2)
        except OSError:  # stderr is closed, or there is no place for a file
            yield
            return
        opened.callback(os.close, before)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            caught.seek(0)
            rest = b"".join(line for line in caught if not _LINE.search(line))
            with contextlib.suppress(OSError):  # nobody reads it
                while rest:
                    rest = rest[os.write(2, rest) :]


def quieten_cache() -> None:
    """Makes JAX's own cache load its programs without those lines, if its function is there."""
    try:
        from jax._src import compilation_cache

        load = compilation_cache.get_executable_and_time
    except (ImportError, AttributeError):
        return
    if not hasattr(load, "__wrapped__"):
        compilation_cache.get_executable_and_time = without_preferences()(load)
