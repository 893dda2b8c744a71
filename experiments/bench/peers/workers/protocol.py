"""What a worker and the driver say to each other: lines of JSON over the worker's pipes.

A worker gets one JSON object on its command line. It prepares, compiles and warms up, and says
`{"event": "ready", ...}`. For every line `{"run": PART}` it runs one segment of PART, times it and
says `{"event": "segment", "part": PART, ...}` with the fields of `Segment`. In between it waits in
a read, which takes no processor time. The end of its input ends it.

`PARTS` are `train` (collection and updates, as in training) and `collect` (no updates).
Only the standard library is imported here: the file runs in every worker's environment.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

PARTS = ("train", "collect")
# What every worker gets, beside fields of its own.
FIELDS = (
    "environment",
    "num_envs",
    "gradient_steps",
    "batch_size",
    "hidden_sizes",
    "replay_capacity",
    "learning_starts",
    "rounds",
    "collect_rounds",
    "segments",
)


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


def read_config(*own: str, shared: Collection[str] = FIELDS) -> dict[str, Any]:
    """The configuration on the command line: exactly the shared fields and the worker's own."""
    names = {*shared, *own}
    found = json.loads(sys.argv[1])
    missing, unknown = sorted(names - set(found)), sorted(set(found) - names)
    if missing or unknown:
        wrong = [f"{name} is missing" for name in missing]
        wrong += [f"{name} is unknown" for name in unknown]
        sys.exit(f"configuration: {', '.join(wrong)}; its fields are {', '.join(sorted(names))}")
    return found


class Channel:
    """The worker's end. Whatever else prints goes to standard error from here on."""

    def __init__(self) -> None:
        self._output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def ready(self, versions: Mapping[str, str]) -> None:
        """Says that everything is compiled and has run once."""
        self.say("ready", versions=dict(versions))

    def report(self, part: str, segment: Segment) -> None:
        """Says how long a segment took."""
        self.say("segment", part=part, **vars(segment))

    def serve(self, parts: Mapping[str, Callable[[], Segment]], hand_back: str = "") -> str | None:
        """Runs segments on request, until the end of the input.

        Args:
            parts: How a segment of each part is run.
            hand_back: A part that the caller runs itself: `serve` returns at a request for it.

        Returns:
            `hand_back`, or None at the end of the input.
        """
        for line in iter(sys.stdin.readline, ""):
            part = json.loads(line)["run"]
            if part == hand_back:
                return part
            self.report(part, parts[part]())
        return None

    def say(self, event: str, **values: Any) -> None:
        """Says anything; the driver has to be waiting for this event."""
        self._output.write(json.dumps({"event": event, **values}) + "\n")
        self._output.flush()


def timed(work: Callable[[], tuple[int, int]]) -> Callable[[], Segment]:
    """A segment of work that returns its environment steps and its updates."""

    def run() -> Segment:
        clock = Clock()
        return clock.segment(*work())

    return run


def serve(
    make_work: Callable[[dict[str, Any], int, int], Callable[[], tuple[int, int]]],
    packages: Collection[str],
    *own: str,
) -> None:
    """What a worker does whose two parts are alike.

    Args:
        make_work: `(configuration, steps of all environments, updates after each) -> work`,
            compiled and run once. It returns environment steps and updates of a segment.
        packages: Their versions are reported.
        own: Fields that the worker has beside the shared ones.
    """
    channel, sizes = Channel(), read_config(*own)
    train = make_work(sizes, sizes["rounds"], sizes["gradient_steps"])
    collect = make_work(sizes, sizes["collect_rounds"], 0)
    channel.ready(versions(*packages))
    channel.serve({"train": timed(train), "collect": timed(collect)})


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of installed packages."""
    import importlib.metadata
    import platform

    found = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found}
