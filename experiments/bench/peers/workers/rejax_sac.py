"""rejax's SAC on a gymnax environment; a worker of `experiments.bench.peers`."""

import functools

import protocol

NAMES = (
    "environment",
    "num_envs",
    "gradient_steps",
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
    # Pendulum-v1 of gymnax ends after 200 steps, as everywhere.
    train = _segments(sizes, sizes["rounds"], sizes["gradient_steps"])
    collect = _segments(sizes, sizes["collect_rounds"], 0)
    channel.ready(protocol.versions("rejax", "gymnax", "jax", "flax", "optax"))
    channel.serve({"train": train, "collect": collect})


def _segments(sizes, rounds: int, updates: int):
    """A function that trains on by so many steps of all environments, compiled and run once."""
    import jax
    import rejax  # pyright: ignore[reportMissingImports]

    steps = rounds * sizes["num_envs"]
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

    def segment() -> protocol.Segment:
        nonlocal state
        clock = protocol.Clock()
        state = jax.block_until_ready(run(state))
        return clock.segment(steps, rounds * updates)

    return segment


if __name__ == "__main__":
    main()
