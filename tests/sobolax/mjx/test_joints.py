"""Derivatives through joints, actuators, tendons, equalities and dry friction."""

import pytest

from tests.sobolax.mjx.checks import Checks
from tests.sobolax.mjx.harness import harness as harness_of

_SLOW = ["equalities", "ball", "ball-explicit", "ball-implicitfast", "arm-euler", "friction-loss"]


@pytest.fixture(
    scope="module",
    params=[
        "floating",
        "arm",
        *(pytest.param(name, marks=pytest.mark.slow) for name in _SLOW),
    ],
)
def harness(request):
    return harness_of(request.param)


class TestJoints(Checks):
    pass
