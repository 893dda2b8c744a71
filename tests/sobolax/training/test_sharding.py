"""A training over eight devices is that of one, to rounding."""

import pytest

from tests.forced_devices import run_on_eight_devices

COMMON = """
import math, re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh
import sobolax
from sobolax.agents import ddpg, q_learning, sac, shac, td3
from sobolax.cart import Cart
from sobolax.training import sharding

jax.config.update("jax_enable_x64", True)
TINY = dict(
    total_timesteps=256, num_envs=16, epochs=2, hidden_sizes=(8,), evaluation_episodes=8,
    report_states=0,
)
REPLAY = TINY | dict(learning_starts=64, gradient_steps=1, batch_size=32, replay_capacity=128)
BYTES = {"f64": 8, "s64": 8, "u64": 8, "f32": 4, "u32": 4, "s32": 4, "pred": 1, "u8": 1}


def exchanged(text):
    # The largest of every kind of collective in a compiled program, in bytes.
    found = {}
    text = re.sub(r"/\\*.*?\\*/", "", text)  # numbers in long tuples
    kinds = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"
    for shapes, kind in re.findall(rf"= ([^=]*?) ({kinds})(?:-start)?\\(", text):
        size = sum(
            BYTES[dtype] * math.prod(int(n) for n in sizes.split(",") if n)
            for dtype, sizes in re.findall(r"(\\w+)\\[([\\d,]*)\\]", shapes)
        )
        found[kind] = max(found.get(kind, 0), size)
    return found


def to_host(state):
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.device_get(
        jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, state)
    )


def compare(one, other, tolerance):
    one, other = to_host((one.agent, one.normalizer)), to_host((other.agent, other.normalizer))
    for leaf, its in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        most = tolerance * max(1.0, np.abs(leaf).max(initial=0))
        np.testing.assert_allclose(its, leaf, rtol=0, atol=most)


def lies_right(state, mesh):
    # The compiler copies arrays without elements to all devices.
    places = sharding.shardings(state, mesh)
    return all(
        not leaf.size or leaf.sharding.is_equivalent_to(place, leaf.ndim)
        for leaf, place in zip(jax.tree.leaves(state), jax.tree.leaves(places), strict=True)
    )
"""

