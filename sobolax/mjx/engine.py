"""MuJoCo and MJX, imported in one place.

`mujoco.mjx` prints two lines to the standard output when the optional `warp` package is absent.
We do not use its Warp backend (it has no derivatives in JAX), so they would only worry people:
they are dropped here, and everything else that the import may print is passed on.
"""

import contextlib
import io
from typing import TYPE_CHECKING, Any

import mujoco as _mujoco

with contextlib.redirect_stdout(io.StringIO()) as _printed:
    from mujoco import mjx

    # Which geoms MJX collides with which; it has no public name.
    from mujoco.mjx._src.collision_driver import geom_pairs

for _line in _printed.getvalue().splitlines():
    if not (_line.startswith("Failed to import") and "warp" in _line):
        print(_line)

# MuJoCo's extension module has no stubs: for a type checker its names are Any.
mujoco: Any = _mujoco
if TYPE_CHECKING:
    MjModel = Any
else:
    MjModel = _mujoco.MjModel

__all__ = ["MjModel", "geom_pairs", "mjx", "mujoco"]
