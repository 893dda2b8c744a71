"""What a worker and the driver say to each other: lines of JSON over the worker's pipes.

A worker gets one JSON object on its command line. It prepares, compiles and warms up, and says
`{"event": "ready", ...}`. For every line `{"run": PART}` it runs one segment of PART, times it and
says `{"event": "segment", "part": PART, ...}` with the fields of `Segment`. In between it waits in
a read, which takes no processor time. The end of its input ends it.

Parts are `train` (collection and updates, as in training) and `collect` (the same without updates).
Only the standard library is imported here: the file runs in every worker's environment.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Segment:
    """What was done in one timed segment.

    Attributes:
        environment_steps: Steps of all environments together.
        updates: Updates of the agent.
        seconds: What they took.
        processor_seconds: Of all threads of the process; on a busy machine the steadier number.
    """

    environment_steps: int
    updates: int
    seconds: float
    processor_seconds: float


class Clock:
    """Runs from its making."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def segment(self, environment_steps: int, updates: int) -> Segment:
        """What was done since, with the time that it took."""
        wall, processor = time.perf_counter(), time.process_time()
        return Segment(environment_steps, updates, wall - self._wall, processor - self._processor)


def settings(names: Collection[str]) -> dict[str, Any]:
    """The settings on the command line, which must have these names and no others."""
    parser = argparse.ArgumentParser(description="One contender of experiments.bench.peers.")
    parser.add_argument("settings", help="sizes, as a JSON object")
    found = json.loads(parser.parse_args().settings)
    missing, unknown = sorted(set(names) - set(found)), sorted(set(found) - set(names))
    if missing or unknown:
        wrong = [f"{name} is missing" for name in missing]
        wrong += [f"{name} is unknown" for name in unknown]
        sys.exit(f"settings: {', '.join(wrong)}; they are {', '.join(sorted(names))}")
    return found


class Channel:
    """The worker's end. Whatever else prints goes to standard error from here on."""

    def __init__(self) -> None:
        self._output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def ready(self, versions: Mapping[str, str]) -> None:
        """Says that everything is compiled and has run once."""
        self._say({"event": "ready", "versions": dict(versions)})

    def tell(self, part: str, segment: Segment) -> None:
        """Says how long a segment took."""
        self._say({"event": "segment", "part": part, **vars(segment)})

    def serve(self, parts: Mapping[str, Callable[[], Segment]], hand_back: str = "") -> str | None:
        """Runs what is asked for, until the end of the input.

        Args:
            parts: How a segment of each part is run.
            hand_back: A part that the caller runs itself: `serve` returns when it is asked for.

        Returns:
            `hand_back`, or None at the end of the input.
        """
        for line in iter(sys.stdin.readline, ""):
            part = json.loads(line)["run"]
            if part == hand_back:
                return part
            self.tell(part, parts[part]())
        return None

    def _say(self, values: Mapping[str, Any]) -> None:
        self._output.write(json.dumps(values) + "\n")
        self._output.flush()


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of installed packages."""
    import importlib.metadata
    import platform

    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found}
