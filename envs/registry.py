"""Which environments there are, and how one is made from its name."""

import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from sobolax.checks import check_structure, suggestion
from sobolax.environment import Environment

# As text, so that nothing is imported before it is used.
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

#: What `make` does with any environment, or any of MuJoCo's.
_OF_ALL = "history", "randomize", "observe_factors"

_REGISTERED: dict[str, Callable[..., Environment]] = {}

_HELP = (
    f"the suites are {', '.join(sorted(_SUITES))}, as in 'brax:reacher'; a class of your own is "
    "'package.module:Class', with the module in the working directory or installed"
)


def suite_names() -> tuple[str, ...]:
    """Whose environments `make` knows besides ours, as `"suite:name"`."""
    return tuple(sorted(_SUITES))


def names() -> tuple[str, ...]:
    """The names that `make` knows, in alphabetical order, registered ones included."""
    return tuple(sorted([*_CLASSES, *_REGISTERED]))


def is_own(name: str) -> bool:
    """Whether `make` takes an environment of this name from this project's own files."""
    return name in _CLASSES


def is_own_mujoco(name: str) -> bool:
    """Whether somebody's own class of this name is one of MuJoCo's environments; it is not made.

    Its module is imported, as `make` will do. Functions that make environments are not known, and
    what cannot be imported is left to `make`, which says why.
    """
    place, colon, attribute = name.partition(":")
    if name not in _REGISTERED and (not colon or place in _SUITES):
        return False
    try:
        found = _REGISTERED.get(name) or _load_own(place, attribute)
    except ValueError:
        return False
    # The module of its base class is loaded by then, if it is one.
    base = sys.modules.get("envs.mujoco.base")
    return (
        base is not None and isinstance(found, type) and issubclass(found, base.MujocoEnvironment)
    )


def register(name: str, factory: Callable[..., Environment]) -> None:
    """Gives an environment of your own a name for `make`, in this process.

    Commands start a process of their own: give them `--env package.module:Class` instead.

    Args:
        name: Letters, digits, `_`, `-` and `.`, beginning with a letter.
        factory: Called with the parameters of `make`, often a class. Nothing is called before.

    Raises:
        ValueError: If the name is invalid, taken, or a suite's.
        TypeError: If the factory is not callable.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w.-]*", name, re.ASCII):
        raise ValueError(
            f"{name!r} is no name for an environment: use letters, digits, '_', '-' and '.', "
            "with a letter first ('suite:name' is for other people's)"
        )
    if name in _SUITES:
        raise ValueError(
            f"{name!r} is a suite, and make would look for other people's environments there: "
            f"choose another name, say 'my_{name}'"
        )
    if name in names():
        raise ValueError(f"there is an environment {name!r} already: choose another name")
    if not callable(factory):
        raise TypeError(
            f"the factory of {name!r} is {factory!r}, but must be a class or a function that "
            "makes an environment"
        )
    _REGISTERED[name] = factory


def make(
    name: str,
    *,
    randomize: Mapping[str, Any] | None = None,
    observe_factors: bool | str = False,
    history: int | None = None,
    **parameters: Any,
) -> Environment:
    """Makes an environment.

    Args:
        name: One of `names()`; `"suite:name"` with one of `suite_names()` and the name that the
            environment has there, say `"brax:reacher"`; or `"package.module:Class"` for a class
            (or function) of your own, imported from the working directory or wherever Python
            finds it.
        randomize: Parameters of a MuJoCo model that are drawn at every reset, with the range of
            their factor, say `{"density": (0.8, 1.2)}`: `envs.mujoco.randomization.randomize`.
        observe_factors: Whether observations end with the factors that were drawn; "critic" for
            the critics alone.
        history: How many of the last observations are seen as one: `envs.history.history`. None
            for the environment's own observation.
        **parameters: What its constructor takes, say `joints=8` for `chain`.

    Returns:
        The environment.

    Raises:
        TypeError: If `randomize` is given and the environment is not a MuJoCo environment.
        ValueError: If the name or a parameter is unknown, a parameter is out of range, or a class
            of your own cannot be imported or makes no environment.
        ImportError: If the environment needs a package that is not installed.
    """
    environment = _make(name, parameters)
    if randomize is not None:
        randomization = importlib.import_module("envs.mujoco.randomization")
        environment = randomization.randomize(environment, randomize, observed=observe_factors)
    elif observe_factors:
        raise ValueError(f"{name}: observe_factors needs randomize: no factor is drawn")
    if history is None:
        return environment
    return importlib.import_module("envs.history").history(environment, history)


def _make(name: str, parameters: dict[str, Any]) -> Environment:
    place, colon, rest = name.partition(":")
    if place in _SUITES:
        return _load_suite(place)(rest, **parameters)
    factory = _REGISTERED.get(name) or (_load_own(place, rest) if colon else _load(name))
    _check_parameters(name, factory, parameters)
    if name in _CLASSES:
        return factory(**parameters)
    environment = _made(name, factory, parameters)
    check_structure(environment)
    return environment


def gymnasium_env(environment: Environment) -> Any:
    """An environment as a `gymnasium.Env`: `envs.elsewhere.gymnasium_view.SobolaxEnv`.

    Raises:
        ValueError: If it does not keep the protocol.
        ImportError: If Gymnasium is not installed.
    """
    return _elsewhere("gymnasium_view:SobolaxEnv", "gymnasium")(environment)


def gymnasium_vector(environment: Environment, num_envs: int, autoreset: str = "next_step") -> Any:
    """An environment, many times, as Gymnasium's `VectorEnv`; one compiled program.

    Args:
        environment: The environment, say of `make`.
        num_envs: How many.
        autoreset: `"next_step"` or `"same_step"`; `metadata["autoreset_mode"]` says which.

    Returns:
        `envs.elsewhere.gymnasium_view.SobolaxVectorEnv`, which says more.

    Raises:
        ValueError: If a parameter cannot be, or the environment does not keep the protocol.
        ImportError: If Gymnasium is not installed.
    """
    view = _elsewhere("gymnasium_view:SobolaxVectorEnv", "gymnasium")
    return view(environment, num_envs, autoreset)


def brax_env(environment: Environment) -> Any:
    """An environment as a `brax.envs.Env`: `envs.elsewhere.brax_view.SobolaxBraxEnv`.

    Raises:
        ValueError: If it does not keep the protocol.
        ImportError: If Brax is not installed.
    """
    return _elsewhere("brax_view:SobolaxBraxEnv", "brax")(environment)


def _elsewhere(where: str, extra: str) -> type:
    return _imported(f"envs.elsewhere.{where}", f"{extra}'s interface", extra)


def _made(
    name: str, factory: Callable[..., Environment], parameters: dict[str, Any]
) -> Environment:
    """What somebody's own class or function makes; its errors say where they are from."""
    try:
        return factory(**parameters)
    except (ValueError, ImportError):
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        given = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
        raise ValueError(
            f"environment {name!r} cannot be made{f' with {given}' if given else ''}: "
            f"{type(error).__name__}: {error} ({where.filename}, line {where.lineno})"
        ) from error


