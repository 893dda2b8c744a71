"""The demo's policies fit their environments, and its command refuses what it cannot do."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import envs
from experiments.demo import __main__ as demo
from experiments.export import numpy_policy


@pytest.mark.parametrize("about", demo.read_policies(), ids=lambda about: about["environment"])
def test_policies_are_those_of_the_rows(about):
    environment = envs.make(about["environment"])
    path = demo.POLICIES / f"{about['environment']}.npz"
    with np.load(path, allow_pickle=False) as file:
        written = json.loads(str(file["about"]))
    assert written["environment"] == about["environment"]
    assert written["seed"] == int(about["seed"])
    observations = np.random.default_rng(0).normal(size=(4, environment.observation_size))
    actions = numpy_policy.load(path)(observations)
    assert actions.shape == (4, environment.action_size)
    assert np.isfinite(actions).all()
    assert np.ptp(actions, axis=0).all()
    assert path.stat().st_size < 200_000
    assert float(about["low"]) < float(about["return"]) < float(about["high"])
    assert about["command"].startswith("python -m experiments.")
    assert about["behavior"].endswith(".")


def test_every_policy_has_a_row():
    files = {path.stem for path in demo.POLICIES.glob("*.npz")}
    assert files == {about["environment"] for about in demo.read_policies()}


@pytest.mark.slow
@pytest.mark.parametrize("about", demo.read_policies(), ids=lambda about: about["environment"])
def test_policies_still_earn_what_the_rows_say(about):
    environment = envs.make(about["environment"])
    policy = numpy_policy.load(demo.POLICIES / f"{about['environment']}.npz", jnp)
    found = demo.run(environment, policy, demo.Demo(about["environment"], episodes=16)).mean()
    # Four standard errors of 16 episodes; the row's interval is some two of its own of 100.
    error = (float(about["high"]) - float(about["low"])) / 4 * (100 / 16) ** 0.5
    assert abs(found - float(about["return"])) < 4 * error


def test_help_names_every_policy(capsys):
    with pytest.raises(SystemExit, match="0"):
        demo.main(["--help"])
    words = capsys.readouterr().out.replace(",", " ").replace(".", " ").split()
    assert {about["environment"] for about in demo.read_policies()} <= set(words)


def test_the_table_puts_both_returns_beside_each_other():
    [about] = [row for row in demo.read_policies() if row["environment"] == "hopper"]
    [row] = demo.table(about, np.array([10.0, 20.0])).rows
    assert row[0] == "hopper"
    assert row[3].mean == 15.0
    assert row[4].startswith(f"{float(about['return']):,.1f} [")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env", "hoper"], "'hoper'"),
        (["--episodes", "0"], "--episodes 0 must be at least 1"),
        (["--seed", "-1"], "--seed -1 must be"),
        (["--output", "kept"], "kept is a file: name a new or an empty folder"),
    ],
)
def test_bad_input(flags, message, assert_refused, tmp_path):
    (tmp_path / "kept").write_text("kept")
    assert_refused(demo.main, flags, message)
