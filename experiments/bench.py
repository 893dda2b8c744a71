"""Measures speed and memory side by side, as ratios: `python -m experiments.bench --help`.

`experiments.timing` says how. Programs are compiled without the compilation cache.
"""

import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from rich.box import SIMPLE_HEAVY
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

import envs
import sobolax
from experiments import bench_derivatives, run_folder
from experiments.configuration import Arm, defaults, parse_environment_arguments
from experiments.program import call, compiler_options, members
from experiments.timing import Alternative, compile_ahead, measure
from sobolax.agent_config import AgentConfig
from sobolax.agents.critics import CriticHyperparameters
from sobolax.environment import Environment, State
from sobolax.sources import SOURCES, Experience, make_source

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """Measures what slopes cost: updates, environment steps, memory. Writes runs/bench-....json.

    Sizes that are None, and parameters of environments that are not named, are those that
    `experiments.train` would use.

    Attributes:
        env: Name of the environment.
        env_args: Parameters of the environment as name=value, such as joints=8.
        sources: Where slopes come from; "off" is always measured, as what others are compared
            with, and "reverse" only where the environment has reverse mode.
        members: Runs side by side in one vmapped program, one after the other; 1 for the program
            of one run as it is.
        batch_size: Transitions of an update.
        hidden_sizes: Of actor and critics.
        environments: Environments that are stepped side by side.
        buffer_items: Transitions in the buffer that batches are drawn from, a multiple of
            `environments`.
        updates: Updates in a timed call.
        steps: Steps of all environments in a timed call.
        repetitions: Timed calls of each alternative, after one that is not timed.
        memory: Environments whose memory per transition is listed.
        derivatives: MuJoCo environments whose derivatives are timed.
        derivatives_batch: States of which derivatives are timed together.
        output: A new file for the results; None for one under runs/.
    """

    env: str = "chain"
    env_args: tuple[str, ...] = ()
    sources: tuple[str, ...] = ("cached", "recomputed", "reverse")
    members: tuple[int, ...] = (1, 6)
    batch_size: int | None = None
    hidden_sizes: tuple[int, ...] | None = None
    environments: int | None = None
    buffer_items: int = 16_384
    updates: int = 20
    steps: int = 100
    repetitions: int = 9
    memory: tuple[str, ...] = ("chain", "ant")
    derivatives: tuple[str, ...] = ("ant", "hopper", "pusher")
    derivatives_batch: int = 64
    output: Path | None = None


@dataclass(frozen=True)
class Setting:
    """What every alternative has in common.

    Attributes:
        bench: What was asked for.
        environment: The environment.
        memory: Environments whose memory per transition is listed, by name.
        derivatives: Environments whose derivatives are timed, by name.
        config: Sizes and counts; with the full basis of directions.
        hyper: Hyperparameters of the environment.
        sources: "off" first, then what the environment allows of what was asked for.
    """

    bench: Bench
    environment: Environment
    memory: Mapping[str, Environment]
    derivatives: Mapping[str, Environment]
    config: AgentConfig
    hyper: CriticHyperparameters
    sources: tuple[str, ...]


