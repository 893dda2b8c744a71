"""Derivatives through contacts: cones, shapes, situations."""

import pytest

from tests.sobolax.mjx.checks import Checks
from tests.sobolax.mjx.harness import harness as harness_of

_SLOW = [
    "feet-elliptic",
    "feet-pyramidal-impratio",
    "feet-elliptic-cg",
    "shapes",
    "shapes-pyramidal",
]


@pytest.fixture(
    scope="module",
    params=[
        "feet-pyramidal",
        *(pytest.param(name, marks=pytest.mark.slow) for name in _SLOW),
    ],
)
def harness(request):
    return harness_of(request.param)


class TestContacts(Checks):
    pass
