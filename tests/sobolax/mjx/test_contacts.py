"""Derivatives through contacts: cones, shapes, situations."""

import pytest

from tests.sobolax.mjx.checks import Checks
from tests.sobolax.mjx.harness import laboratory as laboratory_of

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
def laboratory(request):
    return laboratory_of(request.param)


class TestContacts(Checks):
    pass
