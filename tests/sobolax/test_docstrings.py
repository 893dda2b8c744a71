"""Every public name of the library has an example, and all examples are right."""

import doctest
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import pytest

import sobolax

# Packages whose public names are what they export, wherever in them these are defined.
FACADES = ("sobolax.mjx", "sobolax.testing", "sobolax.weighting")

MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(sobolax.__path__, "sobolax.")
    if not found.name.startswith(tuple(f"{facade}." for facade in FACADES))
    and (not found.ispkg or found.name in FACADES)  # other packages define nothing themselves
)

# Agents, MuJoCo, rollouts and averages over them are larger programs than the rest of the core.
SLOW = ("mjx", "agents", "self_check", "training", "testing")


def part_of(module: str) -> str:
    return module.split(".")[1]


def public(module: str) -> dict[str, object]:
    """Functions and classes that a module exports; without `__all__`, those that it defines."""
    found = importlib.import_module(module)
    things = {
        name: value
        for name, value in vars(found).items()
        if inspect.isfunction(value) or inspect.isclass(value)
    }
    if hasattr(found, "__all__"):
        return {name: value for name, value in things.items() if name in found.__all__}
    return {
        name: value
        for name, value in things.items()
        if value.__module__ == module and not name.startswith("_")
    }


def examples(module: str) -> dict[str, list[doctest.DocTest]]:
    """Of every public name, the examples in its docstring, with what they take for granted."""
    finder = doctest.DocTestFinder(recurse=False)
    return {
        name: finder.find(
            value,
            f"{module}.{name}",
            module=False,
            globs=vars(inspect.getmodule(value)) | {"jax": jax, "jnp": jnp},
        )
        for name, value in public(module).items()
    }


def test_public_modules_are_those_named():
    entries = {"make_training"}
    others = {"__main__", "self_check", "bounds"}  # the command, and a part of `checks`
    assert {part_of(module) for module in MODULES} == {*sobolax.__all__} - entries | others


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_an_example(module):
    found = examples(module)
    assert found
    assert not [name for name, tests in found.items() if not any(t.examples for t in tests)]


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(module, marks=pytest.mark.slow if part_of(module) in SLOW else ())
        for module in MODULES
    ],
)
def test_examples_are_right(module):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for tests in examples(module).values():
        for test in tests:
            assert not runner.run(test).failed, f"see the output for {test.name}"
