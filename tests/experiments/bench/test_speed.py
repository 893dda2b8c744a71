"""The benchmark runs, and what it writes is whole; times themselves are not judged here."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import envs
from experiments.bench.speed import __main__ as bench
from experiments.bench.speed import derivatives, memory, update, window
from experiments.bench.speed.options import (
    ROWS,
    Bench,
    ReplayRow,
    StorageRow,
    SweepRow,
    TrainingStepRow,
    WindowRow,
)
from experiments.bench.timing import Alternative, measure
from experiments.launch import run_folder
from experiments.launch.progress import Silent
from sobolax.cart import Cart
from sobolax.tangents.storage import TANGENT_DTYPES

TINY = Bench(
    rows=("update", "replay", "memory"),
    env="lqr",
    sources=("cached",),
    runs=(2,),
    batch_size=4,
    hidden_sizes=(4,),
    num_envs=2,
    replay_capacity=8,
    updates=2,
    steps=2,
    repetitions=2,
    memory=("point_mass",),
    derivatives=(),
    replay=ReplayRow("point_mass", ("int8",), 8, 2, 2, 2, (2,)),
    training_step=TrainingStepRow("pendulum", 4, 2, 4, (4,), 8),
    sweep=SweepRow("pendulum", 2, 1),
    storage=StorageRow(256, 2),
    window=WindowRow("pendulum", (4, 8), (2, 6), (4,)),
)


def flags(options, prefix="--"):
    found = []
    for name, value in vars(options).items():
        name = prefix + name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            found += flags(value, f"{name}.")
        elif value is not None:
            values = value if isinstance(value, tuple) else (value,)
            found += [name, *map(str, values)]
    return found


def measure_rows(options):
    """The tables, measured as the command does."""
    for tables, _ in bench.measure(bench.prepare(options), options, Path(), Silent()):
        found = tables
    return found


def names(table):
    return [row[0] for row in table.rows]


@pytest.fixture
def own_cache_setting():
    """`main` switches the compilation cache off for its process, which here is the tests'."""
    before = jax.config.jax_enable_compilation_cache
    yield
    jax.config.update("jax_enable_compilation_cache", before)


@pytest.mark.slow
def test_a_measurement_is_printed_and_written(own_cache_setting, tmp_path, capsys):
    output = tmp_path / "runs" / "bench"
    assert bench.main([*flags(TINY), "--output", str(output)]) == 0
    results = json.loads((output / run_folder.RESULTS).read_text())
    assert results["options"]["env"] == "lqr"
    *timings, memory_table = results["tables"]
    assert len(timings) == 1 + 1
    for table in timings:
        ratios = [row[2:5] for row in table["rows"]]
        assert ratios[0] == [1, 1, 1]
        assert all(row[1] > 0 and row[5] > 0 for row in table["rows"])
        assert all(low <= ratio <= high for ratio, low, high in ratios)
    assert [row[0] for row in timings[0]["rows"]] == ["off", "cached"]
    assert memory_table["headings"] == ["", "point_mass"]
    printed, page = capsys.readouterr().out, (output / "table.md").read_text()
    for part in ("One update in lqr, 2 runs in one program", "point_mass"):
        assert part in printed
        assert part in page
    assert "Replay: 8 transitions of point_mass in 2 buffers" in printed
    assert len(list((output / "tables").iterdir())) == len(results["tables"])
    assert bench.main([*flags(TINY), "--output", str(output)]) == 2  # nothing is overwritten
    assert json.loads((output / run_folder.RESULTS).read_text()) == results


@pytest.mark.slow
def test_every_source_and_every_storage_is_measured():
    sources = ("off", "cached", "recomputed", "reverse")
    options = replace(TINY, rows=("update",), sources=sources, runs=(1, 2))
    tables = measure_rows(replace(options, tangent_dtypes=("float32", "int8")))
    assert [table.title.split(", ")[1] for table in tables] == [
        "one run alone",
        "2 runs in one program",
    ]
    for table in tables:
        assert names(table) == ["off", "cached float32", "cached int8", "recomputed", "reverse"]


