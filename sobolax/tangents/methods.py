"""How tangents of a transition are computed: one interface, chosen by name.

- `analytic`: whole Jacobians of physics from inverse dynamics, chained over its steps. MuJoCo
  environments have it; for the full basis it costs a few plain steps, however many directions.
- `forward`: forward mode through the simulator, direction by direction. Any environment that JAX
  can differentiate.
- `differences`: central differences. Any environment at all, at two steps per direction.
- `mujoco_fd`: central differences of MuJoCo's C engine on the host, on all cores.
- `auto`: `analytic` where there is one and more than a few directions are wanted, else `forward`.

`docs/concepts/contact_derivatives.md` says from measurements when to take which.

An environment with ways of its own has `own_derivatives`, a mapping from their names to functions
(`TangentFunction`), or to the reason why there is none. `reverse` is not here: it is a source that
needs no tangents (`sobolax.tangents.sources`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from sobolax.checks import check_choice, check_counts
from sobolax.environment import Environment, State
from sobolax.tangents import filters
from sobolax.tangents.differences import difference_tangents
from sobolax.tangents.forward import TangentFunction, forward_tangents

#: Their names.
METHODS = ("auto", "analytic", "forward", "differences", "mujoco_fd")

# Measured on Ant and Hopper: forward mode costs 1.15 plain steps for one direction and about 0.12
# for each further one, an analytic Jacobian 2 to 2.5 for all. They break even near 8 to 10; below
# that forward mode also compiles faster and keeps less in memory.
_FEW_DIRECTIONS = 8


@dataclass(frozen=True)
class Derivatives:
    """How tangents are computed, and what makes them reliable. All of it is static.

    Attributes:
        method: "auto", "analytic", "forward", "differences" or "mujoco_fd".
        difference_step: How far `differences` and `max_disagreement` go to both sides, in the units
            of state and action; None for the cube root of the state's rounding, 5e-3 in float32.
        max_norm: The length to which longer tangents are shortened; None for no such limit.
        max_disagreement: The largest relative difference to a central difference along one random
            direction with which tangents are kept; None to keep them all.
        smoothing_samples: Nearby states over which tangents are averaged; 1 for the derivative
            itself.
        smoothing_scale: How near: the standard deviation of their displacements.

    Example:
        >>> from sobolax.cart import Cart
        >>> Derivatives(method="analytic").check(Cart())
        Traceback (most recent call last):
        ValueError: ...: the environment offers none. These work: auto, forward, differences
    """

    method: str = "auto"
    difference_step: float | None = None
    max_norm: float | None = None
    max_disagreement: float | None = None
    smoothing_samples: int = 1
    smoothing_scale: float = 1e-2

    def check(self, environment: Environment) -> None:
        """Raises ValueError, with the fix, for what cannot work; compiles nothing."""
        check_choice("derivatives: method=", self.method, METHODS)
        reason = reason_against(self.method, environment)
        if reason is not None:
            possible = [name for name in METHODS if reason_against(name, environment) is None]
            raise ValueError(
                f"derivatives: method={self.method!r} does not work for environment "
                f"{environment.name!r}: {reason}. These work: {', '.join(possible)}"
            )
        for name in ("difference_step", "max_norm", "max_disagreement", "smoothing_scale"):
            value = getattr(self, name)
            if value is None and name != "smoothing_scale":
                continue
            number = isinstance(value, int | float) and 0 < value < float("inf")
            if isinstance(value, bool) or not number:
                raise ValueError(f"derivatives: {name}={value!r} must be finite and above 0")
        check_counts("derivatives", self, {"smoothing_samples": 1})


def own_derivatives(environment: Environment) -> Mapping[str, TangentFunction | str]:
    """The ways that an environment has of its own; none for most.

    Example:
        >>> from sobolax.cart import Cart
        >>> own_derivatives(Cart())
        {}
    """
    return getattr(environment, "own_derivatives", {})


def reason_against(method: str, environment: Environment) -> str | None:
    """Why a method does not work for an environment, or None if it does.

    Example:
        >>> from sobolax.cart import Cart
        >>> reason_against("analytic", Cart())
        'the environment offers none'
        >>> reason_against("differences", Cart()) is None
        True
    """
    if method not in ("analytic", "mujoco_fd"):
        return None
    own = own_derivatives(environment).get(method, "the environment offers none")
    return own if isinstance(own, str) else None


def make_tangent_function(environment: Environment, options: Derivatives) -> TangentFunction:
    """Builds what computes a step and its tangents, unbatched.

    Args:
        environment: The environment.
        options: How.

    Returns:
        `(key, state, action, state_directions, action_directions) -> (transition, next state,
        tangents)`. The key serves `max_disagreement` and `smoothing_samples`.

    Raises:
        ValueError: If the environment cannot have it so.

    Example:
        >>> from sobolax.cart import Cart
        >>> compute = make_tangent_function(Cart(), Derivatives(method="forward"))
        >>> where = Cart().at(1.0, 0.0), jnp.ones(1), jnp.eye(2), jnp.eye(1)
        >>> compute(jax.random.key(0), *where)[2].state.reward.tolist()
        [-2.5, -1.25]
    """
    options.check(environment)

    def forward(key, *arguments: Any):
        return forward_tangents(environment, *arguments)

    def differences(key, *arguments: Any):
        return difference_tangents(environment, *arguments, step=options.difference_step)

    def auto(
        key: jax.Array,
        state: State,
        action: jax.Array,
        state_directions: jax.Array,
        action_directions: jax.Array,
    ):
        own = own_derivatives(environment).get("analytic", "")
        many = state_directions.shape[-1] + action_directions.shape[-1] > _FEW_DIRECTIONS
        compute = forward if isinstance(own, str) or not many else own
        return compute(key, state, action, state_directions, action_directions)

    generic = {"auto": auto, "forward": forward, "differences": differences}
    own = {
        name: function
        for name, function in own_derivatives(environment).items()
        if not isinstance(function, str)
    }
    compute: TangentFunction = {**generic, **own}[options.method]
    if options.smoothing_samples > 1:
        compute = filters.smooth(
            compute, environment, options.smoothing_samples, options.smoothing_scale
        )
    if options.max_disagreement is not None:
        compute = filters.reject_disagreeing(
            compute, environment, options.max_disagreement, options.difference_step
        )
    if options.max_norm is not None:
        compute = filters.clip_norm(compute, options.max_norm)
    return compute
