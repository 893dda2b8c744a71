"""How much memory a sweep needs: measured from the compiled program."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax

from experiments.launch.memory import Budget, in_words
from experiments.launch.program import Program, call, size_of


@dataclass(frozen=True)
class Need:
    """Memory that a compiled program takes while it trains, in bytes.

    Attributes:
        device: On each device, as the compiler reports.
        host: On the host: the copy of the state that a checkpoint is written from or read into,
            and the runs' policies, twice while the newer ones are fetched.
        state: The training state of all runs, which is the size of a checkpoint.
        devices: Devices that the program runs on.
        shared: Whether devices are parts of the host's processor and share its memory.
    """

    device: int
    host: int
    state: int
    devices: int
    shared: bool

    @property
    def total(self) -> int:
        """Of all devices and, if they share its memory, of the host."""
        return self.device * self.devices + (self.host if self.shared else 0)

    def share(self, budget: Budget) -> float:
        """The share of a budget that it takes; at most 1 fits."""
        if self.shared:
            return self.total / max(budget.host, 1)
        return max(self.device / max(budget.device, 1), self.host / max(budget.host, 1))


@dataclass(frozen=True)
class Plan:
    """A compiled program that fits in memory, and its shards.

    Attributes:
        program: The program of every shard.
        need: The memory that it takes.
        budget: The memory that it may take.
        shards: The runs of each shard, in order; none has more than the program's width.
    """

    program: Program
    need: Need
    budget: Budget
    shards: tuple[range, ...]

    @property
    def runs(self) -> int:
        """Number of runs in all shards."""
        return sum(map(len, self.shards))

    def to_json(self) -> dict[str, Any]:
        """The numbers, as `plan.json` holds them."""
        return {
            "runs": self.runs,
            "width": self.program.width,
            "shards": [[runs.start, runs.stop] for runs in self.shards],
            "need": asdict(self.need),
            "budget": asdict(self.budget),
        }

    def summary(self) -> tuple[str, str]:
        """A line on a run's memory, and one on the number of shards."""
        per, width = self.need.total / self.program.width, self.program.width
        free = self.budget.host if self.need.shared else self.budget.device
        fits = int(width / self.need.share(self.budget))
        each = "" if self.need.shared or self.need.devices == 1 else " on each device"
        takes = (
            f"A run takes {in_words(per)} (measured from the program compiled for {width}); "
            f"{in_words(free)} {self.budget.source}{each}: {fits:,} fit."
        )
        if len(self.shards) == 1:
            return takes, f"All {self.runs:,} runs are one program."
        return takes, (
            f"{self.runs:,} runs are {len(self.shards)} shards of up to {width}, one after "
            "another, by one program."
        )


def measure(training: Any, program: Program, devices: int, checkpoints: bool, hypers: Any) -> Need:
    """Measures the memory that a program takes.

    Args:
        training: The training that it was compiled from.
        program: The program.
        devices: Devices that it runs on.
        checkpoints: Whether the state is copied for checkpoints.
        hypers: Hyperparameters of any runs.

    Raises:
        ValueError: If the compiler does not report it.
    """
    if program.memory is None:
        raise ValueError("this device's compiler does not say how much memory a program takes")
    one = jax.tree.map(lambda leaf: leaf[0], hypers)
    state = jax.eval_shape(training.init, jax.random.key(0), one)
    whole = program.memory.state * devices
    shared = jax.default_backend() == "cpu"
    host = 2 * size_of(jax.eval_shape(training.policy, state)) * program.width
    if checkpoints:
        # Reading a checkpoint holds three copies: as stored, padded, and on the program's devices.
        reading = 3 * whole - program.memory.peak * devices if shared else 2 * whole
        host += max(whole, reading)
    return Need(program.memory.peak, host, whole, devices, shared)


def make_plan(
    compile_for: Callable[[int], Program],
    need_of: Callable[[Program], Need],
    find_budget: Callable[[], Budget],
    runs: range,
    smallest_state: int,
    devices: int = 1,
    width: int | None = None,
    at_most: int | None = None,
) -> Plan:
    """Compiles for all runs or, if they do not fit, for as many as do.

    Args:
        compile_for: Compiles for a number of runs.
        need_of: Measures a compiled program.
        find_budget: Measures free memory at the time of the call: compiling takes memory too.
        runs: Number of runs in all.
        smallest_state: Bytes of one run's state, a lower bound on its memory.
        devices: Runs come in multiples of it.
        width: Compile for exactly this many runs; None to find the width.
        at_most: Upper limit of the width.

    Raises:
        ValueError: If not even one run for each device fits, or `width` does not.
    """
    least = devices if width is None else width
    if width is None:
        # An upper bound, whatever the compiler does.
        budget = find_budget()
        most = int(budget.device / max(smallest_state, 1)) * devices
        if not most:
            takes = "the state of a run alone takes"
            raise _too_little(takes, smallest_state, budget.device, budget)
        width = _equal_parts(len(runs), min(len(runs), most, at_most or most), devices)
    while True:
        program = call(compile_for, width)
        need, budget = need_of(program), find_budget()
        share = need.share(budget)
        if share <= 1:
            shards = (runs[start : start + width] for start in range(0, len(runs), width))
            return Plan(program, need, budget, tuple(shards))
        if width <= least:
            free = budget.host if need.shared else budget.device
            takes = "a run takes" if width == 1 else f"{width} runs at once take"
            raise _too_little(takes, need.total, free, budget)
        fitting = max(int(width / share) // devices, 1) * devices
        width = _equal_parts(len(runs), min(fitting, width - devices), devices)


def _too_little(takes: str, needed: int, free: int, budget: Budget) -> ValueError:
    return ValueError(
        f"{takes} {in_words(needed)}, but {in_words(free)} {budget.source}: free memory, or start "
        "a sweep with a smaller --replay-capacity or --tangent-dtype"
    )


def _equal_parts(runs: int, most: int, devices: int) -> int:
    """The smallest multiple of `devices` that needs no more parts than `most` does."""
    most = max(most // devices, 1) * devices
    parts = -(-runs // most)
    each = -(-runs // parts)
    return -(-each // devices) * devices
