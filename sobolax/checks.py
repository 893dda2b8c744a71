"""Checks that run before anything compiles, with errors that say what to do instead."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sobolax.bounds import trace
from sobolax.environment import Environment, State, actor_observations, coordinate_names
from sobolax.transition import Tangents, Transition

#: Programs count in int32, and beyond it the numbers would be negative.
LARGEST_COUNT = 2**31 - 1

_PARTS = ("observation", "action", "reward", "discount", "next_observation")


def owner_of(values: Any) -> str:
    """What messages call a configuration, or a class of them: its module and its class.

    Example:
        >>> from sobolax.agents import sac
        >>> owner_of(sac.Config())
        'sac.Config'
    """
    cls = values if isinstance(values, type) else type(values)
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


def check_choice(what: str, value: Any, choices: Iterable[str]) -> None:
    """Checks that a name is one of those there are.

    Raises:
        ValueError: With the nearest name, and all of them.

    Example:
        >>> check_choice("mine: gradient_target=", "belman", ["bellman", "zero"])
        Traceback (most recent call last):
        ValueError: mine: gradient_target='belman' is unknown (did you mean 'bellman'?): ...
    """
    choices = tuple(choices)
    if value not in choices:
        hint = suggestion(value, choices)
        raise ValueError(f"{what}{value!r} is unknown{hint}: choose one of {', '.join(choices)}")


def suggestion(value: Any, choices: Iterable[str], count: int = 1) -> str:
    """The nearest names as part of a message; empty where none is near.

    Args:
        value: The name that is none of them.
        choices: The names that there are.
        count: How many names at most.

    Example:
        >>> suggestion("Cart-Pol", ["cart_pole", "hopper"])
        " (did you mean 'cart_pole'?)"
    """
    plain = {choice.lower().replace("-", "_"): choice for choice in choices}
    given = str(value).lower().replace("-", "_")
    near = difflib.get_close_matches(given, plain, n=count, cutoff=0.65)
    return f" (did you mean {' or '.join(repr(plain[name]) for name in near)}?)" if near else ""


def check_scalars(
    owner: str,
    values: Any,
    *,
    at_least_zero: Sequence[str] = (),
    above_zero: Sequence[str] = (),
    at_most_one: Sequence[str] = (),
    finite: Sequence[str] = (),
) -> None:
    """Checks named attributes that are numbers or arrays of numbers, whatever made them.

    Of a tracer only the type is known, and of a placeholder of a transformation nothing. A number
    is judged as it will be computed with: 1e39 is infinite in float32.

    Raises:
        ValueError: Naming the attribute, its value and what is allowed.

    Example:
        >>> from sobolax.losses import Weights
        >>> check_scalars("mine", Weights(state=-1.0, action=0.0), at_least_zero=["state"])
        Traceback (most recent call last):
        ValueError: mine: state=-1.0 must be finite and at least 0
    """
    rules: tuple[tuple[Sequence[str], Callable[[np.ndarray], Any], str], ...] = (
        (finite, np.isfinite, "must be finite"),
        (at_least_zero, lambda x: np.isfinite(x) & (x >= 0), "must be finite and at least 0"),
        (above_zero, lambda x: x > 0, "must be above 0"),
        (at_most_one, lambda x: x <= 1, "must be at most 1"),
    )
    for names, allowed, rule in rules:
        for name in names:
            value = getattr(values, name)
            number = _concrete(f"{owner}: {name}=", value)
            if number is not None and not np.all(allowed(number)):
                rounded = f", and is {number} in {number.dtype}" if np.ndim(number) == 0 else ""
                same = not rounded or float(value) == float(number) or np.isnan(number)
                raise ValueError(f"{owner}: {name}={value} {rule}{'' if same else rounded}")


def _concrete(what: str, value: Any) -> np.ndarray | None:
    """A number or an array of numbers in the precision it is computed in; None if not known."""
    if type(value) is object or isinstance(value, jax.ShapeDtypeStruct):
        return None  # what transformations put there
    dtype = None
    if isinstance(value, bool | int | float):
        dtype = np.asarray(value).dtype
    elif isinstance(value, np.ndarray | np.generic | jax.Array):
        dtype = value.dtype
    kinds = jnp.floating, jnp.integer
    if dtype is None or not any(jnp.issubdtype(dtype, kind) for kind in kinds):
        found = f"a {type(value).__name__}" if dtype is None else f"{dtype}"
        raise ValueError(f"{what}{value!r} is {found}, but must be a real number")
    if isinstance(value, Tracer) or not getattr(value, "is_fully_addressable", True):
        return None
    with np.errstate(over="ignore"):
        return np.asarray(value).astype(jax.dtypes.canonicalize_dtype(np.float64))


def check_counts(owner: str, values: Any, at_least: dict[str, int]) -> None:
    """Checks that named attributes are whole numbers of at least so much, and can be counted.

    Raises:
        ValueError: Naming the attribute, its value and what is allowed.

    Example:
        >>> from sobolax.training.config import LoopConfig
        >>> check_counts("mine", LoopConfig(epochs=0), {"epochs": 1})
        Traceback (most recent call last):
        ValueError: mine: epochs=0 must be a whole number of at least 1
    """
    for name, smallest in at_least.items():
        value = getattr(values, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
            raise ValueError(
                f"{owner}: {name}={value!r} must be a whole number of at least {smallest}"
                + (f", an int: give {int(value)}" if isinstance(value, np.integer) else "")
            )
        if value > LARGEST_COUNT:
            raise ValueError(f"{owner}: {name}={value} must be at most {LARGEST_COUNT:,}")


def check_flags(owner: str, values: Any, names: Iterable[str]) -> None:
    """Checks that named attributes are True or False.

    Raises:
        ValueError: Naming the attribute and its value.

    Example:
        >>> from sobolax.training.config import LoopConfig
        >>> config = LoopConfig(normalize_observations="no")
        >>> check_flags("mine", config, ["normalize_observations"])
        Traceback (most recent call last):
        ValueError: mine: normalize_observations='no' must be True or False
    """
    for name in names:
        value = getattr(values, name)
        if not isinstance(value, bool):
            raise ValueError(f"{owner}: {name}={value!r} must be True or False")


def check_multiple(owner: str, name: str, value: int, of: str, divisor: int) -> None:
    """Checks that one count is a multiple of another.

    Raises:
        ValueError: With the nearest values that would do.

    Example:
        >>> check_multiple("mine", "replay_capacity", 100, of="num_envs", divisor=16)
        Traceback (most recent call last):
        ValueError: mine: replay_capacity=100 must be a multiple of num_envs=16: ... 96 or 112
    """
    if value % divisor:
        below = value // divisor * divisor
        nearest = f"{below} or {below + divisor}" if below else f"{divisor}"
        raise ValueError(
            f"{owner}: {name}={value} must be a multiple of {of}={divisor}: "
            f"the nearest are {nearest}"
        )


def check_structure(environment: Environment) -> None:
    """Checks shapes and types of an environment's functions, without running or compiling them.

    Raises:
        ValueError: If an attribute is missing or impossible, if `reset`, `step` or `perturb`
            returns a state of another structure, shape or type than `reset`, if one of them fails
            at the sizes that the environment states, or if it names more or fewer coordinates.

    Example:
        >>> from sobolax.cart import Cart
        >>> cart = Cart()
        >>> check_structure(cart)
        >>> cart.observation_size = 3
        >>> check_structure(cart)
        Traceback (most recent call last):
        ValueError: ... reset gives an observation of shape (2,), but observation_size says (3,)
    """
    if isinstance(environment, type):
        made = environment.__name__
        raise ValueError(f"environment is the class {made}: hand over one that is made, {made}()")
    name = getattr(environment, "name", type(environment).__name__)
    owner = f"environment {name!r}"
    parts = ("name", "reverse_mode", "reset", "step", "perturb")
    if absent := [part for part in parts if not hasattr(environment, part)]:
        raise ValueError(
            f"{owner} has no {', no '.join(absent)}: sobolax.environment.Environment says what "
            "these are"
        )
    for attribute in ("observation_size", "action_size", "state_size", "episode_length"):
        size = getattr(environment, attribute, None)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                f"{owner}: {attribute} is {size!r}, but must be a whole number of at least 1"
            )
    actor_observations(environment)
    reset = partial(jax.eval_shape, environment.reset)
    state = _shape_of(owner, "reset(key)", reset, jax.random.key(0))
    _check_arrays(owner, state)
    dtype = state.observation.dtype
    if state.observation.shape != (environment.observation_size,):
        raise ValueError(
            f"{owner}: reset gives an observation of shape {state.observation.shape}, but "
            f"observation_size says ({environment.observation_size},)"
        )
    for leaf, what in ((state.reward, "reward"), (state.discount, "discount")):
        if leaf.shape != ():
            raise ValueError(f"{owner}: {what} has shape {leaf.shape}, but must be a scalar ()")
    for leaf, what in ((state.observation, "observation"), (state.reward, "reward")):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"{owner}: {what} is {leaf.dtype}, which has no gradients: give floating-point "
                "numbers (a one-hot or pixel observation has none either)"
            )
    if dtype.itemsize < 4:
        raise ValueError(
            f"{owner}: observation is {dtype}, in which the update of a critic drowns in rounding: "
            "give float32 or float64, say with observation.astype(jnp.float32); what is inside "
            "state.physics may have any type"
        )
    if state.reward.dtype != dtype:
        raise ValueError(
            f"{owner}: reward is {state.reward.dtype}, but must be {dtype} as the observation: "
            "give reward.astype(observation.dtype)"
        )
    if state.discount.dtype != dtype:
        raise ValueError(
            f"{owner}: discount is {state.discount.dtype}, but must be {dtype} as the observation: "
            "give state.discount = 1.0 - done.astype(observation.dtype)"
        )
    for name, argument, attribute in (
        ("step", "action", "action_size"),
        ("perturb", "displacement", "state_size"),
    ):
        size = getattr(environment, attribute)
        given = jax.ShapeDtypeStruct((size,), dtype)
        call = f"{name}(state, {argument} of shape {given.shape})"
        beyond: list[int] = []

        def traced(*arguments: Any, name: str = name, beyond: list[int] = beyond) -> Any:
            function = getattr(environment, name)
            shapes, index = trace(function, *arguments, watched=arguments[-1])
            beyond.extend([] if index is None else [index])
            return shapes

        result = _shape_of(owner, call, traced, state, given)
        check_same(f"{owner}: {call}", result, "reset", state)
        if beyond:
            raise ValueError(
                f"{owner}: {name} reads {argument}[{beyond[0]}], but {attribute} says {size}: JAX "
                "would read the nearest number in its place. Give the size that it takes"
            )
    coordinate_names(environment)


def _check_arrays(owner: str, state: State) -> None:
    for name in ("observation", "reward", "discount"):
        value = getattr(state, name)
        if not (hasattr(value, "shape") and hasattr(value, "dtype")):
            found = "None" if value is None else f"a {type(value).__name__}"
            fix = f"give all of its numbers in one, say jax.flatten_util.ravel_pytree({name})[0]"
            if name != "observation":
                fix = "give one number of the observation's type"
            raise ValueError(
                f"{owner}: reset gives {found} as {name}, but it must be an array: {fix}"
            )


def check_transition(transition: Transition) -> None:
    """Checks that a transition is one, and that all of its parts have gradients.

    Raises:
        ValueError: Naming the part that is no array of floating-point numbers, or a reward or
            discount that is not `()`.

    Example:
        >>> check_transition(Transition(jnp.zeros(2, int), jnp.zeros(1), 1.0, 1.0, jnp.zeros(2)))
        Traceback (most recent call last):
        ValueError: transition.observation is int32, which has no gradients: ...
    """
    for name in _PARTS:
        value = getattr(transition, name, None)
        if not isinstance(value, jax.Array | np.ndarray | np.generic | float | int):
            found = "None" if value is None else f"a {type(value).__name__}"
            fix = f"give all of its numbers in one, say jax.flatten_util.ravel_pytree({name})[0]"
            if value is None:
                fix = "give the floating-point numbers that the TD error is a function of"
            if name == "discount":
                fix = "give 1.0 where the episode goes on, and 0.0 where it ended for good"
            raise ValueError(f"transition.{name} is {found}, but must be an array: {fix}")
        dtype = jnp.result_type(value)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"transition.{name} is {dtype}, which has no gradients: hand over floating-point "
                "numbers. Counts and pixels can be converted, but their gradients mean nothing; "
                "for discrete actions there is no Sobolev loss"
            )
        if name in ("reward", "discount") and jnp.shape(value) != ():
            raise ValueError(
                f"transition.{name} has shape {jnp.shape(value)}, but must be one number, (): the "
                "loss takes one transition: vmap it over a batch"
            )


def check_tangents(transition: Transition, tangents: Tangents) -> None:
    """Checks that tangents are those of such a transition.

    Args:
        transition: One unbatched transition.
        tangents: `(..., directions)` in all parts that are not None.

    Raises:
        ValueError: Naming the leaf, its shape and the one that it must have.

    Example:
        >>> from sobolax.cart import example_transition
        >>> transition, tangents = example_transition()
        >>> check_tangents(transition, tangents)
        >>> check_tangents(jax.tree.map(lambda leaf: jnp.stack([leaf]), transition), tangents)
        Traceback (most recent call last):
        ValueError: tangents.state.observation has shape (2, 2), but transition.observation has ...
    """
    # A displacement of the state leaves the action where it is; one of the action moves it.
    sides = [getattr(tangents, kind, None) for kind in ("state", "action")]
    still = [getattr(side, "action", 0) is None for side in sides]
    if still == [False, True] and isinstance(tangents.state, Transition):
        raise ValueError(
            "tangents.state moves the action and tangents.action does not: state and action are "
            "swapped. Give Tangents(state=along the state, action=along the action)"
        )
    if still == [False, False] and getattr(sides[0], "observation", 0) is None:
        raise ValueError(
            "tangents.state moves the action and leaves the observation where it is: those along "
            "the action are given twice. Give Tangents(state=along the state, action=along the "
            "action)"
        )
    if still == [True, True] and any(jnp.size(leaf) for leaf in jax.tree.leaves(tangents.action)):
        raise ValueError(
            "tangents.action does not move the action: those along the state are given twice. Give "
            "Tangents(state=along the state, action=along the action)"
        )
    for kind in ("state", "action"):
        side = getattr(tangents, kind, None)
        if not isinstance(side, Transition):
            raise ValueError(
                f"tangents.{kind} is a {type(side).__name__}, but must be a "
                "sobolax.transition.Transition whose parts are tangents, or None where they are "
                "zero; sobolax.tangents.forward makes them"
            )
        shapes = {
            name: jnp.shape(getattr(side, name))
            for name in _PARTS
            if getattr(side, name) is not None
        }
        if not shapes:
            raise ValueError(
                f"tangents.{kind} is None in all parts: hand over zeros of shape (..., 0) for no "
                f"directions of the {kind}"
            )
        first, shape = next(iter(shapes.items()))
        directions = shape[-1:]
        for name, shape in shapes.items():
            own = jnp.shape(getattr(transition, name))
            if len(shape) != len(own) + 1 or shape[:-1] != own:
                raise ValueError(
                    f"tangents.{kind}.{name} has shape {shape}, but transition.{name} has "
                    f"{own}: it must be ({', '.join(map(str, (*own, 'directions')))}), directions "
                    "last. The loss takes one transition: vmap it over a batch"
                )
            if shape[-1:] != directions:
                raise ValueError(
                    f"tangents.{kind}.{name} has {shape[-1]} directions, but "
                    f"tangents.{kind}.{first} has {directions[0]}"
                )


def check_one_number(delta: jax.Array) -> jax.Array:
    """Checks that a TD error of one transition is one number, and passes it on.

    Raises:
        ValueError: If it is not.

    Example:
        >>> check_one_number(jnp.zeros(2))
        Traceback (most recent call last):
        ValueError: td_error gives an array of shape (2,) for one transition, but must give ...
    """
    shape = getattr(delta, "shape", None)
    if shape != ():
        found = f"a {type(delta).__name__}" if shape is None else f"an array of shape {shape}"
        raise ValueError(
            f"td_error gives {found} for one transition, but must give one number, (): take the "
            "critic's last axis away, say with [..., 0]; for several critics vmap over their "
            "parameters"
        )
    return delta


def _shape_of(owner: str, call: str, shape: Callable[..., Any], *arguments: Any) -> State:
    try:
        state = shape(*arguments)
    except Exception as error:
        raise ValueError(f"{owner}: {call} failed: {error}") from error
    if not isinstance(state, State):
        raise ValueError(
            f"{owner}: {call} gives a {type(state).__name__}, but must give a "
            "sobolax.environment.State"
        )
    return state


def check_same(what: str, found: Any, origin: str, expected: Any) -> None:
    """Checks that two states have one structure, and strongly typed leaves of one shape and type.

    Args:
        what: What gave `found`, for the message.
        found: A pytree of arrays or of their shapes.
        origin: What gave `expected`.
        expected: The same.

    Raises:
        ValueError: Naming the leaf, what was found, and what to do.

    Example:
        >>> check_same("mine: step", jnp.zeros(2), "reset", jnp.zeros(3))
        Traceback (most recent call last):
        ValueError: mine: step gives state of shape (2,) and type float32, but reset gives (3,) ...
    """
    wanted, wanted_structure = jax.tree_util.tree_flatten_with_path(expected)
    got, got_structure = jax.tree_util.tree_flatten_with_path(found)
    if wanted_structure != got_structure:
        raise ValueError(
            f"{what} gives a state of another structure than {origin}:\n"
            f"  {got_structure}\nafter {origin}:\n  {wanted_structure}"
        )
    for (path, want), (_, have) in zip(wanted, got, strict=True):
        name = f"state{jax.tree_util.keystr(path)}"
        if any(getattr(leaf, "weak_type", True) for leaf in (want, have)):
            raise ValueError(
                f"{what}: {name} is weakly typed or no array, here or after {origin}, and would "
                "compile everything twice: give it a type, say with jnp.asarray(value, dtype)"
            )
        if (want.shape, want.dtype) != (have.shape, have.dtype):
            raise ValueError(
                f"{what} gives {name} of shape {have.shape} and type {have.dtype}, but {origin} "
                f"gives {want.shape} and {want.dtype}: both must be the same"
            )
