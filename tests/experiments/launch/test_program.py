"""Runs laid out over devices are those of one device."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.launch import program

ROOT = Path(__file__).parents[3]
SCRIPT = """
import jax, jax.numpy as jnp
from experiments.launch.devices import processor_devices, split_processor
from experiments.launch.program import compile_program

class Toy:
    # An array without elements, as bodies without actuators have, and a state that is handed on.
    def init(self, key, hyper):
        return {"key": key, "weights": jax.random.normal(key, (4,)), "none": jnp.zeros((3, 0))}

    def learn(self, state, hyper, index):
        state = state | {"weights": state["weights"] * 0.5 + hyper}
        return state, {"weight": state["weights"].sum()}

    def look(self, state, hyper, index):
        return {"return": state["weights"].sum() + index + state["none"].sum()}

    epoch = None

split_processor()
assert jax.local_device_count() == 4
assert [processor_devices(runs) for runs in (1, 4, 5, 6, 10)] == [1, 4, 3, 3, 4]
for runs in (8, 5):
    keys, hypers = jax.random.split(jax.random.key(0), runs), jnp.arange(float(runs))
    found = []
    for devices in (1, processor_devices(runs)):
        program = compile_program(Toy(), keys, hypers, devices)
        state = program.initialise(keys, hypers)
        for epoch in range(3):
            state, metrics = program.epoch(state, hypers, jnp.int32(epoch))
        found.append(metrics)
    assert program.width == {8: 8, 5: 6}[runs]
    assert program.memory.peak > 0
    assert found[0].keys() == found[1].keys() == {"weight", "return"}
    for name, values in found[0].items():
        assert values.shape == (runs,)
        assert jnp.array_equal(values, found[1][name])
print("equal")
"""


def test_runs_over_devices_are_those_of_one():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "equal\n"


def test_sums_of_many_products_are_right():
    """As YNNPACK, jaxlib 0.10.2 gives the last of these sums as that of an earlier row."""
    rows = jnp.zeros((32_769, 3)).at[:, 0].set(jnp.arange(32_769.0))
    squares = jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2))
    compiled = jax.jit(squares).lower(rows).compile({**program.compiler_options()})
    assert "__ynn_fusion" not in compiled.as_text()
    assert jnp.array_equal(compiled(rows), rows[:, 0] ** 2)


def test_what_the_compiler_does_not_know_is_left_out(monkeypatch):
    assert not program._is_known("xla_cpu_no_such_option", False)
    known = program.compiler_options()
    monkeypatch.setattr(program, "_is_known", lambda option, value: "eigen" in option)
    assert program.compiler_options() == {"xla_cpu_multi_thread_eigen": False}
    assert known == program.compiler_options() | {"xla_cpu_experimental_ynn_fusion_type": ""}


def test_memory_is_given_back_where_the_c_library_can(monkeypatch):
    kept = []

    class Library:
        def __init__(self, name):
            self.malloc_trim = kept.append

    monkeypatch.setattr(program.ctypes, "CDLL", Library)
    program.give_back_memory()
    assert kept == [0]  # bytes

    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(program.ctypes, "CDLL", missing)
    program.give_back_memory()


def test_what_is_compiled_ahead_has_the_precision_of_the_caller():
    def third(x):
        return x / jnp.asarray(3.0)

    with jax.enable_x64(True):
        compiled, _ = program.compile_ahead(third, jnp.ones(()))
        double = program.call(compiled, jnp.ones(()))
    assert double.dtype == jnp.float64
    assert program.call_ahead(third, jnp.ones(())).dtype == jnp.float32
