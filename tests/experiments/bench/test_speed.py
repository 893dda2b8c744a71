"""The benchmark runs, and what it writes is whole; times themselves are not judged here."""

import dataclasses
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
import rich

import envs
from experiments.bench.speed import __main__ as bench
from experiments.bench.speed import cold_start, derivatives, memory, update
from experiments.bench.speed.options import (
    ROWS,
    Bench,
    ColdStartRow,
    ReplayRow,
    SweepRow,
    TrainingStepRow,
)
from experiments.bench.timing import Alternative, measure

TINY = Bench(
    rows=("update", "environment_step", "replay", "memory"),
    env="pendulum",
    sources=("cached",),
    members=(2,),
    batch_size=4,
    hidden_sizes=(4,),
    num_envs=2,
    buffer_items=8,
    updates=2,
    steps=2,
    repetitions=2,
    memory=("point_mass",),
    derivatives=(),
    replay=ReplayRow("pendulum", ("off", "int8"), 8, 2, 2, 2, (1, 2)),
    training_step=TrainingStepRow("pendulum", 2, 2, 4, (4,), 8),
    sweep=SweepRow("pendulum", 2, 1),
)


def flags(settings, prefix="--"):
    found = []
    for name, value in vars(settings).items():
        name = prefix + name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            found += flags(value, f"{name}.")
        elif value is not None:
            values = value if isinstance(value, tuple) else (value,)
            found += [name, *map(str, values)]
    return found


def groups_of(results):
    """All lists of timings, wherever they are."""
    if not isinstance(results, dict | list):
        return []
    parts = list(results.values()) if isinstance(results, dict) else results
    if parts and isinstance(parts[0], dict) and "compile_seconds" in parts[0]:
        return [parts]
    return [group for part in parts for group in groups_of(part)]


@pytest.fixture
def own_cache_setting():
    """`main` switches the compilation cache off for its process, which here is the tests'."""
    before = jax.config.jax_enable_compilation_cache
    yield
    jax.config.update("jax_enable_compilation_cache", before)


def test_a_measurement_is_printed_and_written(own_cache_setting, tmp_path, capsys):
    output = tmp_path / "runs" / "bench.json"
    assert bench.main([*flags(TINY), "--output", str(output)]) == 0
    results = json.loads(output.read_text())
    assert tuple(results["rows"]) == TINY.rows
    groups = groups_of(results["rows"])
    assert len(groups) == 1 + 1 + 4
    for group in groups:
        assert group[0]["ratio"] == 1
        assert all(entry["seconds"] > 0 and entry["compile_seconds"] > 0 for entry in group)
        assert all(e["smallest_ratio"] <= e["ratio"] <= e["largest_ratio"] for e in group)
    measured = results["rows"]["update"]["members"]
    assert {count: [entry["name"] for entry in group] for count, group in measured.items()} == {
        "2": ["off", "cached"]
    }
    printed = capsys.readouterr().out
    for part in ("One update in pendulum", "2 runs in one program", "steps/s", "point_mass"):
        assert part in printed
    assert "Replay: 8 transitions of pendulum in 2 buffers" in printed
    assert bench.main([*flags(TINY), "--output", str(output)]) == 2  # nothing is overwritten
    assert json.loads(output.read_text()) == results


@pytest.mark.slow
def test_every_source_and_every_storage_is_measured():
    sources = ("off", "cached", "recomputed", "reverse")
    asked = replace(TINY, rows=("update",), sources=sources, members=(1, 2))
    measured = bench.run(replace(asked, tangent_dtypes=("float32", "int8")))["rows"]["update"]
    assert measured["members"].keys() == {"1", "2"}
    for group in measured["members"].values():
        assert [entry["name"] for entry in group] == [
            "off",
            "cached float32",
            "cached int8",
            "recomputed",
            "reverse",
        ]


@pytest.mark.slow
def test_whole_steps_and_sweeps_are_measured():
    found = bench.run(replace(TINY, rows=("training_step", "sweep")))["rows"]
    (steps,), (sweep,) = (groups_of(found[name]) for name in ("training_step", "sweep"))
    assert [entry["name"] for entry in steps] == ["plain", "Sobolev"]
    assert [entry["name"] for entry in sweep] == [
        "one run alone",
        "one of 2 runs in one program",
    ]
    # Of one of its runs: both programs of a run's size take microseconds to milliseconds.
    assert sweep[1]["seconds"] == pytest.approx(sweep[0]["seconds"] * sweep[1]["ratio"], rel=5)


