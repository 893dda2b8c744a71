"""MuJoCo and MJX, imported in one place.

`mujoco.mjx` prints two lines to the standard output when the optional `warp` package is absent.
We do not use its Warp backend (it has no derivatives in JAX), so they would only worry people:
they are dropped here, and everything else that the import may print is passed on.
"""

import contextlib
import io

import mujoco

with contextlib.redirect_stdout(io.StringIO()) as _printed:
    from mujoco import mjx

for _line in _printed.getvalue().splitlines():
    if not (_line.startswith("Failed to import") and "warp" in _line):
        print(_line)

__all__ = ["mjx", "mujoco"]
