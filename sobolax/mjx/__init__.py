"""MuJoCo's MJX physics, differentiable; needs the extra `mjx`.

- `step`: `mjx.step` with exact derivatives in both modes, at any number of solver iterations.
- `step_and_jacobian`: a step and its whole Jacobian in local coordinates, for a few steps' time.
- `integrate_position`: moves positions along their tangent space, quaternions included.
- `subtract_positions`: the move from one position to another.
- `reason_against`: why a step of a model cannot be differentiated so, if it cannot.
- `reason_against_jacobian`: why it has no whole Jacobian, if it has none.
- `reason_against_steps`: why `mjx.step` itself has no result for a model, if it has none.
- `advice`: what would make derivatives exact, if they are not: solver options, precision.
- `in_full_precision`: what a function multiplies, as exactly on a GPU as on a CPU.
- `for_cpu`: rewrites a function of MJX so that XLA's CPU backend runs it fast, and to its end.

Nothing else in `sobolax` imports a simulator.
"""

from sobolax.mjx.cpu import for_cpu
from sobolax.mjx.exactness import InexactDerivatives, advice
from sobolax.mjx.jacobian import StepJacobian, step_and_jacobian
from sobolax.mjx.precision import in_full_precision
from sobolax.mjx.quaternions import integrate_position, subtract_positions
from sobolax.mjx.step import step
from sobolax.mjx.support import reason_against, reason_against_jacobian, reason_against_steps

__all__ = [
    "InexactDerivatives",
    "StepJacobian",
    "advice",
    "for_cpu",
    "in_full_precision",
    "integrate_position",
    "reason_against",
    "reason_against_jacobian",
    "reason_against_steps",
    "step",
    "step_and_jacobian",
    "subtract_positions",
]
