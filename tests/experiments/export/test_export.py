"""Exported policies compute what the policies do."""

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.export import __main__ as export
from experiments.export import numpy_policy
from experiments.export.files import FORMATS
from experiments.export.network import read_network
from sobolax.agents import ddpg, sac, shac, td3
from sobolax.agents.networks import ACTIVATIONS
from sobolax.cart import Cart
from sobolax.training import normalization
from sobolax.training.state import Policy

# float32 sums in another order, two layers of eight: some 1e-7.
TOLERANCE = 2e-6
OBSERVATIONS = np.random.default_rng(0).normal(2.0, 3.0, (16, 2)).astype(np.float32)
SIZES = {"hidden_sizes": (8, 8), "epochs": 1, "num_envs": 8}


@pytest.fixture(scope="module")
def trained():
    """`(agent, activation) -> (policy, actions of OBSERVATIONS)`, with statistics that matter."""

    def make(module, activation):
        config = module.Config(activation=activation, **SIZES)
        agent = config.make_agent(Cart())
        hyper = module.Hyperparameters()
        seen = normalization.update(normalization.init(2), jnp.asarray(OBSERVATIONS * [1.0, 5.0]))

        @jax.jit
        def build(key):
            state = agent.init(key, hyper)
            # Biases begin at zero: a file that lost them would pass.
            moved = jax.tree.map(lambda leaf: leaf + 0.1, state.actor)
            policy = Policy(dataclasses.replace(state, actor=moved), seen)
            act = jax.vmap(lambda observation: agent.act(policy.agent, seen, observation))
            return policy, act(OBSERVATIONS)

        return build(jax.random.key(0))

    return make


@pytest.mark.parametrize(
    ("agent", "module", "activation"),
    [
        *(("sac", sac, name) for name in ACTIVATIONS),
        ("td3", td3, "swish"),
        ("ddpg", ddpg, "tanh"),
        ("shac", shac, "swish"),
    ],
)
def test_both_formats_compute_the_policy(agent, module, activation, trained, tmp_path):
    policy, expected = trained(module, activation)
    network = read_network(policy, agent, activation, 1)
    for name, (write, ending) in FORMATS.items():
        compute = write(tmp_path / f"policy{ending}", network, {"environment": "cart"})
        found = compute(OBSERVATIONS)
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, err_msg=name)
        assert np.ptp(expected) > 0.01


def test_files_name_the_run(trained, tmp_path):
    policy, _ = trained(sac, "swish")
    config = sac.Config(activation="swish", **SIZES)
    agent = config.make_agent(Cart())
    variants = [SimpleNamespace(name="plain"), SimpleNamespace(name="sobolev")]

    def act(policy, observation):
        return agent.act(policy.agent, policy.normalizer, observation)

    found: Any = SimpleNamespace(
        environment=Cart(),
        experiment=SimpleNamespace(env="cart", agent="sac", config=config),
        job=SimpleNamespace(training=SimpleNamespace(act=act), variants=variants, seeds=3),
        policies=jax.tree.map(lambda leaf: np.stack([leaf] * 6), policy),
        epochs=7,
    )
    path = tmp_path / "policy.npz"
    assert export.export(found, 4, "numpy", path) < TOLERANCE
    with np.load(path) as file:
        about = json.loads(str(file["about"]))
    assert (about["variant"], about["seed"], about["epochs"]) == ("sobolev", 1, 7)


def test_files_say_what_they_are_and_run_nothing(trained, tmp_path):
    policy, expected = trained(sac, "swish")
    network = read_network(policy, "sac", "swish", 1)
    FORMATS["numpy"][0](tmp_path / "policy.npz", network, {"environment": "cart"})
    with np.load(tmp_path / "policy.npz", allow_pickle=False) as file:
        assert json.loads(str(file["about"])) == {"environment": "cart"}
    # One observation, without a leading axis.
    one = numpy_policy.load(tmp_path / "policy.npz")(OBSERVATIONS[3])
    np.testing.assert_allclose(one, expected[3], atol=TOLERANCE)

    # A path of another ending is the user's own.
    FORMATS["numpy"][0](tmp_path / "policy.bin", network, {"environment": "cart"})
    assert (tmp_path / "policy.bin").exists()

    onnx = pytest.importorskip("onnx")
    FORMATS["onnx"][0](tmp_path / "policy.onnx", network, {"environment": "cart"})
    model = onnx.load(tmp_path / "policy.onnx")
    assert {entry.key: entry.value for entry in model.metadata_props} == {"environment": "cart"}
    assert [entry.name for entry in model.graph.input] == ["observation"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "nowhere holds no configuration.json: name the folder of a run"),
        (["run"], "holds no configuration.json: name the folder of a run"),
        (["run", "--format", "tflite"], "'tflite'"),
        (["run", "--format", "numpy"], "run holds no configuration.json"),
        (["run", "--format", "numpy", "--output", "x.onnx"], "and --format numpy writes .npz"),
        (["run", "--output", "x.NPZ"], "x.NPZ ends as a file of --format numpy does"),
        (["run", "--output", "x.bin"], "run holds no configuration.json"),
    ],
)
def test_bad_input(flags, message, assert_refused, tmp_path):
    (tmp_path / "run").mkdir()
    assert_refused(export.main, flags, message)


def test_a_file_that_exists_is_kept(assert_refused, tmp_path, monkeypatch):
    (tmp_path / "kept.onnx").write_text("kept")
    run = SimpleNamespace(experiment=SimpleNamespace(agent="sac"))
    monkeypatch.setattr(export, "load_run", lambda *_: run)
    words = ["run", "--output", "kept.onnx"]
    assert_refused(export.main, words, "kept.onnx exists: name a new file with --output")


def test_what_is_missing_is_named(assert_refused, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    assert_refused(export.main, ["run"], "needs onnx and onnxruntime: install the extra 'export'")


def test_a_search_over_actions_is_no_network():
    with pytest.raises(ValueError, match="a policy of q_learning cannot be exported"):
        read_network(None, "q_learning", "swish", 1)
