"""Actors that see a part of what their critics see."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.elsewhere import check_view
from envs.history import history
from experiments.export import numpy_policy
from experiments.export.__main__ import describe, export
from sobolax.agents import ddpg, q_learning, sac, shac, td3
from sobolax.cart import Cart
from sobolax.environment import actor_observations
from sobolax.tangents.forward import forward_tangents
from sobolax.training import normalization
from sobolax.training.state import Policy

SIZES = {"hidden_sizes": (8,), "num_envs": 8, "epochs": 1}
SEEN = normalization.update(normalization.init(2), jnp.array([[1.0, 0.0], [3.0, 5.0]]))


class Hidden(Cart):
    """Its policy sees the speed alone, its critics the position too."""

    actor_observations = (1,)


class Speed(Cart):
    """Nobody sees its position."""

    observation_size = 1


@pytest.mark.parametrize(
    "module", [sac, td3, pytest.param(ddpg, marks=pytest.mark.slow), shac]
)  # DDPG is TD3 with another configuration
def test_the_policy_and_its_gradient_ignore_the_hidden_part_and_the_critic_does_not(module):
    config, hyper = module.Config(**SIZES), module.Hyperparameters()
    agent, small = config.make_agent(Hidden()), config.make_agent(Speed())
    whole, key = jnp.array([1.5, -0.5]), jax.random.key(0)
    seen_small = normalization.Normalizer(SEEN.count, SEEN.mean[1:], SEEN.sum_of_squares[1:])

    @jax.jit
    def measure():
        state, narrow = agent.init(key, hyper), small.init(key, hyper)

        def act(observation):
            return agent.act(state, SEEN, observation)

        def sample(observation):
            action, bonus = agent.sample(state, SEEN, observation, jnp.ones(1))
            return jnp.append(action, bonus)

        def value(observation, action):
            return agent.value(state, SEEN, observation, action)

        action = act(whole)
        return {
            "actors": (state.actor, narrow.actor),
            "acts": (action, small.act(narrow, seen_small, whole[1:])),
            "explores": (
                agent.explore(state, SEEN, whole, key, hyper),
                small.explore(narrow, seen_small, whole[1:], key, hyper),
            ),
            "by_act": jax.jacobian(act)(whole),
            "by_sample": jax.jacobian(sample)(whole),
            "partial": jax.grad(value)(whole, action),
            "by_action": jax.grad(value, argnums=1)(whole, action),
            "total": jax.grad(lambda o: value(o, act(o)))(whole),
            "policy": Policy(state, SEEN),
        }

    found = jax.device_get(measure())
    # It is the actor of an environment that shows no more, to the last bit.
    for one, other in zip(*map(jax.tree.leaves, found["actors"]), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("acts", "explores"):
        np.testing.assert_allclose(*found[name], rtol=1e-6)
    assert not np.any(found["by_act"][:, 0])
    assert not np.any(found["by_sample"][:, 0])
    assert np.all(np.abs(found["by_act"][:, 1]) > 1e-3)
    # dV/do of V(o) = Q(o, pi(o)): the critic's own part everywhere, the policy's where it sees.
    through = found["by_action"] @ found["by_act"]
    np.testing.assert_allclose(found["total"], found["partial"] + through, rtol=1e-4, atol=1e-6)
    assert abs(found["partial"][0]) > 1e-4
    assert found["total"][0] == pytest.approx(found["partial"][0], rel=1e-5)


@pytest.mark.parametrize("name", ["onnx", "numpy"])
def test_an_exported_policy_takes_what_the_actor_sees(name, tmp_path):
    if name == "onnx":
        pytest.importorskip("onnxruntime")
    environment, config = history(Hidden(), 2), td3.Config(**SIZES)
    agent, seen = config.make_agent(environment), normalization.init(4)
    seen = normalization.update(seen, jnp.array([[1.0, 0.0, 2.0, -1.0], [3.0, 5.0, 4.0, 4.0]]))
    state = jax.jit(agent.init)(jax.random.key(0), td3.Hyperparameters())
    training = SimpleNamespace(act=lambda policy, o: agent.act(policy.agent, policy.normalizer, o))
    found: Any = SimpleNamespace(
        environment=environment,
        experiment=SimpleNamespace(env="hidden", agent="td3", config=config),
        job=SimpleNamespace(training=training, seeds=1, variants=[SimpleNamespace(name="sobolev")]),
        policies=jax.tree.map(lambda leaf: leaf[None], Policy(state, seen)),
        epochs=1,
    )
    path = tmp_path / "policy"
    assert export(found, 0, name, path) <= 2e-6  # float32 sums in another order
    about = describe(found, 0)
    assert about["observation_size"] == about["history"] == 2
    assert about["actor_observations"] == [1, 3]
    if name == "numpy":
        assert numpy_policy.load(path)(np.ones(2)).shape == (1,)


def test_the_gradient_of_the_target_in_numbers():
    """Q = 2 x + 3 v + 5 a and a policy of the speed, -v/2, through a step of the cart by hand."""

    def policy(observation):
        return -observation[jnp.array(Hidden.actor_observations)] / 2

    delta = td3.make_td_error(
        critic=lambda o, a: 0.0 * o[0],
        target_critic=lambda o, a: 2 * o[0] + 3 * o[1] + 5 * a[0],
        policy=policy,
        discount=0.5,
    )
    where = Cart().at(1.0, 0.0), jnp.ones(1)
    transition, _, tangents = forward_tangents(Hidden(), *where, jnp.eye(2), jnp.eye(1))
    by_next = jax.grad(delta)(transition).next_observation
    # -gamma (2, 3 - 5/2): the policy's part comes through the speed alone.
    np.testing.assert_allclose(by_next, [-1.0, -0.25])
    along = by_next @ tangents.state.next_observation - tangents.state.reward
    # o' = (x + v/2 + a/4, v + a/2) and r = -x'^2 at x' = 1.25: dr = (-2.5, -1.25).
    np.testing.assert_allclose(along, [-1.0 + 2.5, -0.5 - 0.25 + 1.25])


def test_a_history_hides_the_same_part_of_every_observation():
    assert history(Hidden(), 3).actor_observations == (1, 3, 5)
    assert history(Cart(), 3).actor_observations is None


def test_agents_whose_policy_would_see_all_are_refused():
    with pytest.raises(ValueError, match=r"'cart' hides a part.*choose sac, td3, ddpg or shac"):
        q_learning.Config(**SIZES).check(Hidden())
    with pytest.raises(ValueError, match=r"'cart' hides a part .* would see all of it"):
        check_view(Hidden())


@pytest.mark.parametrize("given", [(), (2,), (-1,), (0, 0), (0.5,), 1, "01"])
def test_indices_that_are_none_are_one_clear_error(given):
    cart = Cart()
    cart.actor_observations = given  # pyright: ignore
    with pytest.raises(ValueError, match=r"'cart': actor_observations is .* indices from 0 to 1"):
        actor_observations(cart)
    with pytest.raises(ValueError, match="actor_observations"):
        sac.Config().check(cart)


@pytest.mark.parametrize("module", [sac, td3, ddpg, shac])
def test_indices_are_checked_without_an_environment_too(module):
    """JAX reads the nearest number in the place of one that there is not."""
    options = {"config": shac.Config()} if module is shac else {}
    agent = module.make_agent(2, 1, **options, actor_inputs=(0, 2))
    with pytest.raises(ValueError, match=r"inputs is \(0, 2\), .* indices from 0 to 1"):
        jax.eval_shape(agent.init, jax.random.key(0), module.Hyperparameters())
