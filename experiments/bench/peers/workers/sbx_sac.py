"""SBX's SAC (Stable-Baselines3 in JAX) on a Gymnasium environment; a worker of `bench.peers`.

Its own settings: how many environments are stepped one after the other, and how many steps of them
are taken before the updates that belong to these steps run as one compiled program.
"""

import protocol

NAMES = (
    "environment",
    "num_envs",
    "gradient_steps",
    "train_frequency",
    "batch_size",
    "hidden_sizes",
    "replay_capacity",
    "learning_starts",
    "rounds",
    "collect_rounds",
)


def main() -> None:
    """Prepares, and serves the driver."""
    channel, sizes = protocol.Channel(), protocol.settings(NAMES)
    train = _segments(sizes, sizes["rounds"], sizes["gradient_steps"])
    collect = _segments(sizes, sizes["collect_rounds"], 0)
    names = "sbx-rl", "stable-baselines3", "gymnasium", "mujoco", "jax", "flax", "optax"
    channel.ready(protocol.versions(*names))
    channel.serve({"train": train, "collect": collect})


def _segments(sizes, rounds: int, updates: int):
    """A function that learns on by so many steps of all environments, run once."""
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

    def segment() -> protocol.Segment:
        # It counts its updates itself, and rounds the steps up to whole training rounds.
        steps_before, updates_before = model.num_timesteps, model._n_updates
        clock = protocol.Clock()
        learn(steps)
        return clock.segment(model.num_timesteps - steps_before, model._n_updates - updates_before)

    return segment


if __name__ == "__main__":
    main()
