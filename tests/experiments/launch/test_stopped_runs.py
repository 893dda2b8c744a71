"""What a run that was stopped knows when it goes on: its warnings, its source, who froze."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from experiments import train
from experiments.launch import provenance, run_folder
from experiments.launch.policy import load_run
from experiments.launch.progress import Silent
from tests.experiments import stubs

EPOCHS = 5
LONGER = {"96": str(32 * EPOCHS), "3": str(EPOCHS)}
TINY = [*(LONGER.get(word, word) for word in stubs.TINY), "--no-compare"]
FROZEN_AFTER = 2  # epochs, of the second seed


def compile_nothing(*arguments):
    """As the stub does, but a seed freezes."""
    program = stubs.compile_nothing(*arguments)

    def epoch(state, hypers, index, learned=None):
        state, metrics = program.epoch(state, hypers, index, learned)
        return state, metrics | {"frozen": np.array([0.0, float(index >= FROZEN_AFTER)])}

    return dataclasses.replace(program, epoch=epoch)


class Stopping(Silent):
    """Ctrl-C in an epoch; when training begins, `look` is called."""

    def __init__(self, after=None, look=lambda: None):
        self.after, self.look, self.warnings = after, look, []

    def phase(self, name):
        if name == "training":
            self.look()

    def warn(self, text):
        self.warnings.append(text)

    def epoch(self, history, epochs):
        if len(history.epochs) == self.after:
            raise KeyboardInterrupt


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Trains or resumes the run in `tmp_path / "run"`; returns what it warned of."""
    run = tmp_path / "run"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    monkeypatch.setattr(train, "compile_program", compile_nothing)
    monkeypatch.setattr(provenance, "_commit", lambda: None)

    def go(after=None, **options):
        progress = Stopping(after, **options)
        monkeypatch.setattr(train, "console_progress", lambda console: progress)
        flags = ["--resume", str(run)] if run.exists() else [*TINY, "--output", str(run)]
        assert train.main(flags) == (0 if after is None else 130)
        return progress.warnings

    return go


@pytest.fixture
def run(command, tmp_path):
    """A run that was stopped in its second epoch."""
    assert command(after=2) == []
    return tmp_path / "run"


def edit_manifests(run, change):
    for path in run.glob("checkpoints/*/default/manifest.json"):
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))


def results(run):
    return json.loads((run / run_folder.RESULTS).read_text())


def of_another_jax(manifest):
    manifest["written_by"]["versions"]["jax"] = "0.1"


@pytest.mark.parametrize("killed", [False, True])
def test_warnings_outlast_every_resume(killed, command, run):
    edit_manifests(run, of_another_jax)
    [warning] = command(after=4)
    assert "jax 0.1 -> " in warning
    if killed:
        shutil.rmtree(run / run_folder.POLICY)
        (run / run_folder.RESULTS).unlink()
    assert command() == []
    assert results(run)["warnings"] == [warning]


def test_a_warning_after_the_last_checkpoint_outlasts_a_resume(command, run):
    run_folder.replace_json(run / run_folder.RESULTS, results(run) | {"warnings": ["disk full"]})
    command()
    assert results(run)["warnings"] == ["disk full"]


def test_a_run_of_a_version_that_kept_no_warnings_goes_on(command, run):
    edit_manifests(run, lambda manifest: manifest.pop("warnings"))
    assert command() == []


def test_an_edit_that_was_never_committed_is_a_warning(command, run, monkeypatch):
    before = provenance.describe()["source_digest"]
    monkeypatch.setattr(provenance, "source", lambda: "another source")
    [warning] = command()
    assert f"by another version or device (source {before} -> another sour)" in warning
    assert results(run)["warnings"] == [warning]


def test_a_run_of_a_version_that_kept_no_source_goes_on(command, run):
    edit_manifests(run, lambda manifest: manifest["written_by"].pop("source_digest"))
    assert command() == []


def test_frozen_seeds_are_known_while_a_stopped_run_resumes(command, tmp_path):
    run, seen = tmp_path / "run", []
    command(after=3)
    assert load_run(run).frozen.tolist() == [[False, True]]
    command(look=lambda: seen.append(load_run(run)))
    [found] = seen
    assert found.epochs == 3
    assert found.frozen.tolist() == [[False, True]]


def test_the_source_is_what_lies_there_but_for_an_editor_s_files(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_ROOTS", (tmp_path,))
    (tmp_path / "physics.py").write_text("gravity = 9.81")
    digest = provenance.source.__wrapped__
    first = digest()
    (tmp_path / ".physics.py.swp").write_text("an editor is open")
    assert digest() == first
    (tmp_path / "physics.py").write_text("gravity = 1.62")
    assert digest() != first
