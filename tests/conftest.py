"""What several test files share."""

import jax
import pytest


@pytest.fixture
def float64():
    """Runs a test in double precision, where rounding hides nothing."""
    with jax.enable_x64(True):
        yield
