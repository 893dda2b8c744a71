"""What cannot be printed stops nothing: encodings, closed pipes, full devices, narrow terminals."""

import errno
import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from experiments import train
from experiments.launch import exit_status, output
from experiments.launch.run_folder import read_results
from experiments.report import run_table
from tests.experiments import stubs
from tests.markdown import ROOT


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "koi8-r"])
def test_every_text_has_a_form_in_every_encoding(encoding):
    text = "λ 1 · ∇s Q – ≥ é ╭─╮ \ud83d 🚀"
    output.plain(text, encoding).encode(encoding)
    assert output.plain("plain", encoding) == "plain"
    assert output.plain(text, "ascii") == "L 1 * ds Q - >= e +-+ ? ?"


class Failing(io.StringIO):
    """Takes some lines, and then no more."""

    def __init__(self, number, lines):
        super().__init__()
        self.number, self.left = number, lines

    def write(self, text):
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


@pytest.mark.parametrize(
    ("number", "status"), [(errno.EPIPE, 0), (errno.ENOSPC, 1), (errno.EIO, 1)]
)
def test_a_run_outlasts_its_output(number, status, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    monkeypatch.setattr(train, "compile_program", stubs.compile_nothing)
    monkeypatch.setattr(sys, "stdout", Failing(number, lines=3))
    assert train.main([*stubs.TINY, "--output", str(tmp_path / "run")]) == status
    assert read_results(tmp_path / "run")["epochs"] == stubs.EPOCHS
    assert (
        len(stubs.read_lines(tmp_path / "run" / "metrics.jsonl")) == stubs.EPOCHS * 2 * stubs.SEEDS
    )
    err = capsys.readouterr().err
    assert ("not everything could be printed" in err) == bool(status)
    assert err.count("\n") == status


def test_help_outlasts_its_reader(monkeypatch):
    for number, status in ((errno.EPIPE, 0), (errno.ENOSPC, 1)):
        monkeypatch.setattr(sys, "stdout", Failing(number, lines=0))
        with pytest.raises(SystemExit) as stopped:
            train.main(["--help"])
        assert (stopped.value.code or 0) == status


def test_a_stream_that_was_closed_before_is_none(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert train.main(["--env", "nothing"]) == 2
    assert sys.stdout is None


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "Interrupted."),
        (OSError(errno.ENOSPC, "No space left on device", "x.json"), 1, "No space left on device"),
        (MemoryError(), 1, "too little memory"),
    ],
)
def test_what_comes_from_outside_is_one_line(error, status, line, capsys):
    @exit_status.command
    def main():
        raise error

    assert main() == status
    printed = capsys.readouterr()
    assert line in printed.err
    assert printed.err.count("\n") == 1


def test_what_a_terminal_would_obey_is_not_printed(capsys):
    exit_status.bad_input(ValueError("a\x1b[2Jb\nc\x07"))
    assert capsys.readouterr().err == "error: a?[2Jb c?\n"


def test_a_narrow_terminal_shows_a_list(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    monkeypatch.setattr(train, "compile_program", stubs.compile_nothing)
    results = train.run(train.command_line.parse([*stubs.TINY, "--output", str(tmp_path / "run")]))
    for width, table in ((40, False), (20, False), (100, True)):
        file = io.StringIO()
        console = Console(file=file, width=width, force_terminal=True, no_color=True)
        run_table.show(results, "point_mass", console)
        text = file.getvalue()
        assert "…" not in text
        assert ("━" in text) == table
        assert "Sobolev SAC" in text
        if not table:
            assert "  return [95 %]: 4.50" in text or width < 30


def test_importing_prints_leaves_and_starts_nothing(tmp_path):
    """Nor does making an environment print: the half-cheetah's file uses what MuJoCo warns of."""
    names = ("train", "sweep.__main__", "evaluate", "render", "report.viewer")
    code = f"""
import {", ".join(f"experiments.{name}" for name in names)}, experiments.studies.toy.__main__
import envs.mujoco.chain, jax, sys
from jax._src import xla_bridge
assert jax.config.jax_compilation_cache_dir is None
assert not xla_bridge._backends
print("imported", file=sys.stderr)
envs.make("chain", joints=2), envs.make("half_cheetah")
"""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    importing, _, making = done.stderr.partition("imported\n")
    assert importing == ""
    assert "settotalmass" not in making
    assert not list(tmp_path.iterdir())
