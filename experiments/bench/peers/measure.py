"""Runs the contenders of a comparison in turn, and makes numbers of their segments."""

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.bench.peers.comparisons import OURS, Comparison, Contender
from experiments.bench.peers.process import Worker
from experiments.bench.peers.workers.protocol import PARTS, Segment
from experiments.launch.progress import Progress

Command = Callable[[str], Sequence[str]]


def measure_comparison(
    comparison: Comparison,
    repetitions: int,
    command_of: Command,
    folder: Path,
    timeout: float,
    progress: Progress,
) -> dict[str, Any]:
    """Times all contenders, A B A B ..., after each has compiled and run once.

    Contenders are processes of their own and start one after the other; between its turns each
    waits in a read.

    Args:
        comparison: What to compare.
        repetitions: Timed segments of each contender and part.
        command_of: `worker -> interpreter and script`.
        folder: Where logs go.
        timeout: Seconds that a worker may take for an answer.
        progress: Shows what is under way.

    Returns:
        What the file of results holds of it.

    Raises:
        WorkerError: If a worker ends, falls silent or breaks the protocol.
    """
    workers: list[Worker] = []
    segments = [{part: [] for part in PARTS} for _ in comparison.contenders]
    with contextlib.ExitStack() as stack:
        for index, one in enumerate(comparison.contenders):
            progress.phase(f"{comparison.name}: starting {one.label}")
            log = folder / f"{comparison.name}-{index}-{one.worker}.log"
            # Brax plans its whole training beforehand.
            config = {**one.config, "segments": repetitions}
            worker = Worker(one.label, command_of(one.worker), config, log, timeout)
            workers.append(stack.enter_context(worker))
            worker.wait_until_ready()
        for repetition in range(repetitions):
            progress.phase(f"{comparison.name}: round {repetition + 1} of {repetitions}")
            for part in PARTS:
                for worker, found in zip(workers, segments, strict=True):
                    found[part].append(worker.run(part))
    rows = list(map(_row, comparison.contenders, workers, segments))
    values = {name: value for name, value in vars(comparison).items() if name != "contenders"}
    return {**values, "contenders": rows, "ratio": ratio(rows)}


def ratio(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Steps per second of our fastest contender over those of the peer's fastest.

    Args:
        rows: Of `measure_comparison`.

    Returns:
        The two labels; median, smallest and largest of the ratio over rounds; and the median of the
        same ratio in processor time, of all cores together.
    """

    def fastest(ours: bool) -> Mapping[str, Any]:
        chosen = [row for row in rows if (row["worker"] == OURS) == ours]
        return max(chosen, key=lambda row: row["steps_per_second"])

    ours, peer = fastest(True), fastest(False)

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


def _row(contender: Contender, worker: Worker, segments: Mapping[str, list[Segment]]) -> Any:
    def per_step(part: str, seconds: str) -> float:
        return statistics.median(getattr(s, seconds) / s.environment_steps for s in segments[part])

    train, collect = (per_step(part, "processor_seconds") for part in PARTS)
    share = segments["train"][0].updates / segments["train"][0].environment_steps
    return {
        **asdict(contender),
        "versions": worker.versions,
        "start_seconds": worker.start_seconds,
        "steps_per_second": 1.0 / per_step("train", "seconds"),
        "steps_per_processor_second": 1.0 / train,
        "updates_per_environment_step": share,
        # Processor time: steadier than the wall's, where it is divided by a difference.
        "processor_us_per_collected_step": 1e6 * collect,
        # What training takes longer than collecting alone; with its noise it may be below zero.
        "processor_ms_per_update": 1e3 * (train - collect) / share if share else None,
        "segments": {part: [vars(s) for s in found] for part, found in segments.items()},
    }
