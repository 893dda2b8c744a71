"""Systems to learn on: analytic ones and MuJoCo models, all differentiable.

`envs.make("chain", joints=8)` makes one; `envs.names()` lists them all. Other people's have a
prefix, `envs.make("brax:reacher")`; `envs.suites()` lists whose. Nothing is loaded before
an environment is made: MuJoCo is imported by the environments that need it and by no other.
"""

from envs.registry import make, names, suites

__all__ = ["make", "names", "suites"]
