"""Sweeps before anything compiles: configurations, memory, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from experiments.launch import memory
from experiments.launch.memory import Budget, parse_size
from experiments.launch.program import Memory, Program
from experiments.launch.sweep import flags as command
from experiments.launch.sweep.configs import make_configs, name_of, parse_axis
from experiments.launch.sweep.definition import prepare
from experiments.launch.sweep.memory import Need, make_plan
from experiments.sweep.__main__ import main


def axes(**words):
    return [parse_axis(name, text.split()) for name, text in words.items()]


def test_a_grid_is_the_product_of_its_values():
    found = make_configs(axes(state_weight="0.001 0.01", action_weight="0.1 1 10"), None, 0)
    assert len(found) == 6
    assert found[1] == {"state_weight": 0.001, "action_weight": 1.0}
    assert name_of(found[1]) == "state_weight=0.001 action_weight=1"


def test_draws_are_log_uniform_distinct_and_more_begin_with_the_same_ones():
    values = axes(state_weight="1e-3..10", discount="0.9 0.99")
    found = make_configs(values, 400, 1)
    assert found[:10] == make_configs(values, 10, 1)
    assert found[:10] != make_configs(values, 10, 2)
    assert len({tuple(config.values()) for config in found}) == 400
    logarithms = np.log10([config["state_weight"] for config in found])
    assert logarithms.min() >= -3
    assert logarithms.max() <= 1
    quarters = np.histogram(logarithms, bins=4, range=(-3, 1))[0]
    assert quarters.min() > 70
    assert {config["discount"] for config in found} == {0.9, 0.99}
    # As many draws as the grid has configurations are all of them.
    grid = axes(state_weight="1 2", action_weight="3 4")
    assert len(make_configs(grid, 4, 0)) == 4


def test_sizes_are_read_and_written():
    assert parse_size("--memory", "4GiB") == 4 * 2**30
    assert parse_size("--memory", "1.5 MB") == 1_500_000
    assert parse_size("--memory", "4096") == 4096
    for text in ("many", "0", "-1GiB", "4TB", "", "1..2G"):
        with pytest.raises(ValueError, match=r"--memory .* must be a size above 0"):
            parse_size("--memory", text)
    assert memory.in_words(3 * 2**20) == "3 MiB"


FIXED, EACH = 1000, 100  # bytes that a made-up program takes, whatever its width, and per run


def made_up(compiled):
    def compile_for(width):
        compiled.append(width)
        peak = FIXED + EACH * width
        needed = Memory(peak, peak, EACH * width)
        return Program(None, None, None, width, lambda: needed, 0.0)  # type: ignore

    return compile_for


def planned(runs, budget, compiled, devices=1, width=None):
    def need_of(program):
        return Need(program.memory.peak, 0, program.memory.state, devices, shared=False)

    return make_plan(
        made_up(compiled),
        need_of,
        lambda: Budget(budget, 10**9),
        range(runs),
        smallest_state=EACH,
        devices=devices,
        width=width,
    )


def test_what_fits_is_one_program():
    compiled = []
    plan = planned(30, 10_000, compiled)
    assert compiled == [30]
    assert plan.shards == (range(30),)


def test_what_does_not_fit_is_split_into_equal_shards_that_do():
    compiled = []
    plan = planned(30, 3_000, compiled)
    assert plan.need.share(plan.budget) <= 1
    assert plan.program.width == compiled[-1]
    assert max(map(len, plan.shards)) == plan.program.width
    assert [run for shard in plan.shards for run in shard] == list(range(30))
    # The state alone forbids 30 at once: the first try is no larger.
    assert compiled[0] * EACH <= 3_000
    assert len(plan.shards) == 2
    assert any("2 shards" in text for text in plan.summary())


def test_shards_are_multiples_of_the_devices():
    plan = planned(30, 1_800, [], devices=4)
    assert plan.program.width % 4 == 0
    assert plan.need.share(plan.budget) <= 1
    assert sum(map(len, plan.shards)) == 30


def test_a_budget_too_small_for_one_is_an_error_that_says_how_much_one_takes():
    with pytest.raises(ValueError, match=r"a run takes 1\.07 KiB, but 900 B may be taken"):
        planned(30, 900, [])
    compiled = []
    with pytest.raises(ValueError, match=r"the state of a run alone takes 100 B, but 99 B may be"):
        planned(30, 99, compiled)
    assert not compiled
    # A sweep that is taken up again keeps its shards, or says that they do not fit.
    assert planned(30, 5_000, [], width=6).program.width == 6
    with pytest.raises(ValueError, match=r"6 runs at once take 1\.56 KiB"):
        planned(30, 1_200, [], width=6)


def test_a_budget_is_no_more_than_there_is():
    free = memory.free_memory()
    assert 0 < memory.find_budget(1).host < free
    assert memory.find_budget(2, 4096) == Budget(2048, 4096, requested=True)
    with pytest.raises(ValueError, match=r"is more than the .* that are free"):
        memory.find_budget(1, 4 * free)


TINY = ["--env", "pendulum"]
VARIED = [*TINY, "--state-weight", "0.1", "1"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            [*TINY, "--stat-weight", "1", "2"],
            "no flag --stat-weight (did you mean '--state-weight'?",
        ),
        ([*VARIED, "--agent", "q_learning", "--actor-learning-rate", "1"], "exploration_rate"),
        ([*TINY, "--batch-size", "64", "128"], "batch_size is static"),
        ([*VARIED, "--first-order", "cached", "off"], "first_order is static"),
        (
            [*VARIED, "--first-order", "off"],
            "--state-weight has no effect beside --first-order off",
        ),
        (TINY, "nothing varies"),
        ([*TINY, "--state-weight"], "the grid is empty"),
        ([*TINY, "--state-weight", "0.1", "1e-1"], "names 0.1 twice"),
        ([*TINY, "--state-weight", "0.1", "much"], "got 'much'"),
        ([*TINY, "--state-weight", "0.1", "nan"], "nan is no value"),
        ([*TINY, "--state-weight", "0.1", "-1"], "state_weight=-1.0 must be finite and at least 0"),
        ([*TINY, "--state-weight", "0.1..1"], "add --random N"),
        ([*TINY, "--state-weight", "1..0.1", "--random", "3"], "0 < LOW < HIGH"),
        ([*TINY, "--state-weight", "0.1..1", "2", "--random", "3"], "mixes a range"),
        ([*VARIED, "--random", "0"], "--random 0 must be at least 1"),
        (
            [*TINY, "--discount", "0.99..0.999", "--random", "100"],
            "draws from 0.99 0.999 are rounded to 4 digits, and no more than 91 of them differ",
        ),
        (["--merge", "a", "--resume", "b"], "--resume and --merge exclude each other"),
        ([*VARIED, "--random", "3"], "more than the grid's 2 configurations"),
        ([*VARIED, "--devices", "99"], "--devices 99 must be from 1 to"),
        ([*VARIED, "--devices", "0"], "--devices 0 must be from 1 to"),
        ([*VARIED, "--memory", "lots"], "must be a size above 0"),
        ([*VARIED, "--memory", "999999GiB"], "that are free"),
        ([*VARIED, "--seeds", "0"], "--seeds 0 must be at least 1"),
        ([*VARIED, "--keep-checkpoints", "0"], "--keep-checkpoints 0"),
        ([*VARIED, "--output", "my-thesis"], "is not empty"),
        (["--resume", "my-thesis"], "holds no configuration.json"),
        (["--resume", "a-run"], "not written by experiments.sweep"),
        (["--resume", "a-run", "--seeds", "3"], "leave out --seeds"),
    ],
)
def test_bad_input_is_one_line_and_status_2(flags, message, assert_refused):
    for folder in ("my-thesis", "a-run"):
        Path(folder).mkdir()
    Path("my-thesis", "thesis.tex").write_text("kept")
    Path("a-run", "configuration.json").write_text('{"experiment": {}}')
    assert_refused(main, flags, message)


def test_flags_reach_the_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = command.read(
        [
            *(
                "--env",
                "pendulum",
                "--agent",
                "td3",
                "--total-timesteps",
                "2048",
                "--hidden-sizes",
                "8",
                "8",
            ),
            *("--state-weight", "1e-3..10", "--discount", "0.9", "0.99", "--random", "7"),
            *("--tau=0.01", "--seeds", "2", "--memory", "2GB", "--no-checkpoints"),
        ]
    )
    prepared = prepare(given)
    sweep = prepared.sweep
    assert sweep.experiment.config.hidden_sizes == (8, 8)
    assert sweep.experiment.config.total_timesteps == 2048
    assert sweep.experiment.hyper.tau == 0.01
    assert len(sweep.variants) == 7
    assert [axis.name for axis in sweep.axes] == ["state_weight", "discount"]
    assert (sweep.drawn, sweep.memory, sweep.checkpoints) == (True, 2 * 10**9, None)
    assert sweep.variants[0].hyper.discount in (0.9, 0.99)
    assert "sweep" in prepared.folder.name
    assert list(tmp_path.iterdir()) == []