def _check_parameters(name: str, factory: Callable[..., Any], parameters: dict[str, Any]) -> None:
    accepted = inspect.signature(factory).parameters
    if any(one.kind is one.VAR_KEYWORD for one in accepted.values()):
        return
    unknown = [key for key in parameters if key not in accepted]
    if unknown:
        listing = ", ".join(
            key if one.default is one.empty else f"{key}={one.default!r}"
            for key, one in accepted.items()
        )
        raise ValueError(
            f"environment {name!r} has no parameter {unknown[0]!r}"
            f"{suggestion(unknown[0], [*accepted, *_OF_ALL])}; it takes {listing or 'none'}, and "
            "as any environment history, MuJoCo's randomize and observe_factors too"
        )
    missing = [
        key
        for key, one in accepted.items()
        if one.default is one.empty and one.kind is not one.VAR_POSITIONAL and key not in parameters
    ]
    if missing:
        raise ValueError(f"environment {name!r} needs the parameter {missing[0]!r}")


def _as_place(module: str, attribute: str) -> str:
    """`package.module:Class` as a hint, of what may be a file's path; empty if there is none."""
    module = module.removesuffix(".py").removeprefix("./").replace("/", ".")
    known = all(part.isidentifier() for part in [*module.split("."), attribute])
    return f" (did you mean '{module}:{attribute}'?)" if known else ""


def _load_own(module_name: str, attribute: str) -> Callable[..., Any]:
    """The class (or function) of somebody else's module."""
    what = f"environment '{module_name}:{attribute}'"
    named = all(part.isidentifier() for part in module_name.split("."))
    if not named or module_name.endswith(".py"):
        hint = _as_place(module_name, attribute)
        raise ValueError(f"{what}: {module_name!r} is no name of a module{hint}; {_HELP}")
    # As `python -m` does; commands that were installed do not.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"{what}: {module_name} needs {error.name}: {error}") from error
        raise ValueError(
            f"there is no suite {module_name!r}{suggestion(module_name, _SUITES)} and no module "
            f"{error.name!r}; {_HELP}"
        ) from error
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"{what}: importing {module_name} failed with {type(error).__name__}: {error} "
            f"({where.filename}, line {where.lineno})"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise ValueError(
            f"{what}: {module.__file__} has no {attribute!r}{suggestion(attribute, vars(module))}"
        )
    if not callable(found):
        raise ValueError(
            f"{what} is {found!r}, but must be a class or a function that makes an environment"
        )
    return found


def _load(name: str) -> type:
    if name not in _CLASSES:
        module, _, attribute = name.rpartition(".")
        hint = _as_place(module, attribute) or suggestion(name, names(), 3)
        raise ValueError(
            f"there is no environment {name!r}{hint}; the environments are {', '.join(names())}"
        )
    return _imported(_CLASSES[name], f"environment {name!r}", "envs")


def _load_suite(suite: str) -> type:
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
            f"{what} needs {error.name}, which is not installed: run pip install --editable "
            f"'.[{extra}]' in the checkout"
        ) from error
