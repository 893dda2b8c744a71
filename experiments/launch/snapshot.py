"""A state as named arrays in the host's memory, as a checkpoint holds it, and back."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

STATE = "state/"  # prefix of a state's arrays in a checkpoint


def paths(tree: Any) -> Any:
    """The tree with every leaf replaced by its name, such as `agent/critic/0/kernel`."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    return jax.tree.unflatten(structure, names)


def to_host(tree: Any, count: int | None = None) -> Any:
    """Copies arrays of the first `count` runs into host memory of their own.

    On CPU, NumPy's view of a jax array shares its memory, and keeps the next epoch from reusing
    it; these are real copies. So a snapshot on CPU doubles the memory of the state. Random keys
    become their data.
    """
    data = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)
    for leaf in jax.tree.leaves(data):
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()  # all of them at once, where they lie on another device
    return jax.tree.map(lambda leaf: _own(leaf)[:count], data)


def _own(leaf: Any) -> np.ndarray:
    elsewhere = isinstance(leaf, jax.Array) and all(d.platform != "cpu" for d in leaf.devices())
    return np.asarray(leaf) if elsewhere else np.array(leaf, copy=True)


def to_arrays(tree: Any, count: int | None = None, prefix: str = "") -> dict[str, np.ndarray]:
    """Copies as `to_host` does, by name, each name with a prefix."""
    names, leaves = jax.tree.leaves(paths(tree)), jax.tree.leaves(to_host(tree, count))
    if len(set(names)) < len(names):
        raise ValueError("two leaves of the state have the same name")
    return {prefix + name: leaf for name, leaf in zip(names, leaves, strict=True)}


def from_arrays(
    template: Any, arrays: Mapping[str, np.ndarray], width: int | None = None, prefix: str = ""
) -> Any:
    """The inverse of `to_arrays`.

    Args:
        template: A tree of that structure, its leaves with `dtype`.
        arrays: Values by name.
        width: Length to pad the leading axis to, by repeating the last entry; None to leave it.
        prefix: The prefix of the names.

    Returns:
        Arrays in the host's memory; random keys on JAX's device.
    """

    def restore(leaf: Any, name: str) -> Any:
        value = arrays[prefix + name]
        if width is not None and len(value) < width:
            value = np.concatenate([value, np.repeat(value[-1:], width - len(value), axis=0)])
        if is_key(leaf):
            return jax.random.wrap_key_data(jnp.asarray(value), dtype=leaf.dtype)
        return value

    return jax.tree.map(restore, template, paths(template))


def describe(template: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every array that a checkpoint of this state would hold, by name."""

    def one(leaf: Any) -> tuple[tuple[int, ...], str]:
        if is_key(leaf):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        return tuple(leaf.shape), str(leaf.dtype)

    names, leaves = jax.tree.leaves(paths(template)), jax.tree.leaves(template)
    return {STATE + name: one(leaf) for name, leaf in zip(names, leaves, strict=True)}


def is_key(leaf: Any) -> bool:
    """Whether a leaf holds random keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
