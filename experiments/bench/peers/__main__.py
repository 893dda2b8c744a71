"""Times plain SAC beside other libraries' SAC: `python -m experiments.bench.peers --help`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.bench import command
from experiments.bench.peers import comparisons, installation, tables
from experiments.bench.peers.comparisons import Comparison
from experiments.bench.peers.installation import PeerUnavailable
from experiments.bench.peers.measure import Command, measure_comparison
from experiments.bench.peers.process import WorkerError
from experiments.launch.exit_status import leave
from experiments.launch.progress import Progress
from sobolax.checks import check_choice


@dataclass(frozen=True)
class Peers:
    """Times plain SAC beside Brax's, rejax's and SBX's; writes runs/...-bench-peers/.

    Each peer runs unmodified in an environment of its own with pinned packages, made below
    .cache/peers on first use. A comparison that cannot run is left out, with its reason.

    Attributes:
        comparisons: Which to make; none for all.
        repetitions: Timed segments of each contender, which take turns.
        timeout: Seconds that a contender may take to compile, or for a segment.
        output: Folder, new or empty; None for a new one under runs/.
    """

    comparisons: tuple[str, ...] = ()
    repetitions: int = 7
    timeout: float = 900.0
    output: Path | None = None


def prepare(peers: Peers) -> list[Comparison]:
    """The comparisons; starts nothing.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    if peers.repetitions < 1:
        raise ValueError(f"--repetitions {peers.repetitions} must be at least 1")
    if not peers.timeout > 0:
        raise ValueError(f"--timeout {peers.timeout:g} must be above 0")
    for name in peers.comparisons:
        check_choice("--comparisons ", name, comparisons.ALL)
    return [comparisons.ALL[name] for name in dict.fromkeys(peers.comparisons or comparisons.ALL)]


def measure(
    chosen: Sequence[Comparison],
    peers: Peers,
    folder: Path,
    progress: Progress,
    install: Any = installation.install,
    command_of: Command = installation.command,
) -> Iterator[command.Results]:
    """Makes the environments and the comparisons.

    Args:
        chosen: The comparisons.
        peers: The options.
        folder: Where logs go.
        progress: Shows what is under way.
        install: Makes the environment of a peer, or raises PeerUnavailable.
        command_of: `worker -> interpreter and script`.
    """
    done: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for one in chosen:
        try:
            progress.phase(f"{one.name}: the environment of {one.peer}")
            install(one.peer)
            done.append(
                measure_comparison(
                    one, peers.repetitions, command_of, folder, peers.timeout, progress
                )
            )
        except (PeerUnavailable, WorkerError) as error:
            left_out[one.name] = str(error)
            progress.warn(f"left out: {one.name}: {error}")
        yield tables.make(done, left_out), {"comparisons": done, "left_out": left_out}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit status."""
    return command.main("peers", Peers, prepare, measure, argv)


if __name__ == "__main__":
    leave(main())
