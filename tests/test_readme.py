"""What the README says works: its Python blocks run, its commands parse, its links lead on."""

import contextlib
import functools
import re
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import envs
import sobolax
from experiments.launch import command_line
from experiments.launch.sweep import definition, flags
from tests.markdown import ROOT, anchors, blocks, read, run

README = read("README.md")
SMALL = {
    "total_timesteps": 16,
    "num_envs": 2,
    "epochs": 1,
    "gradient_steps": 1,
    "learning_starts": 4,
    "batch_size": 4,
    "replay_capacity": 16,
    "hidden_sizes": (4,),
    "evaluation_episodes": 2,
    "report_states": 0,
}


def block_with(phrase: str) -> str:
    [found] = [block for block in blocks("python", README) if phrase in block]
    return found


@pytest.fixture
def small(monkeypatch):
    """Small sizes, and a cheap task in the place of `hopper`; nothing else differs."""
    make = envs.make
    monkeypatch.setattr(
        sobolax.agents.sac, "Config", functools.partial(sobolax.agents.sac.Config, **SMALL)
    )
    monkeypatch.setattr(
        envs, "make", lambda name, **rest: make("pendulum" if name == "hopper" else name, **rest)
    )


def test_the_lines_that_train_are_traced(small):
    """The very lines, but for what compiles; their numbers are for the slow tests."""
    block = block_with("make_training")
    assert block.count("jax.jit(") == 4
    traced = {"traced": lambda function: functools.partial(jax.eval_shape, function)}
    names = run(block.replace("jax.jit(", "traced("), traced)
    assert names["action"].shape == (1,)
    assert names["metrics"]["evaluation_return"].shape == (8, 1)
    assert jax.tree.structure(names["states"]) == jax.tree.structure(names["state"])


@pytest.mark.slow
def test_the_lines_that_train_run(small):
    names = run(block_with("make_training"))
    assert jnp.isfinite(names["metrics"]["evaluation_return"]).all()
    assert names["metrics"]["evaluation_return"].shape == (8, 1)
    assert (names["metrics"]["updates"] == 6).all()
    assert (jnp.abs(names["action"]) <= 1).all()
    assert jax.tree.structure(names["states"]) == jax.tree.structure(names["state"])


@pytest.mark.slow
def test_the_lines_that_train_run_on_hopper():
    # In a process of its own, as a reader would run it.
    sizes = SMALL | {"report_states": 2, "report_horizon": 2, "report_draws": 1}
    source = f"import functools, sobolax.agents.sac\nSMALL = {sizes!r}\n"
    source += "sobolax.agents.sac.Config = functools.partial(sobolax.agents.sac.Config, **SMALL)\n"
    source += block_with("make_training")
    source += "assert metrics['evaluation_return'].shape == (8, 1)\n"
    subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=True, timeout=1800)


def test_the_loss_alone_runs():
    names = run(block_with("sobolev_td_loss"))
    assert names["gradient"].shape == (3,)
    assert jnp.isfinite(names["gradient"]).all()
    assert jnp.any(names["gradient"] != 0)


def test_the_step_that_differentiates_is_traced(capsys):
    """The very lines, but for `jax.jit`; its numbers are for the slow tests."""
    block = block_with("step_and_jacobian")
    assert block.count("jax.jit(") == 2
    traced = {"traced": lambda function: functools.partial(jax.eval_shape, function)}
    names = run(block.replace("jax.jit(", "traced("), traced)
    assert names["jacobian"].state.shape == (12, 12)
    assert "(12, 12)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_step_that_differentiates_runs():
    names = run(block_with("step_and_jacobian"))
    jacobian, gradient = names["jacobian"].state, names["height"](names["data"].qvel)
    assert jacobian.shape == (12, 12)
    # The new height by the old speeds, in reverse mode and from the whole Jacobian, in float32.
    assert jnp.allclose(gradient, jacobian[2, 6:], rtol=1e-4, atol=1e-7)
    assert gradient[2] > 0


OWN = read("docs/reference/environments.md")


def test_an_environment_of_ones_own_keeps_the_protocol_and_trains(monkeypatch):
    """The very lines of docs/reference/environments.md, at small sizes."""
    definition, use, _ = blocks("python", OWN)
    assert len(definition.splitlines()) <= 32  # 30 and two blank lines
    sizes = functools.partial(sobolax.agents.sac.Config, **SMALL)
    monkeypatch.setattr(sobolax.agents.sac, "Config", lambda total_timesteps: sizes())
    names = run(definition + use)
    assert jnp.isfinite(names["metrics"]["evaluation_return"]).all()
    assert names["metrics"]["updates"] == 6


def test_the_lines_for_other_peoples_agents_make_environments():
    names = run("import envs\n" + blocks("python", OWN)[2])
    assert names["vector"].observation_space.shape == (16, 3)
    assert names["single"].action_space.shape == (1,)
    assert names["brax"].observation_size == 3


def test_every_python_block_is_run_by_a_test():
    phrases = ("make_training", "sobolev_td_loss", "step_and_jacobian")
    assert set(blocks("python", README)) == {block_with(phrase) for phrase in phrases}


def commands(program: str) -> list[str]:
    lines = [line for block in blocks("sh", README) for line in block.splitlines()]
    return [line for line in lines if line.startswith(program)]


@pytest.mark.parametrize("line", commands("python -m experiments.train"))
def test_commands_are_understood(line, capsys):
    words = shlex.split(line, comments=True)[3:]
    with pytest.raises(SystemExit, match="0") if "--help" in words else contextlib.nullcontext():
        experiment = command_line.parse(words)
        assert experiment.env in envs.names()
        experiment.config.check(envs.make(experiment.env, **experiment.env_args))


@pytest.mark.parametrize("line", commands("python -m experiments.sweep"))
def test_sweeps_are_understood(line, monkeypatch):
    # What fits into this machine's memory is traced at length, and no question here.
    monkeypatch.setattr(definition, "check_fits", lambda *_: None)
    assert len(definition.prepare(flags.read(shlex.split(line)[3:])).sweep.configs) > 1


def test_commands_are_found():
    assert len(commands("python -m experiments.train")) > 1
    targets = {line.split()[1] for line in commands("make ")}
    assert {"train", "test"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = ((ROOT / page).parent / path) if path else ROOT / page
        assert linked.exists(), f"{page} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{page} links to {target}"


def test_every_environment_is_named():
    assert all(f"`{name}`" in README for name in envs.names())
