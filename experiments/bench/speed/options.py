"""What a benchmark measures: the command's flags."""

from dataclasses import dataclass, field
from pathlib import Path

from experiments.bench.command import check_positive
from sobolax.checks import check_choice

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
    "window",
)


@dataclass(frozen=True)
class ReplayRow:
    """Replay beside a bare ring of the same bytes, from which rows are gathered.

    Attributes:
        env: Whose transitions are kept.
        kept: What is kept of them: "off" for nothing but the transition, or a type of tangents.
        capacity: Transitions that the buffer holds; it is full.
        block: Transitions written at once; must divide `capacity`.
        batch_size: Transitions of a batch.
        batches: Batches drawn after every write.
        buffers: How many side by side in one vmapped program, with `capacity` shared among them.
    """

    env: str = "ant"
    kept: tuple[str, ...] = ("off", "int8")
    capacity: int = 1_048_576
    block: int = 128
    batch_size: int = 256
    batches: int = 8
    buffers: tuple[int, ...] = (1, 8)


@dataclass(frozen=True)
class TrainingStepRow:
    """A step of all environments, the transitions' way into the buffer, and all updates after it.

    Attributes:
        env: Name of the environment.
        num_envs: Environments that are stepped side by side.
        gradient_steps: Updates after every step of them.
        batch_size: Transitions of an update.
        hidden_sizes: Of actor and critics.
        replay_capacity: Transitions that the buffer holds.
        tangent_dtype: How tangents are kept.
    """

    env: str = "ant"
    num_envs: int = 128
    gradient_steps: int = 64
    batch_size: int = 512
    hidden_sizes: tuple[int, ...] = (256, 256)
    replay_capacity: int = 16_384
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
class StorageRow:
    """How every way to keep tangents changes the gradients of targets and losses.

    Attributes:
        transitions: How many are looked at, after random actions.
        updates: Of the agent that looks at them, on just these transitions.
    """

    transitions: int = 4_096
    updates: int = 400


@dataclass(frozen=True)
class WindowRow:
    """Iterations of SHAC: the first number of each flag, then one change at a time.

    Attributes:
        env: Name of the environment.
        num_envs: Environments side by side.
        horizons: Steps of a window.
        hidden_sizes: Of actor and critics.
    """

    env: str = "hopper"
    num_envs: tuple[int, ...] = (64, 16, 256)
    horizons: tuple[int, ...] = (16, 4, 64)
    hidden_sizes: tuple[int, ...] = (128, 128)


@dataclass(frozen=True)
class Bench:
    """Measures what gradients cost, in time and memory; writes runs/...-bench-speed/.

    Sizes that are None, and parameters of environments that are not named, are those that
    `experiments.train` would use.

    Attributes:
        rows: What is measured.
        env: Name of the environment of `update` and `environment_step`.
        env_args: Parameters of that environment as name=value, such as joints=8.
        sources: Where gradients come from; "off" is always measured, as what others are compared
            with, and "reverse" only where the environment has reverse mode.
        tangent_dtypes: How tangents are kept; each is an alternative of the source "cached".
        runs: Runs side by side in one vmapped program, one count after the other; 1 for the
            program of one run as it is.
        batch_size: Transitions of an update.
        hidden_sizes: Of actor and critics.
        num_envs: Environments that are stepped side by side.
        replay_capacity: Transitions in the buffer that batches are drawn from, a multiple of
            `num_envs`.
        updates: Updates in a timed call.
        steps: Steps of all environments in a timed call.
        repetitions: Timed calls of each alternative, after one that is not timed.
        memory: Environments of the rows `memory` and `storage`.
        cold_start: Environment of the row of that name; sizes are its preset's.
        derivatives: MuJoCo environments whose derivatives are timed.
        derivatives_batch: States of which derivatives are timed together.
        replay: Of the row of that name.
        training_step: Of the row of that name.
        sweep: Of the row of that name.
        storage: Of the row of that name.
        window: Of the row of that name.
        output: Folder, new or empty; None for a new one under runs/.
    """

    rows: tuple[str, ...] = ("update", "environment_step", "replay", "memory", "derivatives")
    env: str = "chain"
    env_args: tuple[str, ...] = ()
    sources: tuple[str, ...] = ("cached", "recomputed", "reverse")
    tangent_dtypes: tuple[str, ...] = ("float32",)
    runs: tuple[int, ...] = (1, 6)
    batch_size: int | None = None
    hidden_sizes: tuple[int, ...] | None = None
    num_envs: int | None = None
    replay_capacity: int = 16_384
    updates: int = 20
    steps: int = 100
    repetitions: int = 9
    memory: tuple[str, ...] = ("chain", "ant")
    cold_start: str = "ant"
    derivatives: tuple[str, ...] = ("ant", "hopper", "pusher")
    derivatives_batch: int = 64
    replay: ReplayRow = field(default_factory=ReplayRow)
    training_step: TrainingStepRow = field(default_factory=TrainingStepRow)
    sweep: SweepRow = field(default_factory=SweepRow)
    storage: StorageRow = field(default_factory=StorageRow)
    window: WindowRow = field(default_factory=WindowRow)
    output: Path | None = None


def check(bench: Bench) -> None:
    """Raises ValueError, saying what to do instead, for what no row could work with."""
    for name in bench.rows:
        check_choice("--rows ", name, ROWS)
    check_positive(bench)