@pytest.mark.slow
def test_whole_steps_and_sweeps_are_measured():
    rows = ("environment_step", "training_step", "sweep")
    collected, steps, sweep = measure_rows(replace(TINY, rows=rows))
    assert names(collected) == ["plain", "with tangents"]
    assert names(steps) == ["plain", "Sobolev", "Sobolev, action alone", "Sobolev, a quarter"]
    assert names(sweep) == ["one run alone", "2 runs in one program"]
    assert all(row[1] > 0 and row[2] > 0 for row in sweep.rows)


def test_windows_change_one_size_at_a_time():
    pairs = [(one["num_envs"], one["horizon"]) for one in window.alternatives(WindowRow()).values()]
    assert pairs == [(64, 16), (16, 16), (256, 16), (64, 4), (64, 64), (64, 16)]


@pytest.mark.slow
def test_windows_are_measured_and_longer_ones_need_more_memory():
    [table] = measure_rows(replace(TINY, rows=("window",)))
    rows = {row[0]: row for row in table.rows}
    assert list(rows) == [
        "4 environments, 2 steps",
        "8 environments, 2 steps",
        "4 environments, 6 steps",
        "4 environments, 2 steps, gradients",
    ]
    first = rows["4 environments, 2 steps"]
    assert first[2] == pytest.approx(8 / first[1])
    assert rows["4 environments, 6 steps"][3] > first[3] > 0


@pytest.mark.slow
def test_storage_is_exact_in_float32_and_worse_with_fewer_bits():
    (table,) = measure_rows(replace(TINY, rows=("storage",)))
    assert names(table) == list(TANGENT_DTYPES)
    errors = {row[0]: row[table.headings.index("∇s y, error")] for row in table.rows}
    assert errors["float32"] == 0
    assert 0 < errors["float16"] < errors["int8"] < errors["int4"] < 1


@pytest.mark.slow
def test_a_cold_start_fills_the_cache_that_the_next_one_finds():
    options = replace(TINY, rows=("cold_start",), cold_start="lqr")
    (table,) = measure_rows(options)
    assert table.headings[2:] == ("import", "build", "programs", "run", "in all")
    found = {row[:2]: row[2:] for row in table.rows}
    for name in ("empty cache", "warm cache"):
        assert all(seconds > 0 for seconds in found[name, "wall"])
    # Processor time: what else the machine does has no part in it.
    assert found["warm cache", "processor"][2] < found["empty cache", "processor"][2]


@pytest.mark.slow
def test_imports_are_measured_beside_that_of_jax():
    (table,) = measure_rows(replace(TINY, rows=("imports",), repetitions=1))
    assert names(table) == ["jax", "sobolax", "one loss", "functional core", "everything"]
    assert all(row[1] > 0 for row in table.rows)


def test_alternatives_take_turns():
    calls, seconds = [], [0.0]

    def alternative(name, takes, runs=1):
        def run():
            calls.append(name)
            seconds[0] += takes
            return jnp.zeros(())

        return Alternative(name, run, 1.0, runs)

    alternatives = [alternative("A", 2.0), alternative("B", 12.0, runs=3)]
    measured = measure(alternatives, repetitions=3, units=4, clock=lambda: seconds[0])
    assert calls == ["A", "B"] * 4  # the first of each is not timed
    assert [entry.name for entry in measured] == ["A", "B"]
    # One of B's three runs takes 4 s.
    assert [entry.seconds for entry in measured] == [2 / 4, 4 / 4]
    assert [entry.ratio for entry in measured] == [1.0, 2.0]
    assert measured[0].compile_seconds == 1.0


