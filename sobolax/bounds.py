"""Whether a function reads an argument beyond its end, found without running it.

JAX has no error for that: `action[3]` of three numbers is the last of them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax

# What computes an index from constants, for indices that may be negative, and what leaves an array
# what it is: every number of the result comes from the number in the same place.
_ON_INDICES: dict[str, Callable[..., int]] = {
    "lt": lambda a, b: int(a < b),
    "add": lambda a, b: a + b,
    "select_n": lambda which, *cases: cases[which],
    "convert_element_type": lambda a: a,
}
_IN_PLACE = {
    "convert_element_type",
    "add",
    "sub",
    "mul",
    "div",
    "neg",
    "max",
    "min",
    "clamp",
    "tanh",
}


def trace(
    function: Callable[..., Any], *arguments: Any, watched: jax.ShapeDtypeStruct
) -> tuple[Any, int | None]:
    """The shapes that a function returns, and where it reads an argument beyond its end.

    Indices that are plain numbers are looked at, of the argument as it is, clipped or scaled.

    Args:
        function: What is traced.
        arguments: Shapes and types.
        watched: One of them, a single array with one axis.

    Returns:
        What `jax.eval_shape` would, and the first index beyond the end; None if there is none.

    Example:
        >>> one = jax.ShapeDtypeStruct((1,), "float32")
        >>> trace(lambda action: 2.0 * action[1], one, watched=one)
        (ShapeDtypeStruct(shape=(), dtype=float32), 1)
        >>> trace(lambda action: 2.0 * action[-1], one, watched=one)[1] is None
        True
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    leaves = jax.tree.leaves(arguments)
    places = {at for at, leaf in enumerate(leaves) if leaf is watched}
    same = {var for at, var in enumerate(closed.jaxpr.invars) if at in places}
    return shapes, next(_beyond(closed.jaxpr, same, {}), None)


def _beyond(jaxpr: Any, same: set[Any], known: dict[Any, int]) -> Iterator[int]:
    """Indices beyond the end of the arrays `same`; `known` are whole numbers, by variable."""

    def number(value: Any) -> int | None:
        if hasattr(value, "val"):  # a literal
            scalar = getattr(value.val, "shape", ()) == ()
            return int(value.val) if scalar and value.aval.dtype.kind in "bi" else None
        return known.get(value)

    def is_same(value: Any) -> bool:
        return not hasattr(value, "val") and value in same

    for equation in jaxpr.eqns:
        name, inputs = equation.primitive.name, equation.invars
        numbers = [number(value) for value in inputs]
        read = numbers[1] if name == "dynamic_slice" and is_same(inputs[0]) else None
        if read is not None and not 0 <= read < inputs[0].aval.shape[0]:
            yield read
        if name in _ON_INDICES and None not in numbers:
            known[equation.outvars[0]] = _ON_INDICES[name](*numbers)
        elif name in _IN_PLACE and any(map(is_same, inputs)):
            same |= {out for out in equation.outvars if getattr(out.aval, "ndim", 0) == 1}
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        inner = getattr(inner, "jaxpr", inner)
        if inner is not None and len(inner.invars) == len(inputs):
            pairs = list(zip(inner.invars, inputs, numbers, strict=True))
            within = {var for var, value, _ in pairs if is_same(value)}
            yield from _beyond(inner, within, {v: n for v, _, n in pairs if n is not None})
            if len(inner.outvars) == len(equation.outvars):
                found = zip(equation.outvars, inner.outvars, strict=True)
                same |= {out for out, var in found if not hasattr(var, "val") and var in within}
