"""Checks of your own code: whether it works with the library as it says.

- `check_environment(environment)` holds an environment to the protocol of `sobolax.environment`.
- `check_td_error(td_error, transition, tangents)` finds gradients that are lost in a TD error.
"""

from sobolax.testing.conformance import (
    EnvironmentReport,
    NonconformingEnvironment,
    check_environment,
)
from sobolax.testing.td_error import GradientsWarning, check_td_error

__all__ = [
    "EnvironmentReport",
    "GradientsWarning",
    "NonconformingEnvironment",
    "check_environment",
    "check_td_error",
]
