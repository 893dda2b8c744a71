"""Times plain SAC beside other libraries' SAC: `python -m experiments.bench.peers --help`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from experiments.bench.peers import comparisons, installation, report
from experiments.bench.peers.comparisons import Comparison
from experiments.bench.peers.installation import PeerUnavailable
from experiments.bench.peers.measure import Command, Tell, measure
from experiments.bench.peers.process import WorkerError
from experiments.launch import run_folder
from experiments.launch.exit_status import bad_input

PROGRAM = "python -m experiments.bench.peers"


@dataclass(frozen=True)
class Peers:
    """Times plain SAC beside Brax's, rejax's and SBX's; writes runs/peers-.../.

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


def prepare(peers: Peers) -> tuple[list[Comparison], Path]:
    """Checks what was asked for; starts nothing.

    Returns:
        The comparisons and the folder for what comes out.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    if peers.repetitions < 1:
        raise ValueError(f"--repetitions {peers.repetitions} must be at least 1")
    if not peers.timeout > 0:
        raise ValueError(f"--timeout {peers.timeout:g} must be above 0")
    known = comparisons.make(peers.repetitions)
    for name in peers.comparisons:
        if name not in known:
            raise ValueError(f"--comparisons {name!r} is unknown: choose from {', '.join(known)}")
    chosen = [known[name] for name in dict.fromkeys(peers.comparisons or known)]
    return chosen, run_folder.choose(peers.output, "peers", ["sac"])


def run(
    peers: Peers,
    chosen: Sequence[Comparison],
    folder: Path,
    tell: Tell,
    install: Any = installation.install,
    command: Command = installation.command,
) -> dict[str, Any]:
    """Makes the environments and the comparisons, and writes everything into the folder.

    Args:
        peers: What was asked for.
        chosen: The comparisons.
        folder: Where it goes.
        tell: Is told what is under way.
        install: Makes the environment of a peer, or raises PeerUnavailable.
        command: `worker -> interpreter and script`.

    Returns:
        What results.json holds.
    """
    run_folder.create(folder)
    done, left_out = [], {}
    for comparison in chosen:
        try:
            tell(f"{comparison.name}: the environment of {comparison.peer}")
            install(comparison.peer)
            done.append(
                measure(comparison, peers.repetitions, command, folder, peers.timeout, tell)
            )
        except (PeerUnavailable, WorkerError) as error:
            left_out[comparison.name] = str(error)
    asked = {name: value for name, value in asdict(peers).items() if name != "output"}
    results = {
        "peers": asked,
        **run_folder.provenance(),
        "comparisons": done,
        "left_out": left_out,
    }
    report.write(folder, results)
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """What the command runs.

    Returns:
        The exit status: 0, 1 if nothing could be compared, 2 for bad input.
    """
    peers = tyro.cli(Peers, args=argv, prog=PROGRAM)
    console = Console()
    try:
        chosen, folder = prepare(peers)
    except ValueError as error:
        return bad_input(error)
    with console.status("") as status:
        results = run(peers, chosen, folder, lambda text: status.update(f"{text} ..."))
    report.show(results, console)
    console.print(Text(f"Written to {folder}"), soft_wrap=True)
    return 0 if results["comparisons"] else 1


if __name__ == "__main__":
    sys.exit(main())
