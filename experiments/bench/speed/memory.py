"""Row `memory`: what a transition takes in the replay buffer, by what is kept of it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import RenderableType

from experiments.bench.speed.options import Bench
from experiments.bench.speed.tables import heading, table
from experiments.bench.speed.work import Tell, make_environment
from experiments.launch.configuration import defaults
from sobolax.environment import Environment
from sobolax.tangents.sources import make_source
from sobolax.tangents.storage import TANGENT_DTYPES
from sobolax.training import replay


def prepare(bench: Bench) -> dict[str, Environment]:
    """The environments by name; raises ValueError for one that there is not."""
    return {name: make_environment(name, defaults(name).env_args) for name in bench.memory}


def run(prepared: Mapping[str, Environment], bench: Bench, tell: Tell) -> dict[str, Any]:
    """Counts bytes; compiles no physics."""
    tell("memory per transition")
    return {name: bytes_per_transition(environment) for name, environment in prepared.items()}


def bytes_per_transition(environment: Environment) -> dict[str, int]:
    """Memory of one transition in the replay buffer by what is kept of it."""

    def stored(name: str, dtype: str = "float32") -> int:
        source = make_source(name, environment, tangent_dtype=dtype)

        def collect(key: jax.Array):
            state = environment.reset(key)
            action = jnp.zeros(environment.action_size, state.observation.dtype)
            return source.collect(key, state, action)[0]

        example = jax.eval_shape(collect, jax.random.key(0))
        return replay.bytes_per_item(replay.init(example, 1))

    kept = {f"cached {dtype}": stored("cached", dtype) for dtype in TANGENT_DTYPES}
    return {"off": stored("off"), **kept, "recomputed (state)": stored("recomputed")}


def render(found: Mapping[str, Any]) -> list[RenderableType]:
    """A line for each way to keep a transition, a column for each environment."""
    made = table(("", *found))
    for kind in next(iter(found.values()), {}):
        made.add_row(kind, *(f"{sizes[kind]:,}" for sizes in found.values()))
    return [heading("Bytes per transition in the replay buffer"), made]
