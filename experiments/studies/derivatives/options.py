"""What an audit is asked for, and what can be checked before anything compiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import envs
from experiments.launch import run_folder
from experiments.launch.configuration import defaults, parse_environment_arguments
from experiments.launch.policy import TrainedPolicy, load_policy
from sobolax.environment import Environment
from sobolax.tangents.methods import METHODS, Derivatives, reason_against


@dataclass(frozen=True)
class Audit:
    """Measures the derivatives of an environment, and leaves a table, plots and JSON.

    Attributes:
        env: Name of the environment.
        env_args: Parameters of the environment as name=value, such as joints=8.
        methods: Derivative methods to audit; none named: analytic where there is one, and
            forward.
        states: States of each kind (reset, random policy, airborne, ...).
        compared: How many of them are compared with float64 central differences.
        in_float64: Which methods are compared in float64 too, beside float32: the "first", "all"
            or "none". Each has to be compiled once more for it.
        chain: Numbers of environment steps whose Jacobians are multiplied.
        rollout_states: States of rollouts with tangents, in which what is not finite is counted
            and from which chains and Lyapunov exponents come; 100000 for a thorough count.
        discount: The discount factor whose 1 / discount growth is held against.
        bound: Spectral norms above it count as extreme.
        policy: Folder of a run of experiments.train whose policy gives the states of a trained
            policy; None to do without.
        one_iteration: Measure what one iteration of the constraint solver is worth, where there
            is a solver.
        batch: States side by side in a program; prices are per state at this batch.
        repetitions: Timed calls of each method, after one that is not timed.
        seed: Where random numbers start.
        output: Folder, new or empty; None for a new one under runs/.
    """

    env: str = "chain"
    env_args: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    states: int = 32
    compared: int = 8
    in_float64: Literal["first", "all", "none"] = "first"
    chain: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    rollout_states: int = 2048
    discount: float = 0.99
    bound: float = 1e3
    policy: Path | None = None
    one_iteration: bool = True
    batch: int = 64
    repetitions: int = 5
    seed: int = 0
    output: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """An audit that is known to be sound; nothing is compiled and nothing written yet.

    Attributes:
        audit: What was asked for, with its methods filled in.
        parameters: Of the environment.
        environment: The environment.
        policy: The trained policy, or None.
        folder: Where results go.
    """

    audit: Audit
    parameters: Mapping[str, Any]
    environment: Environment
    policy: TrainedPolicy | None
    folder: Path


def prepare(audit: Audit) -> Prepared:
    """Checks what was asked for; compiles nothing.

    Raises:
        ValueError: Saying what is wrong and what to do instead.
    """
    for name in ("states", "compared", "rollout_states", "batch", "repetitions"):
        _check(name, getattr(audit, name), getattr(audit, name) >= 1, "at least 1")
    _check("seed", audit.seed, 0 <= audit.seed < 2**31, "from 0 to 2**31 - 1")
    _check("discount", audit.discount, 0 < audit.discount < 1, "between 0 and 1")
    _check("bound", audit.bound, 0 < audit.bound < float("inf"), "finite and above 0")
    rising = all(a < b for a, b in zip(audit.chain, audit.chain[1:], strict=False))
    sound = bool(audit.chain) and audit.chain[0] >= 1 and rising
    _check("chain", audit.chain, sound, "rising numbers of steps from 1 on, such as 1 2 4 8")
    parameters = {
        **defaults(audit.env).env_args,
        **parse_environment_arguments(audit.env_args),
    }
    try:
        environment = envs.make(audit.env, **parameters)
    except (TypeError, ImportError) as error:
        raise ValueError(str(error)) from error
    methods = audit.methods or default_methods(environment)
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"--methods {method!r} is unknown: choose from {', '.join(METHODS)}")
        Derivatives(method=method).check(environment)
    folder = run_folder.choose(audit.output, audit.env, ["gradient-audit"])
    policy = None if audit.policy is None else _policy(audit, parameters)
    values = {**vars(audit), "methods": tuple(dict.fromkeys(methods))}
    return Prepared(Audit(**values), parameters, environment, policy, folder)


def default_methods(environment: Environment) -> tuple[str, ...]:
    """The method of choice, and forward mode."""
    found = ("analytic", "forward")
    return tuple(name for name in found if reason_against(name, environment) is None)


def _policy(audit: Audit, parameters: Mapping[str, Any]) -> TrainedPolicy:
    assert audit.policy is not None
    if not audit.policy.is_dir():
        raise ValueError(f"--policy {audit.policy} does not exist: name the folder of a run")
    policy = load_policy(audit.policy)
    if policy.environment.name != audit.env:
        raise ValueError(
            f"--policy {audit.policy} was trained on {policy.environment.name!r}, not on "
            f"{audit.env!r}: name a run of the same environment"
        )
    sizes = ("observation_size", "action_size")
    own = envs.make(audit.env, **parameters)
    if any(getattr(own, size) != getattr(policy.environment, size) for size in sizes):
        raise ValueError(
            f"--policy {audit.policy} was trained on {audit.env!r} with other parameters: "
            "name the same --env-args"
        )
    return policy


def _check(name: str, value: Any, sound: bool, rule: str) -> None:
    if not sound:
        raise ValueError(f"--{name.replace('_', '-')} {value} must be {rule}")
