"""Systems to learn on: analytic ones and MuJoCo models, all differentiable.

`envs.make("chain", joints=8)` makes one; `envs.names()` lists them all. Other people's have a
prefix, `envs.make("brax:reacher")`; `envs.suite_names()` lists whose. Yours is
`envs.make("package.module:Class")`, or `envs.register` gives it a name. Nothing is loaded before
an environment is made: MuJoCo is imported by the environments that need it and by no other.
"""

from envs.registry import is_own, make, names, register, suite_names

__all__ = ["is_own", "make", "names", "register", "suite_names"]
