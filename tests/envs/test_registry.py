import importlib
import subprocess
import sys

import pytest

import envs
from envs import registry
from sobolax.environment import Environment


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("hoper", {}, r"'hoper' \(did you mean 'hopper'.*ant, cartpole, chain"),
        ("Hopper-v5", {}, "did you mean 'hopper'"),
        ("zzz", {}, "the environments are ant, cartpole, chain, half_cheetah, hopper, humanoid"),
        ("HalfCheetah", {}, "did you mean 'half_cheetah'"),
        ("chain", {"joint": 4}, r"no parameter 'joint' \(did you mean 'joints'\?\).*joints=6"),
        ("pendulum", {"joints": 4}, "no parameter 'joints'; it takes none, and as any .*history"),
        ("pendulum", {"histroy": 4}, r"no parameter 'histroy' \(did you mean 'history'\?\)"),
        ("chain", {"joints": 1}, "joints must be an integer from 2 to 32, not 1"),
        ("chain", {"joints": 33}, "from 2 to 32, not 33"),
        ("chain", {"joints": 2.5}, "from 2 to 32, not 2.5"),
        ("chain", {"joints": True}, "from 2 to 32, not True"),
        ("lqr", {"dimension": 0}, "dimension must be an integer from 1"),
        ("lqr", {"actions": 0}, "actions must be an integer from 1"),
        ("lqr", {"discount": 1.0}, "discount must be a finite number between 0 and 1"),
        ("lqr", {"discount": float("nan")}, "discount must be a finite number"),
        ("lqr", {"seed": -1}, "seed must be an integer of at least 0"),
        ("point_mass", {"dimension": "4"}, "dimension must be an integer from 1"),
        ("hopper", {"integrator": "verlet"}, "integrator must be one of euler, implicitfast, rk4"),
        ("ant", {"iterations": 0}, "iterations must be an integer of at least 1"),
        (
            "humanoid",
            {"integrator": "verlet"},
            "integrator must be one of euler, implicitfast, rk4",
        ),
        ("scalar", {"kind": "cubic"}, "one of linear, smooth, steep, contact, not 'cubic'"),
        ("scalar", {"discount": 0}, "discount must be a finite number between 0 and 1"),
        ("reacher", {"ls_iterations": 0}, "ls_iterations must be an integer of at least 1"),
    ],
)
def test_bad_input_is_one_clear_error(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        envs.make(name, **parameters)


def test_every_name_makes_an_environment():
    for name in envs.names():
        env = envs.make(name)
        assert isinstance(env, Environment)
        assert env.name == name


def test_a_missing_package_is_named_with_its_cure(monkeypatch):
    def absent(module):
        raise ModuleNotFoundError("No module named 'mujoco'", name="mujoco")

    monkeypatch.setattr(registry.importlib, "import_module", absent)
    with pytest.raises(ImportError, match=r"needs mujoco.*pip install --editable '\.\[envs\]'"):
        envs.make("ant")


def test_importing_envs_and_making_an_analytic_one_loads_no_mujoco_and_prints_nothing():
    code = "import sys, envs; envs.make('lqr'); assert 'mujoco' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_suites_are_listed_after_one_was_loaded():
    # A subpackage becomes an attribute of its package, and would hide a function of its name.
    importlib.import_module("envs.suites.shared")
    assert "brax" in envs.suite_names()
