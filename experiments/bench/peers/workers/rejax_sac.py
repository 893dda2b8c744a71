"""rejax's SAC on a gymnax environment; a worker of `experiments.bench.peers`."""

import functools

import protocol


def make_work(sizes, rounds: int, updates: int):
    """Trains on by so many steps of all environments."""
    import jax
    import rejax  # pyright: ignore[reportMissingImports]

    steps = rounds * sizes["num_envs"]
    # Pendulum-v1 of gymnax ends after 200 steps, as everywhere.
    algorithm = rejax.SAC.create(
        env=sizes["environment"],
        num_envs=sizes["num_envs"],
        num_epochs=updates,
        batch_size=sizes["batch_size"],
        buffer_size=sizes["replay_capacity"],
        fill_buffer=sizes["learning_starts"],
        agent_kwargs={"activation": "swish"},
        hidden_layer_sizes=tuple(sizes["hidden_sizes"]),
        normalize_observations=True,
        total_timesteps=steps,
        eval_freq=steps,
        skip_initial_evaluation=True,
    )
    algorithm = algorithm.replace(eval_callback=lambda *arguments: ())  # no evaluation

    @functools.partial(jax.jit, donate_argnums=0)
    def run(state):
        return algorithm.train(train_state=state)[0]

    state = jax.jit(algorithm.init_state)(jax.random.PRNGKey(0))
    # At least twice: the state's first types are weak, and it is compiled once more without them.
    for _ in range(2 + sizes["learning_starts"] // steps):
        state = jax.block_until_ready(run(state))

    def work() -> tuple[int, int]:
        nonlocal state
        state = jax.block_until_ready(run(state))
        return steps, rounds * updates

    return work


if __name__ == "__main__":
    protocol.serve(make_work, ("rejax", "gymnax", "jax", "flax", "optax"))
