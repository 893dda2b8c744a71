"""sobolax's plain SAC on an environment of its own or of Brax; a worker of `bench.peers`."""

import sys
from pathlib import Path

import protocol


def make_work(sizes, rounds: int, updates: int):
    """Trains on by so many steps of all environments."""
    import jax
    import jax.numpy as jnp

    import sobolax

    count = sizes["num_envs"]
    environment = _environment(sizes)
    filled = -(-sizes["learning_starts"] // count) // rounds + 1  # segments until all is filled
    config = sobolax.agents.sac.Config(
        total_timesteps=(filled + 1) * rounds * count,
        epochs=filled + 1,  # what follows is counted on by the index
        num_envs=count,
        gradient_steps=updates,
        learning_starts=sizes["learning_starts"],
        batch_size=sizes["batch_size"],
        replay_capacity=sizes["replay_capacity"],
        hidden_sizes=tuple(sizes["hidden_sizes"]),
        first_order="off",
        report_states=0,
    )
    training = sobolax.make_training(environment, config)
    hyper = sobolax.agents.sac.Hyperparameters()
    state = jax.jit(training.init)(jax.random.key(0), hyper)
    run = jax.jit(training.learn, donate_argnums=0)
    index = 0

    def work() -> tuple[int, int]:
        nonlocal state, index
        state, _ = jax.block_until_ready(run(state, hyper, jnp.int32(index)))
        index += 1
        return rounds * count, rounds * updates

    while index < filled:
        work()
    return work


def _environment(sizes):
    import envs

    arguments = dict(sizes["environment_arguments"])
    name, length = sizes["environment"], sizes["episode_length"]
    backend = arguments.pop("brax_backend", None)
    if backend is not None:
        return envs.make(f"brax:{name}", backend=backend, episode_length=length, **arguments)
    environment = envs.make(sizes["environment"], **arguments)
    if environment.episode_length != sizes["episode_length"]:
        raise SystemExit(
            f"episodes of {environment.name!r} have {environment.episode_length} steps, not "
            f"{sizes['episode_length']}"
        )
    return environment


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[4]))  # for `envs`, which is not installed
    packages = "sobolax", "brax", "mujoco-mjx", "jax", "flax", "optax"
    protocol.serve(make_work, packages, "environment_arguments", "episode_length")
