"""Row `memory`: what a transition takes in the replay buffer, by what is kept of it."""

from collections.abc import Iterator, Mapping

from experiments.bench.speed.options import Bench
from experiments.bench.speed.work import Setup, example_item, make_setup
from experiments.launch.progress import Progress
from experiments.report.table import Table
from sobolax.environment import Environment
from sobolax.tangents.sources import make_source
from sobolax.tangents.storage import TANGENT_DTYPES
from sobolax.training import replay


def prepare(bench: Bench) -> dict[str, Setup]:
    """The environments by name; raises ValueError for one that there is not."""
    return {name: make_setup(name) for name in bench.memory}


def measure(setups: Mapping[str, Setup], bench: Bench, progress: Progress) -> Iterator[Table]:
    """Counts bytes; compiles no physics."""
    del bench
    progress.phase("memory per transition")
    found = {name: bytes_per_transition(setup.environment) for name, setup in setups.items()}
    kinds = next(iter(found.values()), {})
    rows = [(kind, *(sizes[kind] for sizes in found.values())) for kind in kinds]
    yield Table("Bytes per transition in the replay buffer", ("", *found), rows)


def bytes_per_transition(environment: Environment) -> dict[str, int]:
    """Memory of one transition in the replay buffer by what is kept of it."""

    def stored(name: str, dtype: str = "float32") -> int:
        source = make_source(name, environment, tangent_dtype=dtype)
        return replay.bytes_per_item(replay.init(example_item(environment, source), 1))

    kept = {f"cached {dtype}": stored("cached", dtype) for dtype in TANGENT_DTYPES}
    return {"off": stored("off"), **kept, "recomputed (state)": stored("recomputed")}
