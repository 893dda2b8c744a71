"""The study of four robots: its models, its truth, its tables."""

import csv

import mujoco
import numpy as np
import pytest

from experiments.report.rows import Rows
from experiments.studies.robots import __main__ as command
from experiments.studies.robots import measure, report

JOINTS = {"arm": (7, 7), "quadruped": (12, 18), "hand": (16, 22), "humanoid": (29, 35)}


@pytest.mark.parametrize("robot", measure.ROBOTS)
def test_models_have_their_joints_and_states_touch_something(robot):
    model = measure.load(robot)
    assert (model.nu, model.nv) == JOINTS[robot]
    points = measure.states(model, 3, seed=0)
    assert len({point.qpos.tobytes() for point in points}) == 3
    for point in points:
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = point.qpos, point.qvel
        mujoco.mj_forward(model, data)
        assert data.ncon
        assert np.isfinite(data.qacc).all()


def test_differences_are_those_of_a_pendulum_in_closed_form():
    # Semi-implicit Euler of angle'' = control at rest: v' = v + h u, q' = q + h v'.
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><option timestep='0.1' gravity='0 0 0'/><worldbody><body><joint name='j'/>"
        "<inertial pos='0 0 0' mass='1' diaginertia='1 1 1'/></body></worldbody>"
        "<actuator><motor joint='j'/></actuator></mujoco>"
    )
    point = measure.Point(np.zeros(1), np.zeros(1), np.zeros(1))
    found = measure.differences(model, point, 1e-6)
    np.testing.assert_allclose(found, [[1, 0.1, 0.01], [0, 1, 0.1]], atol=1e-9)
    assert measure.distance(found, found * 2) == pytest.approx(0.5)


def test_the_floor_is_what_rounding_a_state_moves_derivatives_by():
    # Every number of the state moves by 2^-24 of itself, and zeros stay.
    point = measure.Point(np.array([3.0]), np.array([0.5]), np.zeros(1))

    def derivatives(at):
        return at.qpos, at.qpos * at.qvel, at.ctrl + 1.0

    power, product, constant = measure.floor(derivatives, point, seed=0, draws=101)
    assert power == pytest.approx(2.0**-24, rel=1e-6)
    # A product's logarithm moves by twice that or by nothing (to the second order, 2^-48).
    assert product < 2.0**-40 or product == pytest.approx(2.0**-23, rel=1e-6)
    assert constant == 0.0
    assert measure.floor(derivatives, point, 0, 101) == (power, product, constant)


def test_tables_and_the_figure_of_rows():
    errors = {
        f"{part}_{source}": 1e-6 for part in ("jacobian", "gradient") for source in report._SOURCES
    }
    costs = {
        f"{name}_{what}": 2.0 for name in report._PROGRAMS for what in ("us", "steps", "compile")
    }
    sizes = {"joints": 7, "nv": 7, "constraints": 11, "uncertainty": 1e-8, "cosine_float32": 1.0}
    rows = Rows([{"robot": "arm", "state": at, **errors, **costs, **sizes} for at in range(2)])
    for table in report.tables(rows):
        assert [len(line) for line in table.rows] == [len(table.headings)]
    [(name, _)] = report.figures(rows)
    assert name == "robots"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--robots", "arms"], "did you mean 'arm'?"),
        (["--states", "0"], "--states 0 must be at least 1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(flags, message, assert_refused):
    assert_refused(command.main, flags, message)


@pytest.mark.slow
def test_derivatives_of_the_arm_are_those_of_the_c_engine(tmp_path):
    folder = tmp_path / "run"
    words = ["--robots", "arm", "--states", "2", "--batch", "2", "--repetitions", "1", "--output"]
    assert command.main([*words, str(folder)]) == 0
    assert (folder / "robots.png").exists()

    with (folder / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        # What the differences are uncertain by is 5e-8; float32 has 1e-7, and stiff contacts.
        assert float(row["jacobian_float64"]) < 1e-6
        assert float(row["gradient_float64"]) < 1e-6
        assert float(row["jacobian_float32"]) < 1e-4
