"""Whether a TD error and tangents are what the loss can work with; looked at while it is traced.

Nothing is computed: shapes, types and the traced program are all that is read.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.transition import Tangents, Transition

_PARTS = ("observation", "action", "reward", "discount", "next_observation")


class GradientsWarning(UserWarning):
    """The loss runs, but not with the gradients that were probably meant.

    Example:
        >>> issubclass(GradientsWarning, UserWarning)
        True
    """


def check_transition(transition: Transition) -> None:
    """Checks that all parts of a transition have gradients.

    Raises:
        ValueError: Naming the part that is no array of floating-point numbers.

    Example:
        >>> check_transition(Transition(jnp.zeros(2, int), jnp.zeros(1), 1.0, 1.0, jnp.zeros(2)))
        Traceback (most recent call last):
        ValueError: transition.observation is int32, which has no gradients: ...
    """
    for name in _PARTS:
        dtype = jnp.result_type(getattr(transition, name))
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"transition.{name} is {dtype}, which has no gradients: hand over floating-point "
                "numbers. Counts and pixels can be converted, but their gradients mean nothing; "
                "for "
                "discrete actions there is no Sobolev loss"
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


def check_td_error(td_error: Callable[[Transition], jax.Array], transition: Transition) -> None:
    """Checks a TD error: its shape, and that gradients go through it.

    Args:
        td_error: TD error of a transition.
        transition: One unbatched transition.

    Raises:
        ValueError: If it is no single number.

    Warns:
        GradientsWarning: If it moves neither with observation nor with action (the critic's
            gradients are stopped), does not move with the reward (the target's are), or has a ReLU
            in it, whose gradient is piecewise constant.

    Example:
        >>> from sobolax.cart import example_transition
        >>> transition, _ = example_transition()
        >>> check_td_error(lambda t: t.observation[0] - t.reward, transition)
        >>> check_td_error(lambda t: t.observation - t.reward, transition)
        Traceback (most recent call last):
        ValueError: td_error gives an array of shape (2,) for one transition, but must give ...
    """
    shape = jax.eval_shape(td_error, transition)
    if getattr(shape, "shape", None) != ():
        raise ValueError(
            f"td_error gives {_told(shape)} for one transition, but must give one number, (): take "
            "the critic's last axis away, say with [..., 0]; for several critics vmap over their "
            "parameters"
        )
    closed = jax.make_jaxpr(jax.grad(td_error))(transition)
    zero = dict(zip(_PARTS, _zeros(closed.jaxpr), strict=True))
    if zero["observation"] and zero["action"]:
        _warn(
            "td_error does not move with transition.observation nor with transition.action: the "
            "critic has no gradients to train. Is there a stop_gradient, a rounding or a copy of "
            "theirs between?"
        )
    elif zero["reward"]:
        _warn(
            "td_error does not move with transition.reward: gradients of the target are stopped, "
            "and the critic's gradients would be fitted to zero. Take the stop_gradient out: with "
            "jax.grad with respect to the critic's parameters alone, none reaches the target"
        )
    if any(_is_relu(equation) for equation in _equations(closed.jaxpr)):
        _warn(
            "td_error has a ReLU or another maximum with 0 in it: its gradient is piecewise "
            "constant, "
            "and cannot be fitted where it jumps. Take a smooth activation: swish, tanh, gelu or "
            "softplus"
        )


def _told(shape: Any) -> str:
    found = getattr(shape, "shape", None)
    return f"a {type(shape).__name__}" if found is None else f"an array of shape {found}"


def _warn(text: str) -> None:
    warnings.warn(text, GradientsWarning, stacklevel=3)


def _zeros(jaxpr: Any) -> list[bool]:
    """Which results of a traced gradient are zero whatever comes in."""
    made = {out: equation for equation in jaxpr.eqns for out in equation.outvars}

    def zero(variable: Any) -> bool:
        if hasattr(variable, "val"):  # a literal
            return bool(jnp.ndim(variable.val) == 0 and variable.val == 0)
        equation = made.get(variable)
        if equation is None or equation.primitive.name not in _PASSING:
            return False
        return all(zero(inner) for inner in equation.invars)

    return [zero(variable) for variable in jaxpr.outvars]


_RELUS = ("relu", "relu6", "leaky_relu")  # of jax.nn
_PASSING = ("broadcast_in_dim", "convert_element_type", "reshape", "neg", "mul", "add_any")


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)


def _is_relu(equation: Any) -> bool:
    if equation.params.get("name") in _RELUS:
        return True
    return equation.primitive.name == "max" and any(
        hasattr(part, "val") and jnp.ndim(part.val) == 0 and part.val == 0
        for part in equation.invars
    )
