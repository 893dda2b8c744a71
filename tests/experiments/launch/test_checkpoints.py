"""Checkpoints: what they hold, what is made of bad ones, and that training does not notice them."""

import errno
import io
import json
import re
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import envs
from experiments.launch import (
    checkpoint_files,
    checkpoints,
    command_line,
    provenance,
    run_folder,
    snapshot,
)
from experiments.launch import job as jobs
from experiments.launch.checkpoint_files import CheckpointError
from experiments.launch.checkpoints import Checkpoints
from experiments.launch.configuration import CheckpointRule
from experiments.launch.program import compile_program, size_of
from experiments.launch.progress import Silent, console_progress
from experiments.launch.runner import train_runs
from sobolax import make_training
from tests.experiments import stubs

EPOCHS = stubs.TRAINED_EPOCHS
EVERY = CheckpointRule(seconds=0)


pytestmark = pytest.mark.usefixtures("one_commit")


@pytest.fixture(scope="module")
def job():
    experiment = command_line.parse(stubs.TRAINED)
    environment = envs.make(experiment.env, **experiment.env_args)
    training = make_training(environment, experiment.config)
    return jobs.make_job(experiment, training)


@pytest.fixture(scope="module")
def program(job, compiled):
    if not compiled:
        compiled["program"] = compile_program(job.training, job.keys, job.hypers)
    return compiled["program"]


@pytest.fixture(scope="module")
def reference(job, program, tmp_path_factory):
    """A run that nothing disturbed, without checkpoints."""
    folder = tmp_path_factory.mktemp("reference")
    return train_runs(job, folder, Silent(), None, program), folder


