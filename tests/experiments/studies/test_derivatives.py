"""The audit against closed forms, and what it writes; the figures themselves are not judged."""

import json
import math
from dataclasses import replace

import jax
import numpy as np
import pytest

import envs
from experiments.studies.derivatives import __main__ as command
from experiments.studies.derivatives import audit, report, solver
from experiments.studies.derivatives.exposed import local
from experiments.studies.derivatives.measures import errors, norms, spread
from experiments.studies.derivatives.options import Audit, prepare
from experiments.studies.derivatives.programs import DirectionalDerivatives, state_jacobian
from experiments.studies.derivatives.states import AIRBORNE, RANDOM, RESET, RESTING

TINY = Audit(
    env="lqr",
    env_args=("dimension=3", "actions=2"),
    states=4,
    compared=2,
    chain=(1, 2, 4),
    rollout_states=64,
    batch=4,
    repetitions=1,
)


def test_state_jacobian_is_the_system_of_lqr():
    env = envs.make("lqr", dimension=3, actions=2)
    state = env.reset(jax.random.key(0))
    by_state, by_action = state_jacobian("lqr", {"dimension": 3, "actions": 2}, state, np.ones(2))
    np.testing.assert_allclose(by_state, env.dynamics, atol=1e-6)
    np.testing.assert_allclose(by_action, env.control, atol=1e-6)


def test_an_audit_of_lqr_finds_its_closed_form(tmp_path, capsys):
    folder = tmp_path / "runs" / "audit"
    results = audit.execute(prepare(replace(TINY, output=folder)))
    results = command.write(folder, results)
    text = (folder / audit.AUDIT).read_text()
    assert results == json.loads(text)
    assert not {"NaN", "Infinity"} & set(text.replace(",", " ").split())
    found = results["rollouts"][RANDOM]
    # The dynamics are 0.95 times a rotation, whatever the state.
    assert found["exponent"]["per_step"] == pytest.approx(math.log(0.95), abs=1e-5)
    for entry in found["chain"]:
        assert entry["median"] == pytest.approx(0.95 ** entry["steps"], rel=1e-5)
    assert (found["nonfinite_states"], found["nonfinite_gradients"]) == (0, 0)
    assert set(results["kinds"]) == {RESET, RANDOM}
    measured = results["kinds"][RESET]["forward"]
    assert measured["norm"]["largest"] == pytest.approx(0.95, rel=1e-5)
    assert measured["state_finite"] == measured["action_nonzero"] == 1
    assert measured["error"]["float32"]["largest"] < 1e-5
    assert measured["error"]["float64"]["largest"] < 1e-8
    assert {path.name for path in folder.iterdir()} == {
        "audit.json", "table.md", "errors.png", "norms.png", "growth.png", "price.png",
    }  # fmt: skip
    assert "airborne, no MuJoCo physics: lqr" in (folder / "table.md").read_text()

    with pytest.raises(ValueError, match="is not empty"):
        prepare(replace(TINY, output=folder))
    page = report.Report((folder,), tmp_path / "docs")
    written = report.write(page)
    assert all(path.stat().st_size for path in written)
    assert "| lqr | random policy |" in written[0].read_text()
    with pytest.raises(ValueError, match="exists"):
        report.write(page)


def test_the_command_audits_the_pendulum(tmp_path, capsys):
    folder = tmp_path / "audit"
    sizes = ["--states", "3", "--compared", "1", "--rollout-states", "12", "--batch", "4"]
    rest = ["--chain", "1", "2", "--repetitions", "1", "--methods", "forward", "differences"]
    arguments = ["--env", "pendulum", *sizes, *rest, "--output", str(folder)]
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    for part in ("Spectral norm", "differences", "not given (--policy)"):
        assert part in printed
    kinds = report.read(folder)["kinds"]
    for methods in kinds.values():
        assert methods["forward"]["error"]["float32"]["largest"] < 1e-4
        # Differences in float32 are known to three or four digits.
        assert 1e-7 < methods["differences"]["error"]["float32"]["largest"] < 1e-1
    assert command.main(arguments) == 2  # nothing is overwritten


def test_what_is_not_finite_is_counted():
    sound, bad = np.eye(2), np.array([[1.0, np.nan], [0.0, 1.0]])
    both = np.stack([sound, bad])
    found = spread(norms(both), bound=10.0)
    assert (found["nonfinite"], found["extreme_share"], found["median"]) == (1, 0.5, np.inf)
    gradients = DirectionalDerivatives(both, both, both)
    assert gradients.finite().tolist() == [True, False]
    right = DirectionalDerivatives(*[np.stack([sound, sound])] * 3)
    assert errors(gradients, right).tolist() == [0.0, np.inf]
    # Numbers that local coordinates do not move may be anything; others may not.
    frames = np.array([[[1.0], [0.0]]])
    assert local(np.array([[[2.0], [np.nan]]]), frames).tolist() == [[[2.0]]]
    assert np.isnan(local(np.array([[[np.nan], [2.0]]]), frames)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": "pendulim"}, "did you mean 'pendulum'"),
        ({"env_args": ("dimension",)}, "name=value"),
        ({"methods": ("backward",)}, "choose from auto, analytic"),
        ({"methods": ("analytic",)}, "the environment offers none"),
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
        prepare(replace(TINY, **change))


def test_a_policy_has_to_be_of_this_environment(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        prepare(replace(TINY, policy=tmp_path / "none"))
    with pytest.raises(ValueError, match=r"holds no configuration\.json: name the folder of a run"):
        prepare(replace(TINY, policy=tmp_path))


def test_a_report_names_folders_of_audits(tmp_path):
    with pytest.raises(ValueError, match="holds no audit"):
        report.write(report.Report((tmp_path,), tmp_path))
    assert command.main(["report", "--runs", str(tmp_path), "--output", str(tmp_path)]) == 2


def test_no_iterations_without_a_solver():
    assert solver.reason_against_iterations("lqr", envs.make("lqr")) == "no MuJoCo physics"
    chain = envs.make("chain", joints=2)
    assert solver.reason_against_iterations("chain", chain) == "no constraints, so no solver"


@pytest.mark.slow
def test_an_audit_of_the_hopper(tmp_path):
    asked = replace(
        TINY, env="hopper", env_args=(), methods=("analytic",), output=tmp_path / "audit"
    )
    results = command.write(tmp_path / "audit", audit.execute(prepare(asked)))
    assert set(results["kinds"]) == {RESET, RANDOM, AIRBORNE, RESTING}
    for methods in results["kinds"].values():
        measured = methods["analytic"]
        assert measured["state_finite"] == measured["action_finite"] == 1
    flying = results["kinds"][AIRBORNE]["analytic"]
    assert flying["error"]["float64"]["largest"] < 1e-6  # smooth: nothing touches
    assert [entry["steps"] for entry in results["within_step"]] == [1, 2, 3, 4]
    found = results["one_iteration"]
    assert 0 < found["constrained"] <= found["states"]
    # Carried along a rollout, a warm start is worth iterations.
    warm, cold = (found["distance"][f"implicit {start}"]["median"] for start in ("warm", "cold"))
    assert warm <= cold
