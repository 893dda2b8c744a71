"""Row `replay`: our buffer beside a bare ring of the same bytes, both written in place."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import RenderableType

from experiments.bench.speed.options import Bench, ReplayRow
from experiments.bench.speed.tables import heading, timings
from experiments.bench.speed.work import Tell, make_environment
from experiments.bench.timing import Alternative, compile_ahead, measure
from experiments.launch.configuration import defaults
from sobolax.environment import Environment
from sobolax.tangents.sources import make_source
from sobolax.tangents.storage import TANGENT_DTYPES
from sobolax.training import replay

# Blocks written in a timed call, each followed by its batches.
_ROUNDS = 8

# (capacity) -> empty buffer, (buffer, block) -> buffer, (buffer, key, count) -> batch.
_Functions = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]


def prepare(bench: Bench) -> Environment:
    """The environment whose transitions are kept; raises ValueError for what cannot work."""
    asked = bench.replay
    for kept in asked.kept:
        if kept != "off" and kept not in TANGENT_DTYPES:
            raise ValueError(
                f"--replay.kept {kept!r} is unknown: choose from off, {', '.join(TANGENT_DTYPES)}"
            )
    for count in asked.members:
        if asked.items % (asked.block * count):
            raise ValueError(
                f"--replay.items {asked.items} must be a multiple of --replay.block {asked.block} "
                f"times --replay.members {count}"
            )
    return make_environment(asked.env, defaults(asked.env).env_args)


def run(environment: Environment, bench: Bench, tell: Tell) -> dict[str, Any]:
    """Times both, for everything that may be kept and for every count of members."""
    asked, found = bench.replay, []
    for kept in asked.kept:
        item = _item(environment, kept)
        size = replay.bytes_per_item(replay.init(item, 1))
        row = jax.ShapeDtypeStruct((size // 4,), jnp.float32)
        for count in dict.fromkeys(asked.members):
            tell(f"replay, tangents {kept}, {count} buffers")
            alternatives = [
                _alternative("bare ring", _bare(row), row, asked, count),
                _alternative("replay", _ours(item), item, asked, count),
            ]
            measured = measure(alternatives, bench.repetitions, _ROUNDS)
            entries = [asdict(entry) for entry in measured]
            found.append(
                {"kept": kept, "members": count, "bytes_per_item": size, "measured": entries}
            )
            del alternatives  # their buffers, before the next ones are made
    return {"sizes": asdict(asked), "found": found}


def _item(environment: Environment, kept: str) -> Any:
    source = make_source(
        "off" if kept == "off" else "cached",
        environment,
        tangent_dtype="float32" if kept == "off" else kept,
    )

    def collect(key: jax.Array):
        state = environment.reset(key)
        action = jnp.zeros(environment.action_size, state.observation.dtype)
        return source.collect(key, state, action)[0]

    return jax.eval_shape(collect, jax.random.key(0))


def _ours(item: Any) -> _Functions:
    return lambda capacity: replay.init(item, capacity), replay.add, replay.sample


def _bare(row: jax.ShapeDtypeStruct) -> _Functions:
    """As little as there can be: rows, and how many blocks there have been."""

    def create(capacity: int):
        return jnp.zeros((capacity, *row.shape), row.dtype), jnp.zeros((), jnp.int32)

    def insert(ring, block: jax.Array):
        rows, position = ring
        rows = jax.lax.dynamic_update_slice_in_dim(rows, block, position, axis=0)
        return rows, (position + block.shape[0]) % rows.shape[0]

    def sample(ring, key: jax.Array, count: int):
        rows, _ = ring
        return rows[jax.random.randint(key, (count,), 0, rows.shape[0])]

    return create, insert, sample


def _alternative(
    name: str, functions: _Functions, item: Any, asked: ReplayRow, count: int
) -> Alternative:
    create, insert, sample = functions
    capacity = asked.items // count

    def fill(block: Any):
        # As many writes as it holds: every page is there, and the buffer is full.
        return jax.lax.fori_loop(
            0, capacity // asked.block, lambda _, buffer: insert(buffer, block), create(capacity)
        )

    def work(buffer: Any, block: Any, key: jax.Array):
        def one_round(number, carry):
            buffer, _ = carry
            buffer = insert(buffer, block)

            # What is drawn is carried along, so that it must be there, and nothing is done to it.
            def draw(at, _):
                place = number * asked.batches + at
                return sample(buffer, jax.random.fold_in(key, place), asked.batch_size)

            return buffer, jax.lax.fori_loop(
                0, asked.batches, draw, sample(buffer, key, asked.batch_size)
            )

        first = sample(buffer, key, asked.batch_size)
        return jax.lax.fori_loop(0, _ROUNDS, one_round, (buffer, first))

    block = jax.tree.map(lambda leaf: jnp.ones((count, asked.block, *leaf.shape), leaf.dtype), item)
    keys = jax.random.split(jax.random.key(0), count)
    held = [jax.jit(jax.vmap(fill))(block)]
    compiled, seconds = compile_ahead(jax.vmap(work), held[0], block, keys, donate=(0,))

    def once():
        held[0], batch = compiled(held[0], block, keys)
        return held[0], batch

    return Alternative(name, once, seconds)


def render(found: Mapping[str, Any]) -> list[RenderableType]:
    """A table for each kind of item and count of members."""
    sizes, parts = found["sizes"], []
    for entry in found["found"]:
        buffers = "one buffer" if entry["members"] == 1 else f"{entry['members']} buffers"
        title = (
            f"Replay: {sizes['items']:,} transitions of {sizes['env']} in {buffers}, tangents "
            f"{entry['kept']}, {entry['bytes_per_item']:,} bytes each\n"
            f"{sizes['block']} written, then {sizes['batches']} times {sizes['batch_size']} drawn, "
            "in every buffer"
        )
        parts.append(heading(title))
        parts.append(timings("", "us", "over bare", entry["measured"]))
    return parts
