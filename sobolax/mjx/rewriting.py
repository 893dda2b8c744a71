"""Evaluates a function of JAX with other rules for some of its primitives.

The function is traced to a jaxpr, and the jaxpr is evaluated, equation by equation: the interpreter
of JAX's tutorial 'Writing custom Jaxpr interpreters'.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

Rule = Callable[[core.JaxprEqn, list], Sequence]


def rewrite(function: Callable, rules: Mapping[str, Rule]) -> Callable:
    """The same function with rules in place of primitives.

    It goes into `jit`, `while` and `scan`; branches of `cond` and custom derivatives are left as
    they are.

    Args:
        function: A pure function of pytrees of arrays.
        rules: From a primitive's name to a function of its equation and its inputs that returns
            the outputs. It may bind the primitive by `as_it_is`.

    Returns:
        A function of the same arguments and results.

    Example:
        >>> import jax.numpy as jnp
        >>> half = rewrite(jnp.sin, {"sin": lambda equation, inputs: [inputs[0] / 2]})
        >>> float(half(3.0))
        1.5
    """

    def rewritten(*arguments: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = _evaluate(closed, jax.tree.leaves(arguments), rules)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return rewritten


def as_it_is(equation: core.JaxprEqn, inputs: list) -> Sequence:
    """The outputs of an equation without a rule."""
    # As JAX's own evaluator does: some primitives are bound with other parameters than their
    # equation shows (custom derivatives are).
    parameters = equation.primitive.get_bind_params(equation.params)
    outputs = equation.primitive.bind(*inputs, **parameters)
    return outputs if equation.primitive.multiple_results else [outputs]


def _evaluate(closed: core.ClosedJaxpr, arguments: Sequence, rules: Mapping[str, Rule]) -> list:
    values: dict[core.Var, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(closed.jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else values[variable]

    for equation in closed.jaxpr.eqns:
        name, inputs = equation.primitive.name, [read(variable) for variable in equation.invars]
        if name in _INTO:
            outputs = _INTO[name](equation, inputs, rules)
        else:
            outputs = rules.get(name, as_it_is)(equation, inputs)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in closed.jaxpr.outvars]


def _jit(equation: core.JaxprEqn, inputs: list, rules: Mapping[str, Rule]) -> Sequence:
    return _evaluate(equation.params["jaxpr"], inputs, rules)


def _while(equation: core.JaxprEqn, inputs: list, rules: Mapping[str, Rule]) -> Sequence:
    parameters = equation.params
    first, second = parameters["cond_nconsts"], parameters["body_nconsts"]
    for_condition, for_body = inputs[:first], inputs[first : first + second]

    def goes_on(carry: list) -> jax.Array:
        return _evaluate(parameters["cond_jaxpr"], [*for_condition, *carry], rules)[0]

    def body(carry: list) -> list:
        return _evaluate(parameters["body_jaxpr"], [*for_body, *carry], rules)

    def body_of_lanes(carry: list) -> list:
        lanes = goes_on(carry)
        return [_where(lanes, *pair) for pair in zip(body(carry), carry, strict=True)]

    # A loop under `vmap` has a condition for every lane, and lanes that are done stay as they are.
    if parameters["cond_jaxpr"].out_avals[0].shape:
        return jax.lax.while_loop(
            lambda carry: jnp.any(goes_on(carry)), body_of_lanes, inputs[first + second :]
        )
    return jax.lax.while_loop(goes_on, body, inputs[first + second :])


def _where(lanes: jax.Array, moved: jax.Array, carry: jax.Array) -> jax.Array:
    lanes = jax.lax.broadcast_in_dim(lanes, moved.shape, range(lanes.ndim))
    return jax.lax.select_n(lanes, carry, moved)


def _scan(equation: core.JaxprEqn, inputs: list, rules: Mapping[str, Rule]) -> Sequence:
    parameters = equation.params
    # From the shapes: what else says it has other names in each version of JAX.
    inside = parameters["jaxpr"]
    carries = len(equation.outvars) - _stacked(equation.outvars, inside.out_avals)
    constants = len(inputs) - _stacked(equation.invars, inside.in_avals) - carries

    def body(carry: list, sliced: list) -> tuple[list, list]:
        arguments = [*inputs[:constants], *carry, *sliced]
        outputs = _evaluate(inside, arguments, rules)
        return outputs[:carries], outputs[carries:]

    carry, stacked = jax.lax.scan(
        body,
        inputs[constants : constants + carries],
        inputs[constants + carries :],
        length=parameters["length"],
        reverse=parameters["reverse"],
        unroll=parameters["unroll"],
    )
    return [*carry, *stacked]


def _stacked(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many arrays have one axis more outside of a scan than in it."""
    pairs = zip(outside, inside, strict=True)
    return sum(len(one.aval.shape) == len(other.shape) + 1 for one, other in pairs)


_INTO = {"jit": _jit, "while": _while, "scan": _scan}
