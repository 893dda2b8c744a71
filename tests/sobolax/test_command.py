"""The command `sobolax`: what it says, what it checks, and its exit status."""

import importlib.metadata
import os
import sys

import jax
import pytest

from sobolax import __main__, self_check
from sobolax.__main__ import main
from sobolax.self_check import Check


def test_it_says_what_is_installed_and_on_which_device(capsys):
    assert main(["--no-checks"]) == 0
    versions, device = capsys.readouterr().out.splitlines()
    for name in ("sobolax", "jax", "jaxlib", "flax", "optax"):
        assert f"{name} {importlib.metadata.version(name)}" in versions
    assert f"({jax.default_backend()}); matrix precision default" in device


def test_a_package_that_is_absent_is_said_to_be(monkeypatch):
    monkeypatch.setattr(__main__, "_OPTIONAL", ("no-such-package",))
    assert "no no-such-package" in __main__.versions()


@pytest.mark.parametrize(
    ("backend", "precision", "warned"),
    [
        ("gpu", None, "TF32"),
        ("gpu", "high", "TF32"),
        ("gpu", "highest", None),
        ("tpu", None, "bfloat16"),
        ("cpu", None, None),
    ],
)
def test_rounded_products_are_warned_of(monkeypatch, backend, precision, warned):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    with jax.default_matmul_precision(precision):
        line, *warning = __main__.device()
    assert line.endswith(f"matrix precision {precision or 'default'}")
    if warned is None:
        assert not warning
    else:
        assert f"rounded to {warned}" in warning[0]
        assert "JAX_DEFAULT_MATMUL_PRECISION=highest" in warning[0]


def test_the_loss_is_zero_at_a_known_q():
    assert self_check.loss_at_known_q() < 1e-5


def test_wrong_sums_are_found_out(monkeypatch):
    assert self_check.sums_of_rows() < 1e-6
    right = jax.vmap

    def as_with_ynnpack(function):  # the last row gets an earlier one's
        return lambda rows: (found := right(function)(rows)).at[-1].set(found[-129])

    monkeypatch.setattr(self_check.jax, "vmap", as_with_ynnpack)
    assert self_check.sums_of_rows() > 1e-3


def test_another_discount_is_found_out(monkeypatch):
    monkeypatch.setattr(self_check, "_DISCOUNT", 0.6)
    assert self_check.loss_at_known_q() > 1e-2


def test_a_loss_without_gradient_terms_is_found_out(monkeypatch):
    def values_alone(td_error, transition, tangents, weights):
        return weights.value * td_error(transition) ** 2

    monkeypatch.setattr(self_check, "sobolev_td_loss", values_alone)
    monkeypatch.setattr(self_check.importlib.util, "find_spec", lambda name: None)
    check, sums = self_check.checks()
    assert sums.passed
    assert not check.passed
    assert "ArithmeticError: the state term of a wrong critic's loss is zero" in str(check)


@pytest.mark.parametrize(("error", "status"), [(1e-7, 0), (1e-5, 1), (float("nan"), 1)])
def test_the_exit_status_is_1_if_a_check_failed(monkeypatch, capsys, error, status):
    found = [Check("first", error, 1e-6, 0.1), Check("second", 0.0, 1e-6, 0.1)]
    monkeypatch.setattr(self_check, "checks", lambda starting: iter(found))
    assert main([]) == status
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("FAILED" if status else "ok")
    assert f"error {error:.1e}, tolerance 1e-06" in first
    assert second.startswith("ok")


def test_a_check_is_named_before_it_runs(monkeypatch, capsys):
    def check():
        assert capsys.readouterr().out.splitlines()[-1].startswith("checking ")
        return 0.0

    for name in ("loss_at_known_q", "sums_of_rows", "contact_jacobian"):
        monkeypatch.setattr(self_check, name, check)
    assert main([]) == 0


def test_nobody_has_to_read_on(monkeypatch):
    """As in `sobolax | head -0`."""
    end, start = os.pipe()
    os.close(end)
    with os.fdopen(start, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main([]) == 1
        print("Python's own flush at exit", file=closed)


@pytest.mark.slow
def test_the_contact_jacobian_is_that_of_differences():
    assert self_check.contact_jacobian() < 1e-5
