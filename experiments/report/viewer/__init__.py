"""A page that replays episodes of a MuJoCo environment in 3D: one file, no network, no library."""

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from sobolax.mjx.engine import mujoco

_SHAPES = {
    int(mujoco.mjtGeom.mjGEOM_PLANE): "plane",
    int(mujoco.mjtGeom.mjGEOM_SPHERE): "sphere",
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): "capsule",
    int(mujoco.mjtGeom.mjGEOM_ELLIPSOID): "ellipsoid",
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): "cylinder",
    int(mujoco.mjtGeom.mjGEOM_BOX): "box",
    int(mujoco.mjtGeom.mjGEOM_MESH): "mesh",
}
_HIDDEN_GROUP = 3  # MuJoCo's own viewer shows groups 0 to 2
_FLOOR = [0.80, 0.83, 0.86, 1.0]


@dataclass(frozen=True)
class Episode:
    """One policy's episode.

    Attributes:
        name: Whose episode it is.
        positions: Of all geoms in metres, `(frames, geoms, 3)`.
        rotations: Of all geoms, `(frames, geoms, 3, 3)`.
        returns: Sum of rewards so far, `(frames,)`, 0 at first.
        note: A remark beside the return, say that the episode ended early.
    """

    name: str
    positions: np.ndarray
    rotations: np.ndarray
    returns: np.ndarray
    note: str = ""


def is_drawn(model: Any) -> bool:
    """Whether a model has geoms to show: none are hidden (groups 3 and on) or transparent alone."""
    return any(_visible(model, geom) for geom in range(model.ngeom))


def write_page(path: Path, title: str, model: Any, dt: float, episodes: Sequence[Episode]) -> None:
    """Writes the page, a new file.

    Args:
        path: The file to write.
        title: The page's heading.
        model: The `mujoco.MjModel` whose geoms they are: kinds, sizes and colours.
        dt: Seconds per frame.
        episodes: One or more, between which the page lets choose.
    """
    here = Path(__file__).parent
    # `</` would end the script element that holds the data.
    data = json.dumps(scene(model, dt, episodes), allow_nan=False).replace("</", "<\\/")
    page = (here / "viewer.html").read_text(encoding="utf-8")
    page = page.replace("{{title}}", html.escape(title))
    page = page.replace("{{script}}", (here / "viewer.js").read_text(encoding="utf-8"))
    with path.open("x", encoding="utf-8") as file:
        file.write(page.replace("{{data}}", data))


