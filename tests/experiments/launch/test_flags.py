"""Command lines that make no sense: named before anything compiles, and nothing is touched."""

from pathlib import Path

import pytest

from experiments import evaluate, render
from experiments.launch.flags import check_path, given_flags
from experiments.studies.toy.__main__ import main as toy
from experiments.sweep.__main__ import main as sweep
from experiments.train import main as train

PENDULUM = ["--env", "pendulum"]
VARIED = [*PENDULUM, "--state-weight", "0.1", "1"]
LONG, HUGE = "x" * 300, str(2**30)
MANY = ["--num-envs", str(2**26), "--replay-capacity", HUGE, "--total-timesteps", HUGE]
PARTIAL = "has no effect beside"
WEIGHTLESS = ["--state-weight", "0", "--action-weight", "0"]
TRAINS_NOTHING = "--merge trains nothing and takes everything from the folder: leave out"


@pytest.mark.parametrize(
    ("main", "flags", "message"),
    [
        (train, ["--output", ""], "--output '' is empty"),
        (train, ["--output="], "--output '' is empty"),
        (train, ["--output", LONG], "holds a name of 300 bytes"),
        (train, ["--output", "a/" * 3000], "is longer than"),
        (train, ["--output", "a\0b"], "NUL character"),
        (train, ["--output", "~nobody-here/x"], "no home folder ~nobody-here"),
        (train, ["--output", "a-link"], "is a link to nothing"),
        (train, ["--seeds", "1", "--seeds", "2"], "--seeds 1 and --seeds 2 contradict"),
        (train, ["--batch-size", "8", "--batch_size", "9"], "contradict each other"),
        (train, ["--checkpoints", "--no-checkpoints"], "contradict each other"),
        (train, ["--first-order", "off", "--state-weight", "3"], f"--state-weight {PARTIAL}"),
        (train, ["--state-directions", "0", "--state-weight", "1"], f"--state-weight {PARTIAL}"),
        (train, ["--action-directions", "0", "--action-weight", "1"], PARTIAL),
        (train, ["--state-directions", "0", "--action-directions", "0"], "no gradient at all"),
        (train, ["--first-order", "off", "--derivatives.method", "forward"], PARTIAL),
        (
            train,
            ["--first-order", "off", "--actor-gradient", "mixed", "--huber-delta", "1"],
            f"--huber-delta {PARTIAL}",
        ),
        (train, ["--actor-gradient", "simulator", "--n-step", "3"], "goes through one step"),
        (train, ["--actor-gradient", "simulater"], "did you mean 'simulator'"),
        (train, ["--first-order", "reverse", "--tangent-dtype", "int8"], "stores no tangents"),
        (train, ["--first-order", "reverse", "--tangent-bound", "1"], "computes no tangents"),
        (
            train,
            [*WEIGHTLESS, "--weighting", "guarded"],
            f"--weighting {PARTIAL} weights of 0",
        ),
        (train, [*WEIGHTLESS, "--teacher", "fitted"], f"--teacher {PARTIAL} weights of 0"),
        (train, [*WEIGHTLESS, "--teacher-learning-rate", "1"], f"{PARTIAL} weights of 0"),
        (train, [*WEIGHTLESS, "--teacher-tangent-weight", "1"], f"{PARTIAL} weights of 0"),
        (train, [*WEIGHTLESS, "--gradients-at", "policy"], f"{PARTIAL} weights of 0"),
        (train, ["--smoothness-weight", "2"], f"{PARTIAL} --critic-smoothness none"),
        (
            train,
            ["--gradient-target", "zero", "--policy-response", "0"],
            f"{PARTIAL} --gradient-target zero",
        ),
        (train, ["--teacher-tangent-weight", "2"], f"{PARTIAL} --teacher simulator"),
        (train, ["--no-checkpoints", "--checkpoint-seconds", "1"], "beside --no-checkpoints"),
        (train, ["--report-states", "0", "--report-draws", "2"], "leaves the critic report out"),
        (train, [*PENDULUM, "--seeds", "1000000000"], "memory, but"),
        (train, [*PENDULUM, *MANY], "memory, but"),
        (train, [*PENDULUM, "--hidden-sizes", "1000000", "1000000"], "memory, but"),
        (train, [*PENDULUM, "--evaluation-episodes", HUGE], "memory, but"),
        (train, ["--evaluation-episodes", str(2**31)], "must be at most 2,147,483,647"),
        (train, ["--resume", ""], "--resume '' is empty"),
        (train, ["--resume", LONG], "holds a name of 300 bytes"),
        (sweep, [*VARIED, "--memory", "1e400"], "must be a size above 0"),
        (sweep, [*VARIED, "--seeds", "1000000000"], "memory, but"),
        (sweep, [*PENDULUM, "--state-weight", "1..2", "--random", "9" * 15], "memory, but"),
        (sweep, [*VARIED, *MANY], "memory, but"),
        (sweep, [*VARIED, "--first-order", "off"], PARTIAL),
        (sweep, [*VARIED, "--join-seconds", "5"], "no effect without --distributed"),
        (sweep, [*VARIED, "--seed", "1", "--seed", "2"], "contradict each other"),
        (sweep, ["--merge", "x", "--ray", "local"], f"{TRAINS_NOTHING} --ray"),
        (sweep, ["--merge", "x", "--distributed"], f"{TRAINS_NOTHING} --distributed"),
        (sweep, ["--merge", "x", "--part", "1/2", "--memory", "1GB"], "out --part, --memory"),
        (evaluate.main, [""], "'' is empty"),
        (evaluate.main, [LONG], "holds a name of 300 bytes"),
        (evaluate.main, ["a-run", "--output", ""], "--output '' is empty"),
        (render.main, ["a\0run"], "NUL character"),
        (toy, ["--output", ""], "--output '' is empty"),
        (toy, ["--systems", "linear", "--systems", "smooth"], "contradict each other"),
    ],
)
def test_nonsense_is_named_before_anything_compiles(main, flags, message, assert_refused):
    Path("a-link").symlink_to("nothing")
    assert_refused(main, flags, message)


@pytest.mark.parametrize(
    "words",
    [
        ["--seeds", "1", "--seeds", "1"],
        ["--seeds=1", "--seeds", "1"],
        ["--batch_size", "8", "--batch-size", "8"],
        ["run", "--state-weight", "-1"],
    ],
)
def test_the_same_value_twice_is_no_contradiction(words):
    given_flags(words)


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert check_path("--output", Path("~/x")) == Path("/home/somebody/x")
    assert check_path("--output", Path("a~b")) == Path("a~b")
