"""Whether gradients go through a TD error, as the Sobolev loss needs it."""

import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from sobolax.losses import TDError, sobolev_errors
from sobolax.transition import Tangents, Transition


class GradientsWarning(UserWarning):
    """The loss runs, but probably not with the gradients that its user has in mind.

    Example:
        >>> issubclass(GradientsWarning, UserWarning)
        True
    """


def check_td_error(td_error: TDError, transition: Transition, tangents: Tangents) -> None:
    """Checks a TD error before it is trained with; it is traced, and nothing is computed.

    Args:
        td_error: TD error of a transition.
        transition: One unbatched transition.
        tangents: Its tangents.

    Raises:
        ValueError: If transition, tangents or TD error are not what `sobolax.losses.sobolev_errors`
            takes.

    Warns:
        GradientsWarning: If it moves neither with observation nor with action (the critic's
            gradients are stopped), does not move with the reward (the target's are) or, though it
            bootstraps, with the next observation (those of the value after it are), or has a ReLU
            in it, whose gradient is piecewise constant.

    Example:
        >>> from sobolax.cart import example_transition
        >>> check_td_error(lambda t: t.observation[0] - t.reward, *example_transition())
        >>> check_td_error(lambda t: t.observation - t.reward, *example_transition())
        Traceback (most recent call last):
        ValueError: td_error gives an array of shape (2,) for one transition, but must give ...
    """
    jax.eval_shape(lambda *given: sobolev_errors(td_error, *given), transition, tangents)
    closed = jax.make_jaxpr(jax.grad(td_error))(transition)
    zero = dict(zip(vars(transition), _zeros(closed.jaxpr), strict=True))
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
    elif zero["next_observation"] and not zero["discount"]:
        _warn(
            "td_error moves with transition.discount, but not with transition.next_observation: "
            "gradients of the value after the step are stopped, and the critic's gradients would "
            "be fitted to those of the reward alone. Take the stop_gradient out of the bootstrap"
        )
    if any(_is_relu(equation) for equation in _equations(closed.jaxpr)):
        _warn(
            "td_error has a ReLU or another maximum with 0 in it: its gradient is piecewise "
            "constant, and cannot be fitted where it jumps. Take a smooth activation: swish, tanh, "
            "gelu or softplus"
        )


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
