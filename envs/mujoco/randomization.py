"""Parameters of a model that differ between episodes: masses, friction, damping, gains.

Every episode draws its factors at the reset and carries them in its state, traced: one program
simulates a different robot in every environment. Derivatives of a step are those of the model that
was drawn, and the step differentiates with respect to the factors, too.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.history import History
from envs.mujoco.base import MujocoEnvironment
from sobolax.checks import suggestion
from sobolax.environment import State, actor_observations
from sobolax.mjx.engine import MjModel, mjx, mujoco

# What may be scaled: the fields of the model, and whose they are.
_PARAMETERS: dict[str, tuple[tuple[str, ...], str]] = {
    "density": (("body_mass", "body_inertia"), "body"),
    "body_mass": (("body_mass",), "body"),
    "body_inertia": (("body_inertia",), "body"),
    "body_pos": (("body_pos",), "body"),
    "geom_friction": (("geom_friction",), "geom"),
    "pair_friction": (("pair_friction",), "pair"),
    "dof_damping": (("dof_damping",), "dof"),
    "dof_armature": (("dof_armature",), "dof"),
    "dof_frictionloss": (("dof_frictionloss",), "dof"),
    "jnt_stiffness": (("jnt_stiffness",), "joint"),
    "tendon_stiffness": (("tendon_stiffness",), "tendon"),
    "tendon_damping": (("tendon_damping",), "tendon"),
    "actuator_gear": (("actuator_gear",), "actuator"),
    "actuator_gain": (("actuator_gainprm",), "actuator"),
    "servo_gain": (("actuator_gainprm", "actuator_biasprm"), "actuator"),
}
_LOSS, _LEAST_LOSS = "dof_frictionloss", 1e-10


@dataclass(frozen=True)
class _Factor:
    """One entry: which rows of which fields are multiplied, and from where the factor is drawn."""

    fields: tuple[str, ...]
    rows: np.ndarray
    count: int  # numbers that are drawn: 1 for all rows, or one for each element
    element_of_row: np.ndarray
    low: float
    high: float


class Randomization:
    """Which parameters of a model are drawn, and from what; of `randomize`.

    Args:
        model: The model.
        ranges: As of `randomize`.
        owner: The environment's name, for errors.

    Raises:
        ValueError: If a parameter or an element is unknown, or a range is no range.
    """

    def __init__(self, model: MjModel, ranges: Mapping[str, Any], owner: str):
        if not isinstance(ranges, Mapping) or not ranges:
            raise ValueError(
                f"{owner}: randomize takes a range for each parameter, such as "
                f"{{'density': (0.8, 1.2)}}, not {ranges!r}"
            )
        self._factors = {key: _parsed(model, key, ranges[key], owner) for key in ranges}

    def draw(self, key: jax.Array) -> dict[str, jax.Array]:
        """Factors, uniform over their ranges: `(numbers,)` for each parameter."""
        keys = jax.random.split(key, len(self._factors))
        return {
            name: jax.random.uniform(
                keys[at], (factor.count,), jnp.result_type(float), factor.low, factor.high
            )
            for at, (name, factor) in enumerate(self._factors.items())
        }

    def applied(self, model: mjx.Model, factors: Mapping[str, jax.Array]) -> mjx.Model:
        """The model with its parameters multiplied."""
        fields: dict[str, jax.Array] = {}
        for name, factor in self._factors.items():
            per_row = factors[name][factor.element_of_row]
            for field in factor.fields:
                value = fields.get(field, jnp.asarray(getattr(model, field)))
                columns = (slice(None), *(None,) * (value.ndim - 1))
                fields[field] = value.at[factor.rows].multiply(
                    per_row[columns], unique_indices=True
                )
        if (loss := fields.get(_LOSS)) is not None:
            # MJX locks a joint that has a row for dry friction and none of it.
            fields[_LOSS] = jnp.maximum(loss, _LEAST_LOSS * jnp.asarray(getattr(model, _LOSS)))
        return model.replace(**fields)

    def checked(self, factors: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Factors as arrays; ValueError if one is unknown, missing or has another shape."""
        if set(factors) != set(self._factors):
            raise ValueError(
                f"factors are of {', '.join(sorted(self._factors))}, not of "
                f"{', '.join(sorted(factors)) or 'none'}"
            )
        arrays = {name: jnp.asarray(factors[name], jnp.result_type(float)) for name in factors}
        for name, factor in self._factors.items():
            if arrays[name].shape != (factor.count,):
                raise ValueError(
                    f"factors of {name!r} must be of shape ({factor.count},), not "
                    f"{arrays[name].shape}"
                )
        return {name: arrays[name] for name in self._factors}


