"""How a command ends: its exit status, bad input, Ctrl-C, and what the system refuses."""

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec

import jax
from rich.console import Console
from rich.text import Text

from experiments.launch import output

P = ParamSpec("P")

INTERRUPTED = 130  # as a shell counts Ctrl-C
FAILED = 1  # some of several tasks failed, or the system refused a write
BAD_INPUT = 2

_NO_MEMORY = (
    "there is too little memory: free some, or take fewer --seeds, a smaller --replay-capacity or "
    "--tangent-dtype"
)


def bad_input(error: Exception) -> int:
    """Prints the error as one line on stderr.

    Returns:
        The exit status.
    """
    _print_error(str(error))
    return BAD_INPUT


def _print_error(text: str) -> None:
    # Names and contents of files may hold anything: a terminal would obey some of it.
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    Console(stderr=True, soft_wrap=True).print(Text(f"error: {text}", style="red"))


def command(main: Callable[P, int]) -> Callable[P, int]:
    """A command's `main` that ends in good order, whatever happens to it from outside.

    What cannot be printed is dropped, and the command goes on: in silence if a pipe was closed; if
    a device is full, a line on stderr says so at the end, and the status is 1 instead of 0. Ctrl-C,
    errors of the operating system and a lack of memory are a line on stderr.
    """

    @functools.wraps(main)
    def run(*arguments: P.args, **options: P.kwargs) -> int:
        with output.lasting() as printed:
            try:
                status = _guarded(lambda: main(*arguments, **options))
            except SystemExit as stopped:  # tyro: after --help, or for an unreadable flag
                printed.flush()
                if printed.lost and not stopped.code:
                    raise SystemExit(_report_lost(printed.lost)) from None
                raise
            printed.flush()
            return _report_lost(printed.lost, status) if printed.lost else status

    return run


def _guarded(main: Callable[[], int]) -> int:
    try:
        return main()
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted.")
        return INTERRUPTED
    except OSError as error:
        _print_error(str(error))
    except MemoryError:
        _print_error(_NO_MEMORY)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _print_error(f"{_NO_MEMORY} ({str(error).splitlines()[0]})")
    return FAILED


def _report_lost(why: str, status: int = 0) -> int:
    _print_error(f"not everything could be printed ({why}); files are as whole as without it")
    return status or FAILED


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
    if status == INTERRUPTED:
        os._exit(status)
    sys.exit(status)
