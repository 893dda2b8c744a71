"""An experiment: its fields, where their values come from, and its form on disk."""

import ast
import dataclasses
import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

import envs
from experiments.launch import json_files
from experiments.presets import Preset, preset
from sobolax.agents.config import ValueHyperparameters
from sobolax.checks import check_choice
from sobolax.environment import Environment
from sobolax.training.config import LoopConfig

T = TypeVar("T")

# Display names of the agents; the keys are modules of `sobolax`.
AGENTS = {
    "sac": "SAC",
    "td3": "TD3",
    "ddpg": "DDPG",
    "q_learning": "Q-learning",
    "shac": "SHAC",
}
DEFAULT_AGENT = "sac"
_WEIGHTS = ("state_weight", "action_weight")


@dataclass(frozen=True)
class Experiment:
    """An agent and its Sobolev version on one environment, over paired seeds.

    Attributes:
        env: Name of the environment.
        env_args: Keyword arguments of `envs.make`.
        seeds: Seeds per variant; both variants share them.
        seed: Seed of the random keys.
        compare: Whether the plain agent (both weights zero) runs beside the Sobolev variant.
        output: The run's folder; None for a new one under `runs/`.
        config: Static configuration: it shapes the compiled program.
        hyper: Traced hyperparameters; the weights are the Sobolev variant's.
        agent: Name of the agent, one of `AGENTS`.
    """

    env: str
    env_args: Mapping[str, Any]
    seeds: int
    seed: int
    compare: bool
    output: Path | None
    config: Any
    hyper: ValueHyperparameters
    agent: str = DEFAULT_AGENT


def agent_module(name: str) -> Any:
    """The module of an agent: `Config`, `Hyperparameters`, `make_training`.

    Raises:
        ValueError: If there is no such agent.
    """
    check_choice("--agent ", name, AGENTS)
    return importlib.import_module(f"sobolax.agents.{name}")


def merge(base: T, overrides: Mapping[str, Any]) -> T:
    """A copy of a dataclass with some fields replaced; nested mappings reach nested dataclasses.

    Raises:
        ValueError: If a name is no field of the dataclass.
    """
    known = [entry.name for entry in dataclasses.fields(base)]  # type: ignore[arg-type]
    for name in overrides:
        if name not in known:
            raise ValueError(
                f"{type(base).__name__} has no field {name!r}; it has {', '.join(sorted(known))}"
            )
    values = {}
    for name, value in overrides.items():
        current = getattr(base, name)
        nested = dataclasses.is_dataclass(current) and isinstance(value, Mapping)
        values[name] = merge(current, value) if nested else value
    return dataclasses.replace(base, **values)  # type: ignore[type-var]


def defaults(
    env: str,
    tuned: Preset | None = None,
    agent: str = DEFAULT_AGENT,
    kind: str = "fast",
    first_order: str | None = None,
) -> Experiment:
    """The experiment of an environment before the command line: presets over defaults.

    Hyperparameters and gradient options of a preset that the agent lacks are ignored: Q-learning
    has no actor. So are sizes and counts of a fast one, which are tuned for a replay buffer, where
    the agent has none.

    Args:
        env: Name of the environment.
        tuned: The preset; None for the environment's own.
        agent: Name of the agent.
        kind: "fast" or "best", of the environment's own.
        first_order: As the command line has it; "off" and "reverse" leave a preset's gradient
            options out.

    Raises:
        ValueError: If there is no such agent, or no such preset.
    """
    tuned = preset(env, agent, kind) if tuned is None else tuned
    module = agent_module(agent)
    config, hyper = module.Config(), module.Hyperparameters()
    known, options = ({entry.name for entry in dataclasses.fields(x)} for x in (hyper, config))
    sizes = tuned.config if kind == "best" or isinstance(config, LoopConfig) else {}
    # Reverse mode does not know how much a step stretches, which trust goes by.
    there = set() if first_order in ("off", "reverse") else options
    gradients = {name: value for name, value in tuned.gradients.items() if name in there}
    return Experiment(
        env=env,
        env_args=dict(tuned.environment),
        seeds=tuned.seeds,
        seed=0,
        compare=True,
        output=None,
        config=merge(config, {**sizes, **gradients}),
        hyper=merge(hyper, {name: tuned.hyper[name] for name in tuned.hyper if name in known}),
        agent=agent,
    )


