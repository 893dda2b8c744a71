"""Derivatives through contacts: cones, shapes, situations."""

import pytest

from tests.sobolax.mjx.checks import Checks
from tests.sobolax.mjx.harness import harness as harness_of

_SLOW = [
    "feet-pyramidal",
    "feet-elliptic",
    "feet-pyramidal-impratio",
    "feet-elliptic-cg",
    "shapes",
    "shapes-pyramidal",
]


@pytest.fixture(
    scope="module",
    params=[
        "rod",
        *(pytest.param(name, marks=pytest.mark.slow) for name in _SLOW),
    ],
)
def harness(request):
    return harness_of(request.param)


class TestContacts(Checks):
    pass
