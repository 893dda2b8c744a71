"""Brax's PPO or SAC on one of our environments: `python -m experiments.studies.baselines.worker`.

It runs in Brax's environment of packages, which has neither this project's lock nor what
`experiments` needs besides: nothing but `envs` and the worker's protocol is imported from here. It
says `ready` once it has evaluated the untrained policy, and `epoch` after each evaluation. Times
and updates count from `ready` on. Brax is what it is; its evaluation is timed, and nothing else.
"""

import time
import warnings
from functools import partial
from typing import Any

from experiments.bench.peers.workers import protocol

FIELDS = (
    "agent",
    "environment",
    "hidden_sizes",
    "evaluation_episodes",
    "discounting",
    "timesteps",
    "evaluations",
    "sizes",
    "seed",
)


class Compilation:
    """Seconds in which JAX traced, lowered or compiled, what is within another thing once."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    def listen(self, event: str, duration_secs: float, **_: Any) -> None:
        """Hears of something that has just ended."""
        if event.startswith("/jax/core/compile/"):
            end = time.perf_counter()
            while self._spans and self._spans[-1][0] >= end - duration_secs:
                self._spans.pop()
            self._spans.append((end - duration_secs, end))

    def within(self, start: float, end: float) -> float:
        """Seconds between two times of `time.perf_counter`."""
        return sum(over - begin for begin, over in self._spans if start <= begin and over <= end)


class Evaluations:
    """Times Brax's evaluations, which compile as well; all together.

    Attributes:
        wall: Seconds.
        cpu: Seconds of the processor, of all threads.
        compilation: Those of `wall` in which JAX compiled.
    """

    def __init__(self, compilation: Compilation) -> None:
        self._compilation = compilation
        self.restart()

    def restart(self) -> None:
        """Counts from here on."""
        self.wall = self.cpu = self.compilation = 0.0

    def timed(self, evaluator: type) -> type:
        """A class like Brax's evaluator that does the same."""
        found = self

        class Timed(evaluator):
            def run_evaluation(self, *arguments: Any, **options: Any) -> Any:
                wall, cpu = time.perf_counter(), time.process_time()
                metrics = super().run_evaluation(*arguments, **options)
                end = time.perf_counter()
                found.wall += end - wall
                found.cpu += time.process_time() - cpu
                found.compilation += found._compilation.within(wall, end)
                return metrics

        return Timed


def main() -> None:
    """Trains, and says how it goes."""
    channel, given = protocol.Channel(), protocol.read_config(shared=FIELDS)
    warnings.simplefilter("ignore")

    import jax
    from brax.training import acting

    import envs

    environment = envs.brax_env(envs.make(given["environment"]))
    compilation = Compilation()
    evaluations = Evaluations(compilation)
    jax.monitoring.register_event_duration_secs_listener(compilation.listen)
    acting.Evaluator = evaluations.timed(acting.Evaluator)
    wall = cpu = 0.0

    def progress(step: int, metrics: Any) -> None:
        nonlocal wall, cpu
        if not step:
            channel.ready(protocol.versions("brax", "jax", "flax", "optax", "mujoco-mjx"))
            evaluations.restart()
            wall, cpu = time.perf_counter(), time.process_time()
            return
        now = time.perf_counter()
        compiling = compilation.within(wall, now)
        trained = now - wall - evaluations.wall - (compiling - evaluations.compilation)
        channel.say(
            "epoch",
            environment_steps=int(step),
            evaluation_return=float(metrics["eval/episode_reward"]),
            evaluation_length=float(metrics["eval/avg_episode_length"]),
            seconds=now - wall,
            train_seconds=trained,
            cpu_seconds=time.process_time() - cpu - evaluations.cpu,
            compile_seconds=compiling,
        )

    train, networks = _agent(given)
    train(
        environment=environment,
        num_timesteps=given["timesteps"],
        episode_length=environment.episode_length,
        num_evals=given["evaluations"] + 1,
        num_eval_envs=given["evaluation_episodes"],
        deterministic_eval=True,
        normalize_observations=True,
        discounting=given["discounting"],
        seed=given["seed"],
        network_factory=networks,
        progress_fn=progress,
        **given["sizes"],
    )


def _agent(given: dict[str, Any]) -> tuple[Any, Any]:
    """Brax's training, and what makes its networks."""
    hidden = tuple(given["hidden_sizes"])
    if given["agent"] == "brax_ppo":
        from brax.training.agents.ppo import networks, train

        sizes = {"policy_hidden_layer_sizes": hidden, "value_hidden_layer_sizes": hidden}
        return train.train, partial(networks.make_ppo_networks, **sizes)

    from brax.training.agents.sac import networks, train
    from flax import linen

    # Brax's networks of SAC have ReLUs otherwise, those of its PPO have not.
    sizes = {"hidden_layer_sizes": hidden, "activation": linen.swish}
    return train.train, partial(networks.make_sac_networks, **sizes)


if __name__ == "__main__":
    main()
