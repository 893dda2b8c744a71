"""Sweeps that share a folder, or are put together from several processes: nothing is compiled."""

import json
import shutil
from pathlib import Path

import pytest

from experiments.launch import provenance, run_folder
from experiments.launch.sweep import local, merging, shards
from experiments.launch.sweep.definition import read
from experiments.sweep.__main__ import main
from tests.experiments import stubs

VARIED = [*stubs.TINY, "--state-weight", "0.1", "1"]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_compiled(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        unused = tmp_path_factory.mktemp("unused")
        patched.setenv("JAX_COMPILATION_CACHE_DIR", str(unused))
        patched.setattr(provenance, "_commit", lambda: None)
        patched.setattr(shards, "compile_program", stubs.compile_nothing)
        yield


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A complete sweep."""
    folder = tmp_path_factory.mktemp("complete") / "sweep"
    assert main([*VARIED, "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def folder(complete, tmp_path):
    return Path(shutil.copytree(complete, tmp_path / "sweep"))


def results(folder):
    return json.loads((folder / run_folder.RESULTS).read_text())


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def begin_another_before(module, name, flags, monkeypatch):
    """A sweep starts and ends just before a function is called."""
    original = getattr(module, name)

    def late(*arguments, **options):
        monkeypatch.setattr(module, name, original)
        assert main(flags) == 0
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, late)


@pytest.mark.parametrize(
    "seam", [(merging, "collect"), (local, "_train"), (shards, "plan"), (shards, "train_all")]
)
def test_a_sweep_takes_no_numbers_of_another_that_took_its_folder(
    seam, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "sweep"
    first = [*stubs.TINY, "--state-weight", "0.1", "1", "--output", str(folder)]
    second = [*stubs.TINY, "--state-weight", "0.1", "5", "--output", str(folder), "--seed", "1"]
    begin_another_before(*seam, first, monkeypatch)
    assert main(second) == 2
    printed = capsys.readouterr().err
    assert "another sweep (there -> here): experiment.seed: 0 -> 1" in printed
    assert list(results(folder)["variants"]) == ["state_weight=0.1", "state_weight=1"]
    assert read(folder).experiment.seed == 0


def test_the_same_sweep_started_twice_trains_once(tmp_path, monkeypatch):
    flags = [*VARIED, "--output", str(tmp_path / "sweep")]
    begin_another_before(shards, "train_all", flags, monkeypatch)
    measured = []
    train = shards.train_runs
    monkeypatch.setattr(shards, "train_runs", lambda *given: measured.append(1) or train(*given))
    assert main(flags) == 0
    assert len(measured) == 1


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("experiment", {"seed": 7}, "measured.json is of another sweep (there -> here): experi"),
        ("runs", [4, 8], "(there -> here): runs: [4, 8] -> [0, 4]"),
    ],
)
def test_measurements_of_other_runs_are_refused(part, value, message, folder, capsys):
    path = folder / "shards" / "000" / shards.MEASURED
    edit(path, lambda measured: measured["fingerprint"].update({part: value}))
    (folder / run_folder.RESULTS).unlink()
    assert main(["--resume", str(folder)]) == 2
    assert message in capsys.readouterr().err


def test_a_sweep_of_an_older_version_goes_on(folder):
    path = folder / "shards" / "000" / shards.MEASURED
    edit(path, lambda measured: [measured.pop(name) for name in ("fingerprint", "written_by")])
    (folder / run_folder.RESULTS).unlink()
    assert main(["--resume", str(folder)]) == 0
    assert results(folder)["warnings"] == []


def test_another_division_into_shards_is_refused(folder):
    with pytest.raises(ValueError, match="into other shards: continue it with --resume"):
        shards.begin(folder, read(folder), {"shards": [[0, 2], [2, 4]]})


def test_shards_of_several_versions_are_one_warning(tmp_path, capsys):
    folder = tmp_path / "parts"
    flags = [*VARIED, "--output", str(folder)]
    for part in "123":
        assert main([*flags, "--part", f"{part}/3"]) == 0
        path = folder / f"part-000{part}-of-0003" / "shards" / "000" / shards.MEASURED
        if part != "3":
            edit(path, lambda found: found["written_by"]["versions"].update(jax="0.1"))
    [warning] = results(folder)["warnings"]
    assert "different versions, devices or commits (jax 0.1 -> " in warning
    assert warning.count("jax") == 1
    assert warning in "".join(capsys.readouterr().out.split("\n"))


@pytest.mark.parametrize("flag", ["--resume", "--merge"])
def test_another_environment_than_the_folder_s_is_refused(flag, folder, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([flag, str(folder), "--env", "lqr"]) == 2
    assert "is a sweep of point_mass, but --env says lqr" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert main([flag, str(folder), "--env", "point_mass"]) == 0