def randomize(
    environment: MujocoEnvironment, ranges: Mapping[str, Any], observed: bool | str = False
) -> MujocoEnvironment:
    """The same environment with parameters of its model drawn anew at every reset.

    Factors are part of the physics state, `state.physics.factors`, and constant over an episode.
    They are no coordinate of the state: `perturb` leaves them alone. `set_factors` puts others in
    their place, say to differentiate with respect to them.

    What MuJoCo's compiler derives from masses stays that of the nominal model, as when a field is
    changed at run time in MuJoCo itself: the regularisation of constraints (`body_invweight0`,
    `dof_invweight0`). Pictures show the nominal model.

    Args:
        environment: A MuJoCo environment; it is not changed.
        ranges: From a parameter to the range of its factor, `(low, high)`. A parameter is `density`
            (masses and inertias), `servo_gain` (of position servos: gain and bias), or a field:
            `body_mass`, `body_inertia`, `geom_friction`, `pair_friction`, `dof_damping`,
            `dof_armature`, `dof_frictionloss`, `jnt_stiffness`, `tendon_stiffness`,
            `tendon_damping`, `actuator_gear`, `actuator_gain`; and `body_pos`, where a body is on
            its parent, for models of your own (`MjcfEnvironment`). `"density"` is one
            factor for all bodies, `"density:torso"` that of one, `"density:*"` one for each.
            Several factors of the same number multiply.
        observed: Whether observations end with the factors; hidden otherwise. "critic" shows them
            to critics alone (`sobolax.environment.actor_observations`).

    Returns:
        A copy of the environment.

    Raises:
        TypeError: If the environment is not a MuJoCo environment of `envs`.
        ValueError: If a parameter or an element is unknown, a range is no range, MJX needs the
            parameter as a constant, `observed` is something else, the environment is randomized
            already, or "critic" meets one that hides a part from its actor already.

    Example:
        >>> import envs
        >>> hopper = envs.make("hopper", randomize={"density": (0.8, 1.2)})  # or, with options:
        >>> hopper = randomize(envs.make("hopper"), {"geom_friction:floor": (0.5, 1.5)})
        >>> float(hopper.reset(jax.random.key(0)).physics.factors["geom_friction:floor"][0]) < 1.5
        True
    """
    if not isinstance(environment, MujocoEnvironment):
        name = getattr(environment, "name", type(environment).__name__)
        if isinstance(environment, History):
            raise TypeError(f"{name} has a history: randomize it first, then give it one")
        raise TypeError(
            f"{name}: randomize is for MuJoCo environments of envs.mujoco, not for "
            f"{type(environment).__module__}.{type(environment).__name__}"
        )
    if not isinstance(observed, bool) and observed != "critic":
        raise ValueError(
            f"{environment.name}: observe_factors={observed!r} must be True, False or 'critic'"
        )
    if observed and actor_observations(environment) is not None:
        raise ValueError(
            f"{environment.name} says itself what the actor sees (actor_observations): leave "
            "observe_factors out, or observe the factors in the environment"
        )
    if environment.randomization is not None:
        raise ValueError(
            f"{environment.name} is randomized already: give all ranges in one randomize"
        )
    randomization = Randomization(environment.mujoco_model, ranges, environment.name)
    if "body_pos" in {key.partition(":")[0] for key in ranges} and not environment.sees_geometry:
        raise ValueError(
            f"{environment.name}: body_pos cannot be randomized: observation and reward of this "
            "environment compute places from the nominal model; one of your own "
            "(envs.mujoco.mjcf.MjcfEnvironment) can"
        )
    randomized = copy.copy(environment)
    randomized._set_randomization(randomization, observed)
    _check_traced(randomized, ranges)
    return randomized