FAST = (
    COMMON
    + """
mesh = sharding.make_mesh(8)
config, hyper = sac.Config(**REPLAY), sac.Hyperparameters(state_weight=1.0, action_weight=1.0)

def refused(text, *arguments, **options):
    try:
        sobolax.make_training(*arguments, **options)
    except ValueError as error:
        assert text in str(error), error
    else:
        raise AssertionError(text)

for text, sizes in {
    "num_envs=4 must be a multiple of the number of devices=8: the nearest are 8": {"num_envs": 4},
    "batch_size=36 must be a multiple of the number of devices=8: the nearest are 32 or 40": {
        "batch_size": 36
    },
    "gradient_fraction * num_envs=4 must be a multiple": {"gradient_fraction": 0.25},
}.items():
    refused(text, Cart(), sac.Config(**REPLAY | sizes), mesh=mesh)
refused("num_envs=4 must be", Cart(), shac.Config(**TINY | {"num_envs": 4}), mesh=mesh)
refused("mesh=8 must be a jax.sharding.Mesh", Cart(), config, mesh=8)
refused("needs an axis 'data'", Cart(), config, mesh=sharding.make_mesh(8, "batch"))
for devices in (0, 9, 2.0, True):
    try:
        sharding.make_mesh(devices)
    except ValueError as error:
        assert f"devices={devices} must be from 1 to 8" in str(error)
        assert "force_host_platform_device_count" in str(error)
    else:
        raise AssertionError(devices)

found = []
for own in (None, mesh):
    training = sobolax.make_training(Cart(), config, mesh=own)
    state = jax.jit(training.init)(jax.random.key(3), hyper)
    learn = jax.jit(training.learn, donate_argnums=0).lower(state, hyper, jnp.int32(0)).compile()
    assert own is None or lies_right(state, mesh)
    middle, _ = learn(state, hyper, jnp.int32(0))
    half = to_host(middle)
    end, metrics = learn(middle, hyper, jnp.int32(1))
    found.append((learn, half, end, to_host(metrics)))
(alone, _, one, metrics), (shared, half, eight, its) = found
assert lies_right(eight, mesh)
compare(one, eight, 1e-12)
assert metrics.keys() == its.keys() and metrics["updates"] == 12
for name in metrics:
    np.testing.assert_allclose(its[name], metrics[name], rtol=1e-9, atol=1e-12, err_msg=name)
np.testing.assert_array_equal(to_host(eight.clocks), to_host(one.clocks))

# A batch is brought together, gradients and moments are summed, and nothing else moves.
moved, row = exchanged(shared.as_text()), 4 * eight.replay.rows.shape[-1]
assert moved.keys() == {"all-reduce", "reduce-scatter"}, moved
assert moved["reduce-scatter"] == row * config.batch_size // 8
assert moved["all-reduce"] < eight.replay.rows.nbytes // 2
assert not exchanged(alone.as_text())

# A state that was brought to the host goes on on as many devices, or on one.
def back(host):
    keys = lambda leaf, like: (
        jax.random.wrap_key_data(leaf) if jnp.issubdtype(like.dtype, jax.dtypes.prng_key) else leaf
    )
    return jax.tree.map(keys, host, eight)

again, _ = shared(sharding.place(back(half), mesh), hyper, jnp.int32(1))
for leaf, its in zip(jax.tree.leaves(to_host(eight)), jax.tree.leaves(to_host(again)), strict=True):
    np.testing.assert_array_equal(leaf, its)
elsewhere, _ = alone(jax.device_put(back(half), jax.devices()[0]), hyper, jnp.int32(1))
compare(one, elsewhere, 1e-12)
print("equal")
"""
)

SLOW = (
    COMMON
    + """
import envs

mesh = sharding.make_mesh(8)
weights = dict(state_weight=1.0, action_weight=1.0)
cases = [
    (Cart(), td3, REPLAY, weights),
    (Cart(), ddpg, REPLAY, weights),
    (Cart(), q_learning, REPLAY, weights),
    (Cart(), sac, REPLAY | dict(n_step=3, gradient_fraction=0.5), weights),
    (Cart(), sac, REPLAY | dict(first_order="reverse", normalize_observations=True), weights),
    (Cart(), sac, REPLAY | dict(teacher="fitted", tangent_dtype="int8"), weights),
    (Cart(), shac, TINY | dict(horizon=8, minibatches=4), {}),
    (envs.make("reacher"), sac, REPLAY, weights),
]
for environment, agent, sizes, hyper in cases:
    hyper, found = agent.Hyperparameters(**hyper), []
    for own in (None, mesh):
        training = sobolax.make_training(environment, agent.Config(**sizes), mesh=own)
        state = jax.jit(training.init)(jax.random.key(3), hyper)
        place = (lambda state: state) if own is None else lambda state: sharding.place(state, mesh)
        epoch = jax.jit(training.epoch).lower(place(state), hyper, jnp.int32(0)).compile()
        state, _ = epoch(place(state), hyper, jnp.int32(0))
        found.append(epoch(place(state), hyper, jnp.int32(1)))
    (one, metrics), (eight, its) = found
    assert lies_right(eight, mesh)
    print(environment.name, agent.__name__, exchanged(epoch.as_text()), flush=True)
    compare(one, eight, 1e-9)
    for name in metrics:
        np.testing.assert_allclose(
            np.asarray(its[name]), np.asarray(metrics[name]), rtol=1e-6, atol=1e-9, err_msg=name
        )
print("equal")
"""
)


def test_eight_devices_compute_what_one_does_and_exchange_batches_and_gradients_alone():
    run_on_eight_devices(FAST)


@pytest.mark.slow
def test_agents_and_options_over_eight_devices():
    run_on_eight_devices(SLOW)
