"""What the guides say works: their Python runs, their figures are where they say."""

import functools
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import sobolax
from experiments import train
from experiments.launch import command_line
from experiments.launch.sweep import flags as sweep_flags
from experiments.launch.sweep.definition import prepare as prepare_sweep
from tests.markdown import ROOT, blocks, read, run

GUIDES = sorted(path.name for path in (ROOT / "docs/guides").glob("*.md"))


def test_every_guide_is_known_here():
    assert {"agent.md", "environment.md", "idea.md", "physics.md", "robot.md", "when.md"} <= set(
        GUIDES
    )
    assert not blocks("python", read("docs/guides/when.md"))


def test_the_loss_of_the_idea_is_what_it_says(capsys):
    [block] = blocks("python", read("docs/guides/idea.md"))
    names = run(block)
    assert names["loss"] == 2.5625**2 + 3.5**2 + 1.25**2 + 0.625**2
    printed = capsys.readouterr().out.split()
    assert " ".join(printed) in re.sub(r"\s+", " ", block.replace(", along", " along"))


def test_the_lines_for_an_agent_run():
    whole = "".join(blocks("python", read("docs/guides/agent.md")))
    names = run(whole)
    gradient = names["gradient"]
    assert jnp.any(gradient["out"] != 0)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    # "With Weights(0.0, 0.0) this is the plain loss."
    w = {**names["w"], "out": jnp.ones(32)}
    transitions, tangents = names["batch"]
    plain = jax.jit(names["plain_loss"])(w, w, transitions)
    losses = jax.jit(names["sobolev_loss"])
    none = sobolax.losses.Weights(0.0, 0.0)
    assert jnp.allclose(losses(w, w, transitions, tangents, none), plain, rtol=1e-6)
    assert losses(w, w, transitions, tangents, sobolax.losses.Weights(1.0, 1.0)) > plain
    assert float(names["weights"].state) == 1.0
    # Units and trust: the value's part stays, gradients are others.
    scaled, ones = names["scaled"], sobolax.losses.Weights(1.0, 1.0)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(scaled))
    assert not jnp.allclose(scaled["in"], gradient["in"], rtol=0.1)
    losses = jax.jit(names["scaled_loss"])
    deviation = names["deviation"]
    assert jnp.allclose(losses(w, w, *names["batch"], none, deviation), plain, rtol=1e-6)
    assert losses(w, w, *names["batch"], ones, deviation) > plain
    # The page's own test finds a stopped target.
    names["test_gradients_go_through_the_td_error"]()
    whole = names["td_error"]

    def stopped(w, target, t):
        fixed = jax.lax.stop_gradient(t)
        return whole(w, target, replace(fixed, observation=t.observation, action=t.action))

    names["td_error"] = stopped
    with pytest.raises(sobolax.testing.GradientsWarning, match="gradients of the target are"):
        names["test_gradients_go_through_the_td_error"]()


def test_the_lines_for_an_actor_through_the_simulator_run():
    [block] = blocks("python", read("docs/guides/first_order_agents.md"))
    assert run(block)["state"].clocks.shape == (64,)
    commands = "".join(blocks("sh", read("docs/guides/first_order_agents.md"))).splitlines()
    words = [line.split("#")[0].split()[3:] for line in commands]
    train_words, sweep_words, *step_words = words
    prepared = train.prepare(command_line.parse(train_words))
    assert prepared.experiment.config.horizon == 16
    assert len(prepare_sweep(sweep_flags.read(sweep_words)).sweep.configs) == 3
    experiments = [command_line.parse(words) for words in step_words]
    found = [(each.config.actor_gradient, each.config.first_order) for each in experiments]
    assert found == [("simulator", "off"), ("mixed", "cached")]


