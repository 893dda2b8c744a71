"""Folders of runs that start in the same second."""

import datetime
import json
from types import SimpleNamespace

import pytest

from experiments import train
from experiments.launch import command_line, run_folder
from experiments.launch.progress import Silent
from tests.experiments import stubs


@pytest.fixture(autouse=True)
def one_second(tmp_path, monkeypatch):
    """Nothing is compiled, and time stands still."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    monkeypatch.setattr(train, "compile_program", stubs.compile_nothing)
    now = datetime.datetime(2026, 11, 23, 2, 15, 0)
    clock = SimpleNamespace(datetime=SimpleNamespace(now=lambda: now))
    monkeypatch.setattr(run_folder, "datetime", clock)


def test_runs_of_the_same_second_get_a_folder_each(tmp_path):
    prepared = [train.prepare(command_line.parse([*stubs.TINY, "--seed", seed])) for seed in "01"]
    for one in prepared:
        train.execute(one, Silent())
    name = "20261123-021500-point_mass-sac-plain-sobolev"
    for seed, folder in enumerate((name, f"{name}-2")):
        run = tmp_path / "runs" / folder
        configuration = json.loads((run / run_folder.CONFIGURATION).read_text())
        assert configuration["experiment"]["seed"] == seed
        assert (run / run_folder.RESULTS).exists()


def test_a_run_says_which_folder_it_got(monkeypatch, capsys):
    prepare = train.prepare

    def prepare_beside_another(*arguments):
        prepared = prepare(*arguments)
        prepared.folder.mkdir(parents=True)
        return prepared

    monkeypatch.setattr(train, "prepare", prepare_beside_another)
    assert train.main(stubs.TINY) == 0
    printed = "".join(capsys.readouterr().out.split("\n"))
    assert "Everything is in runs/20261123-021500-point_mass-sac-plain-sobolev-2" in printed


def test_a_folder_that_the_system_refuses_is_one_line(tmp_path, capsys):
    (tmp_path / "runs").symlink_to("nothing")
    assert train.main(stubs.TINY) == 2
    assert "-sobolev cannot be made: " in capsys.readouterr().err
