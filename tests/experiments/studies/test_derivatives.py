"""The audit against closed forms, and what it writes; the figures themselves are not judged."""

import math
from dataclasses import replace

import numpy as np
import pytest

import envs
from experiments.report import rows as kit
from experiments.report.rows import Rows
from experiments.studies.derivatives import __main__ as command
from experiments.studies.derivatives import solver, tables
from experiments.studies.derivatives.exposed import local
from experiments.studies.derivatives.measure import prepare
from experiments.studies.derivatives.options import Options
from experiments.studies.derivatives.programs import DirectionalDerivatives, Programs
from experiments.studies.derivatives.quantities import errors, norms, percentile
from experiments.studies.derivatives.states import AIRBORNE, RANDOM, RESET, RESTING

OPTIONS = Options(env="lqr", env_args=("dimension=3", "actions=2"), states=4)
_FLAGS = """--env lqr --env-args dimension=3 actions=2 --states 4 --compared 2 --chain 1 2 4
--rollout-states 64 --batch 4 --repetitions 1 --methods forward differences"""
TINY = _FLAGS.split()


def test_derivatives_are_the_system_of_lqr():
    parameters = {"dimension": 3, "actions": 2}
    env, programs = envs.make("lqr", **parameters), Programs("lqr", parameters, batch=2)
    states = programs.reset(3, seed=0)  # more than a batch
    _, found = programs.derivatives("auto", states, np.ones((3, 2), np.float32))
    both = np.concatenate([env.dynamics, env.control], axis=1)
    np.testing.assert_allclose(found.state, np.broadcast_to(both, (3, 3, 5)), atol=1e-6)


def test_an_audit_of_lqr_finds_its_closed_form_and_merges(tmp_path, capsys):
    folder = tmp_path / "audit"
    flags = [*TINY, "--output", str(folder)]
    assert command.main(flags) == 0
    found = Rows(kit.read(folder))
    # The dynamics are 0.95 times a rotation, whatever the state.
    [along] = found.where(measure="rollouts")
    assert along["exponent"] == pytest.approx(math.log(0.95), abs=1e-5)
    assert along["nonfinite_states"] == along["nonfinite_derivatives"] == 0
    for row in found.where(measure="growth"):
        assert row["median"] == pytest.approx(0.95 ** row["steps"], rel=1e-5)
    states = found.where(measure="derivatives", method="forward")
    assert states.distinct("kind") == [RESET, RANDOM]
    assert len(states.where(kind=RESET)) == 4
    np.testing.assert_allclose(states.column("norm"), 0.95, rtol=1e-5)
    for name in ("finite", "state_finite", "state_nonzero", "action_finite", "action_nonzero"):
        assert states.column(name).all()
    few = states.where(kind=RESET)[:2]
    assert (few.column("error_float32") < 1e-5).all()
    assert (few.column("error_float64") < 1e-8).all()
    # Differences in float32 are known to three or four digits.
    rough = found.where(method="differences", kind=RESET)[:2].column("error_float32")
    assert (rough < 1e-1).all()
    assert {path.name for path in folder.glob("*.png")} == {
        "errors.png", "growth.png", "cost.png",
    }  # fmt: skip
    page = (folder / "table.md").read_text()
    assert "| airborne | no MuJoCo physics | lqr (dimension = 3, actions = 2) |" in page
    assert command.main(flags) == 2  # nothing is overwritten

    other = tmp_path / "other"
    other.mkdir()
    for name in ("configuration.json", "rows.csv"):
        text = (folder / name).read_text().replace("lqr (dimension", "lqs (dimension")
        (other / name).write_text(text)
    capsys.readouterr()
    both = ["--report", str(folder), str(other), "--output", str(tmp_path / "both")]
    assert command.main(both) == 0
    merged = (tmp_path / "both" / "table.md").read_text()
    assert "| lqr (dimension = 3, actions = 2) | 3 + 2 |" in merged
    assert "| lqs (dimension = 3, actions = 2) | 3 + 2 |" in merged
    assert command.main(["--report", str(folder), str(folder), *both[3:]]) == 2


