"""Derivatives through contacts: cones, shapes, situations."""

import pytest

from tests.sobolax.mjx.checks import Checks
from tests.sobolax.mjx.harness import harness as harness_of

NAMES = [
    "rod",
    "feet-pyramidal",
    "feet-elliptic",
    "feet-pyramidal-impratio",
    "feet-elliptic-cg",
    "shapes",
    "shapes-pyramidal",
]


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def harness(request):
    return harness_of(request.param)


class TestContacts(Checks):
    pass


def test_a_rod_steps_as_by_mjx_to_the_last_bit():
    """Its gradients are held to differences in `test_step.py`, its Jacobian in `test_joints.py`."""
    Checks().test_the_value_is_that_of_mjx_step_to_the_last_bit(harness_of("rod"))
