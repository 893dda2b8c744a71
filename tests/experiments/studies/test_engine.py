"""Jacobians of both engines: what they are compared by, what is refused, and all of it."""

import math

import numpy as np
import pytest

from experiments.report import rows
from experiments.report.rows import Rows
from experiments.studies.engine import __main__ as command
from experiments.studies.engine.measure import compared


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "lqr"], "--tasks 'lqr' is unknown: choose one of ant"),
        (["--states", "0"], "--states 0 must be at least 1"),
    ],
)
def test_bad_input(arguments, message, assert_refused):
    assert_refused(command.main, arguments, message)


def test_cosine_and_error_by_hand():
    expected = np.array([[[3.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]])
    found = np.array([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 1.0], [0.0, 0.0]]])
    same, across = compared(found, expected)
    assert same == pytest.approx((1.0, 0.0))
    assert across == pytest.approx((0.0, math.sqrt(2)))


def test_tables_of_jacobians():
    costs = {"engine step": 1e-6, "engine Jacobian": 3e-6, "MJX step": 2e-6, "MJX Jacobian": 8e-6}
    made = [
        {"task": "Hopper-v5", "part": "reward", "constraints": where, "state": at, "cosine": cosine}
        | {"error": 0.25, "directions": 15, **costs}
        for where, cosines in (("touching", [1.0, 0.5, 1.0]), ("apart", [1.0]))
        for at, cosine in enumerate(cosines)
    ]
    agreement, cost = command.tables(Rows(made))
    assert [row[:4] for row in agreement.rows] == [
        ("Hopper-v5", "reward", "touching", 3),
        ("Hopper-v5", "reward", "apart", 1),
    ]
    assert agreement.rows[0][4:7] == (0.0, 0.5, pytest.approx(2 / 3))
    [(task, directions, *numbers)] = cost.rows
    assert (task, directions) == ("Hopper-v5", 15)
    assert numbers == pytest.approx([1, 3, 2, 8, 3, 4, 3 / 8])


@pytest.mark.slow
def test_differences_of_the_engine_are_the_twins_gradients(tmp_path):
    folder = tmp_path / "out"
    flags = ["--tasks", "half_cheetah", "--states", "4", "--steps", "3", "--repetitions", "1"]
    assert command.main([*flags, "--output", str(folder)]) == 0
    groups = list(Rows(rows.read(folder)).groups("part", "constraints"))
    assert groups
    for _, some in groups:
        assert np.median(some.column("cosine")) > 0.9999
    assert "Numerical against exact" in (folder / "table.md").read_text()
