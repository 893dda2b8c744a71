"""The ring buffer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sobolax.training import replay

# Op by op every test would wait for dozens of programs.
add, read_all = jax.jit(replay.add), jax.jit(replay.read_all)
sample = jax.jit(replay.sample, static_argnums=2)


def items(start, count):
    number = np.arange(start, start + count)
    return {"x": np.repeat(np.float32(number)[:, None], 3, axis=1), "n": number.astype(np.int32)}


def empty(capacity=6, width=1):
    example = {"x": jax.ShapeDtypeStruct((3,), "float32"), "n": jax.ShapeDtypeStruct((), "int32")}
    return replay.init(example, capacity, width)


def test_the_newest_items_are_kept_and_the_oldest_overwritten():
    buffer = empty()
    for start in range(0, 10, 2):
        buffer = add(buffer, items(start, 2))
        assert buffer.size == min(start + 2, 6)
    found = read_all(buffer)
    assert sorted(found["n"].tolist()) == [4, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(found["x"][:, 0], found["n"])
    assert found["n"].dtype == jnp.int32


def test_every_dtype_comes_back_bit_by_bit(float64):
    draw = np.random.default_rng(0)
    given = {
        "double": draw.normal(size=(2, 3)),
        "complex": draw.normal(size=(2, 1)) + 1j * draw.normal(size=(2, 1)),
        "single": np.array([[np.nan, -0.0], [np.inf, 1e-45]], np.float32),
        "half": draw.normal(size=(2, 3)).astype(np.float16),
        "brain": draw.normal(size=(2, 1, 2)).astype(jnp.bfloat16),
        "whole": np.array([-1, 2**31 - 1], np.int32),
        "bytes": draw.integers(-128, 128, (2, 5)).astype(np.int8),
        "flag": np.array([True, False]),
        "nothing": np.zeros((2, 0), np.float32),
    }
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), given)
    buffer = add(replay.init(example, 4), given)
    # 5 doubles, 3 words, 5 halves and 6 bytes, each kind filled up to whole words.
    assert replay.bytes_per_item(buffer) == 40 + 12 + 12 + 8
    found = jax.tree.map(lambda leaf: np.asarray(leaf)[:2], read_all(buffer))
    assert found.keys() == given.keys()
    for name, leaf in given.items():
        leaf = np.asarray(leaf)
        assert (found[name].dtype, found[name].shape) == (leaf.dtype, leaf.shape)
        assert np.asarray(found[name]).tobytes() == leaf.tobytes(), name


def test_samples_are_uniform_over_what_is_there_and_nothing_else():
    buffer = add(add(empty(), items(1, 2)), items(3, 2))
    drawn = sample(buffer, jax.random.key(0), 40_000)
    counts = np.bincount(drawn["n"], minlength=6)
    assert counts[0] == counts[5] == 0
    # Binomial with p = 1/4: a standard deviation is 87; five of them.
    assert np.abs(counts[1:5] - 10_000).max() < 435
    np.testing.assert_array_equal(drawn["x"], np.asarray(drawn["n"])[:, None] * np.ones(3))


def test_members_of_a_sweep_have_buffers_of_their_own():
    blocks = [items(start, 2) for start in (1, 3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *blocks)

    @jax.jit
    @jax.vmap
    def drawn_from(block):
        return replay.sample(replay.add(empty(), block), jax.random.key(0), 50)["n"]

    drawn = drawn_from(stacked)
    assert [set(row.tolist()) for row in drawn] == [{1, 2}, {3, 4}]


def test_a_block_that_would_wrap_around_is_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        replay.add(empty(), items(0, 4))


@pytest.mark.parametrize("width", [1, 2])
def test_blocks_may_differ_in_size(width):
    example = {"n": jax.ShapeDtypeStruct((), "int32")}
    buffer = replay.init(example, 12, width)
    for start, count in ((1, 4), (5, 6), (11, 6), (17, 2)):
        buffer = add(buffer, {"n": np.arange(start, start + count, dtype=np.int32)})
        newest = range(max(1, start + count - 12), start + count)
        assert sorted(read_all(buffer)["n"].tolist())[-buffer.size :] == [*newest]


@pytest.mark.parametrize("width", [1, 4])
def test_a_donated_buffer_is_written_in_place(width):
    buffer = empty(1 << 16, width)
    insert = jax.jit(replay.add, donate_argnums=0)
    memory = insert.lower(buffer, items(0, 4)).compile().memory_analysis()
    size = replay.bytes_per_item(buffer) * (1 << 16)
    assert memory.alias_size_in_bytes >= size
    assert memory.temp_size_in_bytes < size / 100


def test_bytes_per_item():
    assert replay.bytes_per_item(empty()) == 3 * 4 + 4


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_random_keys_come_back(impl):
    keys = jax.random.split(jax.random.key(3, impl=impl), 4)
    given = {"one": keys, "two": jnp.stack([keys[:2], keys[2:]] * 2), "x": np.arange(4.0)}
    given["x"] = given["x"].astype(np.float32)
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), given)
    found = replay.read_all(replay.add(replay.init(example, 4), given))
    for name, leaf in given.items():
        assert found[name].dtype == leaf.dtype
        assert (found[name] == leaf).all()


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"x": jnp.zeros((2, 3))}, "items of another structure"),
        ({"x": jnp.zeros((2, 3)), "m": jnp.zeros(2, jnp.int32)}, "items of another structure"),
        ({"x": jnp.zeros((2, 1, 3)), "n": jnp.zeros(2, jnp.int32)}, r"items\['x'\] has shape"),
        (
            {"x": jnp.zeros((2, 3)), "n": jnp.zeros(3, jnp.int32)},
            r"items\['x'\] has shape \(2, 3\)",
        ),
        ({"x": jnp.zeros((2, 3)), "n": jnp.zeros(2)}, r"type float32, but the buffer.*int32"),
        ({"x": jnp.zeros(3), "n": jnp.zeros((), jnp.int32)}, r"give \(n,( 3)?\)"),
        ({"x": jnp.zeros((0, 3)), "n": jnp.zeros(0, jnp.int32)}, "has shape"),
    ],
    ids=range(7),
)
def test_items_unlike_the_example_are_refused_by_name(others, message):
    with pytest.raises(ValueError, match=message):
        replay.add(empty(), others)


@pytest.mark.parametrize("size", [0, -4, 2.0, True, None, 2**31])
def test_capacities_and_counts_are_whole_numbers_that_can_be_counted(size):
    with pytest.raises(ValueError, match=r"capacity=.*whole number from 1 to 2,147,483,647"):
        empty(size)
    with pytest.raises(ValueError, match=r"count=.*whole number from 1 to 2,147,483,647"):
        replay.sample(empty(), jax.random.key(0), size)


def test_an_empty_buffer_has_no_samples():
    with pytest.raises(ValueError, match="the replay buffer is empty"):
        replay.sample(empty(), jax.random.key(0), 2)
