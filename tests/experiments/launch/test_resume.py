"""`--resume`, and what can be done with a run that has a checkpoint and nothing else."""

import json
import shutil

import jax
import numpy as np
import pytest

import envs
from experiments import evaluate, render, train
from experiments.launch import (
    checkpoint_files,
    command_line,
    history,
    provenance,
    run_folder,
    snapshot,
)
from experiments.launch import job as jobs
from experiments.launch.configuration import to_json
from experiments.launch.policy import load_policy, load_run, policy_names
from sobolax import make_training
from tests.experiments import stubs

EPOCHS = stubs.TRAINED_EPOCHS
TINY = [*stubs.TRAINED, "--checkpoint-seconds", "0"]


pytestmark = pytest.mark.usefixtures("one_commit")


@pytest.fixture
def command(compile_once, monkeypatch):
    """Runs the command with the program of `stubs.TRAINED`, interrupted after some epochs."""

    def run(*flags, after=None):
        monkeypatch.setattr(train, "console_progress", lambda console: stubs.Interrupting(after))
        return train.main([str(flag) for flag in flags])

    return run


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def interrupted(command, kept, tmp_path):
    """A copy of a run that was interrupted in its fourth epoch."""
    if not (kept / "run").exists():
        assert command(*TINY, "--output", kept / "run", after=3) == 130
    shutil.copytree(kept / "run", tmp_path / "run")
    return tmp_path / "run"


def as_killed(folder):
    """Leaves what a run has that was killed."""
    for name in ("results.json", "learning_curves.png", "gradient_error.png"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "policy")


def test_resume_finishes_as_if_it_never_stopped(command, interrupted, tmp_path, capsys):
    assert command(*TINY, "--output", tmp_path / "whole") == 0
    assert json.loads((interrupted / "results.json").read_text())["epochs"] == 3
    curves = (interrupted / "learning_curves.png").read_bytes()
    assert command("--resume", interrupted, "--seeds", "2", "--keep-checkpoints", "1") == 0
    whole, resumed = (
        json.loads((folder / "results.json").read_text())
        for folder in (tmp_path / "whole", interrupted)
    )
    assert stubs.lines(interrupted) == stubs.lines(tmp_path / "whole")
    assert resumed["variants"] == whole["variants"]
    assert resumed["paired_differences"] == whole["paired_differences"]
    assert (resumed["interrupted"], resumed["epochs"]) == (False, EPOCHS)
    assert (resumed["resumed_from"], whole["resumed_from"]) == (2, None)
    assert resumed["warnings"] == []
    assert (interrupted / "learning_curves.png").read_bytes() != curves
    assert {path.name for path in interrupted.iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    one, other = (load_run(folder).policies for folder in (tmp_path / "whole", interrupted))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    for path in interrupted.rglob("*"):  # a run's folder may be handed on
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes()

    # There is nothing left to resume.
    before = {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert command("--resume", interrupted) == 0
    assert "is complete, with 4 epochs" in capsys.readouterr().out
    assert command("--resume", interrupted, "--track", "tensorboard") == 2
    assert "--track tensorboard cannot be added to" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "3", "--env", "lqr"], "here): env: point_mass -> lqr; seeds: 2 -> 3."),
        (["--env-args", "dimension=3"], "env_args.dimension: 2 -> 3"),
        (["--batch-size", "17"], "config.batch_size: 16 -> 17"),
        (["--derivatives.method", "forward"], "config.derivatives.method: auto -> forward"),
        (["--discount", "0.9"], "hyper.discount: 0.95 -> 0.9"),
        (["--output", "elsewhere"], "output: "),
        (["--keep-checkpoints", "0"], "--keep-checkpoints 0 must be at least 1"),
        (["--checkpoint-seconds", "-1"], "--checkpoint-seconds -1.0 must be 0"),
    ],
)  # fmt: skip
def test_resume_with_other_flags_shows_the_difference(
    flags, message, command, interrupted, monkeypatch, capsys
):
    before = {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()}
    monkeypatch.setattr(train, "compile_program", None)  # fails if it is called
    capsys.readouterr()
    assert command("--resume", interrupted, *flags) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()} == before


def test_resume_needs_the_folder_of_a_run_and_a_checkpoint(command, interrupted, tmp_path, capsys):
    assert command("--resume", tmp_path / "nowhere") == 2
    (tmp_path / "empty").mkdir()
    assert command("--resume", tmp_path / "empty") == 2
    printed = capsys.readouterr().err
    assert printed.count("holds no configuration.json: name the folder of a run") == 2
    shutil.rmtree(interrupted / "checkpoints")
    assert command("--resume", interrupted) == 2
    assert "holds no checkpoint to resume" in capsys.readouterr().err


def test_a_run_whose_checkpoints_are_all_damaged_says_what_to_do(command, interrupted, capsys):
    for path in (interrupted / "checkpoints").iterdir():
        (path / "default" / "manifest.json").write_text("")
    capsys.readouterr()
    assert command("--resume", interrupted) == 2
    printed = capsys.readouterr().err
    assert printed.count("is damaged") == 2
    assert "Train anew into another folder, or remove" in printed
    assert (interrupted / "results.json").exists()


def test_a_run_killed_before_its_first_checkpoint_begins_again(command, interrupted):
    as_killed(interrupted)
    shutil.rmtree(interrupted / "checkpoints")
    assert command("--resume", interrupted) == 0
    results = json.loads((interrupted / "results.json").read_text())
    assert results["resumed_from"] is None
    assert "holds no checkpoint: training begins at the start" in results["warnings"][0]


