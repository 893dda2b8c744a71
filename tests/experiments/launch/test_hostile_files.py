"""A run's folder that somebody else made: one line, status 2, nothing removed, nothing executed."""

import ast
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from experiments import evaluate, render, train
from experiments.export import __main__ as export
from experiments.launch import checkpoint_files, provenance, run_folder
from experiments.launch.policy import load_policy
from experiments.launch.sweep import shards
from experiments.sweep.__main__ import main as sweep
from tests.experiments import stubs
from tests.markdown import ROOT

CHECKPOINT = "checkpoints/epoch_000001"
MANIFEST = f"{CHECKPOINT}/default/manifest.json"
CONFIGURATION = "configuration.json"


@pytest.fixture(autouse=True)
def nothing_is_compiled(one_commit, tmp_path, monkeypatch):
    # The cache of compiled programs is the process's: leave its place alone.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    monkeypatch.setattr(train, "compile_program", stubs.compile_nothing)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run that was killed in its second epoch."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JAX_COMPILATION_CACHE_DIR", str(folder.parent / "unused"))
        patched.setattr(train, "compile_program", stubs.compile_nothing)
        patched.setattr(train, "console_progress", lambda console: stubs.Interrupting(2))
        patched.setattr(provenance, "_commit", lambda: None)
        assert train.main([*stubs.TINY, "--output", str(folder)]) == 130
    shutil.rmtree(folder / "policy")
    (folder / "results.json").unlink()
    return folder


@pytest.fixture
def run(killed, tmp_path):
    return Path(shutil.copytree(killed, tmp_path / "run"))


def contents(folder):
    return {
        path: path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in folder.rglob("*")
    }


def refused(main, flags, folder, capsys):
    """What a command says that changes nothing."""
    before = contents(folder)
    capsys.readouterr()
    assert main([*map(str, flags)]) == 2
    assert contents(folder) == before
    found = capsys.readouterr()
    assert found.out in ("", "reading checkpoints ...\n")
    assert found.err.startswith("error: ")
    assert found.err.count("\n") == 1
    return found.err


def edit(path, *keys_and_value):
    *keys, last, value = keys_and_value
    values = part = json.loads(path.read_text())
    for key in keys:
        part = part[key]
    part[last] = value
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("text", ["5", "null", "[]", "{}", "", "{", "[" * 9999, "NaN", "\0"])
def test_a_file_of_another_shape(text, run, capsys):
    for name in (CONFIGURATION, MANIFEST, "results.json"):
        before = (run / name).read_text() if (run / name).exists() else None
        (run / name).write_text(text)
        if (name, text) != ("results.json", "{}"):
            said = refused(train.main, ["--resume", run], run, capsys)
            assert Path(name).name in said or "was not written by" in said
        if name != "results.json":
            assert refused(evaluate.main, [run], run, capsys)
        (run / name).unlink() if before is None else (run / name).write_text(before)


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (["seeds"], ["2", -1, None, True, 10**30, 10**9]),
        (["seed"], [-1, "0"]),
        (["env"], [5, "", "nosuch", "gymnax:Pendulum-v1", "gymnasium:Nope"]),
        (["env_args"], [None, {"dimension": "x"}]),
        (["config"], [None, {"batch_size": "16"}, {"nope": 1}, {"hidden_sizes": [[]]}]),
        (["config", "epochs"], [float("nan"), "3", 0]),
        (["config", "derivatives"], [5, {"method": 5}]),
        (["hyper"], [None, {"discount": "abc"}, {"discount": 7}, {"nope": 1.0}]),
        (["agent"], [5, "os"]),
        (["output"], ["/etc"]),
    ],
)
def test_a_configuration_with_other_values(keys, values, run, capsys):
    before = (run / CONFIGURATION).read_text()
    for value in values:
        edit(run / CONFIGURATION, "experiment", *keys, value)
        for main, flags in ((train.main, ["--resume", run]), (evaluate.main, [run])):
            assert refused(main, flags, run, capsys)
        (run / CONFIGURATION).write_text(before)


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (["fingerprint", "epochs"], [float("nan"), "abc", 99]),
        (["fingerprint"], [5, None]),
        (["written_by"], [5, {}]),
        (["written_by", "device"], [5, None]),
        (["written_by", "versions"], [{"sobolax": 5}]),
        (["format"], [float("inf"), "x", 9]),
        (["arrays"], [5, [5], [{}]]),
        (["arrays", 0, "shape"], [[10**15, 10**6], [-1], [1.5]]),
        (["arrays", 0, "dtype"], ["O", "nope", "float64"]),
        (["arrays", 0, "name"], ["../../x", 5]),
    ],
)
def test_a_manifest_with_other_values(keys, values, run, capsys):
    before = (run / MANIFEST).read_text()
    for value in values:
        edit(run / MANIFEST, *keys, value)
        assert CHECKPOINT in refused(train.main, ["--resume", run], run, capsys)
        (run / MANIFEST).write_text(before)