def parse_environment_arguments(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Turns `("joints=8", "target=fixed")` into `{"joints": 8, "target": "fixed"}`.

    Raises:
        ValueError: If a pair is not of the form `name=value`, a name is given twice, or a value is
            none of JSON's.
    """
    arguments = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--env-args takes name=value, such as joints=8, but got {pair!r}")
        if name in arguments:
            raise ValueError(f"--env-args gives {name} twice: give it once")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = {"true": True, "false": False}.get(text, text)
        try:
            arguments[name] = _kept(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"--env-args {pair}: {error}, and a run keeps its arguments as JSON: use numbers, "
                "text, truth values, None, lists, and mappings of text"
            ) from None
    return arguments


def make_environment(name: str, parameters: Mapping[str, Any] | None = None) -> Environment:
    """What `envs.make` makes of a name and parameters that a command line gives.

    Raises:
        ValueError: If there is no such environment, a parameter cannot be, or a package is missing;
            the message names the fix.
    """
    try:
        return envs.make(name, **(parameters or {}))
    except (TypeError, ImportError) as error:
        raise ValueError(str(error)) from error


def _kept(value: Any) -> Any:
    """What a resumed run reads of an argument: a tuple is a list there."""
    if isinstance(value, dict):
        if unnamed := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"the key {unnamed[0]!r} is no text")
        return {key: _kept(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_kept(entry) for entry in value]
    return json.loads(json.dumps(value, allow_nan=False))


_SHAPE = {
    "env": str,
    "env_args": dict[str, Any],
    "seeds": int,
    "seed": int,
    "compare": bool,
    "agent?": str,
    "config": dict[str, Any],
    "hyper": dict[str, float | Literal["inf"]],  # JSON has no infinity
}


def to_json(experiment: Experiment) -> dict[str, Any]:
    """All fields but the output folder, as JSON."""
    values = dataclasses.asdict(experiment)
    del values["output"]
    # JSON has no infinity, and null would not be read back as one.
    values["hyper"] = {
        name: value if math.isfinite(value) else str(value)
        for name, value in values["hyper"].items()
    }
    return json.loads(json.dumps(values))


def from_json(values: Mapping[str, Any]) -> Experiment:
    """The inverse of `to_json`.

    Raises:
        ValueError: If a value is missing, of another type, or cannot be.
        TypeError: If there is no such field.
    """
    json_files.check(values, _SHAPE, "experiment")
    base = defaults(values["env"], Preset(), values.get("agent", DEFAULT_AGENT))
    json_files.check(values["config"], type(base.config), "experiment.config")
    plain = {name: value for name, value in values.items() if name not in ("config", "hyper")}
    if unknown := sorted(plain.keys() - {name.removesuffix("?") for name in _SHAPE}):
        raise TypeError(f"experiment has a field {unknown[0]!r}, which this version lacks")
    return dataclasses.replace(
        base,
        **plain,
        config=_restore(type(base.config), values["config"]),
        hyper=type(base.hyper)(**{name: float(value) for name, value in values["hyper"].items()}),
    )


def _restore(cls: type[T], values: Mapping[str, Any]) -> T:
    hints = get_type_hints(cls)
    restored = {}
    for name, value in values.items():
        hint = hints.get(name)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            value = _restore(hint, value)
        elif isinstance(value, list):  # JSON has no tuples, a static configuration no lists
            value = tuple(value)
        restored[name] = value
    return cls(**restored)


def check_own(env: str, named: str | None, where: Path) -> None:
    """Checks that a class of the user's own, which a file names, is named by the user as well.

    Importing it runs its module, and a folder may come from anywhere: a file alone runs nothing.

    Args:
        env: The environment that the file names.
        named: What the user names; None for nothing.
        where: The folder of the file.

    Raises:
        ValueError: If the user does not name it.
    """
    place, colon, _ = env.partition(":")
    if colon and place not in envs.suite_names() and env != named:
        raise ValueError(
            f"{where} needs the environment {env!r}, which is code of somebody's own: if you "
            f"trust it, name it as well, --env {env}"
        )


def check_env(env: str, named: str | None, where: Path) -> None:
    """As `check_own`; what the user names must also be what the file names.

    Raises:
        ValueError: If the user has to name the environment, or names another.
    """
    check_own(env, named, where)
    if named not in (None, env):
        raise ValueError(
            f"{where} was trained on {env}, but --env says {named}: leave it out, or name a folder "
            f"trained on {named}"
        )


@dataclass(frozen=True)
class Variant:
    """One line of the comparison: a name and its traced values, the same for all of its seeds."""

    name: str
    hyper: ValueHyperparameters = field(repr=False)
    agent: str = DEFAULT_AGENT

    @property
    def label(self) -> str:
        """Its display name: `SAC`, `Sobolev SAC`."""
        title = AGENTS[self.agent]
        return {"plain": title, "sobolev": f"Sobolev {title}"}.get(self.name, self.name)

    @property
    def weights(self) -> dict[str, float]:
        """The weights of the two gradient terms; a critic of states has none for the action."""
        return {name: float(getattr(self.hyper, name, 0.0)) for name in _WEIGHTS}


@dataclass(frozen=True)
class CheckpointRule:
    """When to take checkpoints, and how many to keep.

    Attributes:
        seconds: Minimum time between the starts of two; 0 for one after every epoch. None keeps
            their cost under 2 % of the training's time so far: the next one starts when 50 times
            the time of all of them, itself included, has passed, and the first one when 10 times
            its own has. (The first one after a resume follows its first epoch.)
        keep: Checkpoints to keep.
    """

    seconds: float | None = None
    keep: int = 2

    def check(self) -> None:
        """Raises ValueError that names the fix if the rule cannot work."""
        if self.keep < 1:
            raise ValueError(
                f"--keep-checkpoints {self.keep} must be at least 1; --no-checkpoints takes none"
            )
        if self.seconds is not None and not 0 <= self.seconds < float("inf"):
            raise ValueError(
                f"--checkpoint-seconds {self.seconds} must be 0 (one after every epoch) or more; "
                "--no-checkpoints takes none"
            )


def environment_title(name: str, parameters: Mapping[str, Any]) -> str:
    """The environment and its parameters, as a title."""
    given = ", ".join(f"{parameter} = {value}" for parameter, value in parameters.items())
    return f"{name} ({given})" if given else name


def without_idle_weights(experiment: Experiment) -> Experiment:
    """The experiment with a weight of 0 for gradients that its configuration does not take.

    What is reported, and whether there is a Sobolev variant at all, then goes by weights alone.
    """
    taken = (
        getattr(experiment.config, "state_directions", None),
        getattr(experiment.config, "action_directions", None),
    )
    idle = {name: 0.0 for name, count in zip(_WEIGHTS, taken, strict=True) if count == 0}
    return dataclasses.replace(experiment, hyper=merge(experiment.hyper, idle))


def variants(experiment: Experiment) -> tuple[Variant, ...]:
    """The variants of an experiment: first the plain agent, if the experiment compares."""
    nothing = {name: 0.0 for name in _WEIGHTS if hasattr(experiment.hyper, name)}
    plain = Variant("plain", merge(experiment.hyper, nothing), experiment.agent)
    sobolev = Variant("sobolev", experiment.hyper, experiment.agent)
    # Without gradient terms, or with both weights at zero, the variants would be identical.
    if experiment.config.first_order == "off" or not any(sobolev.weights.values()):
        return (plain,)
    return (plain, sobolev) if experiment.compare else (sobolev,)
