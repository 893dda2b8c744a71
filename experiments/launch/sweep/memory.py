"""How much memory a sweep needs and how much there is: measured from the compiled program."""

import re
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import psutil

from experiments.launch.program import Program, call, size_of

# Of the memory that is free, what a sweep takes: others use the machine too, allocators round up.
_SHARE = {"cpu": 0.85, "other": 0.95}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True)
class Need:
    """What a compiled program takes while it trains, in bytes.

    Attributes:
        device: On each device, what the compiler states.
        host: In the host's memory: the copy of the state that a checkpoint is written from, or
            read into, and the members' policies, twice while the newer ones are fetched.
        state: Of the training state of all members, which is the size of a checkpoint.
        devices: Devices that the program runs on.
        shared: Whether devices are parts of the host's processor, and all is the host's memory.
    """

    device: int
    host: int
    state: int
    devices: int
    shared: bool

    def share(self, budget: "Budget") -> float:
        """How much of a budget it takes; at most 1 fits."""
        if self.shared:
            return self.total / max(budget.host, 1)
        return max(self.device / max(budget.device, 1), self.host / max(budget.host, 1))

    @property
    def total(self) -> int:
        """Of all devices and, where it is the same memory, of the host."""
        return self.device * self.devices + (self.host if self.shared else 0)


@dataclass(frozen=True)
class Budget:
    """What a sweep may take, in bytes.

    Attributes:
        device: On each device.
        host: Of the host's memory.
        asked: Whether `--memory` said so.
    """

    device: int
    host: int
    asked: bool = False


@dataclass(frozen=True)
class Plan:
    """A compiled program that fits, and how often it has to run.

    Attributes:
        program: It serves every shard.
        need: What it takes.
        budget: What it may take.
        members: Members of the whole sweep.
        shards: The members of each shard, in order; none has more than the program's width.
    """

    program: Program
    need: Need
    budget: Budget
    members: int
    shards: tuple[range, ...]

    def described(self) -> dict[str, Any]:
        """The numbers, as JSON holds them."""
        return {
            "members": self.members,
            "width": self.program.width,
            "shards": [[part.start, part.stop] for part in self.shards],
            "need": asdict(self.need),
            "budget": asdict(self.budget),
        }

    def told(self) -> list[str]:
        """What a person wants to know before it starts."""
        per, width = self.need.total / self.program.width, self.program.width
        free = self.budget.host if self.need.shared else self.budget.device
        fits = int(width / self.need.share(self.budget))
        whose = "is what --memory says" if self.budget.asked else "may be taken"
        each = "" if self.need.shared or self.need.devices == 1 else " on each device"
        lines = [
            f"A run takes {in_words(per)} (measured from the program compiled for {width}); "
            f"{in_words(free)} {whose}{each}: {fits:,} fit."
        ]
        if len(self.shards) == 1:
            lines.append(f"All {self.members:,} runs are one program.")
        else:
            lines.append(
                f"{self.members:,} runs are {len(self.shards)} shards of up to {width}, one after "
                "another, by one program."
            )
        return lines


def measure(training: Any, program: Program, devices: int, checkpoints: bool, hypers: Any) -> Need:
    """What a program takes.

    Args:
        training: What it was compiled from.
        program: The program.
        devices: Devices that it runs on.
        checkpoints: Whether the state is copied for checkpoints.
        hypers: Hyperparameters of any members.

    Raises:
        ValueError: If the compiler does not say.
    """
    if program.memory is None:
        raise ValueError("this device's compiler does not say how much memory a program takes")
    one = jax.tree.map(lambda leaf: leaf[0], hypers)
    state = jax.eval_shape(training.init, jax.random.key(0), one)
    policy = size_of(jax.eval_shape(training.policy, state)) * program.width
    whole = program.memory.state * devices
    shared = jax.default_backend() == "cpu"
    host = 2 * policy
    if checkpoints:
        # Reading one holds it as it was stored, filled up, and where the program takes it.
        reading = 3 * whole - program.memory.peak * devices if shared else 2 * whole
        host += max(whole, reading)
    return Need(program.memory.peak, host, whole, devices, shared)