def test_policies_of_a_checkpoint_alone(command, interrupted, tmp_path, capsys):
    # The policies of the interrupt are newer than the checkpoint, so they are taken first.
    assert load_run(interrupted).epochs == 3
    as_killed(interrupted)
    found = load_run(interrupted)
    assert (found.epochs, found.source.name) == (2, "epoch_000002")
    policy = load_policy(interrupted, "plain", 1)
    start = jax.jit(policy.environment.reset)(jax.random.key(0))
    action = jax.jit(lambda: policy(start.observation))()
    assert action.shape == (policy.environment.action_size,)
    for one, stacked in zip(
        jax.tree.leaves(policy.parameters), jax.tree.leaves(found.policies), strict=True
    ):
        np.testing.assert_array_equal(one, stacked[1])

    flags = [str(interrupted), "--episodes", "6", "--seed", "1"]
    assert evaluate.main(flags) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "point_mass (dimension = 2), 6 episodes, mean and 95 % interval over seeds" in printed
    results = json.loads((interrupted / "evaluation.json").read_text())
    assert (results["source"], results["epochs"]) == ("epoch_000002", 2)
    assert list(results["variants"]) == ["plain", "sobolev"]
    plain = results["variants"]["plain"]
    means = [seed["mean"] for seed in plain["per_seed"]]
    assert plain["return"]["mean"] == pytest.approx(np.mean(means))
    assert plain["return"]["low"] < plain["return"]["mean"] < plain["return"]["high"]
    assert plain["per_seed"][0]["total"] == 6
    assert "sobolev - plain" in results["paired_differences"]
    # The same policy by hand, on the same episodes.
    key = jax.random.fold_in(jax.random.key(1), 2**31)
    episode = jax.jit(lambda: evaluate.evaluate(policy.environment, policy, key, 6))()
    np.testing.assert_allclose(episode.returns.mean(), means[1], rtol=1e-5)
    # Nothing is overwritten; and newer checkpoints that are damaged are passed over.
    (interrupted / "checkpoints" / "epoch_000002" / "default" / "manifest.json").write_text("")
    assert evaluate.main(flags) == 0
    again = json.loads((interrupted / "evaluation-2.json").read_text())
    assert again["epochs"] == 1
    assert json.loads((interrupted / "evaluation.json").read_text()) == results
    (interrupted / "checkpoints" / "epoch_000001" / "default" / "manifest.json").write_text("")
    assert evaluate.main(flags) == 2
    error = capsys.readouterr().err
    assert "holds no policy that can be used: " in error
    assert "train again into another folder" in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "holds no configuration.json: name the folder of a run"),
        (["RUN", "--episodes", "0"], "--episodes 0 must be at least 1"),
        (["RUN", "--seed", "-1"], "--seed -1 must be"),
        (["RUN", "--output", "RUN/configuration.json"], "exists: name a new file"),
        (["RUN", "--output", "nowhere/x.json"], "there is no folder nowhere"),
    ],
)
def test_bad_input_of_evaluate(flags, message, interrupted, capsys):
    capsys.readouterr()
    assert evaluate.main([flag.replace("RUN", str(interrupted)) for flag in flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "holds no configuration.json: name the folder of a run"),
        (["RUN"], "there is no page for point_mass: it has no bodies to draw"),
        (["RUN", "--variant", "best"], "no variant 'best' with seed 0"),
        (["RUN", "--seed", "2"], "its seeds 0 to 1"),
    ],
)
def test_bad_input_of_replay(flags, message, interrupted, capsys):
    capsys.readouterr()
    assert render.main([flag.replace("RUN", str(interrupted)) for flag in flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_replay_of_a_checkpoint_alone(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mujoco")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    # Bodies, but no contact: quick to compile. Untrained policies, as a run would save them.
    flags = ["--env", "reacher", "--seeds", "2", "--hidden-sizes", "8", "--report-states", "0"]
    flags += ["--replay-capacity", "128", "--learning-starts", "16", "--batch-size", "16"]
    experiment = command_line.parse(flags)
    environment = envs.make(experiment.env, **experiment.env_args)
    training = make_training(environment, experiment.config)
    job = jobs.make_job(experiment, training)
    policies = jax.jit(jax.vmap(lambda k, h: training.policy(training.init(k, h))))(
        job.keys, job.hypers
    )
    run = tmp_path / "run"
    run.mkdir()
    run_folder.write_json(run / "configuration.json", {"experiment": to_json(experiment)})
    names = policy_names(training, jobs.template(job))
    about = {"fingerprint": jobs.fingerprint(job), "written_by": provenance.describe()}
    writer = checkpoint_files.Writer(run / "checkpoints", keep=1)
    leaves = jax.tree.leaves(snapshot.to_host(policies))
    # What else a state holds does not matter, but that it is there.
    whole = snapshot.describe(jobs.template(job))
    arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in whole.items()}
    arrays |= dict(zip(jax.tree.leaves(names), leaves, strict=True))
    writer.start(3, arrays | {history.SECONDS: np.ones(3)}, about)
    writer.finish()
    writer.close()

    assert render.main([str(run), "--variant", "sobolev", "--seed", "1"]) == 0
    assert "epoch_000003 learned in 3 epochs" in "".join(capsys.readouterr().out.split("\n"))
    page = (run / "replay.html").read_text()
    assert "Sobolev SAC, seed 1" in page
    assert "SAC, seed 0" not in page
    assert render.main([str(run)]) == 2
    assert "replay.html exists: name a new file with --output" in capsys.readouterr().err
