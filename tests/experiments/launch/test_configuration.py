import dataclasses
import re
import sys

import pytest

import envs
import sobolax
from experiments import presets
from experiments.launch import command_line
from experiments.launch.configuration import (
    AGENTS,
    defaults,
    from_json,
    merge,
    parse_environment_arguments,
    to_json,
    variants,
)
from experiments.launch.job import make_job
from experiments.launch.sweep import flags as sweep_flags
from experiments.presets import Preset
from experiments.studies.payoff.options import configure
from sobolax import make_training
from tests.markdown import ROOT

MANY_BODIES = ("ant", "half_cheetah", "humanoid", "pusher", "walker2d")


@pytest.fixture
def tuned(monkeypatch):
    """A preset that differs from every default it names."""
    entry = Preset(
        environment={"dimension": 3},
        config={"batch_size": 77, "epochs": 3},
        hyper={"discount": 0.5, "tau": 0.25},
        seeds=4,
    )
    monkeypatch.setitem(presets.PRESETS, "point_mass", entry)
    return entry


def test_presets_win_over_defaults(tuned):
    found = command_line.parse(["--env", "point_mass"])
    assert (found.config.batch_size, found.config.epochs) == (77, 3)
    assert (found.hyper.discount, found.hyper.tau) == (0.5, 0.25)
    assert (found.seeds, found.env_args) == (4, {"dimension": 3})
    # What the preset does not name is the library's default.
    assert found.config.hidden_sizes == sobolax.agents.sac.Config().hidden_sizes
    assert found.hyper.tangent_bound == sobolax.agents.sac.Hyperparameters().tangent_bound


def test_the_command_line_wins_over_presets(tuned):
    flags = "--env=point_mass --batch-size 5 --discount 0.75 --seeds 2 --env-args dimension=6"
    found = command_line.parse(flags.split())
    assert (found.config.batch_size, found.config.epochs) == (5, 3)
    assert (found.hyper.discount, found.hyper.tau) == (0.75, 0.25)
    assert (found.seeds, found.env_args) == (2, {"dimension": 6})


def test_the_command_line_wins_where_it_names_the_default_itself(tuned):
    default = sobolax.agents.sac.Config().batch_size
    found = command_line.parse(["--env", "point_mass", "--batch-size", str(default)])
    assert found.config.batch_size == default


def test_environment_arguments_join_those_of_the_preset(tuned):
    found = command_line.parse(["--env", "point_mass", "--env-args", "other=2"])
    assert found.env_args == {"dimension": 3, "other": 2}


def test_the_default_environment_is_chain():
    found = command_line.parse([])
    assert found == defaults("chain")
    assert found.seeds >= 3
    assert [variant.name for variant in variants(found)] == ["plain", "sobolev"]


def test_every_environment_of_ours_is_sized():
    assert set(presets.PRESETS) == set(envs.names())


# Bodies take the compiler of models seconds; the fast ones have a preset of each kind.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in MANY_BODIES else ())
        for name in presets.PRESETS
    ],
)
def test_presets_name_fields_that_exist_and_make_an_environment(name):
    found = defaults(name)
    # What `make_training` checks before it asks the environment for its shapes.
    found.config.check(envs.make(found.env, **found.env_args))


@pytest.mark.parametrize(("env", "agent"), presets.BEST)
def test_the_best_presets_are_what_was_measured(env, agent):
    found = command_line.parse(["--preset", "best", "--env", env, "--agent", agent])
    page, row = presets.BEST[env, agent].evidence.split(", ", 1)
    regime = "many" if agent == "shac" else "long" if env == "ant" else "few"
    if page.startswith(("docs/results/payoff", "docs/results/shac")):
        variant = "shac_16" if agent == "shac" else {"walker2d": "layer_soft_1"}.get(env, "soft_1")
        assert (found.config, found.hyper) == configure(env, regime, variant)
    else:  # measured with what the other kind of preset has
        usual = command_line.parse(["--env", env, "--agent", agent])
        steps = found.config.total_timesteps
        assert found.config == dataclasses.replace(usual.config, total_timesteps=steps)
        assert found.hyper == usual.hyper
    figures = re.findall(r"[+−]\d+\.\d+|[\d.]+(?= %)|[\d,]+\d{3}", row)
    assert figures
    text = (ROOT / page).read_text()
    for figure in figures:  # as a number of its own, not as part of another
        assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d]|[.,]\d)", text), figure


def test_without_gradients_a_preset_has_no_options_of_theirs():
    words = ["--preset", "best", "--env", "reacher"]
    assert command_line.parse(words).config.gradient_units == "observation_std"
    found = command_line.parse([*words, "--first-order", "off"])
    assert (found.config.gradient_units, found.config.trust) == ("raw", "full")
    assert command_line.parse([*words, "--first_order=off"]).config == found.config
    assert found.config.gradient_steps == 32
    sweep = sweep_flags.read([*words, "--state-weight", "0", "1"]).sweep
    assert sweep is not None
    assert sweep.experiment.config.trust == "soft"


