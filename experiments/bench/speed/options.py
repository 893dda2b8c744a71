"""What a benchmark measures: the command's flags."""

from dataclasses import dataclass, field
from pathlib import Path

ROWS = (
    "update",
    "environment_step",
    "replay",
    "training_step",
    "sweep",
    "cold_start",
    "imports",
    "memory",
    "storage",
    "derivatives",
)


@dataclass(frozen=True)
class ReplayRow:
    """Replay beside a bare ring of the same bytes, from which rows are gathered.

    Attributes:
        env: Whose transitions are kept.
        kept: What is kept of them: "off" for nothing but the transition, or a type of tangents.
        items: Transitions that the buffer holds; it is full.
        block: Transitions written at once; must divide `items`.
        batch_size: Transitions of a batch.
        batches: Batches drawn after every write.
        members: Buffers side by side in one vmapped program, with `items` shared among them.
    """

    env: str = "ant"
    kept: tuple[str, ...] = ("off", "int8")
    items: int = 1_048_576
    block: int = 128
    batch_size: int = 256
    batches: int = 8
    members: tuple[int, ...] = (1, 8)


@dataclass(frozen=True)
class TrainingStepRow:
    """A step of all environments, the transitions' way into the buffer, and all updates after it.

    Attributes:
        env: Name of the environment.
        num_envs: Environments that are stepped side by side.
        updates: Updates after every step of them.
        batch_size: Transitions of an update.
        hidden_sizes: Of actor and critics.
        buffer_items: Transitions that the buffer holds.
        tangent_dtype: How tangents are kept.
    """

    env: str = "ant"
    num_envs: int = 128
    updates: int = 64
    batch_size: int = 512
    hidden_sizes: tuple[int, ...] = (256, 256)
    buffer_items: int = 16_384
    tangent_dtype: str = "float32"


@dataclass(frozen=True)
class SweepRow:
    """Runs as one program, per run, beside one run alone.

    Attributes:
        env: Name of the environment; sizes are its preset's.
        runs: How many.
        steps: Steps of all environments in a timed call, with the updates after them.
    """

    env: str = "chain"
    runs: int = 32
    steps: int = 4


@dataclass(frozen=True)
class ColdStartRow:
    """From starting Python to the first update, in a process of its own.

    Attributes:
        env: Name of the environment; sizes are its preset's.
    """

    env: str = "ant"


@dataclass(frozen=True)
class StorageRow:
    """What every way to keep tangents does to gradients and gradients.

    Attributes:
        transitions: How many are looked at, after random actions.
        updates: Of the agent that looks at them, on just these transitions.
    """

    transitions: int = 4_096
    updates: int = 400


@dataclass(frozen=True)
class Bench:
    """Measures what gradients cost, in time and memory. Writes runs/bench-....json.

    Sizes that are None, and parameters of environments that are not named, are those that
    `experiments.train` would use.

    Attributes:
        rows: What is measured.
        env: Name of the environment of `update` and `environment_step`.
        env_args: Parameters of that environment as name=value, such as joints=8.
        sources: Where gradients come from; "off" is always measured, as what others are compared
            with, and "reverse" only where the environment has reverse mode.
        tangent_dtypes: How tangents are kept; each is an alternative of the source "cached".
        members: Runs side by side in one vmapped program, one after the other; 1 for the program
            of one run as it is.
        batch_size: Transitions of an update.
        hidden_sizes: Of actor and critics.
        num_envs: Environments that are stepped side by side.
        buffer_items: Transitions in the buffer that batches are drawn from, a multiple of
            `environments`.
        updates: Updates in a timed call.
        steps: Steps of all environments in a timed call.
        repetitions: Timed calls of each alternative, after one that is not timed.
        memory: Environments of the rows `memory` and `storage`.
        derivatives: MuJoCo environments whose derivatives are timed.
        derivatives_batch: States of which derivatives are timed together.
        replay: Of the row of that name.
        training_step: Of the row of that name.
        sweep: Of the row of that name.
        cold_start: Of the row of that name.
        storage: Of the row of that name.
        output: A new file for the results; None for one under runs/.
    """

    rows: tuple[str, ...] = ("update", "environment_step", "replay", "memory", "derivatives")
    env: str = "chain"
    env_args: tuple[str, ...] = ()
    sources: tuple[str, ...] = ("cached", "recomputed", "reverse")
    tangent_dtypes: tuple[str, ...] = ("float32",)
    members: tuple[int, ...] = (1, 6)
    batch_size: int | None = None
    hidden_sizes: tuple[int, ...] | None = None
    num_envs: int | None = None
    buffer_items: int = 16_384
    updates: int = 20
    steps: int = 100
    repetitions: int = 9
    memory: tuple[str, ...] = ("chain", "ant")
    derivatives: tuple[str, ...] = ("ant", "hopper", "pusher")
    derivatives_batch: int = 64
    replay: ReplayRow = field(default_factory=ReplayRow)
    training_step: TrainingStepRow = field(default_factory=TrainingStepRow)
    sweep: SweepRow = field(default_factory=SweepRow)
    cold_start: ColdStartRow = field(default_factory=ColdStartRow)
    storage: StorageRow = field(default_factory=StorageRow)
    output: Path | None = None


def check(bench: Bench) -> None:
    """Raises ValueError, with the mend, for what no row could work with."""
    for name in bench.rows:
        if name not in ROWS:
            raise ValueError(f"--rows {name!r} is unknown: choose from {', '.join(ROWS)}")
    for flag, counts in _counts(bench).items():
        for count in counts:
            if count < 1:
                raise ValueError(f"--{flag} {count} must be at least 1")
    if bench.output is not None and bench.output.exists():
        raise ValueError(f"--output {bench.output} exists: name a new file")


def _counts(bench: Bench) -> dict[str, tuple[int, ...]]:
    """Every whole number among the flags, by the name of its flag."""
    groups = {"": bench}
    groups |= {
        f"{name}.": getattr(bench, name)
        for name in ("replay", "training_step", "sweep", "cold_start", "storage")
    }
    found = {}
    for prefix, group in groups.items():
        for name, value in vars(group).items():
            values = value if isinstance(value, tuple) else (value,)
            if all(isinstance(entry, int) for entry in values):
                found[f"{prefix}{name}".replace("_", "-")] = values
    return found
