import functools

import pytest

import envs
from tests.envs.laboratory import Laboratory


@functools.cache
def _laboratory(name: str) -> Laboratory:
    return Laboratory(name)


@pytest.fixture(scope="session", params=envs.names())
def laboratory(request) -> Laboratory:
    """Every environment in turn, compiled once for all tests."""
    return _laboratory(request.param)


@pytest.fixture(scope="session")
def laboratory_of():
    """The same, by name."""
    return _laboratory