def find_budget(
    devices: int, asked: int | None = None, sharers: int = 1, limit: int | None = None
) -> Budget:
    """What may be taken now.

    Args:
        devices: How many are used; a processor's share its memory.
        asked: Bytes of the processor's memory, or of each other device's; None for what is free.
        sharers: How many processes like this one share the host's memory; devices are their own.
        limit: Bytes of the host's memory that each of them may hold in all; None for its part.

    Raises:
        ValueError: If there is less than that, or a device does not say how much it has.
    """
    free = _own_part(free_memory(), sharers, limit)
    if jax.default_backend() == "cpu":
        _refuse_more(asked, free)
        whole = int(_SHARE["cpu"] * free) if asked is None else asked
        return Budget(whole // devices, whole, asked is not None)
    left = []
    for device in jax.local_devices()[:devices]:
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            left.append(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    if asked is None and not left:
        raise ValueError("this device does not say how much memory it has: say so with --memory")
    if left:
        _refuse_more(asked, min(left))
    each = int(_SHARE["other"] * min(left)) if asked is None else asked
    return Budget(each, int(_SHARE["cpu"] * free), asked is not None)


def _own_part(free: int, sharers: int, limit: int | None) -> int:
    """What is left for this one of the processes, all of which hold what this one holds."""
    if sharers == 1 and limit is None:
        return free
    held = largest_held()
    each = (free + held) // sharers
    return max((each if limit is None else min(each, limit)) - held, 0)


def largest_held() -> int:
    """The most bytes that this process has held so far, the compiler's work included."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _refuse_more(asked: int | None, free: int) -> None:
    if asked is not None and asked > free:
        raise ValueError(
            f"--memory {in_words(asked)} is more than the {in_words(free)} that are free: ask for "
            "less, or leave it out"
        )


def free_memory() -> int:
    """Bytes of the host's memory that a process may still take, a container's limit included."""
    free = psutil.virtual_memory().available
    for limit, used in _CGROUPS:
        try:
            left = int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
        free = min(free, max(left, 0))
    return free


def make_plan(
    compile_for: Callable[[int], Program],
    need_of: Callable[[Program], Need],
    budget: Callable[[], Budget],
    members: int,
    smallest_state: int,
    devices: int = 1,
    width: int | None = None,
    at_most: int | None = None,
) -> Plan:
    """Compiles for all members or, where that does not fit, for as many as do.

    Args:
        compile_for: Compiles for so many members.
        need_of: Measures a compiled program.
        budget: Says what may be taken, at the time of asking: compiling takes memory too.
        members: Of the whole sweep.
        smallest_state: Bytes of one member's state, which nothing can do without.
        devices: Members come in multiples of it.
        width: Compile for so many and no other number; None to find it.
        at_most: Compile for no more than that, whatever fits.

    Raises:
        ValueError: If not even one member for each device fits, or `width` does not.
    """
    least = devices if width is None else width
    if width is None:
        # More than this cannot fit, whatever the compiler makes of it.
        limit = budget()
        most = int(limit.device / max(smallest_state, 1)) * devices
        if not most:
            raise _too_little("the state of a run alone takes", smallest_state, limit.device, limit)
        width = _equal_parts(members, min(members, most, at_most or members), devices)
    while True:
        program = call(compile_for, width)
        need, limit = need_of(program), budget()
        share = need.share(limit)
        if share <= 1:
            shards = [
                range(start, min(start + width, members)) for start in range(0, members, width)
            ]
            return Plan(program, need, limit, members, tuple(shards))
        if width <= least:
            free = limit.host if need.shared else limit.device
            takes = "a run takes" if width == 1 else f"{width} runs at once take"
            raise _too_little(takes, need.total, free, limit)
        fitting = max(int(width / share) // devices, 1) * devices
        width = _equal_parts(members, min(fitting, width - devices), devices)


def _too_little(takes: str, needed: int, free: int, budget: Budget) -> ValueError:
    return ValueError(
        f"{takes} {in_words(needed)}, but {in_words(free)} "
        f"{'is what --memory says' if budget.asked else 'may be taken'}: free memory, or start a "
        "sweep with a smaller --replay-capacity or --tangent-dtype"
    )


def parse_size(flag: str, text: str) -> int:
    """Bytes of `4GiB`, `500MB` or `1e9`.

    Raises:
        ValueError: If it is none of these, or not above 0.
    """
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmg]?i?)b?\s*", text.lower())
    unit = _UNITS.get(found[2]) if found else None
    try:
        size = float(found[1]) * unit if found and unit else 0.0
    except ValueError:
        size = 0.0
    if size < 1:
        raise ValueError(f"{flag} {text!r} must be a size above 0, such as 4GiB or 500MB")
    return int(size)


def in_words(size: float) -> str:
    """`3.2 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB" if size < 1000 else f"{size:,.0f} GiB"


def _equal_parts(members: int, most: int, devices: int) -> int:
    """The smallest width that needs no more parts than `most` does, a multiple of the devices."""
    most = max(most // devices, 1) * devices
    parts = -(-members // most)
    each = -(-members // parts)
    return -(-each // devices) * devices