def prepare(bench: Bench) -> Setting:
    """Checks what was asked for; compiles nothing.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    for count in bench.members:
        if count < 1:
            raise ValueError(f"--members {count} must be at least 1")
    for name in ("buffer_items", "updates", "steps", "repetitions", "derivatives_batch"):
        if getattr(bench, name) < 1:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} {getattr(bench, name)} must be at least 1")
    for name in bench.sources:
        if name not in SOURCES:
            raise ValueError(f"--sources {name!r} is unknown: choose from {', '.join(SOURCES)}")
    if bench.output is not None and bench.output.exists():
        raise ValueError(f"--output {bench.output} exists: name a new file")
    base = defaults(bench.env)
    parameters = {**base.env_args, **parse_environment_arguments(bench.env_args)}
    environment = _make(bench.env, parameters)
    memory = {name: _make(name, defaults(name).env_args) for name in bench.memory}
    derivatives = {name: _make(name, defaults(name).env_args) for name in bench.derivatives}
    for name, listed in derivatives.items():
        bench_derivatives.check(name, listed)
    asked = {
        name: getattr(bench, name)
        for name in ("batch_size", "hidden_sizes", "environments")
        if getattr(bench, name) is not None
    }
    config = replace(base.config, replay_capacity=bench.buffer_items, **asked)
    # The loop itself is not measured: its counts only have to pass the configuration's checks.
    config = replace(
        config,
        environment_steps=config.environments,
        epochs=1,
        prefill_steps=0,
        report_states=0,
        first_order="cached",
        state_directions=None,
        action_directions=None,
        tangent_dtype="float32",
    )
    config.check(environment)
    allowed = [name for name in bench.sources if name != "reverse" or environment.reverse_mode]
    sources = ("off", *(name for name in dict.fromkeys(allowed) if name != "off"))
    return Setting(bench, environment, memory, derivatives, config, base.hyper, sources)


def run(bench: Bench, tell: Tell = lambda text: None) -> dict[str, Any]:
    """Measures everything.

    Args:
        bench: What to measure.
        tell: Is told what is under way.

    Returns:
        What the file of results holds.

    Raises:
        ValueError: If it cannot work, before anything compiles.
    """
    setting = prepare(bench)
    repetitions = bench.repetitions
    tell("memory per transition")
    memory = {name: bytes_per_transition(listed) for name, listed in setting.memory.items()}
    tell("collecting transitions")
    experience, normalizer = collect_experience(setting)
    updates = {}
    for count in dict.fromkeys(bench.members):
        alternatives, start = [], initialise(setting, count)
        for source in setting.sources:
            tell(f"compiling updates: {source}, {_members(count)}")
            alternatives.append(update_alternative(setting, source, start, experience, normalizer))
        tell(f"timing updates, {_members(count)}")
        updates[str(count)] = measure(alternatives, repetitions, bench.updates)
    tell("compiling environment steps")
    stepping = [step_alternative(setting, name) for name in ("off", "cached")]
    tell("timing environment steps")
    steps = measure(stepping, repetitions, bench.steps * setting.config.environments)
    derivatives = {}
    for name, listed in setting.derivatives.items():
        tell(f"derivatives of {name}")
        timed = bench_derivatives.run(listed, bench.derivatives_batch, repetitions)
        derivatives[name] = [asdict(entry) for entry in timed]
    return {
        "bench": {name: value for name, value in asdict(bench).items() if name != "output"},
        **run_folder.provenance(),
        "compiler_options": compiler_options(),
        "sizes": {
            "state_size": setting.environment.state_size,
            "action_size": setting.environment.action_size,
            "observation_size": setting.environment.observation_size,
            "batch_size": setting.config.batch_size,
            "hidden_sizes": setting.config.hidden_sizes,
            "environments": setting.config.environments,
        },
        "updates": {
            count: [asdict(entry) for entry in measured] for count, measured in updates.items()
        },
        "environment_steps": [
            {**asdict(entry), "steps_per_second": 1.0 / entry.seconds} for entry in steps
        ],
        "bytes_per_transition": memory,
        "derivatives": derivatives,
    }


def collect_experience(setting: Setting) -> tuple[Experience, Any]:
    """Transitions with tangents and states, of random actions, and the normalizer of them.

    Returns:
        Experience with a leading axis of `buffer_items`, in which every source finds what it
        needs, and the statistics of the observations.
    """
    environment, config = setting.environment, setting.config
    source = make_source("cached", environment)
    rounds = min(setting.bench.steps, setting.bench.buffer_items // config.environments)

    def collect(key: jax.Array) -> tuple[Experience, Any]:
        def step(states: State, key: jax.Array):
            actions = _random_actions(environment, states, key)
            keys = jax.random.split(key, config.environments)
            experience, following = jax.vmap(source.collect)(keys, states, actions)
            return following, replace(experience, state=states)

        reset_key, step_key = jax.random.split(key)
        states = jax.vmap(environment.reset)(jax.random.split(reset_key, config.environments))
        _, experience = jax.lax.scan(step, states, jax.random.split(step_key, rounds))
        # What was collected is repeated: a buffer of real size lies in memory, not in a cache.
        collected = rounds * config.environments
        chosen = jnp.arange(setting.bench.buffer_items) % collected
        experience = jax.tree.map(
            lambda leaf: leaf.reshape(collected, *leaf.shape[2:])[chosen], experience
        )
        normalizer = sobolax.normalization.create(environment.observation_size)
        if config.normalize_observations:
            observations = experience.transition.observation
            normalizer = sobolax.normalization.update(normalizer, observations)
        return experience, normalizer

    compiled, _ = compile_ahead(collect, jax.random.key(1))
    return call(compiled, jax.random.key(1))


@dataclass(frozen=True)
class Start:
    """Where the updates of every source begin.

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
    keys, hypers = members([Arm("bench", setting.hyper)], count, 0)
    if count == 1:
        keys, hypers = jax.tree.map(lambda leaf: leaf[0], (keys, hypers))
    else:
        init = jax.vmap(init)
    return Start(count, jax.jit(init)(keys, hypers), keys, hypers)


