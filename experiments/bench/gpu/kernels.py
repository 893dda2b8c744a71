"""What a GPU is given: operations of physics, lowered for CUDA and counted, without a GPU.

`python -m experiments.bench.gpu.kernels --help`
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jax.extend import core

from experiments.bench import command
from experiments.bench.gpu.physics import made_environments
from experiments.bench.gpu.stablehlo import live_operations
from experiments.launch.exit_status import leave
from experiments.launch.program import call
from experiments.launch.progress import Progress
from experiments.report.table import Table
from sobolax.mjx.rewriting import Rule, rewrite

#: Of every column, the operations that it counts; custom calls by their targets. What is in none
#: is elementwise or moves data, and is fused with others.
KINDS: dict[str, tuple[str, ...]] = {
    "matrix products": ("dot_general",),
    "reductions": ("reduce", "reduce_window"),
    "gathers": ("gather", "dynamic_slice"),
    "scatters": ("scatter", "dynamic_update_slice"),
    "sorts": ("sort", "top_k", "mhlo.topk"),
    "Cholesky factors": ("cusolver_potrf_ffi",),
    "triangular solves": ("triangular_solve",),
    "loops": ("while",),
    "transfers to the host": ("infeed", "outfeed", "send", "recv", "callback"),
}
#: Custom calls that are of no kind above and start no kernel of their own.
FREE = ("Sharding", "annotate_device_placement", "AllocateBuffer")
_FUSED = "elementwise and moves"
_BATCH = 2_048


@dataclass(frozen=True)
class Options:
    """Counts what is lowered for CUDA, without a GPU; writes runs/...-bench-kernels/.

    Attributes:
        envs: MuJoCo environments.
        output: Folder, new or empty; None for a new one under runs/.
    """

    envs: tuple[str, ...] = ("hopper", "ant", "humanoid")
    output: Path | None = None


def lower(function: Callable[..., Any], *arguments: Any) -> str:
    """StableHLO of a function for CUDA, calls and custom derivatives written out.

    Args:
        function: A pure function of one item.
        *arguments: Arrays or their shapes, with an axis of a batch in front.
    """
    inlined = jax.vmap(rewrite(function, _INLINED))
    return export.export(jax.jit(inlined), platforms=["cuda"])(*arguments).mlir_module()


def _inline(equation: Any, inputs: list) -> Sequence:
    called = core.jaxpr_as_fun(equation.params["call_jaxpr"])
    return rewrite(called, _INLINED)(*inputs)


_INLINED: dict[str, Rule] = {"custom_jvp_call": _inline}


def kind_of(operation: str) -> str:
    """The column of an operation or of a custom call's target."""
    if "callback" in operation:
        operation = "callback"
    for kind, names in KINDS.items():
        if operation in names:
            return kind
    return _FUSED


def count(text: str) -> dict[str, list[int]]:
    """How many operations of every kind there are, by how many loops they stand in.

    Args:
        text: StableHLO. Operations without use, repeated ones and those of constants alone do not
            count: every compiler removes them.

    Raises:
        ValueError: If there is a custom call that is not of a known kind.
    """
    found: dict[str, list[int]] = {kind: [] for kind in (_FUSED, *KINDS)}
    for node in live_operations(text):
        if node.custom and kind_of(node.name) == _FUSED and node.name not in FREE:
            raise ValueError(f"{node.name} is a custom call of no known kind: add it to KINDS")
        counts = found[kind_of(node.name)]
        counts.extend([0] * (node.depth + 1 - len(counts)))
        counts[node.depth] += 1
    return found


def loops_of_known_length(text: str) -> int:
    """Loops whose condition compares a counter with a constant, and nothing else."""
    return sum(node.name == "while" and node.counted for node in live_operations(text))


def measure(
    made: dict[str, Any], options: Options, folder: Path, progress: Progress
) -> Iterator[command.Results]:
    """A row for every environment and program."""
    del options, folder
    rows: list[tuple[str, ...]] = []
    for name, environment in made.items():
        keys = jax.ShapeDtypeStruct((_BATCH,), jax.eval_shape(lambda: jax.random.key(0)).dtype)
        physics = jax.eval_shape(jax.vmap(environment.reset), keys).physics
        actions = jnp.zeros((_BATCH, environment.action_size))
        control = jax.eval_shape(jax.vmap(environment._control), actions)
        # As accelerators get them: without what `for_cpu` changes.
        programs = {"step": environment._step_model, "Jacobian": environment._linearize_model}
        for what, function in programs.items():
            progress.phase(f"{name}: lowering the {what} for CUDA")
            rows.append((name, what, *_cells(call(lower, function, physics, control))))
            yield [_table(rows)], {}


def _cells(text: str) -> Iterator[str]:
    for counts in count(text).values():
        yield " + ".join(str(number) for number in counts or [0])
    yield str(loops_of_known_length(text))


def _table(rows: Sequence[Sequence[str]]) -> Table:
    return Table(
        "Operations of a batch of physics steps, lowered for CUDA",
        ("environment", "program", _FUSED, *KINDS, "loops of known length"),
        rows,
        names=2,
        note=(
            "Counted in StableHLO on a CPU, not measured on a GPU. 5 + 2 + 1: five outside of "
            "loops, two in each iteration of the solver, one in each step of its line search. "
            "A Jacobian includes its step."
        ),
    )


def prepare(options: Options) -> dict[str, Any]:
    """The environments; raises ValueError for one whose derivatives are not exact."""
    return made_environments(options.envs)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit status."""
    return command.main("gpu.kernels", Options, prepare, measure, argv)


if __name__ == "__main__":
    leave(main())
