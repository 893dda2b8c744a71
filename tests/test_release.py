"""What is handed out: the wheel in an empty environment, the changelog, the citation."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import sobolax
from tests.markdown import ROOT, blocks, read

PROGRAMS = Path(sys.executable).parent
SIMULATORS = ("mujoco", "mujoco_mjx", "brax", "gymnasium", "gymnax", "envs", "experiments")


def call(*command, folder: Path, allowed: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=900
    )
    assert done.returncode in allowed, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    call(PROGRAMS / "uv", "build", "--wheel", "--out-dir", folder, ROOT, folder=folder)
    [found] = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel) -> Path:
    """Python of an empty environment into which nothing but the wheel was installed."""
    folder = wheel.parent / "environment"
    call(PROGRAMS / "uv", "venv", "--python", sys.executable, folder, folder=wheel.parent)
    program = folder / "bin/python"
    call(PROGRAMS / "uv", "pip", "install", "--python", program, wheel, folder=wheel.parent)
    return program


@pytest.mark.slow
def test_the_wheel_holds_the_library_alone_and_its_types(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {
        "sobolax",
        f"sobolax-{sobolax.__version__}.dist-info",
    }
    assert "sobolax/py.typed" in names
    shipped = {name for name in names if name.endswith(".py")}
    assert shipped == {str(path.relative_to(ROOT)) for path in (ROOT / "sobolax").rglob("*.py")}


@pytest.mark.slow
def test_the_loss_runs_where_there_is_no_simulator(python, wheel):
    [block] = [text for text in blocks("python", read("README.md")) if "sobolev_td_loss" in text]
    source = f"""
import importlib.util
found = [name for name in {SIMULATORS!r} if importlib.util.find_spec(name)]
assert not found, found
{block}
assert gradient.shape == (3,) and bool(jnp.isfinite(gradient).all()) and bool(gradient.any())
import sobolax
assert "site-packages" in sobolax.__file__, sobolax.__file__
for name in set(sobolax.__all__) - {{"mjx"}}:
    getattr(sobolax, name)
sobolax.make_training(env, sobolax.agents.sac.Config()).run
try:
    import sobolax.mjx
except ModuleNotFoundError as error:
    print(error)
"""
    # Isolated: neither this folder nor the checkout is on the path.
    assert "mujoco" in call(python, "-I", "-c", source, folder=wheel.parent)


@pytest.mark.slow
def test_nobody_waits_for_what_is_not_asked_for(python, wheel):
    source = """
import sys, sobolax
assert "jax" not in sys.modules
import sobolax.losses, sobolax.tangents.forward, sobolax.weighting, sobolax.tangents.sources
print(sorted({"flax", "optax"} & set(sys.modules)))
"""
    assert call(python, "-I", "-c", source, folder=wheel.parent) == "[]\n"


@pytest.mark.slow
def test_a_type_checker_sees_the_types(python, wheel):
    right = (
        "from sobolax.losses import Weights\nweights: Weights = Weights(state=1.0, action=1.0)\n"
    )
    wrong = right + "Weights(states=1.0, action=1.0)\nnumber: int = weights\n"
    for name, text, status, problems in (("right", right, 0, 0), ("wrong", wrong, 1, 3)):
        path = wheel.parent / f"{name}.py"
        path.write_text(text)
        command = (PROGRAMS / "pyright", "--pythonpath", python, path)
        output = call(*command, folder=wheel.parent, allowed=(status,))
        assert output.count(" - error: ") == problems, output


def test_one_version():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    citation = yaml.safe_load(read("CITATION.cff"))
    assert project["version"] == citation["version"] == sobolax.__version__
    assert project["license"] == citation["license"]


def test_the_citation_names_the_paper():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "title", "message", "authors"} <= citation.keys()  # what it must have
    [paper] = citation["references"]
    [number] = [one["value"].removeprefix("arXiv:") for one in paper["identifiers"]]
    assert paper["url"] == f"https://arxiv.org/abs/{number}"
    assert number in read("README.md")


def test_the_changelog_begins_with_what_is_not_released():
    headings = re.findall(r"^## (.*)$", read("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == f"{sobolax.__version__}, unreleased"
    kinds = set(re.findall(r"^### (.*)$", read("CHANGELOG.md"), re.MULTILINE))
    usual = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert kinds <= usual | {"Known limits"}


@pytest.mark.slow
def test_the_wheel_brings_the_command_sobolax(python, wheel):
    said = call(python.parent / "sobolax", folder=wheel.parent)
    assert f"sobolax {sobolax.__version__}, jax " in said
    assert "no mujoco, no mujoco-mjx" in said
    assert re.search(r"^ok +Sobolev loss", said, re.MULTILINE)
    assert "contact Jacobian" not in said
