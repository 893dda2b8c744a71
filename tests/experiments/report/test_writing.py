"""What a run writes, from synthetic numbers: plots, table, results, lines and page."""

import base64
import io
import json
import math
import re

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from experiments.launch import run_folder
from experiments.launch.history import History
from experiments.launch.progress import Bar, Lines, status
from experiments.report import curves, run_table
from experiments.report.intervals import estimate
from experiments.report.results import RETURN_OVER_TRAINING, sentence, summarise
from experiments.report.viewer import is_drawn
from tests.experiments import stubs
from tests.experiments.synthetic import TIMING, history, two_variants


def printed(results) -> str:
    out = io.StringIO()
    run_table.show(results, "a title", Console(file=out))
    return out.getvalue()


@pytest.mark.parametrize(("epochs", "seeds"), [(20, 4), (1, 4), (20, 1), (1, 1)])
def test_plots_are_written_and_not_blank(epochs, seeds, tmp_path):
    made = history(epochs, seeds)
    for save in (curves.save_learning_curves, curves.save_gradient_error):
        path = tmp_path / f"{save.__name__}.png"
        save(path, made, "a title")
        picture = matplotlib.image.imread(path)
        assert picture.shape[0] > 300
        assert picture.std() > 0.01
        with pytest.raises(FileExistsError):
            save(path, made, "a title")


def test_plots_bear_numbers_that_are_not_finite(tmp_path):
    made = history()
    for name in ("evaluation_return", "value_error", "action_gradient_cosine"):
        made.epochs[-1][name][1, 0] = np.nan
        made.epochs[-1][name][1, 1] = np.inf
        made.epochs[0][name][0, :] = np.nan
    for save in (curves.save_learning_curves, curves.save_gradient_error):
        path = tmp_path / f"{save.__name__}.png"
        save(path, made, "a title")
        assert matplotlib.image.imread(path).std() > 0.01


def test_gradient_plot_is_left_out_where_nothing_was_measured(tmp_path):
    made = History(two_variants(), 2)
    made.add({"critic_loss": np.ones(4), "evaluation_return": np.ones(4)}, 1.0)
    curves.save_gradient_error(tmp_path / "a.png", made, "a title")
    assert not (tmp_path / "a.png").exists()


def test_the_table_lists_the_coordinates_that_dominate_the_gradient_loss():
    made = history(2)
    shares = [0.5, 0.2, 0.1, 0.08, 0.06, 0.04, 0.01, 0.01]
    for epoch in made.epochs:
        for at, share in enumerate(shares):
            epoch[f"state_gradient_share/joint {at}"] = np.full((2, 4), share)
        epoch["action_gradient_share/hip"] = np.ones((2, 4))
    text = printed(summarise(made, TIMING, interrupted=False))
    assert "share of the gradient loss by state coordinate" in text
    assert re.search(r"joint 0 +0\.500 +0\.500", text)
    assert re.search(r"2 others +0\.0200 +0\.0200", text)
    assert "joint 6" not in text
    assert "action coordinate" not in text  # there is one alone
    assert "coordinate" not in printed(summarise(history(2), TIMING, interrupted=False))


def test_results_hold_means_intervals_and_paired_differences():
    made = history()
    results = summarise(made, TIMING, interrupted=False)
    returns = made.epochs[-1]["evaluation_return"]
    entry = results["variants"]["sobolev"]["metrics"]["evaluation_return"]
    assert entry["mean"] == estimate(returns[1]).mean
    assert entry["per_seed"] == returns[1].tolist()
    difference = results["paired_differences"]["sobolev - plain"]["evaluation_return"]
    assert difference["mean"] == pytest.approx(np.mean(returns[1] - returns[0]))
    everything = np.mean([epoch["evaluation_return"][0] for epoch in made.epochs])
    assert results["variants"]["plain"]["metrics"][RETURN_OVER_TRAINING]["mean"] == pytest.approx(
        everything
    )
    assert results["variants"]["plain"]["whole_run"]["gradients_dropped"] == pytest.approx(0.001)
    assert results["variants"]["sobolev"]["weights"] == {"state_weight": 0.5, "action_weight": 2.0}


