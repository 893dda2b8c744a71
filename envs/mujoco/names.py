"""Names of a model's local coordinates and actions, for people: `root z`, `left hip velocity`."""

import itertools

from sobolax.mjx.engine import MjModel, mujoco

_TURNS = ("rotation x", "rotation y", "rotation z")
# What a joint's velocity coordinates are, in MuJoCo's order.
_PARTS = {
    mujoco.mjtJoint.mjJNT_FREE: ("x", "y", "z", *_TURNS),
    mujoco.mjtJoint.mjJNT_BALL: _TURNS,
    mujoco.mjtJoint.mjJNT_SLIDE: ("",),
    mujoco.mjtJoint.mjJNT_HINGE: ("",),
}


def of_state(model: MjModel) -> tuple[str, ...]:
    """Names of `(dq, dv, d_activation)`, all different.

    An unnamed joint is called after its body; names that two joints share are numbered.
    """
    coordinates = []
    for index in range(model.njnt):
        joint = model.joint(index)
        name = _plain(joint.name or model.body(joint.bodyid[0]).name or f"joint {index}")
        parts = _PARTS[mujoco.mjtJoint(joint.type[0])]
        coordinates += [f"{name} {part}".strip() for part in parts]
    coordinates = _different(coordinates)
    activations = [f"{_actuator(model, i)} activation" for i in range(model.nu)]
    states = [i for i in range(model.nu) if model.actuator_actadr[i] >= 0]
    found = [
        activations[i] if model.actuator_actnum[i] == 1 else f"{activations[i]} {part}"
        for i in states
        for part in range(model.actuator_actnum[i])
    ]
    # Somebody may have called a joint `hip velocity`.
    return tuple(_different([*coordinates, *(f"{name} velocity" for name in coordinates), *found]))


def of_actions(model: MjModel) -> tuple[str, ...]:
    """Names of the actuators; an unnamed one is called after the joint that it moves."""
    return tuple(_different([_actuator(model, index) for index in range(model.nu)]))


def _actuator(model: MjModel, index: int) -> str:
    actuator = model.actuator(index)
    moves = mujoco.mjtTrn(actuator.trntype[0])
    on_joint = moves in (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)
    joint = model.joint(actuator.trnid[0]).name if on_joint else ""
    return _plain(actuator.name or joint or f"actuator {index}")


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _different(names: list[str]) -> list[str]:
    """The same names; those that occur twice are numbered, without the numbers that others have."""
    taken, found = set(names), []
    for name in names:
        if names.count(name) > 1:
            numbered = (f"{name} {number}" for number in itertools.count(1))
            name = next(one for one in numbered if one not in taken)
            taken.add(name)
        found.append(name)
    return found
