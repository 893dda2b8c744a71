"""The MuJoCo model files that Gymnasium installs; the package itself is not imported."""

import importlib.util
from pathlib import Path

from sobolax.mjx.engine import MjModel, mujoco


def load(file: str) -> MjModel:
    """Loads a model, say `"ant.xml"`, from the installed gymnasium package.

    Raises:
        ImportError: If gymnasium is not installed.
        FileNotFoundError: If it has no such file.
    """
    spec = importlib.util.find_spec("gymnasium")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"the model {file!r} comes with gymnasium, which is not installed: "
            "run pip install --editable '.[envs]' in the checkout"
        )
    path = Path(spec.submodule_search_locations[0], "envs", "mujoco", "assets", file)
    if not path.exists():
        raise FileNotFoundError(
            f"the installed gymnasium has no model {file!r} at its usual place; "
            "install gymnasium 1.2 or newer: run pip install --upgrade gymnasium"
        )
    spec = mujoco.MjSpec.from_file(str(path))
    # MuJoCo is giving this attribute up, and warns of it in a file in the working directory. What
    # it advises instead gives the same model.
    total_mass, spec.compiler.settotalmass = spec.compiler.settotalmass, -1.0
    model = spec.compile()
    if total_mass > 0:
        mujoco.mj_setTotalmass(model, total_mass)
        mujoco.mj_setConst(model, mujoco.MjData(model))
        model.stat.meaninertia = model.dof_M0.mean()  # the solver's unit; left alone by the former
    return model
