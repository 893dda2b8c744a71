from types import SimpleNamespace

import pytest

import envs
from experiments.bench.speed import __main__ as bench
from experiments.demo import __main__ as demo
from experiments.launch import job
from experiments.studies.baselines import __main__ as baselines
from experiments.studies.payoff import __main__ as payoff
from experiments.train import main

TINY = ["--env", "pendulum"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env", "pendulm"], "no environment 'pendulm' (did you mean 'pendulum'"),
        (["--env-args", "joints"], "--env-args takes name=value"),
        (["--env-args", "joints=3", "joints=4"], "--env-args gives joints twice: give it once"),
        (["--env-args", "jonts=3"], "no parameter 'jonts' (did you mean 'joints'"),
        (["--env-args", "joints=1"], "joints"),
        (["--env-args", "joints=many"], "joints"),
        (["--state-weight", "-1"], "state_weight=-1.0"),
        (["--action-weight", "nan"], "action_weight=nan"),
        (["--discount", "1.5"], "discount=1.5"),
        ([*TINY, "--seeds", "0"], "--seeds 0 must be at least 1"),
        ([*TINY, "--seed", "-3"], "--seed -3 must be"),
        ([*TINY, "--total-timesteps", "1000", "--num-envs", "7"], "must be a multiple"),
        ([*TINY, "--batch-size", "999999999"], "batch_size=999999999"),
        ([*TINY, "--first-order", "sideways"], "sideways"),
        ([*TINY, "--activation", "relu"], "relu"),
        ([*TINY, "--state-directions", "1000"], "1000"),
        (
            ["--agent", "td3", "--target-entropy", "-1"],
            "is a flag of SAC, SHAC, and not of TD3: leave",
        ),
        (["--agent", "td3", "--horizon=4"], "--agent td3 --help lists those of TD3"),
        ([*TINY, "--output", "a-file"], "is a file"),
        ([*TINY, "--output", "a-file/below"], "cannot be made"),
        ([*TINY, "--output", "another-run"], "holds another run"),
        ([*TINY, "--output", "my-thesis"], "is not empty"),
    ],
)
def test_bad_input_is_one_line_and_status_2(flags, message, tmp_path, assert_refused):
    (tmp_path / "a-file").write_text("kept")
    (tmp_path / "another-run").mkdir()
    (tmp_path / "another-run" / "configuration.json").write_text("{}")
    (tmp_path / "my-thesis").mkdir()
    (tmp_path / "my-thesis" / "thesis.tex").write_text("kept")
    assert_refused(main, flags, message)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (main, ["--env", "reacher"]),
        (demo.main, ["--env", "reacher"]),
        (payoff.main, ["--tasks", "reacher"]),
        (baselines.main, ["--tasks", "reacher"]),
        (bench.main, ["--rows", "window", "--window.env", "reacher"]),
    ],
)
def test_a_missing_package_is_one_line_and_status_2(command, flags, monkeypatch, assert_refused):
    def absent(name, **_):
        raise ImportError(f"environment {name!r} needs mujoco, which is not installed")

    monkeypatch.setattr(envs, "make", absent)
    assert_refused(command, flags, "environment 'reacher' needs mujoco")


def test_q_learning_is_refused_by_the_number_of_actions_alone(monkeypatch, assert_refused):
    # Nothing else of the environment is looked at.
    monkeypatch.setattr(job, "make_environment", lambda *_: SimpleNamespace(action_size=17))
    assert_refused(main, [*TINY, "--agent", "q_learning"], "in 17 action dimensions makes")


def test_a_whole_number_is_written_in_digits(capsys):
    for word, said in (("1e4", "'1e4' is no whole number in digits: write 10000"), ("x", "digits")):
        with pytest.raises(SystemExit, match="2"):
            main(["--total-timesteps", word])
        assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("flags", [["--no-such-flag", "1"], ["--seeds", "three"], ["--env"]])
def test_an_unreadable_command_line_exits_with_status_2(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    assert flags[0] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