@pytest.mark.parametrize(
    ("plain", "sobolev", "expected"),
    [
        ([1, 2, 3], [2, 3, 4.1], "over 3 seeds: +1.033 [0.8899, 1.177]; the interval does not"),
        ([1, 2, 3], [2, 2, 2], "over 3 seeds: +0 [-2.484, 2.484]; the interval contains zero."),
        ([1], [3], "over 1 seed: +2; one seed has no interval."),
        ([1, 2, 3], [2, math.nan, 4.2], "; 1 seed left out"),
    ],
)
def test_the_sentence_says_what_the_interval_says(plain, sobolev, expected):
    made = History(two_variants(), len(plain))
    made.add({"evaluation_return": np.array([*plain, *sobolev])}, 1.0)
    assert expected in sentence(summarise(made, TIMING, False))


def test_table_shows_both_variants_and_marks_what_was_left_out():
    made = history()
    made.epochs[-1]["value_error"][1, 2] = np.nan
    text = printed(summarise(made, TIMING, False))
    for part in ("SAC", "Sobolev SAC", "λ 0.5, 2", "0.00100", "Paired difference", "5,000"):
        assert part in text
    assert "* over the seeds whose value is finite" in text
    assert "Interrupted" not in text
    assert "too short" not in text


def test_frozen_runs_are_named_and_left_out_of_means_and_curves():
    made = history()
    for epoch, metrics in enumerate(made.epochs):
        frozen = np.zeros((2, 4))
        frozen[1, 2] = epoch >= 10
        metrics |= {"frozen": frozen, "frozen_at": np.where(frozen, 10_500, -1)}
    results = summarise(made, TIMING, False)
    returns = made.epochs[-1]["evaluation_return"]
    assert results["variants"]["sobolev"]["frozen_at"] == [None, None, 10_500, None]
    assert results["variants"]["plain"]["frozen_at"] == [None] * 4
    for name in ("evaluation_return", RETURN_OVER_TRAINING):
        entry = results["variants"]["sobolev"]["metrics"][name]
        assert (entry["count"], entry["total"]) == (3, 4)
    rest = [0, 1, 3]
    entry = results["variants"]["sobolev"]["metrics"]["evaluation_return"]
    assert entry["mean"] == pytest.approx(returns[1, rest].mean())
    assert entry["per_seed"] == returns[1].tolist()
    difference = results["paired_differences"]["sobolev - plain"]["evaluation_return"]
    assert difference["mean"] == pytest.approx((returns[1] - returns[0])[rest].mean())
    text = printed(results)
    assert "Sobolev SAC seed 2 at step 10,500" in text
    assert "1 seed left out: frozen or not finite" in text
    curve = made.sound("evaluation_return")
    assert np.isfinite(curve[:10]).all()
    assert np.isnan(curve[10:, 1, 2]).all()
    assert status(made)[2] == "1 frozen"


def test_table_warns_where_most_gradients_were_dropped():
    made = history()
    for metrics in made.epochs:
        metrics["gradients_dropped"][:] = 0.4
    assert "Mostly plain" not in printed(summarise(made, TIMING, False))
    for metrics in made.epochs:
        metrics["gradients_dropped"][:] = 0.9  # of the plain variant as well, which uses none
    text = " ".join(printed(summarise(made, TIMING, False)).split())
    assert "Mostly plain TD learning, with gradients dropped: Sobolev SAC 90%." in text


def test_table_says_when_the_critics_references_are_too_short():
    made = history()
    made.epochs[-1]["tail"][:] = 0.4
    assert "weighs 0.400" in printed(summarise(made, TIMING, False))


def test_table_of_an_interrupted_run_says_so_even_with_nothing_done():
    assert "Interrupted after 20 epochs" in printed(summarise(history(), TIMING, True))
    text = printed(summarise(History(two_variants(), 3), TIMING, True))
    assert "No epoch was finished" in text


def test_json_holds_no_number_that_is_not_finite(tmp_path):
    path = tmp_path / "a.json"
    run_folder.write_json(path, {"a": np.array([1.0, np.nan]), "b": (math.inf, np.float32(2))})
    assert json.loads(path.read_text()) == {"a": [1.0, None], "b": [None, 2.0]}
    with pytest.raises(FileExistsError):
        run_folder.write_json(path, {})


def test_lines_are_whole_after_every_epoch(tmp_path):
    made, path = history(3, 2), tmp_path / "metrics.jsonl"
    for epoch in range(3):
        run_folder.append_lines(path, made.rows(epoch))
        rows = stubs.read_lines(path)
        assert len(rows) == 4 * (epoch + 1)
    assert [(row["variant"], row["seed"]) for row in rows[-4:]] == [
        ("plain", 0),
        ("plain", 1),
        ("sobolev", 0),
        ("sobolev", 1),
    ]
    assert rows[-1]["state_weight"] == 0.5
    assert rows[-1]["evaluation_return"] == made.epochs[-1]["evaluation_return"][1, 1]


