"""SBX's SAC (Stable-Baselines3 in JAX) on a Gymnasium environment; a worker of `bench.peers`.

Its own options: how many environments are stepped one after the other, and how many steps of them
are taken before the updates that belong to these steps run as one compiled program.
"""

import protocol


def make_work(sizes, rounds: int, updates: int):
    """Learns on by so many steps of all environments."""
    import jax
    from flax import linen
    from sbx import SAC  # pyright: ignore[reportMissingImports]
    from stable_baselines3.common import env_util  # pyright: ignore[reportMissingImports]

    steps, frequency = rounds * sizes["num_envs"], sizes["train_frequency"]
    model = SAC(
        "MlpPolicy",
        env_util.make_vec_env(sizes["environment"], n_envs=sizes["num_envs"], seed=0),
        batch_size=sizes["batch_size"],
        buffer_size=sizes["replay_capacity"],
        learning_starts=sizes["learning_starts"],
        train_freq=(frequency, "step"),
        gradient_steps=frequency * updates,
        policy_kwargs={"net_arch": list(sizes["hidden_sizes"]), "activation_fn": linen.swish},
        seed=0,
    )

    def learn(count: int) -> None:
        model.learn(count, reset_num_timesteps=False, log_interval=None)
        jax.block_until_ready(model.policy.actor_state.params)

    learn(sizes["learning_starts"] + steps)

    def work() -> tuple[int, int]:
        # It counts its updates itself, and rounds the steps up to whole training rounds.
        steps_before, updates_before = model.num_timesteps, model._n_updates
        learn(steps)
        return model.num_timesteps - steps_before, model._n_updates - updates_before

    return work


if __name__ == "__main__":
    packages = "sbx-rl", "stable-baselines3", "gymnasium", "mujoco", "jax", "flax", "optax"
    protocol.serve(make_work, packages, "train_frequency")
