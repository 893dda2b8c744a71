"""A replay buffer on the device: a ring of rows, written in place where it is donated.

Pure functions of a `Replay`. Items are any pytree of arrays; every leaf keeps its dtype and its
bits. An item lies in one row of 32-bit words: a batch is one gather of whole rows, where a gather
from every leaf would go to memory for each of them, and number by number for small dtypes.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

_WORD = 4  # bytes


@dataclass(frozen=True)
class _Layout:
    """How an item lies in its row; static.

    Attributes:
        structure: Of the item's pytree.
        leaves: Shape and dtype of every leaf.
    """

    structure: Any
    leaves: tuple[tuple[tuple[int, ...], Any], ...]

    def groups(self) -> list[tuple[int, list[int]]]:
        """Leaves of one size of number lie together: that size in bytes, and which leaves."""
        sizes = [_stored_dtype(dtype).itemsize for _, dtype in self.leaves]
        return [
            (size, [at for at, own in enumerate(sizes) if own == size])
            for size in sorted(set(sizes), reverse=True)
        ]

    def words(self, size: int, group: list[int]) -> int:
        """Words that a group of leaves takes."""
        return -(-sum(math.prod(self.leaves[at][0]) for at in group) * size // _WORD)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Replay:
    """A ring buffer.

    Attributes:
        rows: An item each, `(capacity, words)` uint32; `read_all` reads them.
        position: Where the next items go, `()` int32.
        size: How many items it holds, `()` int32.
        layout: How an item lies in its row; static.

    Example:
        >>> buffer = init({"x": jnp.zeros(2)}, capacity=4)
        >>> buffer = add(buffer, {"x": jnp.ones((2, 2))})
        >>> buffer.rows.shape, int(buffer.position), int(buffer.size)
        ((4, 2), 2, 2)
    """

    rows: jax.Array
    position: jax.Array
    size: jax.Array
    layout: _Layout = field(metadata={"static": True})


def init(example: Any, capacity: int) -> Replay:
    """An empty buffer for items shaped like `example` (arrays or `jax.ShapeDtypeStruct`s).

    Example:
        >>> int(init({"x": jnp.zeros(2), "done": jnp.zeros((), bool)}, capacity=4).size)
        0
    """
    leaves, structure = jax.tree.flatten(example)
    layout = _Layout(structure, tuple((tuple(leaf.shape), leaf.dtype) for leaf in leaves))
    words = sum(layout.words(*group) for group in layout.groups())
    rows = jnp.zeros((capacity, words), jnp.uint32)
    return Replay(rows, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), layout)


def add(replay: Replay, items: Any) -> Replay:
    """Writes `n` items at once, over the oldest where the buffer is full.

    Args:
        replay: The buffer.
        items: Items with leading axis `n`, which must divide the capacity: a block of items then
            never wraps around, and is one contiguous write.

    Raises:
        ValueError: If `n` does not divide the capacity.

    Example:
        >>> buffer = init({"x": jnp.zeros(2)}, capacity=4)
        >>> add(buffer, {"x": jnp.ones((3, 2))})
        Traceback (most recent call last):
        ValueError: cannot add 3 items at once into a ring of 4: choose ... a multiple of 3
    """
    capacity = replay.rows.shape[0]
    count = jax.tree.leaves(items)[0].shape[0]
    if capacity % count:
        raise ValueError(
            f"cannot add {count} items at once into a ring of {capacity}: "
            f"choose a capacity that is a multiple of {count}"
        )
    rows = jax.lax.dynamic_update_slice_in_dim(
        replay.rows, _encode(replay.layout, items), replay.position, axis=0
    )
    position, size = (
        (replay.position + count) % capacity,
        jnp.minimum(replay.size + count, capacity),
    )
    return Replay(rows, position, size, replay.layout)


def sample(replay: Replay, key: jax.Array, count: int) -> Any:
    """Draws `count` items uniformly, with replacement; the buffer must not be empty.

    Example:
        >>> buffer = add(init({"x": jnp.zeros(2)}, capacity=4), {"x": jnp.ones((2, 2))})
        >>> sample(buffer, jax.random.key(0), count=3)["x"].tolist()
        [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    index = jax.random.randint(key, (count,), 0, replay.size)
    return _decode(replay.layout, replay.rows[index])


def read_all(replay: Replay) -> Any:
    """All rows as items, leading axis `capacity`; beyond `size` they are zeros.

    Example:
        >>> buffer = add(init({"x": jnp.zeros(2)}, capacity=4), {"x": jnp.ones((2, 2))})
        >>> read_all(buffer)["x"].tolist()
        [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    return _decode(replay.layout, replay.rows)


def bytes_per_item(replay: Replay) -> int:
    """Memory that one item takes, in bytes.

    Example:
        >>> bytes_per_item(init({"x": jnp.zeros(2), "done": jnp.zeros((), bool)}, capacity=4))
        12
    """
    return _WORD * replay.rows.shape[-1]


def _encode(layout: _Layout, items: Any) -> jax.Array:
    """Items with a leading axis as rows of words."""
    leaves = [
        leaf.astype(dtype).astype(_stored_dtype(dtype))
        for leaf, (_, dtype) in zip(jax.tree.leaves(items), layout.leaves, strict=True)
    ]
    count = leaves[0].shape[0]
    parts = []
    for size, group in layout.groups():
        numbers = jnp.concatenate(
            [_as_integers(leaves[at]).reshape(count, -1) for at in group], axis=1
        )
        if size < _WORD:
            numbers = jnp.pad(numbers, ((0, 0), (0, -numbers.shape[1] % (_WORD // size))))
            numbers = numbers.reshape(count, -1, _WORD // size)
        parts.append(jax.lax.bitcast_convert_type(numbers, jnp.uint32).reshape(count, -1))
    return jnp.concatenate(parts, axis=1)


def _decode(layout: _Layout, rows: jax.Array) -> Any:
    """The inverse of `_encode`."""
    count, start = rows.shape[0], 0
    leaves: list[Any] = [None] * len(layout.leaves)
    for size, group in layout.groups():
        stop = start + layout.words(size, group)
        words = rows[:, start:stop]
        if size > _WORD:
            words = words.reshape(count, -1, size // _WORD)
        numbers = jax.lax.bitcast_convert_type(words, _integer(size)).reshape(count, -1)
        at = 0
        for place in group:
            shape, dtype = layout.leaves[place]
            part = numbers[:, at : at + math.prod(shape)].reshape(count, *shape)
            stored = _stored_dtype(dtype)
            leaves[place] = jax.lax.bitcast_convert_type(part, stored).astype(dtype)
            at += math.prod(shape)
        start = stop
    return jax.tree.unflatten(layout.structure, leaves)


def _as_integers(leaf: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(leaf, _integer(leaf.dtype.itemsize))


def _integer(size: int) -> Any:
    return {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[size]


def _stored_dtype(dtype: Any) -> Any:
    """A truth value has no bits to cast; it lies there as a byte."""
    return jnp.dtype(jnp.uint8) if dtype == jnp.bool_ else jnp.dtype(dtype)
