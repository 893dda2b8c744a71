"""Environments that are not ours: by a name of their own, or by the place of their class."""

import json
import os
import subprocess
import sys

import pytest

import envs
from envs import registry
from sobolax.cart import Cart
from tests.markdown import ROOT

CARTS = """
from sobolax.cart import Cart

class Heavy(Cart):
    name = "heavy"
    def __init__(self, mass: float = 2.0):
        self.mass = mass

def two_carts():
    return Heavy(4.0)

class Parked:
    name, action_size = "parked", 1
    def reset(self, key): ...

LIMIT = 8
"""


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with modules in it; what is imported from there is forgotten."""
    before = set(sys.modules)
    (tmp_path / "my_carts.py").write_text(CARTS)
    (tmp_path / "broken.py").write_text("first = 1\nsecond = third\n")
    (tmp_path / "lacking.py").write_text("import no_such_package\n")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "deep.py").write_text(CARTS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("my_carts", "broken", "lacking", "inner")):
            del sys.modules[name]


def test_a_registered_name_is_made_and_listed():
    envs.register("Cart-v1", Cart)
    assert isinstance(envs.make("Cart-v1"), Cart)
    assert "Cart-v1" in envs.names()
    with pytest.raises(ValueError, match=r"'Cart-v2' \(did you mean 'Cart-v1'"):
        envs.make("Cart-v2")
    with pytest.raises(ValueError, match="'Cart-v1' has no parameter 'mass'"):
        envs.make("Cart-v1", mass=1.0)


def test_registering_calls_nothing():
    envs.register("never", lambda: pytest.fail("was called"))


@pytest.mark.parametrize("name", ["", "my cart", "brax:cart", "3d", "a/b", None])
def test_an_invalid_name_is_refused(name):
    with pytest.raises(ValueError, match="is no name for an environment"):
        envs.register(name, Cart)


def test_a_name_is_given_once():
    envs.register("cart", Cart)
    for name in ("cart", "hopper"):
        with pytest.raises(ValueError, match=f"an environment '{name}' already"):
            envs.register(name, Cart)


@pytest.mark.parametrize("name", envs.suite_names())
def test_the_name_of_a_suite_is_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' is a suite, .*: choose another name"):
        envs.register(name, Cart)


def test_a_factory_that_is_not_callable_is_refused():
    with pytest.raises(TypeError, match="factory of 'cart' is 3, but must be a class or a func"):
        envs.register("cart", 3)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("name", "parameters", "mass"),
    [
        ("my_carts:Heavy", {}, 2.0),
        ("my_carts:Heavy", {"mass": 3.0}, 3.0),
        ("my_carts:two_carts", {}, 4.0),
        ("inner.deep:Heavy", {}, 2.0),
    ],
)
def test_a_class_of_ones_own_is_made_from_the_working_directory(folder, name, parameters, mass):
    assert envs.make(name, **parameters).mass == mass


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        (
            "no_carts:Heavy",
            {},
            r"no suite 'no_carts' and no module 'no_carts'.*'package\.mod",
        ),
        ("my_carts.deep:Heavy", {}, "no module 'my_carts.deep'"),
        ("my-carts:Heavy", {}, "'my-carts' is no name of a module;"),
        ("my_carts.Heavy", {}, r"no environment .* \(did you mean 'my_carts:Heavy'\?\)"),
        ("my_carts.py:Heavy", {}, r"no name of a module \(did you mean 'my_carts:Heavy'\?\)"),
        ("./inner/deep.py:Heavy", {}, r"\(did you mean 'inner\.deep:Heavy'\?\)"),
        ("broken:Heavy", {}, r"importing broken failed with NameError.*broken\.py, line 2\)"),
        ("lacking:Heavy", {}, "lacking needs no_such_package"),
        ("my_carts:Heavi", {}, r"my_carts\.py has no 'Heavi' \(did you mean 'Heavy'\?\)"),
        ("my_carts:", {}, "has no ''"),
        ("my_carts:LIMIT", {}, "is 8, but must be a class or a function"),
        ("my_carts:Heavy", {"mas": 1.0}, r"no parameter 'mas' \(did you mean 'mass'.*mass=2.0"),
        ("my_carts:Parked", {}, "'parked' has no reverse_mode, no step, no perturb"),
    ],
)
def test_bad_input_is_one_clear_error(folder, name, parameters, message):
    with pytest.raises(ValueError, match=message) as raised:
        envs.make(name, **parameters)
    assert "\n" not in str(raised.value)


def command(folder, module, *flags, status=0):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", f"experiments.{module}", *map(str, flags)]
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=600, env=environment
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_every_command_takes_a_class_of_ones_own(folder):
    sizes = ["--env", "my_carts:Heavy", "--env-args", "mass=3.0", "--seeds", "1"]
    sizes += ["--total-timesteps", "256", "--num-envs", "4", "--epochs", "2", "--batch-size", "16"]
    sizes += ["--replay-capacity", "256", "--learning-starts", "64", "--hidden-sizes", "8"]
    sizes += ["--evaluation-episodes", "2", "--report-states", "2", "--report-horizon", "4"]
    command(folder, "train", *sizes, "--output", "run")
    saved = json.loads((folder / "run/configuration.json").read_text())["experiment"]
    assert (saved["env"], saved["env_args"]) == ("my_carts:Heavy", {"mass": 3.0})
    # A folder may come from anybody: its code runs only if it is named again.
    assert "if you trust it" in command(folder, "train", "--resume", "run", status=2)
    own = ["run", "--env", "my_carts:Heavy"]
    assert "complete" in command(folder, "train", "--resume", *own)
    command(folder, "evaluate", *own, "--episodes", 2)
    # There is nothing to draw of a cart, and that is said: the environment was made.
    assert "no bodies to draw" in command(folder, "render", *own, status=2)
    command(folder, "sweep", *sizes, "--state-weight", 0, 1, "--output", "sweep")
    refused = command(folder, "train", "--env", "my_carts:Heavi", status=2)
    assert len(refused.strip().splitlines()) == 1
    (folder / "my_carts.py").unlink()
    refused = command(folder, "evaluate", *own, status=2)
    assert "no module 'my_carts'" in refused
    assert len(refused.strip().splitlines()) == 1
