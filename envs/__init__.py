"""Systems to learn on: analytic ones and MuJoCo models, all differentiable.

`envs.make("chain", joints=8)` makes one; `envs.names()` lists them all. Other people's have a
prefix, `envs.make("brax:reacher")`; `envs.suite_names()` lists whose. Yours is
`envs.make("package.module:Class")`, or `envs.register` gives it a name. Nothing is loaded before
an environment is made: MuJoCo is imported by the environments that need it and by no other.
`gymnasium_env`, `gymnasium_vector` and `brax_env` hand one to other people's agents.
"""

from envs.registry import (
    brax_env,
    gymnasium_env,
    gymnasium_vector,
    is_own,
    is_own_mujoco,
    make,
    names,
    register,
    suite_names,
)

__all__ = [
    "brax_env",
    "gymnasium_env",
    "gymnasium_vector",
    "is_own",
    "is_own_mujoco",
    "make",
    "names",
    "register",
    "suite_names",
]
