"""Our environments in Gymnasium's and Brax's interfaces."""

import builtins
from dataclasses import replace
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs
from sobolax.cart import Cart

ENVS, STEPS, LENGTH = 3, 23, 6


class Short(Cart):
    """A cart that ends at a speed, or after six steps."""

    episode_length = LENGTH

    def step(self, state, action):
        moved = super().step(state, action)
        fast = jnp.abs(moved.observation[1]) > 0.7
        metrics = {"speed": jnp.abs(moved.observation[1])}
        return replace(moved, discount=1.0 - fast.astype(moved.reward.dtype), metrics=metrics)

    def reset(self, key):
        return replace(super().reset(key), metrics={"speed": jnp.zeros(())})


@pytest.fixture(scope="module")
def short():
    return Short()


@pytest.fixture(scope="module")
def actions():
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (STEPS, ENVS, 1)).astype(np.float32)


def own_loop(environment, seed, actions):
    """Our own loop: per step observation, reward, terminated, truncated and what begins next."""
    step, reset = jax.jit(environment.step), jax.jit(environment.reset)
    key, episode, steps = jax.random.key(seed), 0, 0
    state = reset(jax.random.fold_in(key, 0))
    yield state.observation, 0.0, False, False, state.observation
    for action in actions:
        state, steps = step(state, action), steps + 1
        terminated = bool(state.discount == 0)
        truncated = steps >= environment.episode_length and not terminated
        last = state
        if terminated or truncated:
            episode, steps = episode + 1, 0
            state = reset(jax.random.fold_in(key, episode))
        yield last.observation, last.reward, terminated, truncated, state.observation


def test_same_step_is_our_own_loop(short, actions):
    vector = envs.gymnasium_vector(short, ENVS, autoreset="same_step")
    first, _ = vector.reset(seed=7)
    loops = [own_loop(short, 7 + i, actions[:, i]) for i in range(ENVS)]
    np.testing.assert_array_equal(first, [next(loop)[0] for loop in loops])
    ends = np.zeros(2, int)
    for t in range(STEPS):
        observation, reward, terminated, truncated, info = vector.step(actions[t])
        for i, loop in enumerate(loops):
            last, earned, ended, cut, begun = next(loop)
            # One program of all environments rounds differently from one of one environment.
            np.testing.assert_allclose(observation[i], begun, atol=1e-6)
            np.testing.assert_allclose(reward[i], earned, atol=1e-6)
            assert (terminated[i], truncated[i]) == (ended, cut)
            if ended or cut:
                np.testing.assert_allclose(info["final_obs"][i], last, atol=1e-6)
                speed = info["final_info"]["speed"][i]
                np.testing.assert_allclose(speed, abs(last[1]), atol=1e-6)
                assert info["_final_obs"][i]
                assert info["_final_info"][i]
            elif "final_obs" in info:
                assert info["final_obs"][i] is None
                assert not info["_final_obs"][i]
        ends += terminated.sum(), truncated.sum()
    assert (ends > 0).all()  # both kinds of end were there


@pytest.mark.parametrize("mode", ["next_step", "same_step"])
def test_a_vector_is_what_gymnasium_makes_of_single_environments(mode, short, actions):
    vector = envs.gymnasium_vector(short, ENVS, autoreset=mode)
    declared = AutoresetMode[mode.upper()]
    assert vector.metadata["autoreset_mode"] is declared
    single = [partial(envs.gymnasium_env, short)] * ENVS
    theirs = SyncVectorEnv(single, autoreset_mode=declared)
    for name in (
        *("observation_space", "action_space"),
        *("single_observation_space", "single_action_space"),
    ):
        assert getattr(vector, name) == getattr(theirs, name)
    outcomes = []
    for one in (vector, theirs):
        rows = [one.reset(seed=3)[0]]
        for t in range(STEPS):
            *numbers, info = one.step(actions[t])
            rows += numbers
            rows += [info["speed"], info["_speed"]]
            rows.append(info.get("_final_obs", np.zeros(ENVS, bool)))
        rows.append(one.reset()[0])  # the next episodes, as seeded
        rows.append(one.reset(seed=[3, None, 9])[0])  # the second goes on
        rows.append(one.reset(seed=[None] * ENVS)[0])
        outcomes.append(rows)
    for ours, reference in zip(*outcomes, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-6)


def test_types_seeds_and_bounds(short, actions):
    vector = envs.gymnasium_vector(short, ENVS)
    assert isinstance(vector, gymnasium.vector.VectorEnv)
    observation, info = vector.reset(seed=[5, 6, 7])
    observation[:] = 0  # ours to write to
    assert info["_speed"].all()
    again, _ = vector.reset(seed=5)
    assert again.any()
    np.testing.assert_array_equal(again, vector.reset(seed=5)[0])
    assert (vector.reset()[0] != again).any()
    found = vector.step(np.full((ENVS, 1), 9.0))  # float64, clipped
    assert [part.dtype for part in found[:4]] == [np.float32, np.float32, bool, bool]
    assert vector.observation_space.contains(found[0])
    vector.reset(seed=5)
    vector.step(vector.action_space.low)
    clipped = vector.step(np.full((ENVS, 1), 1.0))[0]
    vector.reset(seed=5)
    vector.step(np.full((ENVS, 1), -3.0))
    np.testing.assert_array_equal(vector.step(np.full((ENVS, 1), 1e9))[0], clipped)
    vector.close()


