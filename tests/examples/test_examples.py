"""The Sobolev loss inside agents that are not ours: how much it adds, and what it leaves alone."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.comparison import BEGIN, END, show, without_sobolev
from experiments.bench.peers import installation

_ROOT = Path(__file__).parents[2]
_EXAMPLES = sorted(
    path.stem
    for path in (_ROOT / "examples").glob("*.py")
    if path.stem != "comparison" and BEGIN in path.read_text()
)
_PEERS = {"rejax_sac": "rejax", "sbx_sac": "sbx"}

_TOY = f"""
import numpy as np
def train(seed, state_weight, action_weight, rounds):
    parameters = np.full((rounds, 2), 1.0 + seed)
    {BEGIN}
    parameters = parameters + LINE
    {END}
    return np.arange(1, rounds + 1), parameters[:, 0], parameters
"""


def test_all_examples_are_here():
    assert len(_EXAMPLES) == 6


@pytest.mark.parametrize("name", _EXAMPLES)
def test_at_most_25_lines_differ_and_the_rest_is_a_plain_agent(name):
    source = (_ROOT / "examples" / f"{name}.py").read_text()
    plain, lines = without_sobolev(source)
    assert 0 < lines <= 25
    compile(plain, name, "exec")
    ours = "sobolev_terms", "batch_loss", "Weights", "from sobolax"
    assert all(word in source for word in ours)
    assert not any(word in plain for word in ours)


@pytest.mark.parametrize("text", [BEGIN, END, f"{BEGIN}\n{BEGIN}\n{END}"])
def test_marks_without_a_partner_are_named(text):
    with pytest.raises(ValueError, match="no partner"):
        without_sobolev(text)


def test_lambda_zero_is_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example = tmp_path / "toy.py"
    example.write_text(_TOY.replace("LINE", "state_weight"))
    show(example, "toy", weight=1.0, seeds=2, rounds=2)
    out = capsys.readouterr().out
    assert out.splitlines()[3].split() == ["1", "1.5", "2.5"]
    assert "lines that differ: 1\n" in out
    example.write_text(_TOY.replace("LINE", "state_weight + 1e-3"))
    with pytest.raises(SystemExit, match="λ = 0 changes the host agent"):
        show(example, "toy", rounds=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", _EXAMPLES)
def test_an_example_runs_and_leaves_its_host_unchanged_at_zero(name, tmp_path):
    python = sys.executable
    if name in _PEERS:
        try:
            installation.install(_PEERS[name])
        except installation.PeerUnavailable as error:
            pytest.skip(str(error))
        python = str(installation.FOLDER / _PEERS[name] / "bin" / "python")
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(
        [python, "-m", f"examples.{name}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    table = [row for row in rows if len(row) == 3 and row[0].isdigit()]  # steps, plain, Sobolev
    assert len(table) >= 4
    assert all(math.isfinite(float(cell)) for row in table for cell in row)
    assert any(row[1] != row[2] for row in table)  # with gradients it is another agent
