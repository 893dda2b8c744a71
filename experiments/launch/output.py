"""Standard output and errors that survive any encoding, closed pipes and full devices.

A run is worth more than its lines: what cannot be printed is dropped, and the run goes on.
"""

import contextlib
import errno
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO

# What stands for a character that an encoding lacks: of the same width where possible.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("–—−─━╸╺╴╶", "-"),
        **dict.fromkeys("│┃|", "|"),
        **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼╞╡╪", "+"),
        **dict.fromkeys("‘’", "'"),
        **dict.fromkeys("“”", '"'),
        **dict.fromkeys("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏•·", "*"),
        "∇": "d",
        "λ": "L",
        "γ": "g",
        "∞": "inf",
        "±": "+-",
        "×": "x",
        "→": ">",
        "≥": ">=",
        "≤": "<=",
        "…": ".",
        "≈": "~",
    }
)


def plain(text: str, encoding: str) -> str:
    """The text in characters that an encoding has."""
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return "".join(_encodable(character, encoding) for character in text)


def _encodable(character: str, encoding: str) -> str:
    decomposed = unicodedata.normalize("NFKD", character)[0]  # é is e with an accent
    for candidate in (character, character.translate(_PLAIN), decomposed):
        try:
            candidate.encode(encoding)
            return candidate
        except UnicodeEncodeError:
            continue
    return "?"


class Lasting:
    """A text stream whose writes never fail; all else is the wrapped stream's.

    Attributes:
        problem: The error of the first write that failed; None while all went well.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.problem: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes the text, or drops it."""
        if self.problem is None:
            try:
                self._stream.write(plain(text, self._stream.encoding or "utf-8"))
            except OSError as error:
                self._drop(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes all lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Writes what is buffered, or drops it."""
        if self.problem is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._drop(error)

    @property
    def lost(self) -> str:
        """Why something was not printed; empty if it was, or if its reader had enough."""
        if self.problem is None or self.problem.errno == errno.EPIPE:
            return ""
        return self.problem.strerror or str(self.problem)

    def _drop(self, error: OSError) -> None:
        self.problem = error
        # The stream still holds the text, and would fail again when the process ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def lasting() -> Iterator[Lasting]:
    """Makes both standard streams lasting; gives the output."""
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as opened:
        # A stream that was closed before the process began is None.
        out, err = (
            Lasting(opened.enter_context(open(os.devnull, "w")) if stream is None else stream)
            for stream in before
        )
        sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
        try:
            yield out
        finally:
            out.flush()
            err.flush()
            sys.stdout, sys.stderr = before