@pytest.fixture(scope="module")
def once_stopped(job, program, tmp_path_factory):
    """The folder of a run that was stopped in its fourth epoch, with two checkpoints."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(provenance, "_commit", lambda: None)
        stop(job, program, folder)
    assert names(folder) == ["epoch_000001", "epoch_000002"]
    return folder


@pytest.fixture
def stopped(once_stopped, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(once_stopped, tmp_path / "stopped"))


def stop(job, program, folder, after=3, rule=EVERY):
    outcome = train_runs(job, folder, stubs.Interrupting(after), rule, program)
    assert outcome.interrupted
    assert len(outcome.history.epochs) == after
    return outcome


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("*"))


def assert_same(outcome, folder, reference):
    expected, where = reference
    assert not outcome.interrupted
    assert stubs.lines(folder) == stubs.lines(where)
    assert_equal_bits(outcome.policies, expected.policies)


def assert_equal_bits(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    ones, others = snapshot.to_arrays(one), snapshot.to_arrays(other)
    for name, value in ones.items():
        assert value.dtype == others[name].dtype, name
        assert value.shape == others[name].shape, name
        assert value.tobytes() == others[name].tobytes(), name


def written_and_read(folder: Path, arrays):
    writer = checkpoint_files.Writer(folder, keep=1)
    writer.start(1, arrays, {"written_by": provenance.describe()})
    writer.finish()
    writer.close()
    path = checkpoint_files.step_path(folder, 1)
    return checkpoint_files.read(path, checkpoint_files.read_manifest(path))


def test_a_whole_state_comes_back_bit_for_bit(job, program, tmp_path):
    state = program.initialise(job.keys, job.hypers)
    state, _ = program.epoch(state, job.hypers, jnp.int32(0))
    types = {str(leaf.dtype) for leaf in jax.tree.leaves(state)}
    assert {"key<fry>", "int32", "float32"} < types  # and what bfloat16 tangents are kept in
    assert state.windows is not None
    arrays = snapshot.to_arrays(state)
    assert not np.shares_memory(arrays["clocks"], np.asarray(state.clocks))
    kept = {name: value.tobytes() for name, value in arrays.items()}
    found = written_and_read(tmp_path, arrays)
    back = program.place(snapshot.from_arrays(jobs.template(job), found, program.width))
    assert_equal_bits(back, state)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        assert (one.dtype, one.sharding) == (other.dtype, other.sharding)
    # The epoch that follows is given the state's memory: the snapshot has its own.
    onward, metrics = program.epoch(state, job.hypers, jnp.int32(1))
    same, again = program.epoch(back, job.hypers, jnp.int32(1))
    assert_equal_bits(onward, same)
    assert_equal_bits(metrics, again)
    assert {name: value.tobytes() for name, value in arrays.items()} == kept
    assert sum(value.nbytes for value in arrays.values()) == size_of(onward)


def test_mujoco_data_comes_back_bit_for_bit(tmp_path):
    mjx = pytest.importorskip("mujoco.mjx")
    environment = envs.make("reacher")

    def start(key):
        return environment.reset(key), mjx.make_data(environment.mujoco_model, impl="jax")

    make, keys = jax.vmap(start), jax.random.split(jax.random.key(0), 3)
    states = jax.jit(make)(keys)
    arrays = written_and_read(tmp_path, snapshot.to_arrays(states))
    assert len(arrays) > 50
    assert any(not value.size for value in arrays.values())
    assert_equal_bits(snapshot.from_arrays(jax.eval_shape(make, keys), arrays), states)


def test_empty_arrays_and_partial_reads(tmp_path):
    arrays = {
        "a/b": np.zeros((3, 0), np.float32),
        "a": np.array(2.5),
        "odd name.": np.array([np.nan, -0.0], np.float16),
        "tangents": np.linspace(-1, 1, 7).astype(jnp.bfloat16),
        "flags": np.array([[True, False]]),
    }
    found = written_and_read(tmp_path, arrays)
    path = checkpoint_files.step_path(tmp_path, 1)
    manifest = checkpoint_files.read_manifest(path)
    assert {name: value.tobytes() for name, value in found.items()} == {
        name: value.tobytes() for name, value in arrays.items()
    }
    assert found["a/b"].shape == (3, 0)
    assert set(checkpoint_files.read(path, manifest, ["a"])) == {"a"}
    with pytest.raises(CheckpointError, match="holds no b"):
        checkpoint_files.read(path, manifest, ["b"])


def test_checkpoints_change_nothing(job, program, reference, tmp_path):
    progress = stubs.Interrupting()
    outcome = train_runs(job, tmp_path, progress, EVERY, program)
    assert_same(outcome, tmp_path, reference)
    assert outcome.checkpoints["saved"] == EPOCHS - 1  # the last epoch leaves the policies
    note, learned = progress.notes
    assert learned.startswith(f"epoch 1/{EPOCHS} learned · 64 steps · value loss plain ")
    assert learned.endswith(" · evaluating")
    size = size_of(program.initialise(job.keys, job.hypers)) / 2**20
    assert f"takes up to {size:,.1f} MiB; the last 2 are kept" in note
    assert progress.warnings == outcome.warnings == []
    # Nothing needs them any more.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "policy"]
    # What is complete is not computed again.
    again = train_runs(job, tmp_path, Silent(), EVERY)
    assert_same(again, tmp_path, reference)
    assert again.history.seconds == outcome.history.seconds
    assert again.compile_seconds == 0


@pytest.mark.parametrize("after", [1, 3])
def test_a_stopped_run_ends_as_if_it_never_stopped(after, job, program, reference, tmp_path):
    before = stop(job, program, tmp_path, after)
    rows = stubs.read_lines(tmp_path / "metrics.jsonl")
    assert {row["epoch"] for row in rows} == set(range(after))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "ar')  # as kill -9 leaves it
    progress = stubs.Interrupting()
    outcome = train_runs(job, tmp_path, progress, EVERY, program)
    assert_same(outcome, tmp_path, reference)
    assert outcome.resumed_from == (after - 1 or None)
    if after == 1:
        assert "holds no checkpoint: training begins at the start" in progress.warnings[0]
        assert "kept as metrics_before_1.jsonl" in progress.warnings[0]
        kept = (tmp_path / "metrics_before_1.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in kept[:-1]] == rows
        assert kept[-1] == '{"epoch": 3, "ar'
        return
    assert progress.notes[0] == f"goes on after epoch 2, from {tmp_path}/checkpoints/epoch_000002"
    assert outcome.history.seconds[:2] == before.history.seconds[:2]  # time goes on, too
    assert outcome.history.seconds == sorted(outcome.history.seconds)
    assert stubs.read_lines(tmp_path / "metrics.jsonl")[: len(rows) - 4] == rows[:-4]


def test_a_run_may_be_stopped_again_and_again(job, program, reference, tmp_path):
    for after in (2, 3):
        stop(job, program, tmp_path, after)
    assert_same(train_runs(job, tmp_path, Silent(), EVERY, program), tmp_path, reference)


def manifest_of(path: Path) -> Path:
    return path / "default" / "manifest.json"


def arrays_of(path: Path) -> Path:
    return path / "default" / "arrays.npz"


def corrupt(path: Path) -> None:
    """Changes a bit of the largest array, in its middle."""
    with zipfile.ZipFile(arrays_of(path)) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    data = bytearray(arrays_of(path).read_bytes())
    data[largest.header_offset + largest.file_size // 2] ^= 1
    arrays_of(path).write_bytes(data)


def edit(path: Path, **values) -> None:
    manifest = json.loads(manifest_of(path).read_text())
    manifest_of(path).write_text(json.dumps(manifest | values))


def truncate(path: Path) -> None:
    arrays_of(path).write_bytes(arrays_of(path).read_bytes()[:100])


def edit_entries(path: Path, **values) -> None:
    entries = json.loads(manifest_of(path).read_text())["arrays"]
    edit(path, arrays=[entries[0] | values, *entries[1:]])


BAD = {
    "a bit": (corrupt, "is damaged: arrays.npz cannot be read at state/.*CRC-32"),
    "a checksum": (
        lambda path: edit_entries(path, crc32=0),
        "is damaged: arrays.npz cannot be read at state/.*not what the manifest says",
    ),
    "the end": (truncate, "is damaged: arrays.npz cannot be read"),
    "a file": (
        lambda path: arrays_of(path).unlink(),
        "arrays.npz cannot be read at .*No such file",
    ),
    "an array list": (lambda path: edit(path, arrays=None), "is damaged: manifest.json"),
    "an entry": (lambda path: edit_entries(path, shape=None), "is damaged: manifest.json"),
    "the manifest": (lambda path: manifest_of(path).unlink(), "it has no manifest.json"),
    "half a manifest": (
        lambda path: manifest_of(path).write_text('{"format": 1,'),
        "manifest.json cannot be read",
    ),
    "no manifest": (lambda path: manifest_of(path).write_text("[]"), "cannot be read"),
    "an older format": (lambda path: edit(path, format=0), "has an older format, 0 .*sobolax 0.1"),
    "a newer format": (lambda path: edit(path, format=9), "has another format, 9"),
    "another experiment": (
        lambda path: edit(path, fingerprint={"seeds": 7}),
        "belongs to another experiment .*seeds: 7 -> 2",
    ),
    "nobody's": (lambda path: edit(path, fingerprint=None), "belongs to another experiment"),
    "another state": (
        lambda path: edit_entries(path, shape=[9, 9]),
        r"another program: agent.* is float32 \(9, 9\) there",
    ),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_checkpoint_is_named_and_passed_over(how, job, stopped):
    damage, what = BAD[how]
    path = stopped / "checkpoints" / "epoch_000002"
    damage(path)
    like = snapshot.describe(jobs.template(job))
    found, problems = checkpoint_files.newest(path.parent, jobs.fingerprint(job), like)
    assert found is not None
    assert (found.path, found.epochs) == (path.with_name("epoch_000001"), 1)
    assert list(problems) == [path]
    assert str(path) in str(problems[path])
    assert re.search(what, str(problems[path])), problems[path]


def test_a_bad_checkpoint_is_set_aside_and_the_last_good_one_taken(
    job, program, reference, stopped
):
    path = stopped / "checkpoints" / "epoch_000002"
    corrupt(path)
    progress = stubs.Interrupting()
    outcome = train_runs(job, stopped, progress, EVERY, program)
    assert outcome.resumed_from == 1
    [warning] = outcome.warnings
    assert progress.warnings == [warning]
    assert f"{path} is damaged" in warning
    assert "set aside as epoch_000002.unusable" in warning
    assert_same(outcome, stopped, reference)
    # What could not be read is the user's to remove.
    assert names(stopped) == ["epoch_000002.unusable"]


@pytest.mark.parametrize("how", ["a bit", "another experiment"])
def test_without_a_good_checkpoint_nothing_is_touched(how, job, stopped, monkeypatch):
    for name in names(stopped):
        BAD[how][0](stopped / "checkpoints" / name)
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    monkeypatch.setattr("experiments.launch.runner.compile_program", None)  # fails if it is called
    with pytest.raises(CheckpointError, match="no checkpoint can be resumed from") as raised:
        train_runs(job, stopped, Silent(), EVERY)
    for name in names(stopped):
        assert str(stopped / "checkpoints" / name) in str(raised.value)
    assert "Train anew into another folder, or remove" in str(raised.value)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_what_was_cut_off_while_it_was_written_is_named_and_removed(
    job, program, reference, stopped
):
    folder = stopped / "checkpoints"
    (folder / "epoch_000002").rename(folder / "epoch_000003.orbax-checkpoint-tmp")
    outcome = train_runs(job, stopped, Silent(), EVERY, program)
    assert outcome.resumed_from == 1
    [warning] = outcome.warnings
    partial = folder / "epoch_000003.orbax-checkpoint-tmp"
    assert warning == f"{partial} was being written when the run ended; it is removed"
    assert_same(outcome, stopped, reference)


def test_a_field_that_a_newer_version_brought_is_no_difference(job, program, stopped):
    path = stopped / "checkpoints" / "epoch_000002"
    owner = json.loads(manifest_of(path).read_text())["fingerprint"]
    del owner["identity"]["config"]["n_step"]
    edit(path, fingerprint=owner)
    outcome = train_runs(job, stopped, Silent(), EVERY, program)
    assert (outcome.resumed_from, outcome.warnings) == (2, [])


def test_another_jax_or_device_is_told(job, program, stopped):
    path = stopped / "checkpoints" / "epoch_000002"
    writer = json.loads(manifest_of(path).read_text())["written_by"]
    edit(path, written_by=writer | {"versions": writer["versions"] | {"jax": "0.1"}})
    outcome = train_runs(job, stopped, Silent(), EVERY, program)
    assert outcome.resumed_from == 2
    [warning] = outcome.warnings
    assert f"jax 0.1 -> {jax.__version__}" in warning
    assert "the last bits may differ" in warning


def test_a_full_disk_stops_nothing_but_the_checkpoint(
    job, program, reference, tmp_path, monkeypatch
):
    original, tries = checkpoint_files.write_arrays, []

    def full(path, arrays):
        tries.append(path)
        path.write_text("a part of it")
        if len(tries) <= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, arrays)

    monkeypatch.setattr(checkpoint_files, "write_arrays", full)
    progress = stubs.Interrupting()
    outcome = train_runs(job, tmp_path, progress, EVERY, program)
    assert_same(outcome, tmp_path, reference)
    assert len(tries) == EPOCHS  # every one is tried, and the policies
    assert outcome.checkpoints["saved"] == 1
    assert outcome.checkpoints["failed"] == 2
    assert len(progress.warnings) == 2
    assert progress.warnings == outcome.warnings
    for epoch, warning in enumerate(outcome.warnings, 1):
        assert f"the checkpoint after epoch {epoch} failed: the disk is full;" in warning
    assert not list(tmp_path.rglob("*-tmp"))


def test_metrics_that_a_full_disk_refused_are_written_later(
    job, program, reference, tmp_path, monkeypatch
):
    original, tries = run_folder.append_lines, []

    def full(path, rows):
        tries.append(path)
        if len(tries) == 2:
            with path.open("a") as file:
                file.write('{"epoch": 1')
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, rows)

    monkeypatch.setattr(run_folder, "append_lines", full)
    outcome = train_runs(job, tmp_path, Silent(), None, program)
    assert_same(outcome, tmp_path, reference)
    [warning] = outcome.warnings
    assert "metrics.jsonl could not be written" in warning


@pytest.mark.parametrize("fails", [False, True])
def test_the_last_good_checkpoint_stays_until_a_newer_one_is_whole(
    fails, job, program, tmp_path, monkeypatch
):
    original, seen = checkpoint_files.write_arrays, []

    def write(path, arrays):
        seen.append([name for name in names(tmp_path) if not name.endswith("-tmp")])
        if fails and len(seen) == 2:
            raise OSError(errno.EIO, "Input/output error")
        original(path, arrays)

    monkeypatch.setattr(checkpoint_files, "write_arrays", write)
    stop(job, program, tmp_path, after=3, rule=CheckpointRule(seconds=0, keep=1))
    assert seen[:2] == [[], ["epoch_000001"]]
    assert names(tmp_path) == ["epoch_000001" if fails else "epoch_000002"]


def test_parameters_that_are_not_finite_make_no_checkpoint(job, program, tmp_path, monkeypatch):
    def poisoned(state, hypers, index, learned=None):
        state, metrics = program.epoch(state, hypers, index, learned)
        if index != 1:
            return state, metrics
        critic = jax.tree.map(lambda leaf: leaf, state.agent)
        leaves, structure = jax.tree.flatten(critic)
        place = next(i for i, leaf in enumerate(leaves) if leaf.dtype == jnp.float32)
        leaves[place] = leaves[place].at[2].set(jnp.nan)
        return replace(state, agent=jax.tree.unflatten(structure, leaves)), metrics

    sick = replace(program, epoch=poisoned)
    outcome = train_runs(job, tmp_path, stubs.Interrupting(3), EVERY, sick)
    assert names(tmp_path) == ["epoch_000001"]
    [warning] = outcome.warnings
    assert "parameters are not finite: those of sobolev, seed 0" in warning


def test_a_folder_has_one_process_at_a_time(job, program, tmp_path):
    with (
        run_folder.locked(tmp_path),
        pytest.raises(run_folder.FolderInUseError, match="another process trains in"),
    ):
        train_runs(job, tmp_path, Silent(), EVERY, program)


def test_the_automatic_rule_bounds_its_own_cost(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: clock[0])

    original, begun = checkpoint_files.write_arrays, threading.Event()

    def take():
        clock[0] += 1.0
        return {"a": np.zeros(1)}

    def write(path, arrays):
        assert begun.wait(60)
        clock[0] += 3.0
        original(path, arrays)

    def save(made, count):
        begun.clear()
        made.save(count, take)
        begun.set()
        made.wait()

    def due_from(made, first):
        for now, due in ((first - 0.5, False), (first + 0.5, True)):
            clock[0] = now
            assert made.due() is due

    monkeypatch.setattr(checkpoint_files, "write_arrays", write)
    made = Checkpoints(tmp_path, {}, CheckpointRule())
    clock[0] = 10.0
    made.open(size=190_000_000)  # thought to take 2 s
    due_from(made, 10 + 10 * 2)  # the first
    for count in range(1, 5):  # each takes 4 s
        save(made, count)
        spent = 4 * count
        assert spent <= 0.021 * (clock[0] - 10) or count == 1  # the first has a tenth
        due_from(made, 10 + 50 * (spent + 4))
    assert (made.blocking_seconds, made.background_seconds) == (4.0, 12.0)
    # After a resume one is taken at once: a run that is killed often gets on, too.
    resumed = Checkpoints(tmp_path, {}, CheckpointRule())
    monkeypatch.setattr(checkpoints, "newest", lambda *_: (object(), {}))
    resumed.restore({})
    resumed.open(size=190_000_000)
    assert resumed.due()
    save(resumed, 9)
    assert not resumed.due()


def test_a_rule_by_hand(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: clock[0])
    (tmp_path / "checkpoints").mkdir()
    made = Checkpoints(tmp_path, {}, CheckpointRule(seconds=10.0))
    made.open(size=1)
    assert made.due()
    made.save(2, lambda: {"a": np.zeros(1)})
    made.wait()
    for now, due in ((9.0, False), (10.0, True)):
        clock[0] = now
        assert made.due() is due
    assert not Checkpoints(tmp_path, {}, None).due()


def test_members_that_fill_up_devices_are_left_out(job, program):
    state = program.initialise(job.keys, job.hypers)
    arrays = snapshot.to_arrays(state, 3)
    assert {len(value) for value in arrays.values()} == {3}
    back = snapshot.from_arrays(jobs.template(job), arrays, 4)
    whole = snapshot.to_arrays(back)
    for name, value in snapshot.to_arrays(state).items():
        assert whole[name][:3].tobytes() == value[:3].tobytes()
        assert whole[name][3].tobytes() == value[2].tobytes()


@pytest.mark.parametrize("terminal", [False, True])
def test_notes_and_warnings_stay_in_sight(terminal):
    out = io.StringIO()
    progress = console_progress(Console(file=out, width=100, force_terminal=terminal))
    progress.note("a checkpoint takes up to 3 MiB")
    progress.warn("the disk is full")
    progress.close()
    assert "a checkpoint takes up to 3 MiB\n" in out.getvalue()
    assert "WARNING: the disk is full" in out.getvalue()


def test_wrong_and_dropped_gradients_are_warned_of_once(job, program, tmp_path):
    wrong = {"tangent_disagreement": jnp.full(4, 0.5), "gradients_dropped": jnp.full(4, 0.9)}

    def epoch(*arguments):
        state, metrics = program.epoch(*arguments)
        return state, metrics | wrong

    progress = stubs.Interrupting()
    outcome = train_runs(job, tmp_path, progress, None, replace(program, epoch=epoch))
    assert len(outcome.history.epochs) == EPOCHS
    assert progress.warnings == outcome.warnings
    off, dropped = progress.warnings
    assert "environment 'point_mass': tangents are off by 50 %" in off
    assert "environment 'point_mass': 90 % of all gradients were dropped" in dropped


def test_a_sample_of_tangents_is_checked_once_beside_the_training(job, program, tmp_path):
    seen = []

    def check(state, hyper, key):
        seen.append(state.replay)
        return {"tangent_disagreement": hyper.state_weight / 2}  # 1 / 2 where gradients are used

    checked = replace(job, training=replace(job.training, check=check))
    progress = stubs.Interrupting()
    train_runs(checked, tmp_path, progress, None, program, check=True)
    [warning] = progress.warnings
    assert "environment 'point_mass': tangents are off by 50 %" in warning
    assert seen == [None]  # traced once, without the buffer


def test_a_check_that_fails_costs_no_training(job, program, tmp_path):
    def check(state, hyper, key):
        raise RuntimeError("no memory")

    checked = replace(job, training=replace(job.training, check=check))
    outcome = train_runs(checked, tmp_path, stubs.Interrupting(), None, program, check=True)
    assert len(outcome.history.epochs) == EPOCHS
    [warning] = outcome.warnings
    assert "could not be checked: RuntimeError: no memory" in warning
    assert any((tmp_path / "policy").iterdir())


def test_gradients_that_no_run_uses_are_not_judged(job, program, tmp_path):
    wrong = {"tangent_disagreement": jnp.array([0.5, 0.5, 0.0, 0.0])}  # of the plain variant

    def epoch(*arguments):
        state, metrics = program.epoch(*arguments)
        return state, metrics | wrong

    assert not train_runs(job, tmp_path, Silent(), None, replace(program, epoch=epoch)).warnings
