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
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from sobolax.checks import LARGEST_COUNT, check_multiple
from sobolax.training import sharding

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
        return -(-sum(math.prod(_stored_shape(*self.leaves[at])) for at in group) * size // _WORD)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Replay:
    """A ring buffer.

    Attributes:
        rows: An item each, `(capacity / width, width, words)` uint32; `read_all` reads them.
        position: Where the next items go, `()` int32.
        size: How many items it holds, `()` int32.
        layout: How an item lies in its row; static.

    Example:
        >>> buffer = init({"x": jnp.zeros(2)}, capacity=4)
        >>> buffer = add(buffer, {"x": jnp.ones((2, 2))})
        >>> buffer.rows.shape, int(buffer.position), int(buffer.size)
        ((4, 1, 2), 2, 2)
    """

    rows: jax.Array
    position: jax.Array
    size: jax.Array
    layout: _Layout = field(metadata={"static": True})


def init(example: Any, capacity: int, width: int = 1) -> Replay:
    """An empty buffer for items shaped like `example` (arrays or `jax.ShapeDtypeStruct`s).

    Args:
        example: An item.
        capacity: Items that the buffer holds.
        width: Items that are always added together, of which it divides the number: those of all
            environments. Devices that share the buffer share this axis, and write without a word
            to each other.

    Raises:
        ValueError: If the capacity is no whole number from 1 to 2^31 - 1, or no multiple of the
            width.

    Example:
        >>> int(init({"x": jnp.zeros(2), "done": jnp.zeros((), bool)}, capacity=4).size)
        0
    """
    _check_size(f"a ring of capacity={capacity!r}", capacity)
    _check_size(f"a ring of width={width!r}", width)
    check_multiple("a ring", "capacity", capacity, "width", width)
    leaves, structure = jax.tree.flatten(example)
    layout = _Layout(structure, tuple((tuple(leaf.shape), leaf.dtype) for leaf in leaves))
    words = sum(layout.words(*group) for group in layout.groups())
    rows = jnp.zeros((capacity // width, width, words), jnp.uint32)
    return Replay(rows, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), layout)


def add(replay: Replay, items: Any) -> Replay:
    """Writes `n` items at once, over the oldest where the buffer is full.

    Args:
        replay: The buffer.
        items: Items with leading axis `n`, which must divide the capacity. As many as the
            buffer's width never wrap around, and are one contiguous write; other blocks, whose
            `n` may change, are written row by row.

    Raises:
        ValueError: If `n` does not divide the capacity or is no multiple of the buffer's width, or
            the items are not like the example that the buffer was made for: other keys, shapes or
            types.

    Example:
        >>> buffer = init({"x": jnp.zeros(2)}, capacity=4)
        >>> add(buffer, {"x": jnp.ones((3, 2))})
        Traceback (most recent call last):
        ValueError: cannot add 3 items at once into a ring of 4: choose ... a multiple of 3
    """
    blocks, width, words = replay.rows.shape
    capacity, count = blocks * width, _count(replay.layout, items)
    if capacity % count:
        raise ValueError(
            f"cannot add {count} items at once into a ring of {capacity}: "
            f"choose a capacity that is a multiple of {count}"
        )
    check_multiple("items of a ring", "count", count, "width", width)
    new = _encode(replay.layout, items).reshape(-1, width, words)
    first = replay.position // width
    if count == width:
        rows = jax.lax.dynamic_update_slice_in_dim(replay.rows, new, first, axis=0)
    else:
        # After blocks of another size this one may wrap around, where a slice would be moved back.
        places = (first + jnp.arange(len(new))) % blocks
        rows = replay.rows.at[places].set(new, unique_indices=True, mode="promise_in_bounds")
    position, size = (
        (replay.position + count) % capacity,
        jnp.minimum(replay.size + count, capacity),
    )
    return Replay(rows, position, size, replay.layout)


def sample(replay: Replay, key: jax.Array, count: int, mesh: Mesh | None = None) -> Any:
    """Draws `count` items uniformly, with replacement; the buffer must not be empty.

    Args:
        replay: The buffer.
        key: Random key; the items that it draws are the same on any number of devices.
        count: How many.
        mesh: Devices that share the buffer, and get equal parts of the items; None for one device.

    Raises:
        ValueError: If the count is no whole number from 1 to 2^31 - 1, or the buffer is empty,
            where that can be seen: a traced size cannot, and an empty buffer then gives zeros.

    Example:
        >>> buffer = add(init({"x": jnp.zeros(2)}, capacity=4), {"x": jnp.ones((2, 2))})
        >>> sample(buffer, jax.random.key(0), count=3)["x"].tolist()
        [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    _check_size(f"a sample of count={count!r}", count)
    if not isinstance(replay.size, Tracer) and not np.all(np.asarray(replay.size) > 0):
        raise ValueError("the replay buffer is empty: add items before sampling")
    index = jax.random.randint(key, (count,), 0, replay.size)
    return _decode(replay.layout, sharding.take(mesh, replay.rows, index))


def read_all(replay: Replay) -> Any:
    """All rows as items, leading axis `capacity`; beyond `size` they are zeros.

    Example:
        >>> buffer = add(init({"x": jnp.zeros(2)}, capacity=4), {"x": jnp.ones((2, 2))})
        >>> read_all(buffer)["x"].tolist()
        [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    return _decode(replay.layout, replay.rows.reshape(-1, replay.rows.shape[-1]))


def bytes_per_item(replay: Replay) -> int:
    """Memory that one item takes, in bytes.

    Example:
        >>> bytes_per_item(init({"x": jnp.zeros(2), "done": jnp.zeros((), bool)}, capacity=4))
        12
    """
    return _WORD * replay.rows.shape[-1]


def _check_size(what: str, size: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST_COUNT:
        raise ValueError(f"{what}: give a whole number from 1 to {LARGEST_COUNT:,}")


def _count(layout: _Layout, items: Any) -> int:
    """How many items there are, if they are like the example."""
    found, structure = jax.tree_util.tree_flatten_with_path(items)
    if structure != layout.structure:
        raise ValueError(
            f"items of another structure than the buffer's:\n  {structure}\nit was made for:\n  "
            f"{layout.structure}"
        )
    count = next((leaf.shape[0] for _, leaf in found if jnp.ndim(leaf)), 0)
    for (path, leaf), (shape, dtype) in zip(found, layout.leaves, strict=True):
        if jnp.shape(leaf) != (count, *shape) or leaf.dtype != dtype or not count:
            raise ValueError(
                f"items{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)} and type "
                f"{jnp.result_type(leaf)}, but the buffer holds {shape} and {dtype}: give "
                f"({', '.join(map(str, ('n', *shape)))}{',' * (not shape)}), the items' axis first"
            )
    return count


def _encode(layout: _Layout, items: Any) -> jax.Array:
    """Items with a leading axis as rows of words."""
    leaves = [
        _as_stored(leaf, dtype)
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
            dtype = layout.leaves[place][1]
            shape, stored = _stored_shape(*layout.leaves[place]), _stored_dtype(dtype)
            part = numbers[:, at : at + math.prod(shape)].reshape(count, *shape)
            part = jax.lax.bitcast_convert_type(part, stored)
            leaves[place] = _from_stored(part, dtype)
            at += math.prod(shape)
        start = stop
    return jax.tree.unflatten(layout.structure, leaves)


def _as_integers(leaf: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(leaf, _integer(leaf.dtype.itemsize))


def _integer(size: int) -> Any:
    return {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[size]


def _as_stored(leaf: jax.Array, dtype: Any) -> jax.Array:
    """A leaf as bits that can be cast: see `_stored_dtype`."""
    if _is_key(dtype):
        return jax.random.key_data(leaf)
    if _is_complex(dtype):
        return jnp.stack([leaf.real, leaf.imag], axis=-1)
    return leaf.astype(_stored_dtype(dtype))


def _from_stored(part: jax.Array, dtype: Any) -> jax.Array:
    if _is_key(dtype):
        return _as_keys(part, dtype)
    if _is_complex(dtype):
        return jax.lax.complex(part[..., 0], part[..., 1])
    return part.astype(dtype)


def _stored_dtype(dtype: Any) -> Any:
    """A truth value has no bits to cast, and lies there as a byte; a random key as its words.

    A complex number lies there as two real ones.
    """
    if _is_key(dtype):
        return jnp.dtype(jnp.uint32)
    if _is_complex(dtype):
        return jnp.finfo(dtype).dtype
    return jnp.dtype(jnp.uint8) if dtype == jnp.bool_ else jnp.dtype(dtype)


def _stored_shape(shape: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
    if _is_complex(dtype):
        return (*shape, 2)
    if not _is_key(dtype):
        return shape
    return jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(shape, dtype)).shape


def _as_keys(words: jax.Array, dtype: Any) -> jax.Array:
    kinds = []
    # Only of an array can it be asked how its keys are made.
    jax.eval_shape(
        lambda key: kinds.append(jax.random.key_impl(key)), jax.ShapeDtypeStruct((), dtype)
    )
    return jax.random.wrap_key_data(words, impl=kinds[0])


def _is_key(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _is_complex(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.complexfloating)