def test_a_checkpoint_is_of_as_many_epochs_as_it_measured(run, capsys):
    renamed = run / "checkpoints" / f"epoch_{stubs.EPOCHS:06}"
    (run / CHECKPOINT).rename(renamed)
    said = refused(train.main, ["--resume", run], run, capsys)
    assert "not that of 3 epochs" in said


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("results.json", "folder"),
        ("metrics.jsonl", "folder"),
        ("learning_curves.png", "folder"),
        ("policy", "file"),
        ("checkpoints/epoch_000003.orbax-checkpoint-tmp", "file"),
        ("checkpoints/epoch_000009", "file"),
        ("metrics.jsonl", "link"),
        ("results.json", "link"),
        ("policy", "link"),
        (CHECKPOINT, "link"),
    ],
)
def test_something_in_the_way_removes_nothing(name, kind, run, tmp_path, capsys):
    path, elsewhere = run / name, tmp_path / "elsewhere"
    if path.exists():
        path.rename(elsewhere) if path.is_dir() else path.unlink()
    elsewhere.mkdir(exist_ok=True)
    {
        "folder": lambda: path.mkdir(),
        "file": lambda: path.write_text("somebody's"),
        "link": lambda: path.symlink_to(elsewhere),
    }[kind]()
    said = refused(train.main, ["--resume", run], run, capsys)
    assert str(path) in said or name == "policy"
    assert f"is a {kind}" in said


