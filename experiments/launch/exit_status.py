"""How a command ends: its exit status, and what is said of bad input and of Ctrl-C."""

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.text import Text

INTERRUPTED = 130  # as a shell counts Ctrl-C
FAILED = 1  # of several things that were to be done, some
BAD_INPUT = 2


def bad_input(error: Exception) -> int:
    """Says on one line of the error stream what was wrong.

    Returns:
        The exit status.
    """
    text = " ".join(str(error).split())
    Console(stderr=True, soft_wrap=True).print(Text(f"error: {text}", style="red"))
    return BAD_INPUT


@contextmanager
def second_interrupt_quits():
    """Lets the first Ctrl-C raise `KeyboardInterrupt`, and the second end the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals can be handled in the main thread alone
        return

    def second(*_: Any) -> None:
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # the bar hid the cursor
        os._exit(INTERRUPTED)

    def first(*_: Any) -> None:
        signal.signal(signal.SIGINT, second)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def leave(status: int) -> NoReturn:
    """Ends the process, at once after an interrupt.

    What was cut off then still computes in a thread, for nobody.
    """
    sys.stdout.flush()
    if status == INTERRUPTED:
        os._exit(status)
    sys.exit(status)
