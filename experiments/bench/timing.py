"""Times compiled programs side by side.

Alternatives run in one process, on the same data and from the same keys, interleaved (A B A B ...),
so that what else the machine does hits them alike; a ratio is the median over repetitions. Every
program is compiled ahead, and its compilation is reported apart.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache


@dataclass(frozen=True)
class Alternative:
    """A compiled program with its arguments: calling `run` does the same work every time.

    Attributes:
        name: Its name.
        run: Starts the work; the caller waits for the result.
        compile_seconds: Lowering and compiling both.
        runs: Side by side in the program; its times are those of one.
        scratch_bytes: Memory that the program needs beside arguments and results, where known.
    """

    name: str
    run: Callable[[], Any]
    compile_seconds: float = 0.0
    runs: int = 1
    scratch_bytes: int = 0


@dataclass(frozen=True)
class Measurement:
    """The times of one alternative.

    Attributes:
        name: Its name.
        seconds: Of one unit of work, the median over repetitions.
        ratio: Time over that of the first alternative in the same repetition, the median.
        smallest_ratio: The smallest one of any repetition.
        largest_ratio: The largest one.
        compile_seconds: Lowering and compiling both, once.
    """

    name: str
    seconds: float
    ratio: float
    smallest_ratio: float
    largest_ratio: float
    compile_seconds: float


@contextlib.contextmanager
def without_cache() -> Iterator[None]:
    """Compiles anew: a program from the cache on disk has no compilation to time."""
    configuration: Any = jax.config
    before = configuration.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def measure(
    alternatives: Sequence[Alternative],
    repetitions: int,
    units: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Measurement]:
    """Times alternatives in turn, A B A B ..., after one call of each that is not timed.

    Args:
        alternatives: What to time; ratios are to the first.
        repetitions: Timed calls of each.
        units: Units of work in a call.
        clock: Gives seconds: of the day, or of a processor.
    """
    for alternative in alternatives:
        jax.block_until_ready(alternative.run())
    seconds: list[list[float]] = [[] for _ in alternatives]
    for _ in range(repetitions):
        for alternative, times in zip(alternatives, seconds, strict=True):
            start = clock()
            jax.block_until_ready(alternative.run())
            times.append((clock() - start) / alternative.runs)
    measured = []
    for alternative, times in zip(alternatives, seconds, strict=True):
        ratios = [time / first for time, first in zip(times, seconds[0], strict=True)]
        measured.append(
            Measurement(
                alternative.name,
                statistics.median(times) / units,
                statistics.median(ratios),
                min(ratios),
                max(ratios),
                alternative.compile_seconds,
            )
        )
    return measured
