"""Constraints for which MJX's step is not a number, or rounding error.

MuJoCo's own engine bounds what it divides by; MJX does not everywhere.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jax import core

from sobolax.mjx.engine import mjx, mujoco

# Below it MJX's rows of contacts are at, or near, their greatest stiffness, 1 / mjMINVAL: rounding
# is then as large as the forces, in double precision too.
LEAST_FRICTION = 1e-6

#: A contact of two geoms, and the pair that defines it (-1 for none), as `geom_pairs` gives them.
_Contact = tuple[int, int, int]


def named(model: mjx.Model, kind: Any, index: int) -> str:
    """What messages call an object: its name, or its kind and number.

    Args:
        model: From `mjx.put_model(..., impl="jax")`.
        kind: A `mujoco.mjtObj`.
        index: Of the object.
    """
    name = mjx.id2name(model, kind, index)
    return repr(name) if name else f"{kind.name.removeprefix('mjOBJ_').lower()} {index}"


def slippery(model: mjx.Model, contacts: list[_Contact]) -> Iterator[tuple[int, int]]:
    """Geoms whose contacts have rows for friction, but no coefficient of sliding friction."""
    if isinstance(model.geom_friction, core.Tracer) or isinstance(model.pair_friction, core.Tracer):
        return  # values are not known before the program runs
    friction = np.asarray(model.geom_friction)[:, 0]
    of_pairs = np.asarray(model.pair_friction)[:, 0]
    if not (friction < LEAST_FRICTION).any() and not (of_pairs < LEAST_FRICTION).any():
        return
    condim = model.geom_condim
    for first, second, pair in contacts:
        geoms, ruling = [first, second], _ruling(model, first, second)
        if pair >= 0:
            size, coefficient = model.pair_dim[pair], of_pairs[pair]
        elif ruling is not None:
            size, coefficient = condim[ruling], friction[ruling]
        else:
            size, coefficient = condim[geoms].max(), friction[geoms].max()
        if size > 1 and coefficient < LEAST_FRICTION:
            yield int(first), int(second)


def infinitely_stiff(model: mjx.Model, contacts: list[_Contact]) -> Iterator[str]:
    """Constraints whose `solref` means an infinite stiffness or damping, by name and value."""
    kind, bit = mujoco.mjtObj, mjx.DisableBit
    own: Any = model._impl
    joint_of = np.asarray(model.dof_jntid)
    groups = (
        (bit.EQUALITY, "eq_solref", kind.mjOBJ_EQUALITY, None, None),
        (bit.LIMIT, "jnt_solref", kind.mjOBJ_JOINT, model.jnt_limited, None),
        (bit.LIMIT, "tendon_solref_lim", kind.mjOBJ_TENDON, model.tendon_limited, None),
        (bit.FRICTIONLOSS, "dof_solref", kind.mjOBJ_JOINT, own.dof_hasfrictionloss, joint_of),
        (
            bit.FRICTIONLOSS,
            "tendon_solref_fri",
            kind.mjOBJ_TENDON,
            own.tendon_hasfrictionloss,
            None,
        ),
    )
    for disabled, field, objects, chosen, owners in groups:
        values = getattr(model, field)
        if model.opt.disableflags & disabled or isinstance(values, core.Tracer):
            continue
        values = np.asarray(values)  # before indexing: within a trace, JAX would trace that
        for index in np.flatnonzero(_infinite(model, values) & (chosen is None or chosen)):
            owner = int(index if owners is None else owners[index])
            yield _described(named(model, objects, owner), field, values[index])
    for first, second, pair in contacts if _may_be_infinite(model) else []:
        names = " and ".join(named(model, kind.mjOBJ_GEOM, geom) for geom in (first, second))
        for field, values in _references(model, first, second, pair):
            if _infinite(model, values):
                yield _described(f"the contact of {names}", field, values)


def _described(owner: str, field: str, values: Any) -> str:
    time, ratio = np.asarray(values, np.float64)
    return f'{owner} has {field} "{time:g} {ratio:g}"'


def _infinite(model: mjx.Model, solref: Any) -> np.ndarray:
    """Whether MJX divides by zero, or by what MuJoCo takes for zero, `(...)` of `(..., 2)`."""
    time, ratio = np.moveaxis(np.asarray(solref, np.float64), -1, 0)
    if model.opt.disableflags & mjx.DisableBit.REFSAFE:
        floored = time
    elif isinstance(model.opt.timestep, core.Tracer):
        floored = np.where(time > 0, 1.0, time)
    else:
        floored = np.maximum(time, 2 * float(model.opt.timestep))
    stiff = (time > 0) & ((floored * ratio) ** 2 < mujoco.mjMINVAL)
    return stiff | ((ratio > 0) & (np.abs(floored) < mujoco.mjMINVAL))


def _may_be_infinite(model: mjx.Model) -> bool:
    """Whether a contact may be; most models need no look at all of theirs."""
    sources = (model.geom_solref, model.pair_solref, model.pair_solreffriction)
    if any(isinstance(values, core.Tracer) for values in sources):
        return False
    time, ratio = np.moveaxis(np.asarray(model.geom_solref), -1, 0)
    return bool(
        # Mixed ones may add up to zero if their signs differ.
        ((time > 0) & (ratio < 0)).any()
        or any(np.any(_infinite(model, values)) for values in sources)
    )


def _references(
    model: mjx.Model, first: int, second: int, pair: int
) -> Iterator[tuple[str, np.ndarray]]:
    """What MJX takes as the `solref` of a contact, by the field that it comes from."""
    if pair >= 0:
        yield "solref", np.asarray(model.pair_solref)[pair]
        of_friction = np.asarray(model.pair_solreffriction)[pair]
        cone = model.opt.cone == mjx.ConeType.ELLIPTIC
        if cone and model.pair_dim[pair] > 1 and of_friction.any():
            yield "solreffriction", of_friction
        return
    solref, ruling = np.asarray(model.geom_solref, np.float64), _ruling(model, first, second)
    if ruling is not None:
        yield "solref", solref[ruling]
    elif (solref[[first, second], 0] > 0).all():
        weights = np.asarray(model.geom_solmix)[[first, second]]
        weights = np.where(weights < mujoco.mjMINVAL, 0.0, weights)
        weights = weights if weights.any() else np.ones(2)
        yield "solref", weights @ solref[[first, second]] / weights.sum()
    else:
        yield "solref", solref[[first, second]].min(0)


def _ruling(model: mjx.Model, first: int, second: int) -> int | None:
    """The geom whose priority decides on a contact; None where the two are mixed."""
    own, other = model.geom_priority[[first, second]]
    return None if own == other else first if own > other else second
