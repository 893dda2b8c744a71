"""Tangents of a transition: `J @ v`, how every number of it moves along a direction `v`.

Directions are the last axis, as `sobolax.transition.Tangents` says.

- `forward`: by forward mode through the environment; directions; the transition map.
- `differences`: by central differences.
- `methods`: how they are computed, by name.
- `filters`: what makes them reliable.
- `sources`: when they are computed: never, at collection, at every update.
- `fresh`: a step from a replayed state at another action, with its tangents.
- `storage`, `rounding`: how they lie in the replay buffer.
"""

from sobolax.tangents.differences import difference_tangents
from sobolax.tangents.forward import (
    TangentFunction,
    TransitionMap,
    basis_directions,
    forward_tangents,
    random_directions,
)
from sobolax.tangents.methods import Derivatives, make_tangent_function

__all__ = [
    "Derivatives",
    "TangentFunction",
    "TransitionMap",
    "basis_directions",
    "difference_tangents",
    "forward_tangents",
    "make_tangent_function",
    "random_directions",
]
