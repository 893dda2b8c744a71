"""How a command ends: its exit status, bad input and Ctrl-C."""

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.text import Text

INTERRUPTED = 130  # as a shell counts Ctrl-C
FAILED = 1  # some of several tasks failed
BAD_INPUT = 2


def bad_input(error: Exception) -> int:
    """Prints the error as one line on stderr.

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
        yield  # only the main thread can handle signals
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

    An interrupted computation may still run in a thread; its result is not needed.
    """
    sys.stdout.flush()
    if status == INTERRUPTED:
        os._exit(status)
    sys.exit(status)
