"""Physics of one solver iteration, and trainings that are judged in other physics.

With more iterations JAX cannot differentiate MJX's own solver in reverse. With one, it can, and the
derivative is that of the iteration itself. Studies compare it with the exact one.
"""

import warnings
from dataclasses import replace
from typing import Any

from experiments.launch.configuration import make_environment
from sobolax.environment import Environment
from sobolax.training.loop import Training, join


def make_one_iteration(name: str, ls_iterations: int = 1, implicit: bool = False) -> Environment:
    """A MuJoCo environment on a step with one iteration of its solver.

    Args:
        name: Of the environment.
        ls_iterations: Line-search iterations, at most.
        implicit: Whether it has the derivatives of `sobolax.mjx.step`, as if the iteration had
            ended at the solver's optimum; else it is `mjx.step`, with those of the iteration.

    Raises:
        ValueError: If it is no MuJoCo environment of this repository, or has no solver.
    """
    from envs.mujoco.base import MujocoEnvironment
    from sobolax.mjx import InexactDerivatives, in_full_precision
    from sobolax.mjx.engine import mjx

    with warnings.catch_warnings():
        # It warns that one iteration is other physics, which is what is measured.
        warnings.simplefilter("ignore", InexactDerivatives)
        environment = make_environment(name, {"iterations": 1, "ls_iterations": ls_iterations})
    if not isinstance(environment, MujocoEnvironment):
        raise ValueError(f"environment {name!r} takes no step of MJX that could be replaced")
    if not implicit:
        environment.physics_step = in_full_precision(mjx.step)
        environment.own_derivatives = dict.fromkeys(
            environment.own_derivatives, "plain MJX has none"
        )
    return environment


def evaluated_in(learning: Training, judge: Training, epochs: int) -> Training:
    """A training that learns in one physics and is evaluated in another.

    Args:
        learning: What learns; its own evaluation has the metrics `own_return`, `own_length` and
            `own_nonfinite`.
        judge: Of the same configuration, in the other environment.
        epochs: Of both.
    """

    def look(state: Any, hyper: Any, index: Any) -> Any:
        own = learning.look(state, hyper, index)
        names = ("return", "length", "nonfinite")
        there = {f"own_{name}": own[f"evaluation_{name}"] for name in names}
        return judge.look(state, hyper, index) | there

    epoch, run = join(learning.init, learning.learn, look, epochs)
    return replace(learning, epoch=epoch, look=look, run=run)
