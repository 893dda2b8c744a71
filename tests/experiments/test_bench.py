"""The benchmark runs, and what it writes is whole; times themselves are not judged here."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import envs
from experiments import bench, bench_derivatives
from experiments.bench import Bench
from experiments.timing import Alternative, measure

TINY = Bench(
    env="pendulum",
    sources=("cached",),
    members=(2,),
    batch_size=4,
    hidden_sizes=(4,),
    environments=2,
    buffer_items=8,
    updates=2,
    steps=2,
    repetitions=2,
    memory=("point_mass",),
    derivatives=(),
)


def flags(settings: Bench) -> list[str]:
    found = []
    for name, value in vars(settings).items():
        if value is not None:
            values = value if isinstance(value, tuple) else (value,)
            found += ["--" + name.replace("_", "-"), *map(str, values)]
    return found


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
    for group in (*results["updates"].values(), results["environment_steps"]):
        assert group[0]["ratio"] == 1
        assert all(entry["seconds"] > 0 and entry["compile_seconds"] > 0 for entry in group)
        assert all(e["smallest_ratio"] <= e["ratio"] <= e["largest_ratio"] for e in group)
    names = {
        count: [entry["name"] for entry in group] for count, group in results["updates"].items()
    }
    assert names == {"2": ["off", "cached"]}
    printed = capsys.readouterr().out
    for part in ("One update in pendulum", "2 runs in one program", "steps/s", "point_mass"):
        assert part in printed
    assert bench.main([*flags(TINY), "--output", str(output)]) == 2  # nothing is overwritten
    assert json.loads(output.read_text()) == results


@pytest.mark.slow
def test_every_source_is_measured():
    sources = ("off", "cached", "recomputed", "reverse")
    results = bench.run(replace(TINY, sources=sources, members=(1, 2)))
    assert results["updates"].keys() == {"1", "2"}
    for group in results["updates"].values():
        assert tuple(entry["name"] for entry in group) == sources


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
    found = bench.bytes_per_transition(environment)
    assert found["off"] == 4 * plain
    assert found["cached float32"] == 4 * (plain + along_state + along_action)
    assert found["cached bfloat16"] == 4 * plain + 2 * (along_state + along_action)
    assert found["recomputed (state)"] > found["off"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": "pendulim"}, "did you mean 'pendulum'"),
        ({"memory": ("ants",)}, "did you mean 'ant'"),
        ({"sources": ("cache",)}, "choose from off, cached"),
        ({"members": (1, 0)}, "--members 0 must be at least 1"),
        ({"repetitions": 0}, "--repetitions 0 must be at least 1"),
        ({"buffer_items": 9}, "must be a multiple of environments=2"),
        ({"batch_size": 16}, "is larger than"),
        ({"env_args": ("dimension",)}, "name=value"),
        ({"derivatives": ("pendulum",)}, "no MuJoCo environment"),
        ({"derivatives_batch": 0}, "--derivatives-batch 0 must be at least 1"),
    ],
)
def test_bad_input_is_refused_before_anything_compiles(change, message):
    with pytest.raises(ValueError, match=message):
        bench.prepare(replace(TINY, **change))


def test_reverse_mode_only_where_there_is_one():
    settings = replace(TINY, sources=("cached", "reverse"))
    assert bench.prepare(settings).sources == ("off", "cached", "reverse")
    without = replace(settings, env="reacher", env_args=("integrator=rk4",))
    assert bench.prepare(without).sources == ("off", "cached")


@pytest.mark.slow
def test_derivatives_are_timed_against_the_plain_step():
    measured = bench_derivatives.run(envs.make("cartpole"), batch=2, repetitions=1)
    assert [measured[0].name, measured[0].ratio] == ["plain step", 1.0]
    names = [entry.name for entry in measured[1:]]
    assert "structured, full basis" in names
    assert "autodiff of mjx.step, full basis" in names
    assert all(entry.seconds > 0 for entry in measured)
