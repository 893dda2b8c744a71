"""Brax's SAC, as `brax.training.agents.sac.train` runs it; a worker of `experiments.bench.peers`.

Brax evaluates between its epochs and calls a callback, which waits here until the driver wants the
next epoch. Epochs are timed by Brax itself, evaluation apart; what it evaluates is an
environment that does nothing.
"""

import dataclasses
import functools
from typing import Any

import protocol


def main() -> None:
    """Prepares, and serves the driver."""
    channel, sizes = protocol.Channel(), protocol.read_config("backend", "episode_length")

    import jax
    import jax.numpy as jnp
    from brax import envs
    from brax.training import acting
    from brax.training.agents.sac import networks, train
    from flax import linen

    class Nothing(envs.Env):
        """An environment that stays where it is."""

        def reset(self, rng: jax.Array) -> envs.State:
            zero = jnp.zeros(())
            return envs.State(None, jnp.zeros(self.observation_size), zero, zero)

        def step(self, state: envs.State, action: jax.Array) -> envs.State:
            return state

        @property
        def observation_size(self) -> int:
            return environment.observation_size

        @property
        def action_size(self) -> int:
            return environment.action_size

        @property
        def backend(self) -> str:
            return environment.backend

    environment: Any = envs.get_environment(sizes["environment"], backend=sizes["backend"])
    count, updates = sizes["num_envs"], sizes["gradient_steps"]
    make_networks: Any = functools.partial(
        networks.make_sac_networks,
        hidden_layer_sizes=tuple(sizes["hidden_sizes"]),
        activation=linen.swish,
    )
    collect = _collector(sizes, environment, make_networks, envs, acting, networks, jax)
    steps, walltime, calls, clock = sizes["rounds"] * count, 0.0, 0, protocol.Clock()

    def progress(step: int, metrics: Any) -> None:
        nonlocal walltime, calls, clock
        calls += 1
        if calls == 1:
            return  # before the buffer is filled
        seconds, walltime = metrics["training/walltime"] - walltime, metrics["training/walltime"]
        if calls == 2:  # the first epoch compiles
            channel.ready(protocol.versions("brax", "jax", "flax", "optax"))
        else:
            found = clock.segment(steps, sizes["rounds"] * updates)
            # The evaluation since then took one thread.
            processor = found.processor_seconds - metrics["eval/epoch_eval_time"]
            found = dataclasses.replace(found, seconds=seconds, processor_seconds=processor)
            channel.report("train", found)
        if channel.serve({"collect": collect}, hand_back="train") is None:
            raise SystemExit(0)
        clock = protocol.Clock()

    prefill = -(-sizes["learning_starts"] // count) * count
    train.train(
        environment,
        num_timesteps=prefill + (sizes["segments"] + 1) * steps,
        num_evals=sizes["segments"] + 2,
        episode_length=sizes["episode_length"],
        num_envs=count,
        num_eval_envs=1,
        eval_env=Nothing(),
        batch_size=sizes["batch_size"],
        grad_updates_per_step=updates,
        normalize_observations=True,
        min_replay_size=sizes["learning_starts"],
        max_replay_size=sizes["replay_capacity"],
        discounting=0.99,
        learning_rate=3e-4,
        network_factory=make_networks,
        progress_fn=progress,
    )


def _collector(sizes, environment, make_networks, envs, acting, networks, jax):
    """Steps with the policy, by Brax's own functions; nothing is written into a buffer."""
    wrapped = envs.training.wrap(environment, episode_length=sizes["episode_length"])
    made = make_networks(environment.observation_size, environment.action_size)
    policy = networks.make_inference_fn(made)((None, made.policy_network.init(jax.random.key(0))))

    @functools.partial(jax.jit, donate_argnums=0)
    def collect(state, key):
        return jax.lax.scan(
            lambda state, key: (acting.actor_step(wrapped, state, policy, key)[0], None),
            state,
            jax.random.split(key, sizes["collect_rounds"]),
        )[0]

    keys = jax.random.split(jax.random.PRNGKey(1), sizes["num_envs"])
    state = jax.jit(wrapped.reset)(keys)
    key = jax.random.PRNGKey(2)
    state = jax.block_until_ready(collect(state, key))

    def work() -> tuple[int, int]:
        nonlocal state
        state = jax.block_until_ready(collect(state, key))
        return sizes["collect_rounds"] * sizes["num_envs"], 0

    return protocol.timed(work)


if __name__ == "__main__":
    main()
