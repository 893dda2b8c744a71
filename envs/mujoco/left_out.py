"""What a model may ask for that MJX leaves out, silently: another robot would be simulated."""

from collections.abc import Iterator

import numpy as np

from sobolax.mjx.engine import MjModel, mujoco

# Fields that are zero where nothing is asked for: what MJCF calls them, and whose they are. A
# version of MuJoCo that does not know a field cannot ask for it.
_FIELDS = {
    "actuator_actearly": ("actearly", "actuator"),
    "actuator_delay": ("delay", "actuator"),
    "actuator_damping": ("damping", "actuator"),
    "actuator_dampingpoly": ("damping with several numbers", "actuator"),
    "actuator_armature": ("armature", "actuator"),
    "jnt_stiffnesspoly": ("stiffness with several numbers", "joint"),
    "jnt_springyield": ("springyield", "joint"),
    "dof_dampingpoly": ("damping with several numbers", "dof"),
    "tendon_stiffnesspoly": ("stiffness with several numbers", "tendon"),
    "tendon_dampingpoly": ("damping with several numbers", "tendon"),
    "tendon_springyield": ("springyield", "tendon"),
    "geom_fluid": ("fluidshape", "geom"),
    "geom_surfacevel": ("surfacevel", "geom"),
    "geom_adhesion": ("adhesion", "geom"),
    "pair_adhesion": ("adhesion", "pair"),
}
_FLAGS = {"mjENBL_SLEEP": "sleep", "mjENBL_IPC": "ipc"}


def reason_left_out(model: MjModel) -> str | None:
    """What MJX would leave out of a model, and what to do; None where there is nothing.

    Example:
        >>> joint = "<body><joint name='knee' springref='1'/><geom size='0.1'/></body>"
        >>> xml = f"<mujoco><worldbody>{joint}</worldbody></mujoco>"
        >>> print(reason_left_out(mujoco.MjModel.from_xml_string(xml)))
        None
    """
    if model.opt.noslip_iterations:
        return (
            f"noslip_iterations={model.opt.noslip_iterations}: MJX has no such solver and would "
            "step without it: take it out of <option>, and raise impratio against slip"
        )
    if model.opt.disableactuator:
        return "actuatorgroupdisable: MJX would act with these actuators: take them out"
    for flag, name in _FLAGS.items():
        if model.opt.enableflags & getattr(mujoco.mjtEnableBit, flag, 0):
            return f"the flag {name} is enabled, and MJX would step without it: take it out"
    for name, kind, asked in _asked(model):
        if asked.any():
            [row, *_] = np.flatnonzero(asked.reshape(len(asked), -1).any(axis=1))
            return (
                f"{name} of {_called(model, kind, int(row))}: MJX has none and would simulate "
                "another robot: take it out of the model"
            )
    return None


def _asked(model: MjModel) -> Iterator[tuple[str, str, np.ndarray]]:
    """What MJCF calls a thing, whose it is, and where it is asked for: a row for each element."""
    # No step depends on sensors, so their plugins may stay.
    for kind in ("actuator", "body", "geom"):
        yield "plugin", kind, getattr(model, f"{kind}_plugin") >= 0  # -1 where there is none
    for field, (name, kind) in _FIELDS.items():
        yield name, kind, np.asarray(getattr(model, field, np.zeros(0)))


def _called(model: MjModel, kind: str, row: int) -> str:
    if kind == "dof":
        kind, row = "joint", int(model.dof_jntid[row])
    name = getattr(model, kind)(row).name
    return f"the {kind} {name!r}" if name else f"the {kind} number {row}"
