"""Row `update`: an update of the agent by where its gradients come from, and how they are kept."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import RenderableType

from experiments.bench.speed.options import Bench
from experiments.bench.speed.tables import heading, members, timings
from experiments.bench.speed.work import Tell, collect_experience, make_environment
from experiments.bench.timing import Alternative, compile_ahead, measure
from experiments.launch.configuration import Variant, defaults, parse_environment_arguments
from experiments.launch.program import keys_and_hypers
from sobolax.agents.config import AgentConfig, CriticHyperparameters
from sobolax.environment import Environment
from sobolax.tangents.sources import SOURCES, Experience, make_source
from sobolax.tangents.storage import TANGENT_DTYPES
from sobolax.training import normalization, replay


@dataclass(frozen=True)
class Setting:
    """What every alternative has in common.

    Attributes:
        environment: The environment.
        config: Sizes and counts; with the full basis of directions.
        hyper: Hyperparameters of the environment.
        kinds: Names of the alternatives, "off" first, and of each its source and type of tangents.
    """

    environment: Environment
    config: AgentConfig
    hyper: CriticHyperparameters
    kinds: Mapping[str, tuple[str, str]]


def prepare(bench: Bench) -> Setting:
    """Checks what was asked for; compiles nothing.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    for flag, known in (("sources", SOURCES), ("tangent_dtypes", TANGENT_DTYPES)):
        for name in getattr(bench, flag):
            if name not in known:
                flag = flag.replace("_", "-")
                raise ValueError(f"--{flag} {name!r} is unknown: choose from {', '.join(known)}")
    base = defaults(bench.env)
    parameters = {**base.env_args, **parse_environment_arguments(bench.env_args)}
    environment = make_environment(bench.env, parameters)
    asked = {
        name: getattr(bench, name)
        for name in ("batch_size", "hidden_sizes", "num_envs")
        if getattr(bench, name) is not None
    }
    config = replace(base.config, replay_capacity=bench.buffer_items, **asked)
    # The loop itself is not measured: its counts only have to pass the configuration's checks.
    config = replace(
        config,
        total_timesteps=config.num_envs,
        epochs=1,
        learning_starts=0,
        report_states=0,
        first_order="cached",
        state_directions=None,
        action_directions=None,
        tangent_dtype="float32",
    )
    config.check(environment)
    kinds = {"off": ("off", "float32")}
    for name in bench.sources:
        if name == "cached":
            several = len(bench.tangent_dtypes) > 1
            for dtype in bench.tangent_dtypes:
                kinds[f"cached {dtype}" if several else "cached"] = ("cached", dtype)
        elif name != "reverse" or environment.reverse_mode:
            kinds[name] = (name, "float32")
    return Setting(environment, config, base.hyper, kinds)


def run(setting: Setting, bench: Bench, tell: Tell) -> dict[str, Any]:
    """Times updates, for every count of members."""
    environment, config = setting.environment, setting.config
    experiences = {}
    for dtype in dict.fromkeys(dtype for _, dtype in setting.kinds.values()):
        tell(f"collecting transitions, {dtype}")
        source = make_source("cached", environment, tangent_dtype=dtype)
        experiences[dtype] = collect_experience(
            environment, source, config.num_envs, bench.steps, bench.buffer_items
        )
    measured = {}
    for count in dict.fromkeys(bench.members):
        alternatives, start = [], initialise(setting, count)
        for name, (_, dtype) in setting.kinds.items():
            tell(f"compiling updates: {name}, {members(count)}")
            alternatives.append(alternative(setting, bench, name, start, experiences[dtype]))
        tell(f"timing updates, {members(count)}")
        times = measure(alternatives, bench.repetitions, bench.updates)
        measured[str(count)] = [asdict(entry) for entry in times]
    return {"env": bench.env, "sizes": sizes(setting), "members": measured}


def sizes(setting: Setting) -> dict[str, Any]:
    """What times depend on."""
    environment, config = setting.environment, setting.config
    return {
        "state_size": environment.state_size,
        "action_size": environment.action_size,
        "observation_size": environment.observation_size,
        "batch_size": config.batch_size,
        "hidden_sizes": config.hidden_sizes,
        "num_envs": config.num_envs,
    }


@dataclass(frozen=True)
class Start:
    """Where the updates of every alternative begin.

    Attributes:
        count: Members of the program; with 1 nothing below has a leading axis.
        agent: State of the agent.
        keys: Random keys.
        hypers: Hyperparameters.
    """

    count: int
    agent: Any
    keys: jax.Array
    hypers: Any


def initialise(setting: Setting, count: int) -> Start:
    """Networks, keys and hyperparameters of that many members."""
    init = setting.config.make_agent(setting.environment).init
    keys, hypers = keys_and_hypers([Variant("bench", setting.hyper)], count, 0)
    if count == 1:
        keys, hypers = jax.tree.map(lambda leaf: leaf[0], (keys, hypers))
    else:
        init = jax.vmap(init)
    return Start(count, jax.jit(init)(keys, hypers), keys, hypers)


def alternative(
    setting: Setting, bench: Bench, name: str, start: Start, experience: Experience
) -> Alternative:
    """Updates of SAC one after the other, each on a batch drawn from the buffer.

    Args:
        setting: What all alternatives have in common.
        bench: How many updates, and from how large a buffer.
        name: Which alternative.
        start: Where updates begin.
        experience: See `collect_experience`; the source takes what it needs.
    """
    kind, dtype = setting.kinds[name]
    source = make_source(kind, setting.environment, tangent_dtype=dtype)
    agent = setting.config.make_agent(setting.environment)
    items = replace(
        experience,
        tangents=experience.tangents if kind == "cached" else None,
        state=experience.state if kind in ("recomputed", "reverse") else None,
    )
    normalizer = normalization.init(setting.environment.observation_size)
    if setting.config.normalize_observations:
        normalizer = normalization.update(normalizer, experience.transition.observation)
    example = jax.tree.map(lambda leaf: leaf[0], items)
    buffer = replay.add(replay.init(example, bench.buffer_items), items)

    def updates(state: Any, buffer: Any, key: jax.Array, hyper: Any):
        def one(state: Any, key: jax.Array):
            # Drawn anew each time: of one fixed batch a compiler may compute gradients only once.
            sample_key, update_key = jax.random.split(key)
            batch = replay.sample(buffer, sample_key, setting.config.batch_size)
            return agent.update(state, normalizer, batch, source.tangents, update_key, hyper)

        return jax.lax.scan(one, state, jax.random.split(key, bench.updates))

    program = updates
    if start.count > 1:
        # Every member has a buffer of its own, as in training.
        buffer = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], start.count, axis=0), buffer)
        program = jax.vmap(updates)
    arguments = start.agent, buffer, start.keys, start.hypers
    compiled, seconds = compile_ahead(program, *arguments)
    return Alternative(name, lambda: compiled(*arguments), seconds)


def render(found: Mapping[str, Any]) -> list[RenderableType]:
    """A table for each count of members."""
    about = found["sizes"]
    directions = f"{about['state_size']} + {about['action_size']} directions"
    parts: list[RenderableType] = []
    for count, measured in found["members"].items():
        title = f"One update in {found['env']}, batch {about['batch_size']}, {directions}"
        parts.append(heading(f"{title}, {members(int(count))}"))
        parts.append(timings("source of gradients", "ms", "over off", measured))
    return parts