def test_new_files_replace_old_ones_when_all_are_whole(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail():
        with run_folder.replacing(tmp_path) as beside:
            (beside / "a").write_text("half")
            raise OSError

    with pytest.raises(OSError, match=r"^$"):
        fail()
    assert (tmp_path / "a").read_text() == "old"
    with run_folder.replacing(tmp_path) as beside:
        (beside / "a").write_text("new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "new")]


def test_a_file_is_not_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "x.json").symlink_to("precious")
    (tmp_path / "x.json.partial").symlink_to("precious")
    run_folder.write_whole(tmp_path / "x.json", "new")
    assert (tmp_path / "precious").read_text() == "kept"
    assert (tmp_path / "x.json").read_text() == "new"


def test_a_file_alone_imports_and_calls_nothing(run, monkeypatch, capsys):
    monkeypatch.chdir(run)
    (run / "evil.py").write_text("open('was-run', 'w')\ndef make(**_): open('was-run', 'w')\n")
    for env, parameters in (
        ("evil:make", {}),
        ("run.evil:make", {}),
        ("os:system", {"command": "touch was-run"}),
        ("subprocess:Popen", {"args": ["touch", "was-run"]}),
    ):
        edit(run / CONFIGURATION, "experiment", "env", env)
        edit(run / CONFIGURATION, "experiment", "env_args", parameters)
        for main, flags in ((train.main, ["--resume", run]), (evaluate.main, [run])):
            assert f"name it as well, --env {env}" in refused(main, flags, run, capsys)
        with pytest.raises(ValueError, match="name it as well"):
            load_policy(run)
    assert not (run / "was-run").exists()
    assert "evil" not in sys.modules


def test_a_damaged_or_missing_file_says_what_to_do(run, capsys):
    (run / MANIFEST).write_text("")
    error = refused(evaluate.main, [run], run, capsys)
    assert "holds no policy that can be used" in error
    assert "train again into another folder" in error
    shutil.rmtree(run / "checkpoints")
    error = refused(evaluate.main, [run], run, capsys)
    assert "holds no policy/ yet, nor a checkpoint: an epoch has to be done first" in error
    (run / CONFIGURATION).write_text("{")
    assert "train again into another" in refused(evaluate.main, [run], run, capsys)
    (run / CONFIGURATION).unlink()
    error = refused(evaluate.main, [run], run, capsys)
    assert "name the folder of a run; if this is one, copy the file anew" in error


def test_another_environment_than_the_runs_is_refused(run, capsys):
    message = f"{run} was trained on point_mass, but --env says chain: leave it out"
    for main in (evaluate.main, render.main, export.main):
        assert message in refused(main, [run, "--env", "chain"], run, capsys)
    with pytest.raises(ValueError, match="was trained on point_mass"):
        load_policy(run, env="chain")
    load_policy(run, env="point_mass")


@pytest.mark.parametrize("how", ["object", "more than there is", "compressed"])
def test_an_array_takes_no_more_memory_than_its_file(how, tmp_path):
    path = tmp_path / "epoch_000001"
    (path / "default").mkdir(parents=True)
    value = np.arange(8.0)
    checkpoint_files.write(path / "default", {"a": value}, {"written_by": provenance.describe()})
    kind, shape = ("|O", (8,)) if how == "object" else ("<f8", (10**15,))
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(
        117
    ).encode()
    data = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header + b"\n" + value.tobytes()
    archive = path / "default" / "arrays.npz"
    compression = zipfile.ZIP_DEFLATED if how == "compressed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(archive, "w", compression) as file:
        file.writestr("a.npy", data)
    manifest = checkpoint_files.read_manifest(path)
    for stated in ([8], [10**15]):
        manifest["arrays"][0]["shape"] = stated
        with pytest.raises(checkpoint_files.CheckpointError, match="is damaged"):
            checkpoint_files.read(path, manifest)


def test_nothing_that_is_read_is_a_pickle():
    """Pickles run as code: no module of ours reads one, but where what it reads is code.

    Kept programs are machine code of this user's own cache, which refuses files of other users.
    """
    folders = (ROOT / name for name in ("sobolax", "envs", "experiments"))
    paths = {path for folder in folders for path in folder.rglob("*.py")}
    for path in paths - {ROOT / "experiments/launch/kept_programs.py"}:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            banned = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
            assert not banned & {name.partition(".")[0] for name in names}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                allowed = {word.arg: ast.unparse(word.value) for word in node.keywords}
                if ast.unparse(node.func) in ("np.load", "np.lib.format.read_array"):
                    assert allowed.get("allow_pickle") == "False", path


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A complete sweep, without its results."""
    folder = tmp_path_factory.mktemp("hostile") / "sweep"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JAX_COMPILATION_CACHE_DIR", str(folder.parent / "unused"))
        patched.setattr(provenance, "_commit", lambda: None)
        patched.setattr(shards, "compile_program", stubs.compile_nothing)
        flags = [*stubs.TINY, "--state-weight", "0.1", "1", "--output", str(folder)]
        assert sweep(flags) == 0
    (folder / "results.json").unlink()
    return folder


@pytest.mark.parametrize(
    ("name", "keys", "values"),
    [
        (CONFIGURATION, ["sweep"], [5, {}]),
        (CONFIGURATION, ["sweep", "axes"], [5, [{}], [{"name": 5, "values": [], "bounds": None}]]),
        (CONFIGURATION, ["sweep", "configs"], [[], [{}], [{"state_weight": "abc"}]]),
        (CONFIGURATION, ["sweep", "experiment", "env"], ["os:system"]),
        ("plan.json", ["width"], ["2", 0, None]),
        ("plan.json", ["shards"], [5, [], [[0, 99]], [[1, 4]], [["a", "b"]]]),
        ("shards/000/measured.json", ["metrics"], [5, {}, {"evaluation_return": [[1.0]]}]),
        ("shards/000/measured.json", ["seconds"], [5, [], ["x"]]),
    ],
)
def test_a_sweep_with_other_values(name, keys, values, swept, tmp_path, capsys):
    folder = Path(shutil.copytree(swept, tmp_path / "sweep"))
    before = (folder / name).read_text()
    for value in values:
        edit(folder / name, *keys, value)
        refused(sweep, ["--resume", folder], folder, capsys)
        (folder / name).write_text(before)