def scene(model: Any, dt: float, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Everything the page needs, as JSON holds it, of a model that `is_drawn`."""
    shown = [geom for geom in range(model.ngeom) if _visible(model, geom)]
    geoms = [_geom(model, geom) for geom in shown]
    poses = [_poses(episode, shown) for episode in episodes]
    for index, geom in enumerate(geoms):
        geom["fixed"] = all(np.ptp(pose[:, index], axis=0).max() < 1e-6 for pose in poses)
    boxes = [_boxes(pose, geoms) for pose in poses]
    low = np.min([box[0].min(axis=0) for box in boxes], axis=0)
    high = np.max([box[1].max(axis=0) for box in boxes], axis=0)
    if not any(geom["type"] == "plane" for geom in geoms):
        # A model without a ground gets one, to show what is up.
        geoms.append({"type": "plane", "size": [0, 0, 0], "rgba": _FLOOR, "fixed": True})
        ground = np.array([0, 0, low[2] - 1e-3, 1, 0, 0, 0])
        poses = [np.concatenate([p, np.tile(ground, (len(p), 1, 1))], axis=1) for p in poses]

    body = np.max([(box[1] - box[0]).max(axis=0) for box in boxes], axis=0)
    follow = bool(np.max((high - low)[:2]) > 2.5 * np.max(body))
    # The camera follows along the ground alone: up and down, all of it has to fit.
    extent = np.append(body[:2], (high - low)[2]) if follow else high - low
    span = float(max(np.max(extent), 1e-3))
    target = (low + high) / 2
    if follow:
        target[:2] = 0.0
    moving = [index for index, geom in enumerate(geoms) if not geom["fixed"]] or [0]
    centers = np.concatenate([pose[:, moving, :3].reshape(-1, 3) for pose in poses])
    _, thin, flat = np.ptp(centers, axis=0) < 0.05 * span
    return {
        "dt": dt,
        "geoms": geoms,
        "span": span,
        "cell": _round_length(span / 6),
        "follow": follow,
        "camera": {
            "target": target.tolist(),
            # What moves in a vertical plane is seen from its side, what lies flat from above.
            "azimuth": -np.pi / 2 if thin or flat else -np.pi / 3,
            "elevation": 0.95 if flat else 0.22 if thin else 0.38,
            "distance": 1.9 * span,
        },
        "episodes": [
            {
                "name": episode.name,
                "note": episode.note,
                "returns": np.round(episode.returns.astype(float), 4).tolist(),
                "poses": base64.b64encode(pose.astype("<f4").tobytes()).decode(),
            }
            for episode, pose in zip(episodes, poses, strict=True)
        ],
    }


def _visible(model: Any, geom: int) -> bool:
    drawn = int(model.geom_type[geom]) in _SHAPES and model.geom_group[geom] < _HIDDEN_GROUP
    return bool(drawn and _color(model, geom)[3] > 0)


def _color(model: Any, geom: int) -> np.ndarray:
    material = model.geom_matid[geom]
    unset = np.allclose(model.geom_rgba[geom], [0.5, 0.5, 0.5, 1.0])
    if material >= 0 and unset:
        # A texture is not drawn: a textured material is white times its texture.
        return model.mat_rgba[material]
    return model.geom_rgba[geom]


def _geom(model: Any, geom: int) -> dict[str, Any]:
    kind = _SHAPES[int(model.geom_type[geom])]
    color = _FLOOR if kind == "plane" else np.round(_color(model, geom).astype(float), 4).tolist()
    # A plane's size is for drawing alone: to physics it has no end.
    size = [0.0, 0.0, 0.0] if kind == "plane" else model.geom_size[geom].tolist()
    entry = {"type": kind, "size": size, "rgba": color}
    if kind == "mesh":
        mesh = model.geom_dataid[geom]
        points, faces = model.mesh_vertadr[mesh], model.mesh_faceadr[mesh]
        points = model.mesh_vert[points : points + model.mesh_vertnum[mesh]]
        entry["points"] = np.round(points.astype(float), 5).tolist()
        entry["faces"] = model.mesh_face[faces : faces + model.mesh_facenum[mesh]].tolist()
    return entry


def _poses(episode: Episode, shown: Sequence[int]) -> np.ndarray:
    """Positions and quaternions `(w, x, y, z)`, `(frames, geoms, 7)`."""
    rotations = episode.rotations[:, shown]
    quaternions = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_quat(scalar_first=True)
    quaternions = quaternions.reshape(*rotations.shape[:2], 4)
    return np.concatenate([episode.positions[:, shown], quaternions], axis=-1)


def _boxes(poses: np.ndarray, geoms: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of all but planes, per frame, `(frames, 3)` each."""
    kept = [index for index, geom in enumerate(geoms) if geom["type"] != "plane"]
    moving = [index for index in kept if not geoms[index]["fixed"]] or kept or [0]
    # A sphere around each geom is close enough for placing a camera.
    radii = np.array([_radius(geoms[index]) for index in moving])[None, :, None]
    positions = poses[:, moving, :3]
    return (positions - radii).min(axis=1), (positions + radii).max(axis=1)


def _radius(geom: dict[str, Any]) -> float:
    if geom["type"] == "mesh":
        return float(np.linalg.norm(geom["points"], axis=-1).max())
    sizes = geom["size"]
    return float(
        {"sphere": sizes[0], "capsule": sizes[0] + sizes[1], "plane": 0.0}.get(
            geom["type"], np.linalg.norm(sizes)
        )
    )


def _round_length(length: float) -> float:
    """The nearest of ..., 0.1, 0.2, 0.5, 1, 2, 5, ... metres."""
    exponent = np.floor(np.log10(length))
    steps = np.array([1, 2, 5, 10]) * 10.0**exponent
    return float(steps[np.argmin(np.abs(np.log(steps / length)))])