def test_bytes_per_transition_count_every_number():
    environment = envs.make("point_mass", dimension=3)
    observation, action, state = 6, 3, 6
    plain = 2 * observation + action + 2  # and the reward and the discount
    along_state = state * (2 * observation + 1)
    along_action = action * (action + 1 + observation)
    found = memory.bytes_per_transition(environment)
    assert found["off"] == 4 * plain
    assert found["cached float32"] == 4 * (plain + along_state + along_action)
    assert found["cached bfloat16"] == 4 * plain + 2 * (along_state + along_action)
    directions = state + action
    for dtype, precise, bits in (("int8", 4, 8), ("int4", 2, 4)):
        # What can move of observation and action, the reward, and lengths; then the codes of the
        # next observation, and scales of directions and numbers.
        kept = precise * (observation + action + directions + directions)
        whole = bits * (directions * observation + directions + 2 * observation) / 8
        total = 4 * plain + kept + whole
        assert total <= found[f"cached {dtype}"] <= total + 2 * 4
    assert found["recomputed (state)"] > found["off"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"rows": ("updates",)},
            r"--rows 'updates' is unknown \(did you mean 'update'\?\): choose one of update",
        ),
        ({"env": "pendulim"}, "did you mean 'pendulum'"),
        ({"memory": ("ants",)}, "did you mean 'ant'"),
        ({"sources": ("cache",)}, "--sources 'cache' is unknown .* choose one of off, cached"),
        ({"tangent_dtypes": ("int2",)}, "--tangent-dtypes 'int2' is unknown"),
        ({"runs": (1, 0)}, "--runs 0 must be at least 1"),
        ({"repetitions": 0}, "--repetitions 0 must be at least 1"),
        ({"replay_capacity": 9}, "must be a multiple of num_envs=2"),
        ({"batch_size": 16}, "is larger than"),
        ({"env_args": ("dimension",)}, "name=value"),
        ({"rows": ("derivatives",), "derivatives": ("pendulum",)}, "no MuJoCo environment"),
        ({"derivatives_batch": 0}, "--derivatives-batch 0 must be at least 1"),
        ({"replay": ReplayRow(capacity=0)}, "--replay.capacity 0 must be at least 1"),
        ({"replay": ReplayRow("pendulum", capacity=9)}, "must be a multiple of --replay.block"),
        ({"replay": ReplayRow("pendulum", ("int2",))}, "choose one of off, float32"),
        ({"rows": ("sweep",), "sweep": SweepRow("lqrr")}, "did you mean 'lqr'"),
        ({"rows": ("cold_start",), "cold_start": "lqrr"}, "did you mean 'lqr'"),
        ({"rows": ("window",), "window": WindowRow("pendulim")}, "did you mean 'pendulum'"),
        ({"window": WindowRow(num_envs=(0,))}, "--window.num-envs 0 must be at least 1"),
        (
            {"rows": ("window",), "window": WindowRow("pendulum", (3,), (1,))},
            r"num_envs \* horizon=3 must be a multiple of minibatches=4",
        ),
        (
            {"rows": ("training_step",), "training_step": TrainingStepRow(replay_capacity=130)},
            "replay_capacity=130 must be a multiple of num_envs=128",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_compiles(change, message):
    with pytest.raises(ValueError, match=message):
        bench.prepare(replace(TINY, **change))


@pytest.mark.slow
def test_every_row_can_do_what_it_does_by_default():
    assert tuple(bench.prepare(Bench(rows=ROWS))) == ROWS


class NoReverse(Cart):
    reverse_mode = False


def test_reverse_mode_only_where_there_is_one():
    def alternatives(options):
        return tuple(update.alternatives_of(update.prepare(options), options))

    options = replace(TINY, sources=("cached", "reverse"))
    assert alternatives(options) == ("off", "cached", "reverse")
    without = replace(options, env=f"{__name__}:NoReverse")
    assert alternatives(without) == ("off", "cached")


@pytest.mark.slow
def test_derivatives_are_timed_against_the_plain_step():
    measured = derivatives.time_derivatives(envs.make("cartpole"), batch=2, repetitions=1)
    assert [measured[0].name, measured[0].ratio] == ["plain step", 1.0]
    names = [entry.name for entry in measured[1:]]
    assert "analytic, full basis" in names
    assert "autodiff of mjx.step, full basis" in names
    assert all(entry.seconds > 0 for entry in measured)
