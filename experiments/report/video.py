"""A video of an episode, drawn by MuJoCo without a screen: `.mp4` or `.gif`."""

import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from experiments.launch.run_folder import check_new_file
from experiments.report.viewer import Episode, scene
from sobolax.mjx.engine import mujoco

#: Endings of files, and the modules that write them.
ENDINGS = {".mp4": ("imageio", "imageio_ffmpeg"), ".gif": ("imageio",)}
SIZE = 480, 360  # pixels, width and height
_FRAMES_PER_SECOND = 25  # at most
# Of MuJoCo, the first that works: a graphics card or Mesa, and software alone.
_CONTEXTS = {"mujoco.egl": "libegl1", "mujoco.osmesa": "libosmesa6"}


def check_video(path: Path, model: Any) -> None:
    """Raises ValueError, saying what to do instead, where no video can be written."""
    if path.suffix not in ENDINGS:
        raise ValueError(f"--video {path}: end its name in {' or '.join(ENDINGS)}")
    check_new_file(path, "--video")
    missing = [name for name in ENDINGS[path.suffix] if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"--video {path} needs {' and '.join(missing)}: install the extra 'video'")
    with _drawing():
        pass
    if model.ngeom == 0:
        raise ValueError(f"--video {path}: the model has no bodies to draw")


def write_video(path: Path, model: Any, dt: float, episode: Episode) -> None:
    """Writes a video of an episode in real time, the camera going along with what moves.

    Args:
        path: A new file, `.mp4` or `.gif`.
        model: The `mujoco.MjModel` of the episode.
        dt: Seconds per frame of the episode.
        episode: Where all geoms are.

    Raises:
        ValueError: If there is no way to draw without a screen.
    """
    import imageio.v3 as imageio

    every = max(1, round(1.0 / (_FRAMES_PER_SECOND * dt)))
    images = list(draw(model, dt, episode, every))
    if path.suffix == ".gif":
        # Delays of a GIF are whole hundredths of a second.
        options = {"duration": max(20.0, 10.0 * round(100.0 * every * dt)), "loop": 0}
        imageio.imwrite(path, images, **options)
    else:
        with warnings.catch_warnings():
            # ffmpeg is a process of its own, which shares nothing with this one's threads.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            imageio.imwrite(path, images, fps=1.0 / (every * dt), macro_block_size=4)


def draw(
    model: Any, dt: float, episode: Episode, every: int = 1, size: tuple[int, int] = SIZE
) -> Iterator[np.ndarray]:
    """Images of every so many frames, `(height, width, 3)` uint8."""
    width, height = size
    model = _with_room(model, width, height)
    data, camera = mujoco.MjData(model), mujoco.MjvCamera()
    view = scene(model, dt, [episode])
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    camera.distance = view["camera"]["distance"] * 1.15
    # MuJoCo's camera looks along its azimuth, the page's stands there.
    camera.azimuth = np.degrees(view["camera"]["azimuth"]) + 180.0
    camera.elevation = -np.degrees(view["camera"]["elevation"])
    moving = np.ptp(episode.positions, axis=0).max(axis=-1) > 1e-6
    with _drawing(width, height):
        drawn = mujoco.MjvScene(model, maxgeom=2_000)
        for costly in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            drawn.flags[costly] = 0  # most of the time, where there is no graphics card
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        area, image = mujoco.MjrRect(0, 0, width, height), np.zeros((height, width, 3), np.uint8)
        for at in range(0, len(episode.positions), every):
            # The scene is drawn from these alone: no physics runs.
            data.geom_xpos[:] = episode.positions[at]
            data.geom_xmat[:] = episode.rotations[at].reshape(-1, 9)
            camera.lookat[:] = view["camera"]["target"]
            if view["follow"] and moving.any():
                camera.lookat[:2] = episode.positions[at, moving, :2].mean(axis=0)
            arguments = mujoco.MjvOption(), mujoco.MjvPerturb(), camera
            mujoco.mjv_updateScene(model, data, *arguments, mujoco.mjtCatBit.mjCAT_ALL, drawn)
            mujoco.mjr_render(area, drawn, context)
            mujoco.mjr_readPixels(image, None, area, context)
            yield image[::-1].copy()
        context.free()


def _with_room(model: Any, width: int, height: int) -> Any:
    """A copy of the model whose buffer for images is large enough."""
    import copy

    model = copy.copy(model)
    model.vis.headlight.ambient[:] = 0.4
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    return model


@contextmanager
def _drawing(width: int = 8, height: int = 8) -> Iterator[None]:
    """A way to draw without a screen."""
    reasons = []
    for name in _CONTEXTS:
        try:
            context = importlib.import_module(name).GLContext(width, height)
            context.make_current()
        except Exception as error:  # of the driver, of OpenGL's loader, of ctypes
            reasons.append(f"{name.rpartition('.')[2]}: {type(error).__name__}")
            continue
        try:
            yield
        finally:
            context.free()
        return
    raise ValueError(
        f"MuJoCo cannot draw without a screen here ({', '.join(reasons)}): install the system's "
        f"package {' or '.join(_CONTEXTS.values())}"
    )