def test_the_lines_for_devices_are_traced():
    [block] = blocks("python", read("docs/guides/devices.md"))
    [command] = blocks("sh", read("docs/guides/devices.md"))
    given = command_line.read(command.split()[3:])
    assert (given.devices, given.experiment.seeds, given.experiment.compare) == (8, 1, False)
    assert all(count % 8 == 0 for count in given.experiment.config.parts.values())
    assert [block.count(text) for text in ("make_mesh(8)", "jax.jit(")] == [1, 2]
    # On the one device that there is, and but for what compiles.
    block = block.replace("make_mesh(8)", "make_mesh(1)").replace("jax.jit(", "traced(")
    names = run(
        block, {"traced": lambda function, **_: functools.partial(jax.eval_shape, function)}
    )
    assert names["state"].clocks.shape == (64,)
    assert names["metrics"]["evaluation_return"].shape == ()


def test_the_lines_for_a_sweep_in_python_are_traced():
    [block] = blocks("python", read("docs/guides/sweeps.md"))
    assert block.count("jax.jit(") == 1
    traced = {"traced": lambda function: functools.partial(jax.eval_shape, function)}
    names = run(block.replace("jax.jit(", "traced("), traced)
    assert names["returns"].shape == (3, sobolax.agents.sac.Config().epochs)
    # What the page says of the other way.
    several = sobolax.agents.sac.Hyperparameters(state_weight=jnp.array([0.0, 0.1, 1.0]))
    with pytest.raises(ValueError, match="vmap"):
        jax.vmap(lambda hyper: names["train"](names["key"], hyper))(several)


def test_the_lines_for_an_environment_run():
    block, stacks, hidden = blocks("python", read("docs/guides/environment.md"))
    names = run(block)
    assert names["config"].derivatives.method == "differences"
    names["config"].check(names["Cart"]())
    assert run(stacks)["stacked"].observation_size == run(stacks)["same"].observation_size == 12
    names["config"].check(run(hidden)["Blindfolded"]())


