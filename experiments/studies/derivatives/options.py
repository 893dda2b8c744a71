"""The options of an audit, and what can be checked before anything compiles."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.launch.configuration import (
    defaults,
    make_environment,
    parse_environment_arguments,
)
from experiments.launch.flags import check_seed
from experiments.launch.policy import TrainedPolicy, load_policy
from experiments.studies.study import check_flags, check_rising
from sobolax.checks import check_choice
from sobolax.environment import Environment
from sobolax.tangents.methods import METHODS, Derivatives, reason_against


@dataclass(frozen=True)
class Options:
    """Measures the derivatives of an environment: error, norms, growth and cost.

    The defaults take minutes on 2 cores; all environments here took 44. For a trial: `--env
    pendulum --states 4 --compared 2 --rollout-states 64`.

    Attributes:
        env: Name of the environment.
        env_args: Parameters of the environment as name=value, such as joints=8.
        methods: Derivative methods to audit; by default analytic where there is one, and forward.
        states: States of each kind (reset, random policy, airborne, ...).
        compared: How many of them are compared with float64 central differences.
        chain: Numbers of environment steps whose Jacobians are multiplied.
        rollout_states: States of rollouts with tangents, from which chains, exponents and counts
            of what is not finite come; 100000 for a thorough count.
        discount: The discount factor whose 1 / discount growth is compared with.
        bound: Spectral norms above it count as extreme.
        policy: Folder of a run of experiments.train whose policy gives the states of a trained
            policy; None for none.
        one_iteration: Compare Jacobians of one solver iteration with converged ones, where there
            is a solver.
        batch: States side by side in a program; costs are per state at this batch.
        repetitions: Timed calls of each method, after one that is not timed.
        seed: Seed of states and actions.
    """

    env: str = "chain"
    env_args: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    states: int = 32
    compared: int = 8
    chain: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    rollout_states: int = 2048
    discount: float = 0.99
    bound: float = 1e3
    policy: Path | None = None
    one_iteration: bool = True
    batch: int = 64
    repetitions: int = 5
    seed: int = 0


# Of `envs.make`, for every environment.
_BESIDE_PHYSICS = {
    "history": "whose derivatives are those of physics, which a history leaves as they are",
    "randomize": "which simulates one model, the nominal one",
    "observe_factors": "which simulates one model, the nominal one",
}


def check(
    options: Options,
) -> tuple[Environment, Mapping[str, Any], tuple[str, ...], TrainedPolicy | None]:
    """The environment, its parameters, the methods and the trained policy; compiles nothing.

    Raises:
        ValueError: If an option cannot work; the message names the fix.
    """
    counts = ("states", "compared", "rollout_states", "batch", "repetitions")
    check_flags(options, counts, lambda x: x >= 1, "at least 1")
    check_seed(options.seed, bits=31)
    check_flags(options, ["discount"], lambda x: 0 < x < 1, "between 0 and 1")
    check_flags(options, ["bound"], lambda x: 0 < x < math.inf, "finite and above 0")
    check_rising(options, "chain")
    given = parse_environment_arguments(options.env_args)
    parameters = {**defaults(options.env).env_args, **given}
    for name, why in _BESIDE_PHYSICS.items():
        if name in parameters:
            raise ValueError(f"--env-args {name}=... is not for an audit, {why}: leave it out")
    environment = make_environment(options.env, parameters)
    methods = options.methods or tuple(
        name for name in ("analytic", "forward") if reason_against(name, environment) is None
    )
    for method in methods:
        check_choice("--methods ", method, METHODS)
        Derivatives(method=method).check(environment)
    policy = None if options.policy is None else _policy(options.policy, options.env, environment)
    return environment, parameters, tuple(dict.fromkeys(methods)), policy


def _policy(folder: Path, env: str, environment: Environment) -> TrainedPolicy:
    if not folder.is_dir():
        raise ValueError(f"--policy {folder} does not exist: name the folder of a run")
    policy = load_policy(folder, env=env)
    theirs = policy.environment
    if theirs.name != env:
        raise ValueError(
            f"--policy {folder} was trained on {theirs.name!r}, not on {env!r}: "
            "name a run of the same environment"
        )
    sizes = ("observation_size", "action_size")
    if any(getattr(environment, size) != getattr(theirs, size) for size in sizes):
        raise ValueError(
            f"--policy {folder} was trained on {env!r} with other parameters: "
            "name the same --env-args"
        )
    return policy
