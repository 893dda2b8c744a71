"""Row `replay`: our buffer beside a bare ring of the same bytes, both written in place."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.bench import timing
from experiments.bench.speed.options import Bench, ReplayRow
from experiments.bench.speed.work import Setup, example_item, make_setup, timings
from experiments.launch.program import compile_ahead
from experiments.launch.progress import Progress
from experiments.report.table import Table
from sobolax.checks import check_choice
from sobolax.tangents.sources import make_source
from sobolax.tangents.storage import TANGENT_DTYPES
from sobolax.training import replay

# Blocks written in a timed call, each followed by its batches.
_ROUNDS = 8

# (item, capacity) -> empty buffer, (buffer, block) -> buffer, (buffer, key, count) -> batch.
_Functions = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]


def prepare(bench: Bench) -> Setup:
    """The environment whose transitions are kept; raises ValueError for what cannot work."""
    row = bench.replay
    for kept in row.kept:
        check_choice("--replay.kept ", kept, ("off", *TANGENT_DTYPES))
    for count in row.buffers:
        if row.capacity % (row.block * count):
            raise ValueError(
                f"--replay.capacity {row.capacity} must be a multiple of --replay.block "
                f"{row.block} times --replay.buffers {count}"
            )
    return make_setup(row.env)


def measure(setup: Setup, bench: Bench, progress: Progress) -> Iterator[Table]:
    """Times both, for everything that may be kept and for every count of buffers."""
    row = bench.replay
    for kept in row.kept:
        name, dtype = ("off", "float32") if kept == "off" else ("cached", kept)
        source = make_source(name, setup.environment, tangent_dtype=dtype)
        item = example_item(setup.environment, source)
        size = replay.bytes_per_item(replay.init(item, 1))
        words = jax.ShapeDtypeStruct((size // 4,), jnp.float32)
        for count in dict.fromkeys(row.buffers):
            buffers = "1 buffer" if count == 1 else f"{count} buffers"
            progress.phase(f"replay, tangents {kept}, {buffers}")
            # As wide as what is written at once, as trainings have it.
            ours = partial(replay.init, width=row.block), replay.add, replay.sample
            alternatives = [
                _alternative("bare ring", _BARE, words, row, count),
                _alternative("replay", ours, item, row, count),
            ]
            measured = timing.measure(alternatives, bench.repetitions, _ROUNDS)
            del alternatives  # their buffers, before the next ones are made
            yield timings(
                f"Replay: {row.capacity:,} transitions of {row.env} in {buffers}, tangents {kept}",
                measured,
                "over bare",
                "us",
                f"{size:,} bytes each; {row.block} written, then {row.batches} times "
                f"{row.batch_size} drawn, in every buffer.",
            )


def _add_rows(ring: tuple[jax.Array, jax.Array], block: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows, position = ring
    rows = jax.lax.dynamic_update_slice_in_dim(rows, block, position, axis=0)
    return rows, (position + block.shape[0]) % rows.shape[0]


# As little as there can be: rows, and where the next ones go.
_BARE: _Functions = (
    lambda row, capacity: (jnp.zeros((capacity, *row.shape), row.dtype), jnp.int32(0)),
    _add_rows,
    lambda ring, key, count: ring[0][jax.random.randint(key, (count,), 0, ring[0].shape[0])],
)


def _alternative(
    name: str, functions: _Functions, item: Any, row: ReplayRow, count: int
) -> timing.Alternative:
    init, add, sample = functions
    capacity = row.capacity // count

    def fill(block: Any):
        # As many writes as it holds: every page is there, and the buffer is full.
        return jax.lax.fori_loop(
            0, capacity // row.block, lambda _, buffer: add(buffer, block), init(item, capacity)
        )

    def work(buffer: Any, block: Any, key: jax.Array):
        def one_round(number, carry):
            buffer = add(carry[0], block)

            # What is drawn is carried along, so that it must be there, and nothing is done to it.
            def draw(at, _):
                place = number * row.batches + at
                return sample(buffer, jax.random.fold_in(key, place), row.batch_size)

            first = sample(buffer, key, row.batch_size)
            return buffer, jax.lax.fori_loop(0, row.batches, draw, first)

        first = sample(buffer, key, row.batch_size)
        return jax.lax.fori_loop(0, _ROUNDS, one_round, (buffer, first))

    block = jax.tree.map(lambda leaf: jnp.ones((count, row.block, *leaf.shape), leaf.dtype), item)
    keys = jax.random.split(jax.random.key(0), count)
    held = [jax.jit(jax.vmap(fill))(block)]
    compiled, seconds = compile_ahead(jax.vmap(work), held[0], block, keys, donate=(0,))

    def once():
        held[0], batch = compiled(held[0], block, keys)
        return held[0], batch

    return timing.Alternative(name, once, seconds)
