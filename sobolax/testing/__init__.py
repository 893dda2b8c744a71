"""Tests that somebody else's code can run on itself.

`check_environment(environment)` holds an environment to the protocol of `sobolax.environment`.
"""

from sobolax.testing.conformance import (
    EnvironmentReport,
    NonconformingEnvironment,
    check_environment,
)

__all__ = ["EnvironmentReport", "NonconformingEnvironment", "check_environment"]
