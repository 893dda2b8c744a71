"""Row `training_step`: a step of all environments and the updates after it, as training does them.

With gradients and without, on states that are handed on from call to call and written in place.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import RenderableType

from experiments.bench.speed.options import Bench
from experiments.bench.speed.tables import heading, timings
from experiments.bench.speed.work import Tell, make_environment
from experiments.bench.timing import Alternative, compile_ahead, measure
from experiments.launch.configuration import defaults
from sobolax import make_training
from sobolax.agents.config import AgentConfig
from sobolax.environment import Environment

_WARM_UP = 8  # steps before the timed ones, so that legs are on the floor


@dataclass(frozen=True)
class Setting:
    """What both alternatives have in common.

    Attributes:
        environment: The environment.
        config: Sizes and counts; a timed call is one epoch, which is one step.
        hyper: Hyperparameters of the environment.
    """

    environment: Environment
    config: AgentConfig
    hyper: Any


def prepare(bench: Bench) -> Setting:
    """Checks what was asked for; raises ValueError."""
    asked = bench.training_step
    base = defaults(asked.env)
    environment = make_environment(asked.env, base.env_args)
    config = replace(
        base.config,
        num_envs=asked.num_envs,
        total_timesteps=asked.num_envs,
        epochs=1,
        learning_starts=0,
        gradient_steps=asked.updates,
        batch_size=asked.batch_size,
        hidden_sizes=asked.hidden_sizes,
        replay_capacity=asked.buffer_items,
        first_order="cached",
        state_directions=None,
        action_directions=None,
        tangent_dtype=asked.tangent_dtype,
        report_states=0,
    )
    config.check(environment)
    return Setting(environment, config, base.hyper)


def run(setting: Setting, bench: Bench, tell: Tell) -> dict[str, Any]:
    """Times both."""
    alternatives = []
    for name, source in (("plain", "off"), ("Sobolev", "cached")):
        tell(f"compiling a training step of {bench.training_step.env}: {name}")
        alternatives.append(_alternative(setting, name, source))
    tell("timing training steps")
    measured = measure(alternatives, bench.repetitions, 1)
    return {
        "sizes": asdict(bench.training_step),
        "measured": [asdict(entry) for entry in measured],
    }


def _alternative(setting: Setting, name: str, source: str) -> Alternative:
    config = replace(setting.config, first_order=source)
    training = make_training(setting.environment, config)
    hyper = jax.tree.map(jnp.float32, setting.hyper)
    held = [jax.jit(training.init)(jax.random.key(0), hyper)]
    compiled, seconds = compile_ahead(training.learn, held[0], hyper, jnp.int32(0), donate=(0,))

    def once():
        held[0], metrics = compiled(held[0], hyper, jnp.int32(0))
        return metrics

    for _ in range(_WARM_UP):
        jax.block_until_ready(once())
    return Alternative(name, once, seconds)


def render(found: Mapping[str, Any]) -> list[RenderableType]:
    """One table."""
    sizes = found["sizes"]
    title = (
        f"A training step in {sizes['env']}: {sizes['num_envs']} environments, then "
        f"{sizes['updates']} updates of {sizes['batch_size']}"
    )
    return [heading(title), timings("SAC", "ms", "over plain", found["measured"])]
