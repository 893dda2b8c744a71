"""The ring buffer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax import replay


def items(start, count):
    number = jnp.arange(start, start + count, dtype=jnp.float32)
    return {"x": number[:, None] * jnp.ones(3), "n": number.astype(jnp.int32)}


def empty(capacity=6):
    example = {"x": jax.ShapeDtypeStruct((3,), "float32"), "n": jax.ShapeDtypeStruct((), "int32")}
    return replay.create(example, capacity)


def test_the_newest_items_are_kept_and_the_oldest_overwritten():
    buffer = empty()
    for start in range(0, 10, 2):
        buffer = replay.insert(buffer, items(start, 2))
        assert buffer.size == min(start + 2, 6)
    assert sorted(buffer.items["n"].tolist()) == [4, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(buffer.items["x"][:, 0], buffer.items["n"])
    assert buffer.items["n"].dtype == jnp.int32


def test_samples_are_uniform_over_what_is_there_and_nothing_else():
    buffer = replay.insert(replay.insert(empty(), items(1, 2)), items(3, 2))
    drawn = replay.sample(buffer, jax.random.key(0), 40_000)["n"]
    counts = np.bincount(drawn, minlength=6)
    assert counts[0] == counts[5] == 0
    # Binomial with p = 1/4: a standard deviation is 87; five of them.
    assert np.abs(counts[1:5] - 10_000).max() < 435


def test_a_block_that_would_wrap_around_is_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        replay.insert(empty(), items(0, 4))


def test_a_donated_buffer_is_written_in_place():
    buffer = empty(1 << 16)
    insert = jax.jit(replay.insert, donate_argnums=0)
    memory = insert.lower(buffer, items(0, 4)).compile().memory_analysis()
    size = replay.bytes_per_item(buffer) * (1 << 16)
    assert memory.alias_size_in_bytes >= size
    assert memory.temp_size_in_bytes < size / 100


def test_bytes_per_item():
    assert replay.bytes_per_item(empty()) == 3 * 4 + 4
