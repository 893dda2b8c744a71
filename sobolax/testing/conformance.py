"""Whether an environment keeps what the protocol promises: one call, one report or one error."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import jax
import numpy as np

from sobolax.checks import check_structure
from sobolax.environment import Environment
from sobolax.testing import behaviour, gradients
from sobolax.testing.harness import DOUBLE, SINGLE, Harness, Precision


class NonconformingEnvironment(ValueError):
    """An environment that breaks promises of the protocol.

    Attributes:
        report: What was found, with `faults`: name of a check to what is wrong and what to do.

    Example:
        >>> report = EnvironmentReport("mine")
        >>> report.add("perturb", "moves the reward")
        >>> print(NonconformingEnvironment(report))
        environment 'mine' breaks its protocol:
        - perturb: moves the reward
    """

    def __init__(self, report: "EnvironmentReport"):
        self.report = report
        faults = "\n".join(f"- {check}: {text}" for check, text in report.faults.items())
        super().__init__(f"environment {report.name!r} breaks its protocol:\n{faults}")


@dataclass
class EnvironmentReport:
    """What the checks of an environment found.

    Attributes:
        name: The environment's.
        precision: `"float64"` or `"float32"`: what tangents were held to differences in.
        passed: Checks that found nothing.
        faults: Of those that found something: what, and what to do instead.
        notes: What could not be checked, or is worth knowing.
        steps: How many steps the rollouts went.
        terminations: How many episodes ended in them.
        tangent_error: The largest difference between a tangent and its central difference, over
            all that could be judged, relative to the largest entry of its part.
        judged: Which share of the tangents' entries the differences could judge.

    Example:
        >>> report = EnvironmentReport("mine")
        >>> report.add("structure", None)
        >>> report.passed, report.faults
        (['structure'], {})
    """

    name: str
    precision: str = ""
    passed: list[str] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    steps: int = 0
    terminations: int = 0
    tangent_error: float = float("nan")
    judged: float = 0.0

    def add(self, check: str, fault: str | None) -> None:
        """Takes down what a check found."""
        if fault is None:
            self.passed.append(check)
        else:
            self.faults[check] = fault


def check_environment(
    environment: Environment | Callable[[], Environment],
    *,
    steps: int | None = None,
    states: int = 3,
    seed: int = 0,
) -> EnvironmentReport:
    """Holds an environment to everything that `sobolax.environment.Environment` promises.

    Structure, shapes and types; purity; the first state; `vmap` and `jit`; that rollouts of random
    actions stay finite, end for a reason and are never reset by `step` itself; `perturb`; tangents,
    finite and against central differences; reverse mode and derivatives of its own, where it says
    that it has them; actions at their limits.

    Differences are taken in float64 where the environment computes in it under
    `jax.enable_x64(True)`. One that keeps arrays from its construction should come as a function
    that makes it, say its class: `check_environment(Mine)`.

    Args:
        environment: An environment, or a function without arguments that makes one.
        steps: How far rollouts go; None for one more than an episode has, at most 256.
        states: At how many states tangents are held to differences.
        seed: Of all random numbers.

    Returns:
        What was found. It takes seconds for an analytic environment, and minutes for contact
        physics on a CPU, nearly all of it compilation.

    Raises:
        NonconformingEnvironment: A ValueError that lists every broken promise, naming the leaf and
            what to do instead.
        ValueError: If `steps` or `states` is below 1.

    Example:
        >>> from sobolax.cart import Cart
        >>> report = check_environment(Cart, steps=2, states=1)
        >>> report.precision, report.tangent_error < 1e-6
        ('float64', True)
    """
    if (steps is not None and steps < 1) or states < 1:
        raise ValueError(f"check_environment: steps={steps} and states={states} must be at least 1")
    make = _maker(environment)
    found = _in_double(make)
    if isinstance(found, str):
        with jax.enable_x64(False):
            report = _checked(make(), SINGLE, steps, states, seed)
        report.notes.append(f"float32 only: {found}")
    else:
        with jax.enable_x64(True):
            report = _checked(found, DOUBLE, steps, states, seed)
    if report.faults:
        raise NonconformingEnvironment(report)
    return report


def _maker(environment: Environment | Callable[[], Environment]) -> Callable[[], Environment]:
    # A class has its instances' methods.
    if isinstance(environment, type) or not hasattr(environment, "reset"):
        return cast(Callable[[], Environment], environment)
    return lambda: cast(Environment, environment)


def _in_double(make: Callable[[], Environment]) -> Environment | str:
    """The environment, if it computes in float64; else why not."""
    with jax.enable_x64(True):
        try:
            found = make()
            check_structure(found)
            state = jax.eval_shape(found.reset, jax.random.key(0))
        except Exception as error:  # of any class: the float32 run shows whose fault it was
            return " ".join(str(error).split())[:200]
    if state.observation.dtype != np.float64:
        return f"under enable_x64 its observation is {state.observation.dtype}"
    return found


def _checked(
    environment: Environment, precision: Precision, steps: int | None, states: int, seed: int
) -> EnvironmentReport:
    name = getattr(environment, "name", type(environment).__name__)
    report = EnvironmentReport(str(name), np.dtype(precision.dtype).name)
    try:
        check_structure(environment)
    except ValueError as error:
        # No other check can run.
        report.add("structure", str(error))
        return report
    report.add("structure", None)
    limit = min(environment.episode_length + 1, 256) if steps is None else steps
    if limit <= environment.episode_length:
        report.notes.append(
            f"rollouts end after {limit} of {environment.episode_length} steps: what happens at "
            "the time limit was not seen"
        )
    harness = Harness(environment, precision, seed)
    for check, fault in _all(harness, report, limit, states):
        report.add(check, fault)
    return report


def _all(
    harness: Harness, report: EnvironmentReport, limit: int, states: int
) -> Iterator[tuple[str, str | None]]:
    yield "purity", (fault := behaviour.purity(harness))
    if fault is not None:
        return  # no other result would mean anything
    yield "reset", behaviour.first_states(harness)
    yield "vmap and jit", behaviour.batching(harness)
    rollout = behaviour.roll(harness, limit)
    report.steps, report.terminations = rollout.steps, rollout.terminations
    if limit > harness.environment.episode_length and rollout.reached < behaviour.ENOUGH_EPISODES:
        report.notes.append(
            "episodes of random actions ended before the time limit: what happens there was not "
            "seen"
        )
    for check in ("rollout", "termination", "automatic reset"):
        yield check, rollout.faults.get(check)
    _, last, live = rollout.states[-1]
    yield "perturb", behaviour.perturbation(harness, last, live)
    yield "finite tangents", rollout.faults.get("finite tangents")
    judgement = gradients.judge(harness, rollout.states, states)
    report.tangent_error, report.judged = judgement.error, judgement.judged
    yield "tangents", judgement.fault
    yield "actions at their limits", gradients.at_the_limits(harness, rollout.states[0][1])
    if harness.environment.reverse_mode:
        yield "reverse mode", gradients.reverse(harness, last)
    yield from gradients.own_derivatives(harness, last)
