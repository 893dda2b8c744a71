"""How tangents lie in the replay buffer: how precise, and what of them need not be kept at all.

- `float32`, `bfloat16`, `float16`: all numbers, in that type.
- `int8`, `int4`: tangents of the next observation in 8 or 4 bits a number, all others as they are
  (float32, or bfloat16 beside 4 bits), and only where they can be other than zero: in the full
  basis most of the observation's tangent and all but the diagonal of the action's cannot.

Rounding is right in the mean (`sobolax.tangents.rounding`). The gradient of the loss with respect
to the critic is linear in these numbers, so it stays unbiased; noise in the tangent of the
observation would enter it squared, so that one is not rounded.

Euclidean lengths are kept besides, in the type of what is not rounded: whether a tangent is finite
and within a bound is decided by them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sobolax.environment import Environment
from sobolax.tangents.rounding import restore_columns, round_columns
from sobolax.transition import Tangents, Transition

# Bits of a number of the next observation, and the type of what is not rounded so.
_PACKED = {"int8": (8, "float32"), "int4": (4, "bfloat16")}
#: How tangents may be kept, by name.
TANGENT_DTYPES = ("float32", "bfloat16", "float16", *_PACKED)

_STATES = 4  # at which `moving_parts` looks
_AS_IT_IS = ("observation", "action", "reward", "discount")

#: Places in a flattened array, in ascending order; None for all of them.
Places = tuple[int, ...] | None


@dataclass(frozen=True)
class Moving:
    """Which numbers of the tangents can be other than zero, as far as that is known beforehand.

    Attributes:
        observation: Places in the observation's tangents along the state,
            `(observation_size, state_size)`.
        action: Places in the action's tangents along the action, `(action_size, action_size)`.

    Example:
        >>> from sobolax.cart import Cart
        >>> moving_parts(Cart(), None, None)  # the observation is the state: a unit matrix
        Moving(observation=(0, 3), action=(0,))
    """

    observation: Places = None
    action: Places = None


@dataclass(frozen=True)
class _Layout:
    """How a packed tangent is read; static. Shapes are those of a transition.

    Attributes:
        directions: How many.
        as_they_are: Parts that are not rounded: name, shape, and which numbers there are.
        next_observation: Its shape; None where it cannot move.
        bits: Of its numbers and scales.
    """

    directions: int
    as_they_are: tuple[tuple[str, tuple[int, ...], Places], ...]
    next_observation: tuple[int, ...] | None
    bits: int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PackedTangent:
    """Tangents of one transition along `n` directions of one kind.

    Whole numbers are bytes, or two to a byte.

    Attributes:
        lengths: Euclidean lengths before rounding, not finite where a tangent is not, `(n,)`; in
            bfloat16 rounded up.
        as_they_are: What is not rounded, an array for each part.
        codes: Of the next observation's `m` numbers, `(m, n)`.
        direction_scales: Of a direction's largest number over its length, `(n,)`.
        number_scales: Of the largest that a number of the next observation is in any direction,
            over that direction's largest number, `(m,)`.
        layout: How to read them; static.

    Example:
        >>> from sobolax.cart import example_transition
        >>> pack = make_storage("int8").pack
        >>> kept = jax.eval_shape(pack, jax.random.key(0), example_transition()[1])  # or jax.jit
        >>> kept.state.codes.dtype, kept.state.codes.shape
        (dtype('int8'), (2, 2))
    """

    lengths: jax.Array
    as_they_are: tuple[jax.Array, ...]
    codes: jax.Array
    direction_scales: jax.Array
    number_scales: jax.Array
    layout: _Layout = field(metadata={"static": True})


@dataclass(frozen=True)
class TangentStorage:
    """How tangents are kept; both functions are of one unbatched transition.

    Attributes:
        pack: `(key, tangents) -> what lies in the replay buffer`.
        unpack: `(what lies there, bound) -> (tangents, bound)`: tangents, and the bound that is
            still to be held against them. Tangents that were found too long, or not finite, come
            back as NaN.

    Example:
        >>> from sobolax.cart import example_transition
        >>> storage = make_storage("bfloat16")
        >>> kept = storage.pack(jax.random.key(0), example_transition()[1])
        >>> storage.unpack(kept, 1e3)[0].state.reward.tolist()
        [-2.5, -1.25]
    """

    pack: Callable[[jax.Array, Tangents], Any]
    unpack: Callable[[Any, Any], tuple[Tangents, Any]]


def make_storage(dtype: str, moving: Moving | None = None) -> TangentStorage:
    """Builds the storage of that name: one of `TANGENT_DTYPES`, or any name of a float type.

    Args:
        dtype: How numbers are kept.
        moving: For `int8` and `int4`: which numbers can be other than zero. A tangent that has
            others is taken as not finite, so it is dropped and counted, and never wrong.

    Example:
        >>> from sobolax.cart import example_transition
        >>> _, tangents = example_transition()
        >>> make_storage("float16").pack(jax.random.key(0), tangents).state.reward.dtype
        dtype('float16')
    """
    if dtype not in _PACKED:
        return TangentStorage(
            lambda key, tangents: jax.tree.map(lambda leaf: leaf.astype(dtype), tangents),
            lambda stored, bound: (stored, bound),
        )
    bits, precise = _PACKED[dtype]
    moving = moving or Moving()

    def pack(key: jax.Array, tangents: Tangents) -> Any:
        state_key, action_key = jax.random.split(key)
        return Tangents(
            _pack(state_key, tangents.state, {"observation": moving.observation}, bits, precise),
            _pack(action_key, tangents.action, {"action": moving.action}, bits, precise),
        )

    def unpack(stored: Any, bound: Any) -> tuple[Tangents, Any]:
        return Tangents(_unpack(stored.state, bound), _unpack(stored.action, bound)), jnp.inf

    return TangentStorage(pack, unpack)


def is_packed(dtype: str) -> bool:
    """Whether tangents of that name are packed, so that it helps to know what moves.

    Example:
        >>> is_packed("int8"), is_packed("float16")
        (True, False)
    """
    return dtype in _PACKED


def moving_parts(
    environment: Environment, state_directions: int | None, action_directions: int | None
) -> Moving:
    """Which numbers of an environment's tangents can be other than zero.

    Known in the full basis alone: the action's tangents are the directions themselves, and what a
    displacement of the state does to the observation is found by `perturb`, at a few first states
    moved at random: a tangent of NaN reaches all that depends on it.

    Args:
        environment: The environment; `reset` and `perturb` are compiled and called.
        state_directions: How many random directions of the state; None for the full basis, 0 for
            none.
        action_directions: The same for the action.

    Example:
        >>> from sobolax.cart import Cart
        >>> moving_parts(Cart(), None, 1)  # the action's direction is a random one
        Moving(observation=(0, 3), action=None)
    """
    observation = action = None
    if action_directions is None:
        size = environment.action_size
        action = tuple(range(0, size * size, size + 1))
    if state_directions is None:
        # Constants of the program to be, also where this one is built inside another.
        with jax.ensure_compile_time_eval():
            reached = jax.jit(lambda key: _reached(environment, key))(jax.random.key(0))
        observation = tuple(np.flatnonzero(np.asarray(reached)).tolist())
    return Moving(observation, action)


def _reached(environment: Environment, key: jax.Array) -> jax.Array:
    """Which of the observation every direction reaches, `(observation_size, state_size)` bool."""
    size = environment.state_size

    def one(key: jax.Array) -> jax.Array:
        reset_key, move_key = jax.random.split(key)
        state = environment.reset(reset_key)
        dtype = state.observation.dtype
        state = environment.perturb(state, 0.1 * jax.random.normal(move_key, (size,), dtype))

        def along(direction: jax.Array) -> jax.Array:
            return jax.jvp(
                lambda moved: environment.perturb(state, moved).observation,
                (jnp.zeros(size, dtype),),
                (jnp.where(direction, jnp.nan, 0.0).astype(dtype),),
            )[1]

        return jnp.isnan(jax.vmap(along, in_axes=-1, out_axes=-1)(jnp.eye(size, dtype=bool)))

    return jnp.any(jax.vmap(one)(jax.random.split(key, _STATES)), axis=0)


def _pack(
    key: jax.Array, tangent: Transition, places: dict[str, Places], bits: int, precise: str
) -> Any:
    """A `PackedTangent`."""
    present = {name: leaf for name, leaf in vars(tangent).items() if leaf is not None}
    # Not -1: there may be no direction.
    columns = {
        name: leaf.reshape(math.prod(leaf.shape[:-1]), leaf.shape[-1])
        for name, leaf in present.items()
    }
    count = next(iter(columns.values())).shape[1]
    lengths = jnp.sqrt(sum(jnp.sum(jnp.square(leaf), axis=0) for leaf in columns.values()))
    described, kept = [], []
    for name in _AS_IT_IS:
        if name in columns:
            where = places.get(name)
            described.append((name, present[name].shape[:-1], where))
            kept.append(columns[name].ravel()[_index(where)].astype(precise))
            lengths = jnp.where(_has_others(columns[name], where), jnp.nan, lengths)
    matrix = columns.get("next_observation", jnp.zeros((0, count)))
    matrix = jnp.where(jnp.isfinite(lengths), matrix, 0.0)
    if precise == "bfloat16":
        lengths = _round_up(lengths)
    lengths = lengths.astype(precise)
    rounded = round_columns(key, matrix, lengths.astype(matrix.dtype), bits)
    shape = present["next_observation"].shape[:-1] if "next_observation" in present else None
    layout = _Layout(count, tuple(described), shape, bits)
    return PackedTangent(lengths, tuple(kept), *rounded, layout)


def _round_up(lengths: jax.Array) -> jax.Array:
    """The next numbers that bfloat16 has, in float32; `lengths` are not negative.

    A column scaled by less than its length would be cut off where it is largest, and its mean would
    be too small. In bits, as compilers may leave out conversions there and back.
    """
    lengths = lengths.astype("float32")
    bits = jax.lax.bitcast_convert_type(lengths, "uint32")
    up = jax.lax.bitcast_convert_type((bits + 0xFFFF) >> 16 << 16, "float32")
    # Bits of a NaN could run over.
    return jnp.where(jnp.isfinite(lengths), up, lengths)


def _unpack(packed: PackedTangent, bound: Any) -> Transition:
    layout, count = packed.layout, packed.layout.directions
    lengths = packed.lengths.astype("float32")
    valid = jnp.isfinite(lengths) & (lengths <= bound)
    found: dict[str, Any] = dict.fromkeys(Transition.__dataclass_fields__)
    for (name, shape, where), kept in zip(layout.as_they_are, packed.as_they_are, strict=True):
        dense = kept.astype("float32")
        if where is not None:
            dense = jnp.zeros(math.prod(shape) * count).at[_index(where)].set(dense)
        dense = jnp.where(valid, dense.reshape(math.prod(shape), count), jnp.nan)
        found[name] = dense.reshape(*shape, count)
    if layout.next_observation is not None:
        size = math.prod(layout.next_observation)
        rounded = packed.codes, packed.direction_scales, packed.number_scales
        lengths = jnp.where(valid, lengths, jnp.nan)
        dense = restore_columns(rounded, lengths, size, layout.bits)
        found["next_observation"] = dense.reshape(*layout.next_observation, count)
    return Transition(**found)


def _index(places: Places) -> Any:
    return slice(None) if places is None else np.asarray(places, np.int32)


def _has_others(columns: jax.Array, places: Places) -> jax.Array:
    """Whether a direction has numbers other than zero elsewhere than at these places, `(n,)`."""
    if places is None:
        return jnp.zeros(columns.shape[1], bool)
    elsewhere = np.ones(columns.size, bool)
    elsewhere[list(places)] = False
    return jnp.any((columns != 0) & elsewhere.reshape(columns.shape), axis=0)