# Observations have no bounds, and there is nothing to render.
@pytest.mark.filterwarnings("ignore:.*space (minimum|maximum) value is -?infinity")
@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes")
def test_gymnasium_checks_a_single_environment():
    for name in ("pendulum", "point_mass"):
        single = envs.gymnasium_env(envs.make(name))
        check_env(single)
        assert gymnasium.wrappers.RecordEpisodeStatistics(single).reset(seed=1)[0].any()


def test_the_ends_of_a_single_environment(short):
    single = envs.gymnasium_env(short)
    with pytest.raises(gymnasium.error.ResetNeeded):
        single.step(np.zeros(1))
    single.reset(seed=0)
    ends = [single.step(np.zeros(1))[2:4] for _ in range(LENGTH)]
    assert ends == [(False, False)] * (LENGTH - 1) + [(False, True)]
    with pytest.raises(gymnasium.error.ResetNeeded, match="episode is over"):
        single.step(np.zeros(1))


def test_what_cannot_work_is_refused(short, monkeypatch):
    for number in (0, -1, 2.5, True, "3"):
        with pytest.raises(ValueError, match="num_envs must be an integer of at least 1, not"):
            envs.gymnasium_vector(short, number)
    with pytest.raises(ValueError, match="autoreset must be one of next_step, same_step, not"):
        envs.gymnasium_vector(short, 2, "disabled")
    without = Short()
    without.action_size = 0
    views = (envs.gymnasium_env, envs.brax_env, partial(envs.gymnasium_vector, num_envs=2))
    for view in views:
        with pytest.raises(ValueError, match="action_size is 0, but must be a whole number"):
            view(without)
        with pytest.raises(ValueError, match=r"'object' has no name, no reverse_mode, no reset"):
            view(object())
    vector = envs.gymnasium_vector(short, 2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        vector.step(np.zeros((2, 1)))
    for seed, message in ((-1, "seed must be"), (2**32 - 1, "seed must be"), ([1], "1 seeds")):
        with pytest.raises(ValueError, match=message):
            vector.reset(seed=seed)
    with pytest.raises(ValueError, match="reset_mask"):
        vector.reset(options={"reset_mask": np.ones(2, bool)})
    vector.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions have shape \(2,\), but must have \(2, 1\)"):
        vector.step(np.zeros(2))
    with pytest.raises(ValueError, match="actions are not finite"):
        vector.step(np.full((2, 1), np.nan))
    real = builtins.__import__

    def absent(name, *rest):
        if name.startswith("brax"):
            raise ModuleNotFoundError("No module named 'brax'", name="brax")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.delitem(__import__("sys").modules, "envs.elsewhere.brax_view", raising=False)
    with pytest.raises(ImportError, match=r"needs brax, .*pip install --editable '\.\[brax\]'"):
        envs.brax_env(short)


def test_brax_wrappers_take_ours_and_keep_its_trajectories(short, actions):
    environment = envs.brax_env(short)
    from brax.envs.wrappers import training as brax_wrappers

    assert (environment.observation_size, environment.action_size) == (2, 1)
    assert environment.backend == "sobolax"
    assert environment.unwrapped is environment
    wrapped = brax_wrappers.wrap(environment, episode_length=environment.episode_length)
    wrapped = brax_wrappers.EvalWrapper(wrapped)
    # Brax's automatic reset goes back to the first state of each environment.
    keys = jax.random.split(jax.random.PRNGKey(3), ENVS)
    state = jax.jit(wrapped.reset)(keys)
    step = jax.jit(wrapped.step)
    ours = [jax.jit(short.reset)(jax.random.wrap_key_data(key)) for key in keys]
    firsts, counts, ends = list(ours), [0] * ENVS, np.zeros(2, int)
    one = jax.jit(short.step)
    for t in range(STEPS):
        state = step(state, 3.0 * actions[t])  # clipped
        for i in range(ENVS):
            moved, counts[i] = one(ours[i], jnp.clip(3.0 * actions[t, i], -1, 1)), counts[i] + 1
            terminated = bool(moved.discount == 0)
            cut = counts[i] >= LENGTH and not terminated
            np.testing.assert_allclose(state.reward[i], moved.reward, atol=1e-6)
            assert bool(state.done[i]) == (terminated or cut)
            assert bool(state.info["truncation"][i]) == cut
            ours[i], counts[i] = (firsts[i], 0) if terminated or cut else (moved, counts[i])
            np.testing.assert_allclose(state.obs[i], ours[i].observation, atol=1e-6)
            ends += terminated, cut
    assert (ends > 0).all()
    assert "speed" in state.info["eval_metrics"].episode_metrics
