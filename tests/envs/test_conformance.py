"""Everything that is shipped keeps the protocol, by the test that others run on their own."""

import functools

import pytest

import envs
from sobolax.testing import check_environment
from tests.envs.harness import ANALYTIC

# Small environments of each family: the same code, compiled faster.
_PARAMETERS = {"chain": {"joints": 2}}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ANALYTIC else pytest.mark.slow)
        for name in envs.names()
    ],
)
def test_the_protocol_is_kept(name):
    make = functools.partial(envs.make, name, **_PARAMETERS.get(name, {}))
    # In MuJoCo a difference wider than a contact is no reference: the test requires a good share.
    report = check_environment(make, steps=None if name in ANALYTIC else 40, states=2)
    assert report.precision == "float64"
    assert report.judged > 0.9
    if name in ANALYTIC:  # smooth: what is left is rounding
        assert report.tangent_error < 1e-8