def update_alternative(
    setting: Setting, source_name: str, start: Start, experience: Experience, normalizer: Any
) -> Alternative:
    """Updates of SAC one after the other, each on a batch drawn from the buffer.

    Args:
        setting: What all alternatives have in common.
        source_name: Where slopes come from.
        start: Where updates begin.
        experience: See `collect_experience`; the source takes what it needs.
        normalizer: Statistics of observations.
    """
    source = make_source(source_name, setting.environment)
    agent = setting.config.make_agent(setting.environment)
    needs_state = source_name in ("recomputed", "reverse")
    items = replace(
        experience,
        tangents=experience.tangents if source_name == "cached" else None,
        state=experience.state if needs_state else None,
    )
    size = jnp.int32(setting.bench.buffer_items)
    buffer = sobolax.replay.Replay(items, jnp.int32(0), size)

    def updates(state: Any, buffer: Any, key: jax.Array, hyper: Any):
        def one(state: Any, key: jax.Array):
            # Drawn anew each time: of one fixed batch a compiler may compute slopes only once.
            sample_key, update_key = jax.random.split(key)
            batch = sobolax.replay.sample(buffer, sample_key, setting.config.batch_size)
            return agent.update(state, normalizer, batch, source.errors, update_key, hyper)

        return jax.lax.scan(one, state, jax.random.split(key, setting.bench.updates))

    program = updates
    if start.count > 1:
        # Every member has a buffer of its own, as in training.
        buffer = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], start.count, axis=0), buffer)
        program = jax.vmap(updates)
    arguments = start.agent, buffer, start.keys, start.hypers
    compiled, seconds = compile_ahead(program, *arguments)
    return Alternative(source_name, lambda: compiled(*arguments), seconds)


def step_alternative(setting: Setting, source_name: str) -> Alternative:
    """Steps of all environments with random actions, each written into a replay buffer."""
    environment, config = setting.environment, setting.config
    source = make_source(source_name, environment)
    count = config.environments
    steps = setting.bench.steps

    def collect(states: State, key: jax.Array):
        example, _ = jax.eval_shape(
            lambda: source.collect(
                key,
                jax.tree.map(lambda leaf: leaf[0], states),
                _random_actions(environment, states, key)[0],
            )
        )

        def step(carry, key: jax.Array):
            states, buffer = carry
            actions = _random_actions(environment, states, key)
            experience, states = jax.vmap(source.collect)(
                jax.random.split(key, count), states, actions
            )
            return (states, sobolax.replay.insert(buffer, experience)), None

        carry = states, sobolax.replay.create(example, count * steps)
        return jax.lax.scan(step, carry, jax.random.split(key, steps))[0]

    keys = jax.random.split(jax.random.key(2), count)
    arguments = jax.jit(jax.vmap(environment.reset))(keys), jax.random.key(3)
    compiled, seconds = compile_ahead(collect, *arguments)
    name = "plain" if source_name == "off" else "with tangents"
    return Alternative(name, lambda: compiled(*arguments), seconds)