def test_a_robot_of_ones_own_takes_units_and_trust(tmp_path, monkeypatch):
    # Only the class is looked at: what would fail if it were made is none of a preset's concern.
    robot = """
from envs.mujoco.mjcf import MjcfEnvironment

class Robot(MjcfEnvironment):
    def __init__(self):
        raise AssertionError("it was made")

def make_robot():
    return Robot()
"""
    (tmp_path / "some_robot.py").write_text(robot)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = command_line.parse(["--env", "some_robot:Robot"])
    assert (found.config.gradient_units, found.config.trust) == ("observation_std", "soft")
    assert (found.hyper.state_weight, found.hyper.action_weight) == (1.0, 1.0)
    raw = ["--env", "some_robot:Robot", "--gradient-units", "raw", "--trust", "full"]
    assert command_line.parse(raw).config.trust == "full"
    # What is no class, no robot or cannot be imported, takes the library's defaults.
    for name in ("some_robot:make_robot", "sobolax.cart:Cart", "no_module:Robot", "no_robot"):
        assert command_line.parse(["--env", name]).config == sobolax.agents.sac.Config()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--preset", "best", "--env", "humanoid"],
            "nothing has been confirmed for --env humanoid --agent",
        ),
        (["--preset", "bets"], r"--preset 'bets' is unknown \(did you mean 'best'"),
    ],
)
def test_a_preset_that_is_not_there_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        command_line.parse(words)


@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_takes_what_it_has_of_a_preset(agent):
    found = command_line.parse(["--env", "pendulum", "--agent", agent])
    assert found == defaults("pendulum", agent=agent)
    assert type(found.config).__module__ == f"sobolax.agents.{agent}"
    assert found.hyper.discount == presets.preset("pendulum").hyper["discount"]
    assert from_json(to_json(found)) == found
    labels = [variant.label for variant in variants(found)]
    assert labels == [AGENTS[agent], f"Sobolev {AGENTS[agent]}"]
    # Which of them a sample of tangents is checked for: SHAC's actor needs them without any weight.
    job = make_job(found, make_training(envs.make("pendulum"), found.config))
    assert job.differentiating == [agent == "shac", True]


def test_an_actor_through_the_simulator_differentiates_without_any_weight():
    words = ["--env", "pendulum", "--actor-gradient", "mixed", "--first-order", "off"]
    found = command_line.parse(words)
    assert from_json(to_json(found)) == found
    job = make_job(found, make_training(envs.make("pendulum"), found.config))
    assert job.differentiating == [True]


def test_an_unknown_agent_is_named_before_anything_else():
    with pytest.raises(ValueError, match=r"agent 'TD2'.*did you mean 'td3'.*sac, td3, ddpg"):
        command_line.parse(["--agent", "TD2"])


def test_a_run_of_before_there_were_agents_is_one_of_sac():
    values = to_json(defaults("pendulum"))
    del values["agent"]
    assert from_json(values) == defaults("pendulum")


def test_help_names_every_field_of_both_groups(capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.parse(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for cls in (sobolax.agents.sac.Config, sobolax.agents.sac.Hyperparameters):
        for entry in dataclasses.fields(cls):
            assert f"--{entry.name.replace('_', '-')}" in text
    # No flag without a word of help: each has text besides its default.
    assert "│                        (default:" not in text


def test_help_lists_all_environments_and_suites(capsys):
    for parse in (command_line.parse, sweep_flags.read):
        with pytest.raises(SystemExit):
            parse(["--help"])
        words = set(re.findall(r"[\w.:]+", capsys.readouterr().out))
        assert {*envs.names(), *envs.suite_names(), "package.module:Class"} <= words


def test_merge_reaches_nested_dataclasses_and_refuses_unknown_names():
    @dataclasses.dataclass(frozen=True)
    class Inner:
        a: int = 1
        b: int = 2

    @dataclasses.dataclass(frozen=True)
    class Outer:
        inner: Inner = Inner()
        c: int = 3

    assert merge(Outer(), {"inner": {"b": 5}, "c": 4}) == Outer(Inner(1, 5), 4)
    with pytest.raises(ValueError, match="Inner has no field 'z'; it has a, b"):
        merge(Outer(), {"inner": {"z": 5}})


def test_environment_arguments_are_read_as_python_values():
    found = parse_environment_arguments(("joints=8", "x=0.5", "flag=true", "name=euler", "n=None"))
    assert found == {"joints": 8, "x": 0.5, "flag": True, "name": "euler", "n": None}


def test_environment_arguments_are_what_a_resumed_run_reads(tuned):
    found = parse_environment_arguments(("span=(1, 2)", "gains={'a': (0.5, None)}"))
    assert found == {"span": [1, 2], "gains": {"a": [0.5, None]}}
    experiment = dataclasses.replace(command_line.parse([]), env_args=found)
    assert from_json(to_json(experiment)).env_args == found


@pytest.mark.parametrize("value", ["{1: 0.5}", "{0, 1}", "1e999", "b'a'", "[1, {2: 3}]", "2j"])
def test_environment_arguments_that_json_has_not_are_refused(value):
    with pytest.raises(ValueError, match=r"--env-args x=.*keeps its arguments as JSON"):
        parse_environment_arguments((f"x={value}",))


def test_a_configuration_survives_the_way_to_disk_and_back(tuned):
    found = command_line.parse(["--env", "point_mass", "--hidden-sizes", "8", "16", "--seed", "9"])
    assert from_json(to_json(found)) == found


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ["plain", "sobolev"]),
        (["--no-compare"], ["sobolev"]),
        (["--first-order", "off"], ["plain"]),
        (["--state-weight", "0", "--action-weight", "0"], ["plain"]),
        (["--state-weight", "0"], ["plain", "sobolev"]),
    ],
)
def test_variants(flags, expected):
    found = variants(command_line.parse(flags))
    assert [variant.name for variant in found] == expected
    for variant in found:
        assert any(variant.weights.values()) == (variant.name == "sobolev")
