"""Runs the contenders of a comparison in turn, and makes numbers of what they tell."""

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.bench.peers.comparisons import OURS, Comparison, Contender
from experiments.bench.peers.process import Worker
from experiments.bench.peers.workers.protocol import Segment

Tell = Callable[[str], None]
Command = Callable[[str], Sequence[str]]

PARTS = ("train", "collect")


def measure(
    comparison: Comparison,
    repetitions: int,
    command: Command,
    folder: Path,
    timeout: float,
    tell: Tell,
) -> dict[str, Any]:
    """Times all contenders, A B A B ..., after each has compiled and run once.

    Contenders are processes of their own and start one after the other; who is not asked waits in
    a read.

    Args:
        comparison: What to compare.
        repetitions: Timed segments of each contender and part.
        command: `worker -> interpreter and script`.
        folder: Where logs go.
        timeout: Seconds that a worker may take for an answer.
        tell: Is told what is under way.

    Returns:
        What the file of results holds of it.

    Raises:
        WorkerError: If a worker ends, falls silent or says what it should not.
    """
    contenders = comparison.contenders
    segments: list[dict[str, list[Segment]]] = [{part: [] for part in PARTS} for _ in contenders]
    with contextlib.ExitStack() as stack:
        workers, started = [], []
        for index, contender in enumerate(contenders):
            tell(f"{comparison.name}: starting {contender.label}")
            log = folder / f"{comparison.name}-{index}-{contender.worker}.log"
            worker = stack.enter_context(
                Worker(contender.label, command(contender.worker), contender.settings, log, timeout)
            )
            started.append(worker.ready())
            workers.append(worker)
        for repetition in range(repetitions):
            tell(f"{comparison.name}: round {repetition + 1} of {repetitions}")
            for part in PARTS:
                for worker, found in zip(workers, segments, strict=True):
                    found[part].append(worker.run(part))
    rows = [
        _row(contender, ready.seconds, ready.versions, found)
        for contender, ready, found in zip(contenders, started, segments, strict=True)
    ]
    return {
        "name": comparison.name,
        "title": comparison.title,
        "peer": comparison.peer,
        "note": comparison.note,
        "contenders": rows,
        "ratio": ratio(rows),
    }


def ratio(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Steps per second of our fastest contender over those of the peer's fastest.

    Args:
        rows: Of `measure`.

    Returns:
        The two labels; median, smallest and largest of the ratio over rounds; and the median of the
        same ratio in processor time, of all cores together.
    """

    def fastest(chosen: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        return max(chosen, key=lambda row: row["steps_per_second"])

    ours = fastest([row for row in rows if row["worker"] == OURS])
    peer = fastest([row for row in rows if row["worker"] != OURS])

    def over_rounds(seconds: str) -> list[float]:
        return [
            (a["environment_steps"] / a[seconds]) / (b["environment_steps"] / b[seconds])
            for a, b in zip(ours["segments"]["train"], peer["segments"]["train"], strict=True)
        ]

    found = over_rounds("seconds")
    return {
        "ours": ours["label"],
        "peer": peer["label"],
        "median": statistics.median(found),
        "smallest": min(found),
        "largest": max(found),
        "processor": statistics.median(over_rounds("processor_seconds")),
    }


def _row(
    contender: Contender,
    start_seconds: float,
    versions: Mapping[str, str],
    segments: Mapping[str, Sequence[Segment]],
) -> dict[str, Any]:
    def per_step(part: str, seconds: str) -> float:
        return statistics.median(getattr(s, seconds) / s.environment_steps for s in segments[part])

    train, collect = (per_step(part, "processor_seconds") for part in PARTS)
    share = segments["train"][0].updates / segments["train"][0].environment_steps
    return {
        "label": contender.label,
        "worker": contender.worker,
        "settings": dict(contender.settings),
        "versions": dict(versions),
        "start_seconds": start_seconds,
        "steps_per_second": 1.0 / per_step("train", "seconds"),
        "steps_per_processor_second": 1.0 / train,
        "updates_per_environment_step": share,
        # Processor time: steadier than the wall's, where it is divided by a difference.
        "processor_seconds_per_collected_step": collect,
        # What training takes longer than collecting alone; with its noise it may be below zero.
        "processor_seconds_per_update": (train - collect) / share if share else None,
        "segments": {part: [vars(s) for s in found] for part, found in segments.items()},
    }
