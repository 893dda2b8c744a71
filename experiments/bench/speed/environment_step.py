"""Row `environment_step`: a step of the environments and its way into the buffer."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import jax
from rich.console import RenderableType

from experiments.bench.speed import update
from experiments.bench.speed.options import Bench
from experiments.bench.speed.tables import heading, timings
from experiments.bench.speed.update import Setting
from experiments.bench.speed.work import Tell, random_actions
from experiments.bench.timing import Alternative, compile_ahead, measure
from sobolax.environment import State
from sobolax.tangents.sources import make_source
from sobolax.training import replay

prepare = update.prepare


def run(setting: Setting, bench: Bench, tell: Tell) -> dict[str, Any]:
    """Times steps without and with tangents."""
    tell("compiling environment steps")
    alternatives = [alternative(setting, bench, name) for name in ("off", "cached")]
    tell("timing environment steps")
    measured = measure(alternatives, bench.repetitions, bench.steps * setting.config.num_envs)
    return {
        "env": bench.env,
        "sizes": update.sizes(setting),
        "measured": [asdict(entry) for entry in measured],
    }


def alternative(setting: Setting, bench: Bench, source_name: str) -> Alternative:
    """Steps of all environments with random actions, each written into a replay buffer."""
    environment, config = setting.environment, setting.config
    source = make_source(source_name, environment)
    count, steps = config.num_envs, bench.steps

    def collect(states: State, key: jax.Array):
        example, _ = jax.eval_shape(
            lambda: source.collect(
                key,
                jax.tree.map(lambda leaf: leaf[0], states),
                random_actions(environment, states, key)[0],
            )
        )

        def step(carry, key: jax.Array):
            states, buffer = carry
            actions = random_actions(environment, states, key)
            experience, states = jax.vmap(source.collect)(
                jax.random.split(key, count), states, actions
            )
            return (states, replay.add(buffer, experience)), None

        carry = states, replay.init(example, count * steps)
        return jax.lax.scan(step, carry, jax.random.split(key, steps))[0]

    keys = jax.random.split(jax.random.key(2), count)
    arguments = jax.jit(jax.vmap(environment.reset))(keys), jax.random.key(3)
    compiled, seconds = compile_ahead(collect, *arguments)
    name = "plain" if source_name == "off" else "with tangents"
    return Alternative(name, lambda: compiled(*arguments), seconds)


def render(found: Mapping[str, Any]) -> list[RenderableType]:
    """One table."""
    count = found["sizes"]["num_envs"]
    title = f"One environment step in {found['env']}, {count} environments side by side"
    return [heading(title), timings("", "steps/s", "in plain steps", found["measured"])]