def test_the_lines_for_a_robot_are_a_robot(tmp_path, monkeypatch):
    block, _, _ = blocks("python", read("docs/guides/robot.md"))
    assert len([line for line in block.splitlines() if line.strip()]) <= 20
    (tmp_path / "my_robot.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    # The command's flags are those of the page; it says what it would run, and trains nothing here.
    command, _, _ = blocks("sh", read("docs/guides/robot.md"))
    words = command.splitlines()[-1].partition("experiments.train ")[2].split()
    experiment = command_line.parse(words)
    assert (experiment.config.gradient_units, experiment.config.trust) == (
        "observation_std",
        "soft",
    )
    robot, _ = train.check_experiment(experiment, None)
    assert (robot.name, robot.state_size, robot.action_size) == ("robot", 4, 2)
    tip = jax.jit(lambda qpos: robot.site(robot._physics(qpos, jnp.zeros(2)), "tip"))
    expected = jnp.array([-0.3, 0.0, 0.7])
    assert jnp.allclose(tip(jnp.array([0.0, jnp.pi / 2])), expected, atol=1e-5)


@pytest.fixture
def quadruped(tmp_path, monkeypatch):
    """The guide's quadruped, in a folder of its own with its model."""
    _, block, _ = blocks("python", read("docs/guides/robot.md"))
    assert len([line for line in block.splitlines() if line.strip()]) <= 30
    (tmp_path / "my_quadruped.py").write_text(block)
    shutil.copy(ROOT / "experiments/studies/robots/quadruped.xml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    _, command, _ = blocks("sh", read("docs/guides/robot.md"))
    words = command.partition("experiments.train ")[2].split()
    return train.check_experiment(command_line.parse(words), None)[0]


def test_the_lines_for_a_quadruped_are_one(quadruped):
    sizes = (quadruped.name, quadruped.state_size, quadruped.action_size)
    assert sizes == ("quadruped", 36, 12)
    assert quadruped.reverse_mode
    # The middle of every servo's range is a stance.
    stance = quadruped._control(jnp.zeros(12))
    assert jnp.allclose(stance, quadruped.mujoco_model.key_ctrl[0], atol=0.06)


@pytest.mark.slow
def test_the_quadruped_has_right_derivatives(quadruped):
    sobolax.testing.check_environment(type(quadruped))


@pytest.mark.slow
def test_the_lines_for_another_robot_in_every_episode_run():
    _, _, command = blocks("sh", read("docs/guides/robot.md"))
    words = shlex.split(command.partition("experiments.train ")[2])
    hopper, _ = train.check_experiment(command_line.parse(words), None)
    assert set(hopper.randomization.draw(jax.random.key(0))) == {"density:*", "geom_friction"}
    _, _, block = blocks("python", read("docs/guides/robot.md"))
    names = run(block)
    shapes = jax.eval_shape(names["by_factor"], names["state"].physics.factors)
    assert {name: leaf.shape for name, leaf in shapes.items()} == {
        "density": (6, 1),
        "geom_friction": (6, 1),
    }


@pytest.mark.slow
def test_the_lines_of_physics_do_what_their_comments_say(capsys):
    whole = "".join(blocks("python", read("docs/guides/physics.md")))
    # A filter's noise and a search's draws are those of its keys; 2 % is what versions may differ.
    run(whole)
    printed = [float(number) for number in re.findall(r"\d\.\d+", capsys.readouterr().out)]
    stated = re.findall(r"print.*#.*", whole)
    expected = [
        float(number) for line in stated for number in re.findall(r"\d\.\d+", line.split("#")[1])
    ]
    assert len(expected) == 6
    assert printed == pytest.approx(expected, rel=0.02, abs=1e-3)


def figures(text: str) -> list[str]:
    """Numbers that were measured: all but those of names and links; a plus sign says nothing."""
    text = re.sub(r"\]\([^)]*\)|`[^`]*`|n\^|Q\\?\*", " ", text)
    return re.findall(r"−?\d[\d,]*(?:\.\d+)?", text)


def with_tables(page: str) -> list[str]:
    """A page and the CSV files beside it that it links to."""
    text = read(f"docs/{page}")
    folder = (ROOT / "docs" / page).parent
    return [text, *((folder / name).read_text() for name in re.findall(r"\]\((\w+\.csv)\)", text))]


ITEMS = re.findall(r"^- (.*?)(?=^- |^#|^$)", read("docs/guides/when.md"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("item", ITEMS, ids=[item[2:30] for item in ITEMS])
def test_figures_stand_on_the_page_that_is_linked(item):
    pages = set(re.findall(r"\]\(\.\./([^)#]+)", item))
    there = [number for page in pages for text in with_tables(page) for number in figures(text)]
    found = figures(item)
    assert found
    assert not [number for number in found if number not in there], f"not in {pages}"


def modules_with_pages() -> set[str]:
    pages = (ROOT / "docs/reference").glob("*.md")
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    return set(re.findall(r"automodule:: sobolax\.([\w.]+)", text))


def test_every_public_module_has_an_api_page():
    roots = {module.split(".")[0] for module in modules_with_pages()}
    assert {*sobolax.__all__} - {"make_training"} <= roots
    assert "training.loop" in modules_with_pages()  # which has these two


@pytest.mark.slow
def test_pictures_are_drawn(tmp_path):
    command = [sys.executable, "docs/pictures.py", "--folder", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["idea_flow.png", "idea_slopes.png"]


@pytest.mark.slow
def test_the_documentation_builds_and_a_broken_link_is_an_error(tmp_path):
    source = tmp_path / "docs"
    source.mkdir()
    for path in (ROOT / "docs").rglob("*"):
        if path.is_file():
            copy = source / path.relative_to(ROOT / "docs")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    for page in ("README.md", "CHANGELOG.md"):
        (tmp_path / page).write_text(read(page))

    def build() -> subprocess.CompletedProcess:
        [line] = [line for line in read("Makefile").splitlines() if "sphinx-build" in line]
        options = [word for word in line.split() if word.startswith("-")]
        program = Path(sys.executable).parent / "sphinx-build"
        command = [program, *options, source, tmp_path / "site"]
        return subprocess.run(command, capture_output=True, text=True, timeout=900)

    built = build()
    assert built.returncode == 0, built.stderr
    losses = (tmp_path / "site/reference/losses.html").read_text(encoding="utf-8")
    assert "sobolev_td_loss" in losses
    with (source / "concepts/overview.md").open("a", encoding="utf-8") as page:
        page.write("\n[nowhere](../results/toy.md#no-such-heading)\n")
    broken = build()
    assert broken.returncode != 0
    assert "no-such-heading" in broken.stderr
