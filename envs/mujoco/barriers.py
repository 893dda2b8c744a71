"""A cure for programs that XLA's CPU compiler makes exponentially slow.

MJX's kinematics computes a body's pose from its parent's and stacks the poses with `concatenate`.
Since jax 0.7 the CPU compiler fuses producers into the consumers of such stacks, and each consumer
computes them anew: along a serial chain the work doubles with every link (jax issue #33761). For
an arm of 8 links a step takes 14 s instead of 1 ms. An optimisation barrier after every
`concatenate` stops the fusion. It changes no value and no derivative, and passes through `vmap`,
`jvp` and `vjp`; other backends do not need it and do not get it.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


def with_barriers(function: Callable) -> Callable:
    """The same function, with an optimisation barrier after every `concatenate` on CPU.

    The function is traced to a jaxpr, and the jaxpr is evaluated with the barriers put in: the
    interpreter of JAX's tutorial 'Writing custom Jaxpr interpreters'. Bodies of control flow
    (`scan`, `while`, `cond`) and of custom derivatives are left as they are.

    Args:
        function: A pure function of pytrees of arrays.

    Returns:
        A function of the same arguments and results.
    """

    def barriered(*arguments: Any) -> Any:
        if jax.default_backend() != "cpu":
            return function(*arguments)
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return barriered


def _evaluate(jaxpr: core.Jaxpr, constants: list, arguments: list) -> list:
    values: dict[core.Var, Any] = dict(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else values[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        if equation.primitive.name == "jit":
            inner = equation.params["jaxpr"]
            outputs = _evaluate(inner.jaxpr, inner.consts, inputs)
        else:
            # As JAX's own evaluator does: some primitives are bound with other parameters than
            # their equation shows (custom derivatives are).
            parameters = equation.primitive.get_bind_params(equation.params)
            outputs = equation.primitive.bind(*inputs, **parameters)
            if not equation.primitive.multiple_results:
                outputs = [outputs]
        if equation.primitive.name == "concatenate":
            outputs = jax.lax.optimization_barrier(outputs)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]
