"""Tangents of a transition: `dT.v`, how every number of it moves along a direction `v`.

- `forward`: by forward mode through the environment; directions; the transition map.
- `differences`: by central differences.
- `methods`: how they are computed, by name.
- `filters`: what makes them reliable.
- `sources`: when they are computed: never, at collection, at every update.
- `storage`: how they lie in the replay buffer.
"""