def bytes_per_transition(environment: Environment) -> dict[str, int]:
    """Memory of one transition in the replay buffer by what is kept of it; compiles no physics."""

    def stored(source: str, dtype: str = "float32") -> int:
        def collect(key: jax.Array):
            state = environment.reset(key)
            action = jnp.zeros(environment.action_size, state.observation.dtype)
            collector = make_source(source, environment, tangent_dtype=dtype)
            return collector.collect(key, state, action)[0]

        example = jax.eval_shape(collect, jax.random.key(0))
        return sobolax.replay.bytes_per_item(sobolax.replay.create(example, 1))

    return {
        "off": stored("off"),
        "cached float32": stored("cached"),
        "cached bfloat16": stored("cached", "bfloat16"),
        "recomputed (state)": stored("recomputed"),
    }


def render(results: Mapping[str, Any]) -> RenderableType:
    """The tables of a measurement."""
    sizes, env = results["sizes"], results["bench"]["env"]
    directions = f"{sizes['state_size']} + {sizes['action_size']} directions"
    parts: list[RenderableType] = []
    for count, measured in results["updates"].items():
        title = f"One update in {env}, batch {sizes['batch_size']}, {directions}"
        table = _table(("source of slopes", "ms", "over off", "min to max", "compile s"))
        for entry in measured:
            table.add_row(entry["name"], f"{entry['seconds'] * 1e3:.3g}", *_ratio_cells(entry))
        parts += [Text(f"{title}, {_members(int(count))}", style="bold"), table]
    title = f"One environment step in {env}, {sizes['environments']} environments side by side"
    table = _table(("", "steps/s", "in plain steps", "min to max", "compile s"))
    for entry in results["environment_steps"]:
        table.add_row(entry["name"], f"{entry['steps_per_second']:,.0f}", *_ratio_cells(entry))
    parts += [Text(title, style="bold"), table]
    for name, measured in results["derivatives"].items():
        batch = results["bench"]["derivatives_batch"]
        table = _table(("", "ms", "in plain steps", "min to max", "compile s"))
        for entry in measured:
            table.add_row(entry["name"], f"{entry['seconds'] * 1e3:.3g}", *_ratio_cells(entry))
        title = f"Derivatives of one step of {name}, {batch} states together, the step included"
        parts += [Text(title, style="bold"), table]
    memory = results["bytes_per_transition"]
    if memory:
        kinds = list(next(iter(memory.values())))
        table = _table(("", *kinds))
        for name, sizes_of in memory.items():
            table.add_row(name, *(f"{sizes_of[kind]:,}" for kind in kinds))
        parts += [Text("Bytes per transition in the replay buffer", style="bold"), table]
    return Group(*parts)


def main(argv: Sequence[str] | None = None) -> int:
    """What the command runs.

    Returns:
        The exit status: 0, 2 for bad input.
    """
    bench = tyro.cli(Bench, args=argv, prog="python -m experiments.bench")
    # A program out of the cache has no compilation to time.
    jax.config.update("jax_enable_compilation_cache", False)
    console = Console()
    try:
        with console.status("") as status:
            results = run(bench, lambda text: status.update(f"{text} ..."))
    except ValueError as error:
        text = " ".join(str(error).split())
        Console(stderr=True, soft_wrap=True).print(Text(f"error: {text}", style="red"))
        return 2
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = bench.output or Path("runs") / f"bench-{stamp}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(path, results)
    if not console.is_terminal:
        console = Console(width=100)
    console.print(render(results))
    console.print(Text(f"Written to {path}"), soft_wrap=True)
    return 0


def _make(name: str, parameters: Mapping[str, Any]) -> Environment:
    try:
        return envs.make(name, **parameters)
    except (TypeError, ImportError) as error:
        raise ValueError(str(error)) from error


def _random_actions(environment: Environment, states: State, key: jax.Array) -> jax.Array:
    shape = (states.observation.shape[0], environment.action_size)
    return jax.random.uniform(key, shape, states.observation.dtype, minval=-1.0, maxval=1.0)


def _members(count: int) -> str:
    return "one run alone" if count == 1 else f"{count} runs in one program"


def _table(headings: Sequence[str]) -> Table:
    table = Table(header_style="bold", box=SIMPLE_HEAVY, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    return table


def _ratio_cells(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    spread = f"{entry['smallest_ratio']:.2f} to {entry['largest_ratio']:.2f}"
    return f"{entry['ratio']:.2f}", spread, f"{entry['compile_seconds']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
