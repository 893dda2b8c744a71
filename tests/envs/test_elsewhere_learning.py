"""Other people's agents learn on our environments, through their interfaces.

SBX is not in the lock: `pip install sbx-rl`.
"""

import numpy as np
import pytest

import envs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # of other people's code
]


def vector_for_sb3(vector):
    """A vector environment in the interface of Stable-Baselines3, which has one of its own."""
    base = pytest.importorskip("stable_baselines3.common.vec_env.base_vec_env")

    class Adapter(base.VecEnv):
        def reset(self):
            return vector.reset(seed=self._seeds[0])[0]

        def step_async(self, actions):
            self.actions = actions

        def step_wait(self):
            seen, reward, terminated, truncated, info = vector.step(self.actions)
            over, infos = terminated | truncated, [{} for _ in range(self.num_envs)]
            for i in np.flatnonzero(over):
                infos[i]["terminal_observation"] = info["final_obs"][i]
                infos[i]["TimeLimit.truncated"] = bool(truncated[i])
            return seen, reward, over, infos

        def get_attr(self, name, indices=None):
            return [None] * self.num_envs

        def env_is_wrapped(self, wrapper_class, indices=None):
            return [False] * self.num_envs

        close = set_attr = env_method = lambda self, *_, **__: None

    return Adapter(vector.num_envs, vector.single_observation_space, vector.single_action_space)


@pytest.mark.parametrize("view", ["single", "vector"])
def test_sbx_learns_the_pendulum(view):
    sbx = pytest.importorskip("sbx", reason="pip install sbx-rl")
    pendulum = envs.make("pendulum")
    single = envs.gymnasium_env(pendulum)
    trained, agents = single, 1
    if view == "vector":
        agents = 4
        trained = vector_for_sb3(envs.gymnasium_vector(pendulum, 4, autoreset="same_step"))

    def earned(agent):
        total = 0.0
        for seed in range(10):
            observation, _ = single.reset(seed=1000 + seed)
            over = False
            while not over:
                action, _ = agent.predict(observation, deterministic=True)
                observation, reward, terminated, truncated, _ = single.step(action)
                total, over = total + reward / 10, terminated or truncated
        return total

    agent = sbx.SAC(
        "MlpPolicy",
        trained,
        learning_starts=200,
        learning_rate=1e-3,
        train_freq=4 // agents,  # after four transitions
        gradient_steps=4,
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
    )
    before = earned(agent)
    agent.learn(7_000 if view == "single" else 5_000)
    after = earned(agent)
    # Seeds 0 to 2 come from -1,500 and below to -149 and above.
    assert before < -1000 < -400 < after


def test_ppo_in_one_program_learns_the_pendulum_through_brax():
    from examples.brax_view_ppo import train

    view = envs.brax_env(envs.make("pendulum"))
    returns = np.asarray(train(view, view.episode_length, seed=0))
    # Seeds 0 to 2 come from below -1,250 to above -277.
    assert returns[0] < -1000 < -400 < returns[-5:].mean()