def test_what_is_not_finite_is_counted():
    sound, bad = np.eye(2), np.array([[1.0, np.nan], [0.0, 1.0]])
    both = np.stack([sound, bad])
    assert norms(both).tolist() == [1.0, np.inf]
    assert [percentile(norms(both), rank) for rank in (0, 50, 100)] == [1.0, np.inf, np.inf]
    assert percentile(np.array([1.0, 9.0]), 50) == 5  # as figures draw it
    assert percentile(np.array([1.0, 9.0]), 90) == 9
    gradients = DirectionalDerivatives(both, both, both)
    assert gradients.finite().tolist() == [True, False]
    right = DirectionalDerivatives(*[np.stack([sound, sound])] * 3)
    assert errors(gradients, right).tolist() == [0.0, np.inf]
    # Numbers that local coordinates do not move may be anything; others may not.
    frames = np.array([[[1.0], [0.0]]])
    assert local(np.array([[[2.0], [np.nan]]]), frames).tolist() == [[[2.0]]]
    assert np.isnan(local(np.array([[[np.nan], [2.0]]]), frames)).all()


def test_a_state_without_both_derivatives_is_counted_once():
    names = ("state_finite", "state_nonzero", "action_finite", "action_nonzero", "finite")
    about = {"measure": "derivatives", "env": "lqr", "kind": RESET, "method": "forward"}
    flags = [(0, 0), (0, 1), (1, 0), (1, 1)]
    found = [
        {**about, **dict.fromkeys(names, 1), "state_finite": state, "action_finite": action}
        for state, action in flags
    ]
    table = tables.soundness(Rows(found))
    [row] = table.rows
    assert dict(zip(table.headings, row, strict=True))["not finite, in all"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": "pendulim"}, "did you mean 'pendulum'"),
        ({"env_args": ("dimension",)}, "name=value"),
        ({"methods": ("backward",)}, "choose one of auto, analytic"),
        ({"methods": ("analytic",)}, "the environment offers none"),
        ({"env_args": ("history=2",)}, "--env-args history=... is not for an audit"),
        ({"states": 0}, "--states 0 must be at least 1"),
        ({"compared": -1}, "--compared -1 must be at least 1"),
        ({"rollout_states": 0}, "--rollout-states 0 must be"),
        ({"chain": ()}, "rising numbers"),
        ({"chain": (2, 1)}, "rising numbers"),
        ({"discount": 1.0}, "--discount 1.0 must be between 0 and 1"),
        ({"bound": 0.0}, "--bound 0.0 must be finite and above 0"),
    ],
)
def test_bad_input_is_refused_before_anything_compiles(change, message):
    with pytest.raises(ValueError, match=message):
        prepare(replace(OPTIONS, **change))


def test_a_policy_has_to_be_of_this_environment(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        prepare(replace(OPTIONS, policy=tmp_path / "none"))
    with pytest.raises(ValueError, match=r"holds no configuration\.json: name the folder of a run"):
        prepare(replace(OPTIONS, policy=tmp_path))


def test_no_iterations_without_a_solver():
    assert solver.reason_against_iterations(envs.make("lqr")) == "no MuJoCo physics"
    chain = envs.make("chain", joints=2)
    assert solver.reason_against_iterations(chain) == "no constraints, so no solver"


@pytest.mark.slow
def test_an_audit_of_the_hopper(tmp_path):
    sizes = TINY[TINY.index("--states") : TINY.index("--methods")]  # a flag is given once
    flags = ["--env", "hopper", "--methods", "analytic", *sizes]
    assert command.main([*flags, "--output", str(tmp_path / "audit")]) == 0
    found = Rows(kit.read(tmp_path / "audit"))
    states = found.where(measure="derivatives")
    assert states.distinct("kind") == [RESET, RANDOM, AIRBORNE, RESTING]
    assert states.column("state_finite").all()
    assert states.column("action_finite").all()
    flying = states.where(kind=AIRBORNE)[:2].column("error_float64")
    assert (flying < 1e-6).all()  # smooth: nothing touches
    assert found.where(measure="physics steps").column("steps").tolist() == [1, 2, 3, 4]
    iteration = found.where(measure="one iteration", derivative="implicit")
    warm, cold = iteration.column("median")
    assert 0 < iteration[0]["constrained"] <= iteration[0]["states"]
    # Carried along a rollout, a warm start is worth iterations.
    assert warm <= cold
