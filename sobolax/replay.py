"""A replay buffer on the device: a ring of arrays, written in place where it is donated.

Four pure functions of a `Replay`. Items are any pytree; every leaf keeps its own dtype.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Replay:
    """A ring buffer.

    Attributes:
        items: Pytree of arrays with leading axis `capacity`.
        position: Where the next items go, `()` int32.
        size: How many items it holds, `()` int32.
    """

    items: Any
    position: jax.Array
    size: jax.Array


def create(example: Any, capacity: int) -> Replay:
    """An empty buffer for items shaped like `example` (arrays or `jax.ShapeDtypeStruct`s)."""
    items = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), example)
    return Replay(items, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def insert(replay: Replay, items: Any) -> Replay:
    """Writes `n` items at once, over the oldest where the buffer is full.

    Args:
        replay: The buffer.
        items: Items with leading axis `n`, which must divide the capacity: a block of items then
            never wraps around, and is one contiguous write.

    Raises:
        ValueError: If `n` does not divide the capacity.
    """
    capacity = jax.tree.leaves(replay.items)[0].shape[0]
    count = jax.tree.leaves(items)[0].shape[0]
    if capacity % count:
        raise ValueError(
            f"cannot insert {count} items at once into a ring of {capacity}: "
            f"choose a capacity that is a multiple of {count}"
        )

    def write(stored: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(
            stored, new.astype(stored.dtype), replay.position, axis=0
        )

    return Replay(
        jax.tree.map(write, replay.items, items),
        (replay.position + count) % capacity,
        jnp.minimum(replay.size + count, capacity),
    )


def sample(replay: Replay, key: jax.Array, count: int) -> Any:
    """Draws `count` items uniformly, with replacement; the buffer must not be empty."""
    index = jax.random.randint(key, (count,), 0, replay.size)
    return jax.tree.map(lambda stored: stored[index], replay.items)


def bytes_per_item(replay: Replay) -> int:
    """Memory that one item takes, in bytes."""
    return sum(leaf.dtype.itemsize * leaf[0].size for leaf in jax.tree.leaves(replay.items))