def test_a_new_folder_is_named_after_time_environment_and_variants(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = run_folder.choose(None, "chain", ["plain", "sobolev"])
    assert re.fullmatch(r"runs/\d{8}-\d{6}-chain-plain-sobolev", str(first))
    assert not first.exists()


def test_lines_and_bar_show_steps_returns_and_time_left():
    out = io.StringIO()
    lines = Lines(Console(file=out, width=200))
    lines.phase("compiling")
    lines.epoch(history(10), epochs=20)
    first, second = out.getvalue().splitlines()
    assert first == "compiling ..."
    assert re.fullmatch(
        r"epoch 10/20  10,000 steps · return plain -\S+, sobolev -\S+ · 4,000 steps/s  0:20 left",
        second,
    )
    out = io.StringIO()
    bar = Bar(Console(file=out, width=100, force_terminal=True))
    bar.phase("training")
    bar.epoch(history(10), epochs=20)
    bar._bar.refresh()
    bar.close()
    for part in ("training", "10/20", "0:20 left", "return plain", "steps/s"):
        assert part in out.getvalue()


MODEL = """
<mujoco>
  <worldbody>
    <geom type="plane" size="1 1 .1"/>
    <geom type="box" size=".1 .2 .3" pos="2 0 .3" rgba="1 0 0 1"/>
    <body name="a" pos="0 0 1">
      <freejoint/>
      <geom type="capsule" size=".05 .2"/>
      <geom type="cylinder" size=".05 .2" pos="0 .3 0"/>
      <geom type="ellipsoid" size=".05 .1 .2" pos="0 -.3 0"/>
      <geom type="sphere" size=".1" pos=".3 0 0" rgba="0 1 0 .5"/>
      <geom type="sphere" size=".1" group="3"/>
      <geom type="sphere" size=".1" rgba="0 0 0 0"/>
    </body>
  </worldbody>
</mujoco>
"""


def test_page_holds_every_visible_geom_and_its_poses(tmp_path):
    mujoco = pytest.importorskip("mujoco")
    from experiments.report.viewer import Episode, write_page

    model = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(model)
    positions, rotations = [], []
    for _ in range(5):
        mujoco.mj_step(model, data, 20)
        mujoco.mj_kinematics(model, data)
        positions.append(data.geom_xpos.copy())
        rotations.append(data.geom_xmat.reshape(-1, 3, 3).copy())
    episode = Episode("a", np.array(positions), np.array(rotations), np.arange(5.0), "ended")
    path = tmp_path / "replay.html"
    write_page(path, "<b> & </script>", model, 0.02, [episode, episode])
    text = path.read_text()
    assert "<title>&lt;b&gt; &amp; &lt;/script&gt;</title>" in text
    # One file that loads no other.
    assert not re.search(r"""(src|href)\s*=|https?://|import\s*\(|fetch\s*\(""", text)
    [block] = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)
    scene = json.loads(block)
    kinds = [geom["type"] for geom in scene["geoms"]]
    assert kinds == ["plane", "box", "capsule", "cylinder", "ellipsoid", "sphere"]
    assert [geom["fixed"] for geom in scene["geoms"]] == [True, True, False, False, False, False]
    assert [entry["name"] for entry in scene["episodes"]] == ["a", "a"]
    poses = np.frombuffer(base64.b64decode(scene["episodes"][0]["poses"]), "<f4").reshape(5, 6, 7)
    np.testing.assert_allclose(poses[:, :, :3], np.array(positions)[:, :6], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(poses[..., 3:], axis=-1), 1.0, atol=1e-6)
    with pytest.raises(FileExistsError):
        write_page(path, "again", model, 0.02, [episode])


def test_a_model_without_a_visible_geom_has_no_page():
    mujoco = pytest.importorskip("mujoco")
    bodies = '<mujoco><worldbody><body><freejoint/><geom size=".1" {}/></body></worldbody></mujoco>'
    for geom, drawn in (("", True), ('group="3"', False), ('rgba="0 0 0 0"', False)):
        assert is_drawn(mujoco.MjModel.from_xml_string(bodies.format(geom))) is drawn
