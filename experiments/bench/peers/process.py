"""The driver's end of a worker: starts it, asks for segments, and says clearly what went wrong."""

import contextlib
import json
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.bench.peers.workers.protocol import Segment

# Every program is compiled anew: a peer's start is timed, and so is ours.
CACHE_VARIABLES = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
_NUMBER = int | float
_SEGMENT = {
    "part": str,
    "environment_steps": int,
    "updates": int,
    "seconds": _NUMBER,
    "processor_seconds": _NUMBER,
}


class WorkerError(RuntimeError):
    """A worker that ended, fell silent or broke the protocol."""


class Worker:
    """A running worker; use it in a `with` statement.

    Args:
        name: What messages call it.
        command: Interpreter and script; the configuration comes after it.
        config: The worker's one argument.
        log: A new file for whatever it prints.
        timeout: Seconds that it may take for an answer.
        variables: Of its environment, beside ours without those of JAX's compilation cache.

    Attributes:
        start_seconds: From its start until it was ready: imports, compilation, filling the buffer,
            a first segment.
        versions: Of what it runs.
    """

    start_seconds: float
    versions: dict[str, str]

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        config: Mapping[str, Any],
        log: Path,
        timeout: float,
        variables: Mapping[str, str] | None = None,
    ):
        self.name, self._log, self._timeout = name, log, timeout
        self._start = time.perf_counter()
        environment = {k: v for k, v in os.environ.items() if k not in CACHE_VARIABLES}
        with log.open("xb") as errors:
            self._process = subprocess.Popen(
                [*command, json.dumps(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                env=environment | dict(variables or {}),
                cwd=log.parent,  # libraries leave logs where they run
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the worker: by the end of its input or, where that does not do, by force."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def wait_until_ready(self) -> None:
        """Waits until the worker has compiled everything.

        Raises:
            WorkerError: If it does not get there.
        """
        self.versions = self.answer("ready", {"versions": dict})["versions"]
        self.start_seconds = time.perf_counter() - self._start

    def run(self, part: str) -> Segment:
        """Asks for one segment and waits for it.

        Raises:
            WorkerError: If it does not come, or is of another part.
        """
        try:
            self._input.write(json.dumps({"run": part}).encode() + b"\n")
        except BrokenPipeError:
            raise WorkerError(self._ended()) from None
        answer = self.answer("segment", _SEGMENT)
        if answer["part"] != part:
            raise WorkerError(f"{self.name} got {part!r} to run and ran {answer['part']!r}")
        segment = Segment(**{name: answer[name] for name in Segment.__dataclass_fields__})
        if segment.environment_steps < 1 or segment.updates < 0 or not segment.seconds > 0:
            raise WorkerError(f"{self.name} reported an impossible segment: {segment}")
        return segment

    def answer(self, event: str, kinds: Mapping[str, Any]) -> dict[str, Any]:
        """Waits for the next thing that the worker says.

        Args:
            event: What it has to be.
            kinds: Its fields and their types.

        Raises:
            WorkerError: If something else comes, or nothing.
        """
        if not select.select([self._output], [], [], self._timeout)[0]:
            raise WorkerError(
                f"{self.name} said nothing for {self._timeout:g} s; its log is {self._log}"
            )
        if not (line := self._output.readline()):
            raise WorkerError(self._ended())
        try:
            answer = json.loads(line)
            if not isinstance(answer, dict):
                raise ValueError
        except ValueError:
            raise WorkerError(f"{self.name} said {line!r}, which is no JSON object") from None
        if answer.get("event") != event:
            raise WorkerError(f"{self.name} said {answer} where {event!r} was due")
        for name, kind in kinds.items():
            if not isinstance(answer.get(name), kind):
                raise WorkerError(f"{self.name} sent a {event} without a sound {name!r}: {answer}")
        return answer

    def _ended(self) -> str:
        status = self._process.wait()
        with self._log.open(errors="replace") as file:
            last = [line.strip() for line in deque(file, 20) if line.strip()]
        said = f": {last[-1]}" if last else ""
        return f"{self.name} ended with status {status}{said}; its log is {self._log}"
