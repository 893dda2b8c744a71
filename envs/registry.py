"""Which environments there are, and how one is made from its name."""

import difflib
import importlib
import inspect
from typing import Any

from sobolax.environment import Environment

# Written as text, so that nothing is imported before somebody asks for it.
_CLASSES = {
    "ant": "envs.mujoco.ant:Ant",
    "cartpole": "envs.mujoco.cartpole:Cartpole",
    "chain": "envs.mujoco.chain:Chain",
    "half_cheetah": "envs.mujoco.half_cheetah:HalfCheetah",
    "hopper": "envs.mujoco.hopper:Hopper",
    "humanoid": "envs.mujoco.humanoid:Humanoid",
    "lqr": "envs.analytic.lqr:LQR",
    "pendulum": "envs.analytic.pendulum:Pendulum",
    "point_mass": "envs.analytic.point_mass:PointMass",
    "pusher": "envs.mujoco.pusher:Pusher",
    "reacher": "envs.mujoco.reacher:Reacher",
    "scalar": "envs.analytic.scalar:Scalar",
    "walker2d": "envs.mujoco.walker2d:Walker2d",
}

# Other people's, behind a prefix: an adapter each, and the extra that brings what it needs.
_SUITES = {
    "brax": ("envs.suites.brax_environment:BraxEnvironment", "brax"),
    "gymnasium": ("envs.suites.gymnasium_environment:GymnasiumEnvironment", "gymnasium"),
    "gymnax": ("envs.suites.gymnax_environment:GymnaxEnvironment", "gymnax"),
    "playground": ("envs.suites.playground_environment:PlaygroundEnvironment", "playground"),
}


def suites() -> tuple[str, ...]:
    """Whose environments `make` knows besides ours, as `"suite:name"`."""
    return tuple(sorted(_SUITES))


def names() -> tuple[str, ...]:
    """The names that `make` knows, in alphabetical order."""
    return tuple(sorted(_CLASSES))


def make(name: str, **parameters: Any) -> Environment:
    """Makes an environment.

    Args:
        name: One of `names()`, or `"suite:name"` with one of `suites()` and the name that the
            environment has there, say `"brax:reacher"`.
        **parameters: What its constructor takes, say `joints=8` for `chain`.

    Returns:
        The environment.

    Raises:
        ValueError: If the name or a parameter is unknown, or a parameter is out of range.
        ImportError: If the environment needs a package that is not installed.
    """
    if ":" in name:
        suite, _, theirs = name.partition(":")
        return _load_suite(suite)(theirs, **parameters)
    environment_class = _load(name)
    accepted = inspect.signature(environment_class).parameters
    unknown = [key for key in parameters if key not in accepted]
    if unknown:
        listing = ", ".join(f"{key}={parameter.default!r}" for key, parameter in accepted.items())
        raise ValueError(
            f"environment {name!r} has no parameter {unknown[0]!r}"
            f"{_suggestion(unknown[0], accepted)}; it takes {listing or 'none'}"
        )
    return environment_class(**parameters)


def _load(name: str) -> type:
    if name not in _CLASSES:
        raise ValueError(
            f"there is no environment {name!r}{_suggestion(name, _CLASSES)}; "
            f"the environments are {', '.join(names())}"
        )
    return _imported(_CLASSES[name], f"environment {name!r}", "envs")


def _load_suite(suite: str) -> type:
    if suite not in _SUITES:
        raise ValueError(
            f"there is no suite {suite!r}{_suggestion(suite, _SUITES)}; the suites are "
            f"{', '.join(suites())}, as in 'brax:reacher'"
        )
    where, extra = _SUITES[suite]
    return _imported(where, f"suite {suite!r}", extra)


def _imported(where: str, what: str, extra: str) -> type:
    module, _, class_name = where.partition(":")
    try:
        return getattr(importlib.import_module(module), class_name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("envs", "sobolax"):
            raise  # a fault of ours, not a package to install
        raise ImportError(
            f"{what} needs {error.name}, which is not installed: run pip install 'sobolax[{extra}]'"
        ) from error


def _suggestion(word: object, known) -> str:
    near = difflib.get_close_matches(str(word).lower().replace("-", "_"), known, n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(repr(match) for match in near)}?)" if near else ""
