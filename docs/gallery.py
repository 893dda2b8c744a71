"""Draws the clips of `docs/gallery.md` and of the README: python docs/gallery.py."""

import argparse
import copy
import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

import envs
from experiments.demo import __main__ as demo
from experiments.export import numpy_policy
from experiments.launch.program import keep_compiled_programs
from experiments.render import record
from experiments.report.video import draw
from experiments.report.viewer import Episode
from sobolax.mjx.engine import mujoco

HERE = Path(__file__).parent
SIZE = 320, 240  # pixels, width and height
COLORS = 32
SECONDS = 0.05  # from one image to the next
#: The seconds of the episode that a clip shows: from, to.
SHOWN = {
    "ant": (2.0, 5.0),
    "chain": (0.0, 3.0),
    "hopper": (1.0, 4.0),
    "pusher": (0.0, 3.0),
    "reacher": (0.0, 1.0),
}
#: The camera's opening in degrees.
ANGLES = {"ant": 30.0, "chain": 26.0, "hopper": 34.0, "pusher": 20.0, "reacher": 30.0}
TOGETHER = "hopper", "ant", "pusher"  # side by side in the README


def episode_of(task: str) -> tuple[Episode, float]:
    """An episode of the shipped policy, and the seconds of a step."""
    environment = envs.make(task)
    policy = numpy_policy.load(demo.POLICIES / f"{task}.npz", jnp)
    [episode] = record(environment, lambda _, o: policy(o), jnp.zeros(1), [task])
    return episode, environment.dt


def images(task: str, episode: Episode, dt: float) -> list[np.ndarray]:
    """Images of the seconds that are shown, `(height, width, 3)`."""
    times = np.arange(0.0, dt * (len(episode.positions) - 0.5), SECONDS)
    steps = np.rint(times / dt).astype(int)
    positions, rotations = episode.positions[steps], episode.rotations[steps]
    some = dataclasses.replace(episode, positions=positions, rotations=rotations)
    # All of them: where the camera stands depends on the whole episode.
    model = bright(envs.make(task).mujoco_model, ANGLES[task])
    drawn = list(draw(model, SECONDS, some, size=SIZE))
    first, last = (round(second / SECONDS) for second in SHOWN[task])
    return drawn[first:last]


def bright(model: Any, angle: float) -> Any:
    """A copy of the model on a light floor of large squares, seen under an angle in degrees."""
    model = copy.copy(model)
    model.vis.global_.fovy = angle
    model.vis.headlight.diffuse[:] = 0.6
    plain = model.geom_matid < 0
    floors = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    model.geom_size[floors & plain, :2] = 0.0  # as far as one sees
    white = plain & (model.geom_rgba[:, :3].min(axis=1) > 0.95)
    model.geom_rgba[white & ~floors] = 0.25, 0.45, 0.75, 1.0  # it would be lost on the floor
    model.geom_rgba[floors] = 1.0
    model.mat_texrepeat[:] = np.minimum(model.mat_texrepeat, 12.0)
    model.mat_reflectance[:] = 0.0
    for texture in range(model.ntex):
        size = model.tex_height[texture] * model.tex_width[texture] * model.tex_nchannel[texture]
        data = model.tex_data[model.tex_adr[texture] :][:size]
        if model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            data[:] = 240
        elif model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_2D:
            data[:] = np.where(data > 60, 255, 205)
    return model


def write_clip(path: Path, frames: list[np.ndarray]) -> None:
    """Writes a GIF that loops, of few colours: those of some of its frames."""
    some = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 8)]))
    palette = some.quantize(COLORS, method=Image.Quantize.MEDIANCUT)
    few = [Image.fromarray(x).quantize(palette=palette, dither=Image.Dither.NONE) for x in frames]
    few[0].save(path, save_all=True, append_images=few[1:], duration=1000 * SECONDS, loop=0)


def main() -> None:
    """Writes the clips."""
    tasks = [row["environment"] for row in demo.read_policies()]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE / "images")
    folder = parser.parse_args().folder
    keep_compiled_programs()
    drawn = {task: images(task, *episode_of(task)) for task in tasks}
    for task, frames in drawn.items():
        write_clip(folder / f"clip_{task}.gif", frames)
    beside = zip(*(drawn[task] for task in TOGETHER), strict=True)
    write_clip(folder / "clips.gif", [np.concatenate(row, axis=1) for row in beside])


if __name__ == "__main__":
    main()
