"""Videos: what is drawn, and what is refused."""

import mujoco
import numpy as np
import pytest

from experiments.report import video
from experiments.report.viewer import Episode

MODEL = """<mujoco><worldbody><geom type="plane" size="5 5 1" rgba="1 1 1 1"/>
  <body pos="0 0 0.5"><freejoint/><geom size="0.3" rgba="1 0 0 1"/></body></worldbody></mujoco>"""
FRAMES = 12


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(MODEL)


@pytest.fixture(scope="module")
def episode():
    """A red ball that rises and moves along x."""
    steps = np.linspace(0.0, 1.0, FRAMES)
    ball = np.stack([steps, 0 * steps, 0.5 + steps], axis=1)
    positions = np.stack([np.zeros((FRAMES, 3)), ball], axis=1)
    return Episode("ball", positions, np.tile(np.eye(3), (FRAMES, 2, 1, 1)), np.zeros(FRAMES))


@pytest.fixture
def drawing(model, tmp_path):
    try:
        video.check_video(tmp_path / "a.gif", model)
    except ValueError as error:
        pytest.skip(str(error))


def test_the_ball_is_drawn_and_moves_up(drawing, model, episode):
    images = list(video.draw(model, 0.04, episode, every=3, size=(64, 48)))
    assert len(images) == 4
    heights = []
    for image in images:
        red = (image[..., 0] > 2.0 * image[..., 1]) & (image[..., 0] > 60)
        rows, columns = np.nonzero(red)
        assert 10 < len(rows) < 1_000
        heights.append(rows.mean())
        # The camera goes along with it.
        assert abs(columns.mean() - 32) < 4
    assert all(np.diff(heights) < -1)


# The reader of MP4 leaves its pipes to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_files_hold_the_frames_in_real_time(ending, drawing, model, episode, tmp_path, monkeypatch):
    import imageio.v3 as imageio

    monkeypatch.setattr(video, "SIZE", (64, 48))
    path = tmp_path / f"ball{ending}"
    video.check_video(path, model)
    video.write_video(path, model, 0.02, episode)  # every other of 50 frames a second
    assert len(imageio.imread(path)) == FRAMES // 2
    with pytest.raises(ValueError, match="exists: name a new file"):
        video.check_video(path, model)


@pytest.mark.parametrize(
    ("name", "message"),
    [("walk.avi", "end its name in .mp4 or .gif"), ("nowhere/walk.mp4", "there is no folder")],
)
def test_bad_input(name, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        video.check_video(tmp_path / name, model)


def test_what_is_missing_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_CONTEXTS", {"experiments.nowhere": "libegl1"})
    with pytest.raises(ValueError, match=r"nowhere: ModuleNotFoundError.*package libegl1"):
        video.check_video(tmp_path / "a.gif", model)
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="imageio and imageio_ffmpeg: install the extra 'video'"):
        video.check_video(tmp_path / "a.mp4", model)
