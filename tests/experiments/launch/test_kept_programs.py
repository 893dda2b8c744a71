"""A second start takes compiled programs from disk, gives the same bits, and believes no file."""

import dataclasses
import importlib
import json
import os
import shutil
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import envs
from experiments.launch import kept_programs, provenance, quiet_loads
from experiments.launch.kept_programs import Kept, NotKept, find
from experiments.launch.program import compile_program
from sobolax import make_training
from sobolax.agents import q_learning

CONFIG = q_learning.Config(
    total_timesteps=32,
    num_envs=2,
    epochs=2,
    gradient_steps=1,
    learning_starts=8,
    batch_size=4,
    replay_capacity=32,
    hidden_sizes=(4,),
    evaluation_episodes=1,
    report_states=0,
    first_order="off",
    grid_points=2,
)
NAMES = ("learn", "init", "look")
edited = kept_programs._edited


@pytest.fixture(scope="module", autouse=True)
def nothing_is_edited():
    """Whoever edits files while the tests run changes none of them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kept_programs, "_edited", lambda: False)
        yield


def training(traced):
    """A small one, whose first function notes that it is traced."""
    made = make_training(envs.make("point_mass"), CONFIG)

    def init(key, hyper):
        traced.append(1)
        return made.init(key, hyper)

    return dataclasses.replace(made, init=init)


def results(kept, told=None):
    """Everything that two epochs compute, as bytes, and how often something was traced."""
    traced, said = [], []
    keys = jax.random.split(jax.random.key(3), 2)
    hypers = jax.tree.map(lambda value: jnp.full(2, value), q_learning.Hyperparameters())
    program = compile_program(training(traced), keys, hypers, 1, kept, said.append)
    state = program.initialise(keys, hypers)
    rows = []
    for epoch in range(2):
        state, metrics = program.epoch(state, hypers, jnp.int32(epoch))
        rows.append(metrics)
    memory = program.memory
    data = jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        (state, rows),
    )
    assert memory is not None
    program.wait_until_kept()
    found = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(data)]
    return (found, jax.tree.structure(data), memory.state), len(traced), said


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    kept = Kept(tmp_path_factory.mktemp("cache") / "programs", "key")
    found, traced, said = results(kept)
    assert traced
    assert not said
    assert all(kept.link(name).exists() for name in NAMES)
    return kept, found


def test_a_second_start_traces_nothing_and_gives_the_same_bits(cold):
    kept, expected = cold
    found, traced, said = results(kept)
    assert (traced, said) == (0, [])
    assert found == expected
    assert kept.state_bytes == expected[2]


def damaged(path, how):
    content = path.read_bytes()
    if how == "one bit":
        path.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    elif how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        other = next(one for one in path.parent.iterdir() if len(one.name) == 40 and one != path)
        shutil.copy(other, path)


@pytest.mark.parametrize("how", ["one bit", "cut off", "empty", "of another program"])
def test_a_damaged_file_is_one_line_and_no_program(how, cold, tmp_path):
    kept = Kept(tmp_path / "programs", "key")
    shutil.copytree(cold[0].folder, kept.folder)
    digest = json.loads(kept.link("look").read_text().splitlines()[1])["digest"]
    damaged(kept.folder / digest, how)
    said = []
    assert kept.load_all(("look",), said.append) is None
    [line] = said
    assert "cannot be used (ValueError: its checksum is another)" in line or (
        how == "of another program" and "it is another program" in line
    )
    assert "tracing and compiling anew" in line


def test_a_link_of_another_training_is_no_program(cold, tmp_path):
    kept, said = Kept(tmp_path / "programs", "another"), []
    shutil.copytree(cold[0].folder, kept.folder)
    shutil.copy(kept.folder / "key-look", kept.link("look"))
    assert kept.load_all(("look",), said.append) is None
    assert "it is of another program" in said[0]


def test_another_key_with_the_same_program_compiles_nothing(cold, monkeypatch):
    kept = Kept(cold[0].folder, "after another change")
    monkeypatch.setattr(kept_programs, "_compile", None)  # not called
    found, traced, said = results(kept)
    assert (found, said) == (cold[1], [])
    assert traced
    assert kept.load_all(NAMES, said.append) is not None


def test_programs_of_the_same_text_differ_by_what_they_are_called_with(tmp_path):
    kept, x = Kept(tmp_path, "key"), jnp.ones(2)
    same = jax.jit(lambda tree: {name: 2 * leaf for name, leaf in tree["used"].items()})
    for tree in (
        {"used": {"a": x}, "unused": jnp.zeros(3)},
        {"used": {"a": x}, "unused": jnp.zeros(4)},
        {"used": {"b": x}, "unused": jnp.zeros(4)},
    ):
        kept.save("look", kept.compile("look", same.lower(tree), {}))
        loaded = kept.load("look")
        assert jax.tree.map(jnp.sum, loaded(tree)).keys() == tree["used"].keys()


@pytest.mark.usefixtures("cache")
def test_an_executable_from_jax_s_own_cache_is_not_kept_again(tmp_path):
    def lowered():
        return jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((3, 3)))

    before = getattr(jax.config, "jax_persistent_cache_min_compile_time_secs")  # noqa: B009
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    try:
        lowered().compile()
        jax.clear_caches()
        kept = Kept(tmp_path / "programs", "key")
        kept.save("learn", kept.compile("learn", lowered(), {}))
        assert kept.load("learn") is None
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


def test_one_missing_file_is_no_program(cold, tmp_path):
    kept = Kept(tmp_path / "programs", "key")
    shutil.copytree(cold[0].folder, kept.folder)
    kept.link("learn").unlink()
    said = []
    assert kept.load_all(("look", "learn"), said.append) is None
    assert not said
    assert Kept(kept.folder, "another").load_all(NAMES, said.append) is None


def test_a_program_that_calls_python_is_not_kept(tmp_path):
    def calls(x):
        return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((), jnp.float32), x)

    kept = Kept(tmp_path, "key")
    compiled = kept.compile("learn", jax.jit(calls).lower(jnp.float32(1)), {})
    with pytest.raises(NotKept, match=r"learn is not kept .* it calls Python"):
        kept.save("learn", compiled)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def cache(tmp_path):
    """JAX's settings as commands make them, in a folder of its own."""
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = [getattr(jax.config, name) for name in names]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in zip(names, before, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_the_key_knows_whatever_shapes_a_program(cache, monkeypatch):
    identity, arguments = {"config": {"epochs": 2}}, (jnp.zeros(3), jnp.zeros(2))

    def key(env="point_mass", identity=identity, arguments=arguments, devices=1):
        found = find(env, identity, arguments, devices)
        assert found is not None
        assert found.folder == cache / "programs"
        return found.key

    keys = [
        key(),
        key(env="pendulum"),
        key(identity={"config": {"epochs": 3}}),
        key(arguments=(jnp.zeros(3), jnp.zeros(4))),
        key(arguments=(jnp.zeros(3), jnp.zeros(2, jnp.int32))),
        key(arguments={"a": jnp.zeros(3), "b": jnp.zeros(2)}),
        key(devices=2),
    ]
    with jax.default_matmul_precision("highest"):
        keys.append(key())
    monkeypatch.setenv("XLA_FLAGS", "--xla_something=1")
    keys.append(key())
    monkeypatch.setattr(provenance, "source", lambda: "another commit")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == key()


@pytest.mark.usefixtures("cache")
def test_what_cannot_be_known_is_not_kept(monkeypatch):
    assert find("point_mass", {}, (), 1) is not None
    for env in ("my_robot:Quadruped", "brax:reacher", "unheard-of"):
        assert find(env, {}, (), 1) is None
    monkeypatch.setattr(kept_programs, "_versions", lambda: None)
    assert find("point_mass", {}, (), 1) is None
    monkeypatch.undo()
    jax.config.update("jax_enable_compilation_cache", False)
    assert find("point_mass", {}, (), 1) is None


@pytest.mark.usefixtures("cache")
def test_a_file_that_was_edited_after_the_process_began_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_ROOTS", (tmp_path / "package",))
    monkeypatch.setattr(kept_programs, "_edited", edited)
    names = ("physics.py", "model.xml", ".physics.py.swp", "__pycache__/physics.cpython.pyc")
    for path in (tmp_path / "package" / name for name in names):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
        os.utime(path, (1e9, 1e9))
    kept = find("point_mass", {}, (), 1)
    assert kept is not None
    for name in names[2:]:  # of an editor, and of Python
        os.utime(tmp_path / "package" / name)
    compiled = kept.compile("learn", jax.jit(jnp.sin).lower(jnp.ones(2)), {})
    kept.save("learn", compiled)
    now = time.time()
    for name in names[:2]:
        os.utime(tmp_path / "package" / name, (now, now))
        assert find("point_mass", {}, (), 1) is None
        with pytest.raises(NotKept, match=r"learn is not kept .* a source file was edited"):
            kept.save("learn", compiled)
        os.utime(tmp_path / "package" / name, (1e9, 1e9))


def test_old_files_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_programs, "_MOST_BYTES", 10)
    for age, name in enumerate(("new", "old", "older")):
        (tmp_path / name).write_bytes(b"12345")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    kept_programs._remove_old(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def write_errors(*lines):
    os.write(2, "".join(f"{line}\n" for line in lines).encode())


def loading(feature):
    begin = "E1128 11:10:00.183127   14960 cpu_aot_loader.cc:195] Loading XLA:CPU AOT result."
    return f"{begin} Target machine feature +{feature} is not  supported on the host machine."


def test_loading_says_nothing_of_the_compilers_preferences(capfd):
    others = [loading("amx-fp16"), loading("prefer-no-gathering"), "prefer-no-gather", ""]

    @quiet_loads.without_preferences()
    def load():
        write_errors(loading("prefer-no-gather"), *others[:2], loading("prefer-no-scatter"))
        thread = threading.Thread(target=write_errors, args=others[2:])
        thread.start()
        thread.join()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        load()
    write_errors(loading("prefer-no-gather"))
    assert capfd.readouterr().err.splitlines() == [*others, loading("prefer-no-gather")]


def test_jaxs_own_cache_loads_as_quietly(capfd, monkeypatch):
    def load(key):
        write_errors(loading("prefer-no-gather"), key)
        return key

    cache = importlib.import_module("jax._src.compilation_cache")
    monkeypatch.setattr(cache, "get_executable_and_time", load)
    quiet_loads.quieten_cache()
    quiet_loads.quieten_cache()
    assert cache.get_executable_and_time("key") == "key"
    assert capfd.readouterr().err == "key\n"
