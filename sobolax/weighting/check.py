"""A check of a weighting, one's own perhaps, before anything is trained with it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sobolax.checks import check_same
from sobolax.losses import Weights
from sobolax.weighting.interface import Signals, Weighting

# Value, state, action; variance of the target, squares of its gradients; cosines of the gradients
# of value and state, value and action, state and action.
_CASES: dict[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]] = {
    "typical": ((1.0, 20.0, 0.5), (4.0, 30.0, 2.0), (0.3, 0.1, 0.2)),
    "tiny": ((1e-30, 1e-30, 1e-30), (1e-30, 1e-30, 1e-30), (0.0, 0.0, 0.0)),
    "huge": ((1e30, 1e30, 1e30), (1e30, 1e30, 1e30), (0.0, 0.0, 0.0)),
    "no gradients": ((1.0, 0.0, 0.0), (4.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    "all zero": ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    "opposite gradients": ((1.0, 20.0, 0.5), (4.0, 30.0, 2.0), (-1.0, -1.0, 1.0)),
}


def check_weighting(weighting: Weighting) -> None:
    """Checks two updates of a weighting, on signals typical, tiny, huge, zero and conflicting.

    Call it before training, with base weights that are numbers: where they are traced, nothing
    can be known, and it returns at once.

    Raises:
        ValueError: If a weight is not a scalar, is negative or is not finite, or if the state is
            weakly typed or changes its structure, shapes or types. The message names the field,
            what was found, and what to do.

    Example:
        >>> rule = Weighting(lambda: 0.0, lambda state, signals: (Weights(1.0, 1.0), state))
        >>> check_weighting(rule)
        Traceback (most recent call last):
        ValueError: weighting: init: state is weakly typed or no array, ...
    """
    update = jax.jit(weighting.update)
    for case in _CASES:
        state = weighting.init()
        check_same("weighting: init", state, "init", state)
        for count in range(2):
            weights, after = update(state, _make_signals(case, weighting.needs_gradients))
            if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((weights, after))):
                return
            where = f"update {count + 1} on {case!r} signals"
            _check_weights(weights, where)
            check_same(f"weighting: {where}", after, "init", state)
            state = after


def _make_signals(case: str, with_gram: bool) -> Signals:
    terms, target, (value_state, value_action, state_action) = _CASES[case]
    # A term's squared gradient is about as large as the term.
    norms = np.sqrt(terms)
    cosines = np.array(
        [
            [1.0, value_state, value_action],
            [value_state, 1.0, state_action],
            [value_action, state_action, 1.0],
        ]
    )
    gram = jnp.asarray(np.outer(norms, norms) * cosines, float) if with_gram else None
    numbers = [jnp.asarray(number, float) for number in (*terms, *target)]
    return Signals(*numbers, gram=gram)


def _check_weights(weights: Weights, where: str) -> None:
    if not isinstance(weights, Weights):
        raise ValueError(
            f"weighting: {where} gives a {type(weights).__name__} for weights, but must give a "
            "sobolax.losses.Weights"
        )
    for name in ("value", "state", "action"):
        weight = np.asarray(getattr(weights, name))
        if weight.shape != ():
            raise ValueError(
                f"weighting: {where} gives {name}={weight} of shape {weight.shape}, but a weight "
                "must be a scalar (): reduce it over the batch"
            )
        if not (np.isfinite(weight) and weight >= 0):
            raise ValueError(
                f"weighting: {where} gives {name}={weight}, but a weight must be finite and at "
                "least 0: guard divisions and logarithms against 0, and clip the result"
            )