def set_factors(
    environment: MujocoEnvironment | History, state: State, factors: Mapping[str, Any]
) -> State:
    """The same state with other factors, observed anew if they are observed.

    Args:
        environment: From `randomize`, with or without a history; what was seen before stays.
        state: One of its states.
        factors: All of them, shaped as in `state.physics.factors`.

    Raises:
        ValueError: If the environment is not randomized, or a factor is unknown, missing or has
            another shape.
    """
    if isinstance(environment, History):
        inner: Any = environment.environment
        moved = set_factors(inner, environment.inner(state), factors)
        return environment.with_inner(state, moved)
    if environment.randomization is None:
        raise ValueError(f"{environment.name} is not randomized: envs.randomize makes it so")
    physics = replace(state.physics, factors=environment.randomization.checked(factors))
    return replace(state, physics=physics, observation=environment.observe(physics))


def _parsed(model: MjModel, key: str, given: Any, owner: str) -> _Factor:
    name, colon, element = str(key).partition(":")
    if name not in _PARAMETERS:
        raise ValueError(
            f"{owner}: there is no parameter {name!r} to randomize"
            f"{suggestion(name, _PARAMETERS)}; there are {', '.join(_PARAMETERS)}"
        )
    fields, kind = _PARAMETERS[name]
    owners = _owners(model, kind)
    rows = np.arange(owners.size)
    elements = "joint" if kind == "dof" else kind
    muscles = kind == "actuator" and np.any(model.actuator_gaintype == mujoco.mjtGain.mjGAIN_MUSCLE)
    if muscles and "actuator_gainprm" in fields:
        raise ValueError(
            f"{owner}: {name} cannot be randomized: the model has muscles, whose lengths and "
            "speeds are among the same numbers: randomize actuator_gear"
        )
    if rows.size == 0:
        raise ValueError(f"{owner}: {name} cannot be randomized: the model has no {elements}")
    low, high = _range(key, given, owner)
    if not colon:
        return _Factor(fields, rows, 1, np.zeros(rows.size, int), low, high)
    count = int(owners.max()) + 1
    if element == "*":
        return _Factor(fields, rows, count, owners, low, high)
    names = [getattr(model, elements)(at).name for at in range(count)]
    if element not in names:
        known = ", ".join(name for name in names if name) or "none has a name"
        raise ValueError(
            f"{owner}: {key!r}: the model has no {elements} {element!r}"
            f"{suggestion(element, names)}; there are: {known}"
        )
    chosen = rows[owners == names.index(element)]
    return _Factor(fields, chosen, 1, np.zeros(chosen.size, int), low, high)


def _owners(model: MjModel, kind: str) -> np.ndarray:
    """The element that each row of a field belongs to: a ball joint has three dofs."""
    if kind == "dof":
        return np.asarray(model.dof_jntid)
    counts = {
        "body": model.nbody,
        "geom": model.ngeom,
        "pair": model.npair,
        "joint": model.njnt,
        "tendon": model.ntendon,
        "actuator": model.nu,
    }
    return np.arange(counts[kind])


def _range(key: str, given: Any, owner: str) -> tuple[float, float]:
    wanted = f"{owner}: the range of {key!r} must be two finite numbers, 0 <= low <= high"
    try:
        low, high = (float(bound) for bound in given)
    except (TypeError, ValueError):
        raise ValueError(f"{wanted}, not {given!r}") from None
    if not (math.isfinite(high) and 0 <= low <= high):
        raise ValueError(f"{wanted}, not {given!r}")
    return low, high


def _check_traced(environment: MujocoEnvironment, ranges: Mapping[str, Any]) -> None:
    """Refuses parameters that MJX needs as constants."""
    state = jax.eval_shape(environment.reset, jax.random.key(0))
    action = jax.ShapeDtypeStruct((environment.action_size,), state.observation.dtype)
    try:
        jax.eval_shape(environment.step, state, action)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise ValueError(
            f"{environment.name}: MJX needs one of {', '.join(ranges)} as a constant, so it cannot "
            f"be randomized: leave it out ({str(error).splitlines()[0]})"
        ) from error
