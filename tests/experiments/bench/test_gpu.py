"""The GPU benchmark as a whole: parts that work, fail or take too long. Sizes are a rehearsal's."""

import json

import numpy as np
import pytest

from experiments.bench.gpu import __main__ as gpu
from experiments.bench.gpu import physics, reference, wheels
from experiments.bench.gpu.parts import PARTS, Part


def program(text):
    return lambda folder, tiny: [
        "-c",
        f"import pathlib, time; p = pathlib.Path({str(folder)!r}); {text}",
    ]


@pytest.fixture
def made_up(monkeypatch):
    parts = {
        "good": Part("leaves a file", 1.0, 0.0, program("p.mkdir(); (p / 'a').touch()")),
        "bad": Part("fails", 1.0, 0.0, program("print('why'); raise SystemExit(3)")),
        "slow": Part("sleeps", 0.01, 0.0, program("print('begun', flush=True); time.sleep(99)")),
        "long": Part("needs an hour", 60.0, 60.0, program("1 / 0")),
        "last": Part("comes after them", 1.0, 0.0, program("p.mkdir()")),
    }
    monkeypatch.setattr(gpu, "PARTS", parts)
    return list(parts)


def run(tmp_path, *flags):
    folder = tmp_path / "out"
    status = gpu.main(["--output", str(folder), *flags])
    return status, folder


def test_a_part_that_fails_or_takes_too_long_costs_the_others_nothing(made_up, tmp_path):
    status, folder = run(tmp_path, "--parts", *made_up)
    found = json.loads((folder / "results.json").read_text())["parts"]
    outcomes = {part["part"]: part["outcome"] for part in found}
    assert status == 1
    assert outcomes == {
        "good": "done",
        "bad": "failed",
        "slow": "cut off",
        "long": "no time left",
        "last": "done",
    }
    assert (folder / "good" / "a").exists()
    assert "why" in (folder / "bad.log").read_text()
    assert "begun" in (folder / "slow.log").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--parts", "physic"), "did you mean 'physics'"),
        (("--minutes", "0"), "--minutes 0.0 must be above 0"),
    ],
)
def test_what_cannot_work_is_one_line(flags, words, tmp_path, capsys):
    status, folder = run(tmp_path, *flags)
    assert status == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not folder.exists()


def test_commands_of_parts_are_python_s_and_write_into_their_folder(tmp_path):
    for part in PARTS.values():
        for tiny in (True, False):
            arguments = part.arguments(tmp_path, tiny)
            assert arguments[0] == "-m"
            assert arguments[-2:] == ["--output", str(tmp_path)]
        assert part.least < part.minutes


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--envs", "point_mass"), "is no MuJoCo environment"),
        (("--batches", "0"), "--batches 0 must be at least 1"),
    ],
)
def test_physics_refuses_what_it_cannot_measure(flags, words, capsys):
    assert physics.main(flags) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_errors_are_relative_to_the_largest_number_of_a_state():
    found = {"control": np.zeros((2, 1))}
    for name in ("velocities", "state", "control"):
        found[f"{name}_64"] = np.array([[1.0, -4.0], [2.0, 0.0]])
        found[f"{name}_here"] = np.array([[1.0, -3.0], [2.5, 0.0]])
    assert {name: error.tolist() for name, error in reference.errors(found, "here").items()} == {
        name: [0.25, 0.25] for name in ("velocities", "state", "control")
    }


def test_wheels_are_those_of_the_lock(tmp_path):
    lock = tmp_path / "lock"
    lock.write_text("mujoco==9.1 \\\n    --hash=sha256:00==\ntyro==1.2 ; python_version > '3'\n")
    assert wheels.locked(("mujoco", "tyro", "unheard-of"), lock) == ["mujoco==9.1", "tyro==1.2"]
    assert {"mujoco", "mujoco-mjx", "tyro"} <= {one.split("==")[0] for one in wheels.locked()}
    with pytest.raises(ValueError, match="cannot be read"):
        wheels.locked(lock=tmp_path / "none")


@pytest.mark.slow
def test_the_rehearsal_goes_through_all_parts(tmp_path):
    status, folder = run(tmp_path, "--tiny", "--minutes", "20")
    found = json.loads((folder / "results.json").read_text())["parts"]
    assert [(part["part"], part["outcome"]) for part in found] == [(name, "done") for name in PARTS]
    assert status == 0
    titles = [
        t["title"] for t in json.loads((folder / "physics/results.json").read_text())["tables"]
    ]
    assert len(titles) == 3