@pytest.mark.slow
def test_a_cold_start_fills_the_cache_that_the_next_one_finds():
    asked = replace(TINY, cold_start=ColdStartRow("lqr"))
    found = cold_start.run(cold_start.prepare(asked), asked, lambda text: None)
    cold, warm = found["starts"].values()
    assert tuple(cold) == tuple(warm) == ("import", "build", "lower", "compile", "run")
    assert all(phase["seconds"] > 0 for start in (cold, warm) for phase in start.values())
    # Processor time: what else the machine does has no part in it.
    assert warm["compile"]["processor"] < cold["compile"]["processor"]


@pytest.mark.slow
def test_imports_are_measured_beside_that_of_jax(capsys):
    found = bench.run(replace(TINY, rows=("imports",), repetitions=1))
    names = [entry["name"] for entry in found["rows"]["imports"]["imports"]]
    assert names == ["jax", "sobolax", "one loss", "functional core", "everything"]
    rich.print(bench.render(found))
    assert "functional core" in capsys.readouterr().out


def test_alternatives_take_turns():
    calls = []

    def alternative(name):
        return Alternative(name, lambda: (calls.append(name), jnp.zeros(())), 1.0)

    measured = measure([alternative("A"), alternative("B")], repetitions=3, units=2)
    assert calls == ["A", "B"] * 4  # the first of each is not timed
    assert [entry.name for entry in measured] == ["A", "B"]
    assert (measured[0].ratio, measured[0].compile_seconds) == (1.0, 1.0)


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
        ({"rows": ("updates",)}, "--rows 'updates' is unknown: choose from update"),
        ({"env": "pendulim"}, "did you mean 'pendulum'"),
        ({"memory": ("ants",)}, "did you mean 'ant'"),
        ({"sources": ("cache",)}, "choose from off, cached"),
        ({"tangent_dtypes": ("int2",)}, "--tangent-dtypes 'int2' is unknown"),
        ({"members": (1, 0)}, "--members 0 must be at least 1"),
        ({"repetitions": 0}, "--repetitions 0 must be at least 1"),
        ({"buffer_items": 9}, "must be a multiple of num_envs=2"),
        ({"batch_size": 16}, "is larger than"),
        ({"env_args": ("dimension",)}, "name=value"),
        ({"rows": ("derivatives",), "derivatives": ("pendulum",)}, "no MuJoCo environment"),
        ({"derivatives_batch": 0}, "--derivatives-batch 0 must be at least 1"),
        ({"replay": ReplayRow(items=0)}, "--replay.items 0 must be at least 1"),
        ({"replay": ReplayRow("pendulum", items=9)}, "must be a multiple of --replay.block"),
        ({"replay": ReplayRow("pendulum", ("int2",))}, "choose from off, float32"),
        ({"rows": ("sweep",), "sweep": SweepRow("lqrr")}, "did you mean 'lqr'"),
        ({"rows": ("cold_start",), "cold_start": ColdStartRow("lqrr")}, "did you mean 'lqr'"),
        (
            {"rows": ("training_step",), "training_step": TrainingStepRow(buffer_items=130)},
            "replay_capacity=130 must be a multiple of num_envs=128",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_compiles(change, message):
    with pytest.raises(ValueError, match=message):
        bench.prepare(replace(TINY, **change))


def test_every_row_can_do_what_it_does_by_default():
    assert tuple(bench.prepare(Bench(rows=ROWS))) == ROWS


def test_reverse_mode_only_where_there_is_one():
    settings = replace(TINY, sources=("cached", "reverse"))
    assert tuple(update.prepare(settings).kinds) == ("off", "cached", "reverse")
    without = replace(settings, env="reacher", env_args=("integrator=rk4",))
    assert tuple(update.prepare(without).kinds) == ("off", "cached")


@pytest.mark.slow
def test_derivatives_are_timed_against_the_plain_step():
    measured = derivatives.time_derivatives(envs.make("cartpole"), batch=2, repetitions=1)
    assert [measured[0].name, measured[0].ratio] == ["plain step", 1.0]
    names = [entry.name for entry in measured[1:]]
    assert "analytic, full basis" in names
    assert "autodiff of mjx.step, full basis" in names
    assert all(entry.seconds > 0 for entry in measured)
